"""Run the measurements of `lowlight bench`, show their tables and write their files."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lowlight_cli.cli import report
from lowlight_cli.errors import LowlightError, OutputError, UsageError, unwritten

if TYPE_CHECKING:
    from lowlight_cli.bench.methods import Choice, Method
    from lowlight_cli.bench.page import Gallery
    from lowlight_cli.bench.report import Table
    from lowlight_cli.bench.run import Result
    from lowlight_cli.bench.sets import DataSet

__all__ = [
    "Running", "Written", "clips", "loaded", "refuse_overwriting", "refuse_unwritable", "sets", "speed", "task",
    "verify",
]  # fmt: skip


@dataclass(frozen=True)
class Running:
    """Where and how networks run, as given on the command line."""

    device: str
    precision: str
    engine: str
    offline: bool


@dataclass(frozen=True)
class Written:
    """The files to write; None for those not asked for."""

    json: Path | None
    markdown: Path | None
    csv: Path | None
    latex: Path | None
    page: Path | None

    @property
    def any(self) -> bool:
        """Whether any file is to be written."""
        return any((self.json, self.markdown, self.csv, self.latex, self.page))


def loaded(choice: Choice, running: Running) -> Method:
    """Load a network; weights that were asked for by name are fetched if necessary."""
    from lowlight_cli.bench.methods import network
    from lowlight_cli.enhancer import Enhancer

    with report.transfer(f"weights of {choice.network}") as moved:
        enhancer = Enhancer(
            choice.network, choice.weights, device=running.device, precision=running.precision, engine=running.engine,
            offline=running.offline, on_message=report.note, on_progress=moved,
            protect_highlights=False,  # references are longer exposures, white skies included
        )  # fmt: skip
        return network(choice, enhancer)


def sets(
    found: Sequence[DataSet],
    rows: Sequence[Sequence[Method]],
    metrics: Sequence[str],
    offline: bool,
    resume: Path | None,
    written: Written,
) -> list[Result]:
    """Measure each set with its methods, show its table as soon as it is finished, and write the files.

    If a set cannot be measured, the results of the sets before it are still written.
    """
    from lowlight_cli.bench import run
    from lowlight_cli.bench.journal import Journal
    from lowlight_cli.bench.lookup import lookup
    from lowlight_cli.bench.page import Gallery
    from lowlight_cli.files import make_folder

    if resume:
        make_folder(resume)
    journal = Journal(resume) if resume else None
    results, galleries = list[run.Result](), list[Gallery]()
    gone: Exception | None = None
    for dataset, given in zip(found, rows, strict=True):
        memory = lookup(dataset)
        methods = [*given, memory] if memory else given
        gallery = Gallery(methods) if written.page else None
        try:
            with report.progress(dataset.title, len(dataset.pairs) * len(methods)) as advance:
                results.append(run.measure(dataset, methods, advance, gallery, metrics, offline, journal))
        except LowlightError:
            if results:
                _write_all(results, galleries, written)
            raise
        if gallery:
            galleries.append(gallery)
        try:
            _show(results[-1], len(found) > 1)
        except (report.ReaderGone, OSError) as error:  # as from `| head`: the files are still wanted
            if not written.any:
                raise
            gone = error
    _write_all(results, galleries, written)
    if gone:
        raise gone
    return results


def verify(results: Iterable[Result], precision: str) -> None:
    """Compare results with the figures in weights.toml, and raise LowlightError if one of them differs."""
    from lowlight_cli.bench.verify import claims

    checked = [claim for result in results for claim in claims(result)]
    for claim in checked:
        report.note(f"{claim} {'holds' if claim.holds else 'DIFFERS'}")
    if wrong := [claim for claim in checked if not claim.holds]:
        hint = "" if precision == "fp32" else "; try --precision fp32, half precision moves SSIM by about 0.002"
        raise LowlightError(f"{len(wrong)} of {len(checked)} figures in weights.toml differ here: {wrong[0]}{hint}")


def speed(
    choices: Sequence[Choice], size: str, runs: int, running: Running, json: Path | None, *, compiled: bool = False
) -> None:
    """Measure the speed of models; write the file, then show the table, its definitions, and the rates of JPEG."""
    from lowlight_cli import engines
    from lowlight_cli.bench import speed

    engines.check_names(running.engine, running.device, running.precision)
    with report.progress("speed", len(choices)) as advance:
        result = speed.measure(
            choices, engine=running.engine, precision=running.precision, size=_size(size), runs=runs,
            device=running.device, compiled=compiled, offline=running.offline, on_message=report.note,
            on_done=advance,
        )  # fmt: skip
    try:
        if json:
            _write(json, speed.as_json(result))
    finally:
        _table(speed.table(result))
        _remarks(f"{name}: {meaning}" for name, meaning in speed.DEFINITIONS.items())
        peaks = ", ".join(f"{value:.0f} in {kind}" for kind, value in result.peaks.items())
        peak = f"the peak is {peaks} GMAC/s" if peaks else "no peak, as torch does not have the device"
        if result.bandwidth:
            peak += f", a copy moves {result.bandwidth:.0f} GB/s"
        rates = f"megapixels/s: JPEG {result.decode:.0f} in, {result.encode:.0f} out; exposing {result.finish:.0f}"
        _remarks([f"{size}, {runs} pictures each; {peak}; {rates}"])


def clips(paths: Sequence[Path], frames: int, choices: Sequence[Choice], running: Running) -> None:
    """Measure how much clips flicker, and show the table."""
    from lowlight_cli.bench import clips
    from lowlight_cli.enhancer import Enhancer
    from lowlight_cli.video.formats import need_av

    need_av()
    ready = [
        (
            choice.network + (f".{choice.weights}" if choice.weights else ""),
            Enhancer(
                choice.network, choice.weights, device=running.device, precision=running.precision,
                engine=running.engine, offline=running.offline, on_message=report.note,
            ),
        )
        for choice in choices
    ]  # fmt: skip
    rows = []
    for path in paths:
        with report.progress(path.name, frames * (1 + 4 * len(ready))) as advance:
            rows += clips.measure_clip(path, ready, frames, advance)
    _table(clips.table(rows))
    _remarks(f"{name}: {meaning}" for name, meaning in clips.DEFINITIONS.items())


def task(name: str, found: Sequence[DataSet], rows: Sequence[Sequence[Method]], json: Path | None) -> None:
    """Run a detector on each set before and after enhancement; write the file, then show the tables.

    If a set cannot be measured, the tables of the sets before it are still shown.
    """
    from lowlight_cli.bench import tasks

    results = []
    try:
        for dataset, methods in zip(found, rows, strict=True):
            with report.progress(f"{name} in {dataset.title}", len(dataset.pairs) * len(methods)) as advance:
                results.append(tasks.measure(name, dataset, methods, advance))
        if json:
            _write(json, tasks.as_json(results))
    finally:
        for result in results:
            _table(tasks.table(result))
            _remarks(tasks.notes(result))


def refuse_unwritable(target: Path) -> None:
    """Check, before any work, that a result file can be written.

    Raises:
        OutputError: the target is a folder, or it (or, if it does not exist, its folder) is not writable.
    """
    from lowlight_cli import files
    from lowlight_cli.targets import exists, is_dir

    if is_dir(target):
        raise OutputError(f"cannot write {target}: it is a folder; name a file")
    if not exists(target):
        files.refuse_unwritable(target)
    elif not os.access(target, os.W_OK):  # written in place, so its folder does not matter: /dev/stdout
        raise OutputError(f"{target} cannot be written to; check its permissions or choose another")


def refuse_overwriting(targets: Mapping[str, Path], weights: Iterable[str]) -> None:
    """Check, before any work, that no result file would overwrite another one or an input.

    Args:
        targets: the result files, keyed by the option that names them.
        weights: weights as typed; those that are files must not be overwritten.

    Raises:
        UsageError: two targets are the same file, or one has the suffix of a picture or is a weights file.
    """
    from lowlight_cli.pictures import suffixes
    from lowlight_cli.targets import exists, same

    others = {Path(each): f"the weights {each}" for each in weights}
    for option, target in targets.items():
        if exists(target) and not target.is_file():  # /dev/null may be given several times
            continue
        if {target.suffix.lower(), target.resolve().suffix.lower()} & suffixes():
            raise UsageError(f"{option} {target} is called as a picture, which it is not: give it another name")
        if other := next((told for path, told in others.items() if same(path, target)), None):
            raise UsageError(f"{option} {target} would be written over {other}: give it another name")
        others[target] = f"what {option} writes"


def _show(result: Result, titled: bool) -> None:
    """Print the tables and, below them, their definitions; both to stdout, so that a table never lacks them."""
    from lowlight_cli.bench import report as tables

    if titled:
        _remarks([f"=== {result.dataset.title}"])
    _table(tables.measured(result))
    _remarks(tables.notes(result))
    if told := tables.stated(result):
        _remarks([tables.REMARK])
        _table(told)
    for row in result.rows:
        if row.method.loaded:
            item = tables.as_toml(result.dataset.name, tables.means(row))
            report.detail(f"{row.method.name} for weights.toml: {item}")


def _size(text: str) -> tuple[int, int]:
    """Parse `600x400` as two numbers."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) * int(height)):
        raise UsageError(f"--size {text!r} is not WIDTHxHEIGHT; write it as 600x400")
    return int(width), int(height)


def _table(table: Table) -> None:
    report.table(table.columns, table.rows)


def _remarks(lines: Iterable[str]) -> None:
    """Print lines below a table; in a pipe each starts with `#`, which tells it from a row."""
    drawn = report.drawn(sys.stdout)
    for line in lines:
        report.data(line if drawn else f"# {line}")


def _write_all(results: Sequence[Result], galleries: Sequence[Gallery], written: Written) -> None:
    """Write the files that were asked for, and then say so: the reader of stderr may be gone too."""
    from lowlight_cli.bench import export
    from lowlight_cli.bench import report as tables
    from lowlight_cli.bench.page import as_html

    forms = (
        (written.json, tables.as_json), (written.markdown, tables.as_markdown), (written.csv, export.as_csv),
        (written.latex, export.as_latex), (written.page, lambda each: as_html(each, galleries)),
    )  # fmt: skip
    for path, form in forms:
        if path:
            _save(path, form(results))
    for path, _ in forms:
        if path:
            report.note(f"wrote {path}")


def _write(target: Path, text: str) -> None:
    """Write a file, and say so. Raises as `_save`."""
    _save(target, text)
    report.note(f"wrote {target}")


def _save(target: Path, text: str) -> None:
    """Write a file, atomically if possible, so that the previous content stays until then.

    Raises:
        OutputError: the file cannot be written there.
        ResourceError: the disk is full.
    """
    from lowlight_cli.files import make_folder
    from lowlight_cli.pictures import place

    make_folder(target)
    if _replaceable(target):
        place(target.resolve(), text.encode("utf-8"))  # a symbolic link is kept
    else:
        try:
            target.write_text(text, "utf-8")
        except OSError as error:
            raise unwritten(target, error) from error


def _replaceable(target: Path) -> bool:
    """Whether a rename may replace the target: not a pipe, nor our stdout or stderr, nor in a read-only folder."""
    if not target.exists():
        return True
    if not target.is_file() or not os.access(target.resolve().parent, os.W_OK | os.X_OK):
        return False
    with contextlib.suppress(OSError):  # a stream may be closed
        return not any(
            os.path.samestat(target.stat(), os.fstat(number)) for number in (1, 2)
        )  # `--json /dev/stdout >f`
    return True
