"""`lowlight bench`: figures that people can trust, and can make again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lowlight_cli.cli import options, report
from lowlight_cli.errors import LowlightError, OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lowlight_cli.bench.methods import Choice, Method
    from lowlight_cli.bench.report import Table
    from lowlight_cli.bench.run import Result

__all__ = ["bench"]

DATA = "Data"
RESULTS = "Results"


def bench(
    dataset: Annotated[
        str,
        typer.Option(
            "-d", "--dataset", metavar="lol|lol-scenes|sice|PATH", rich_help_panel=DATA,
            help="lol: the 15 published test pairs. lol-scenes: scenes held out from training. sice: its validation "
            "scenes. PATH: a folder with low/ and high/.",
        ),
    ] = "lol",
    root: Annotated[
        Path,
        typer.Option("--root", metavar="DIR", envvar="LOWLIGHT_DATA", rich_help_panel=DATA, help="Where the sets are."),
    ] = Path("data"),
    limit: Annotated[
        int | None, typer.Option(min=1, rich_help_panel=DATA, show_default="all", help="Take only so many pairs.")
    ] = None,
    clip: Annotated[
        list[Path] | None,
        typer.Option(
            "--clip", metavar="FILE", rich_help_panel=DATA, show_default=False,
            help="How much a clip flickers, by each kind of smoothing, in place of pairs; may be given several times.",
        ),
    ] = None,
    frames: Annotated[
        int, typer.Option("--frames", min=2, metavar="N", rich_help_panel=DATA, help="Of each clip, at most.")
    ] = 60,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "-m", "--model", metavar="NAME[.TAG]", show_default="all shipped ones", rich_help_panel=options.MODEL,
            help="What to measure beside the baselines; may be given several times.",
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "-w", "--weights", metavar="TAG|FILE|hf://…|https://…", rich_help_panel=options.MODEL, show_default=False,
            help="Weights to measure the one -m with; may be given several times.",
        ),
    ] = None,
    offline: options.Offline = False,
    external: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR", rich_help_panel=options.MODEL, show_default=False,
            help="A folder of another program's results, named as the low pictures; may be given several times.",
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", rich_help_panel=RESULTS, help="Everything, every picture.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", rich_help_panel=RESULTS, help="The table for a README.")
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", rich_help_panel=RESULTS,
            help="Compare with the figures in weights.toml; ends with 1 where one is off by more than 0.05 dB.",
        ),
    ] = False,
    device: options.Device = "auto",
    precision: options.Precision = options.PrecisionChoice.auto,
    engine: options.Engine = "auto",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:  # fmt: skip
    """Measure models and classical baselines on pairs with a reference.

    PSNR, PSNR with the mean brightness matched, SSIM and seconds at full resolution in 8 bits. The definitions stand
    below the table; with -v also lines for weights.toml.
    """
    from lowlight_cli.bench import methods, run, sets
    from lowlight_cli.bench import report as tables
    from lowlight_cli.bench import verify as verification

    for target in filter(None, (json, markdown)):
        _refuse_unwritable(target)
    if clip:
        if json or markdown or verify or external:
            raise UsageError("--clip only prints a table: leave out --json, --markdown, --verify and --external")
        _clips(clip, frames, methods.choose(model or ["dgaf"], weights or ()), offline, device, precision.value, engine)
        return
    found = sets.find(dataset, root.expanduser(), limit)
    measured = [methods.external(text, found) for text in external or ()]
    for choice in methods.choose(model or (), weights or ()):
        measured.append(_loaded(choice, offline, device, precision.value, engine))
    if not any(method.loaded for method in measured):
        report.note("there are no shipped weights to measure: the baselines only; -m and -w name others")
    if verify:
        verification.refuse_nothing(measured, found)
    measured += methods.baselines()
    with report.progress(found.title, len(found.pairs) * len(measured)) as advance:
        result = run.measure(found, measured, advance)

    _show(result)
    if json:
        _write(json, tables.as_json(result))
    if markdown:
        _write(markdown, tables.as_markdown(result))
    if verify:
        _verify(result)


def _clips(
    paths: list[Path], frames: int, choices: Sequence[Choice], offline: bool, device: str, precision: str, engine: str
) -> None:
    """Measure clips, and tell."""
    from lowlight_cli.bench import clips
    from lowlight_cli.enhancer import Enhancer
    from lowlight_cli.video.formats import need_av

    need_av()
    ready = [
        (
            choice.network + (f".{choice.weights}" if choice.weights else ""),
            Enhancer(
                choice.network, choice.weights, device=device, precision=precision, engine=engine, offline=offline,
                on_message=report.note,
            ),
        )
        for choice in choices
    ]  # fmt: skip
    rows = []
    for path in paths:
        with report.progress(path.name, frames * (1 + 3 * len(ready))) as advance:
            rows += clips.measure_clip(path, ready, frames, advance)
    _table(clips.table(rows))
    for name, meaning in clips.DEFINITIONS.items():
        _remark(f"{name}: {meaning}")


def _loaded(choice: Choice, offline: bool, device: str, precision: str, engine: str) -> Method:
    """A network, its weights fetched if they were asked for by name."""
    from lowlight_cli.bench.methods import network
    from lowlight_cli.enhancer import Enhancer

    with report.transfer(f"weights of {choice.network}") as moved:
        enhancer = Enhancer(
            choice.network,
            choice.weights,
            device=device,
            precision=precision,
            engine=engine,
            offline=offline,
            on_message=report.note,
            on_progress=moved,
        )
        return network(choice, enhancer)


def _show(result: Result) -> None:
    """The tables, and under them what they mean: on stdout, so that none is ever seen without."""
    from lowlight_cli.bench import report as tables

    _table(tables.measured(result))
    for line in tables.notes(result):
        _remark(line)
    if told := tables.stated(result):
        _remark(tables.REMARK)
        _table(told)
    for row in result.rows:
        if row.method.loaded:
            report.detail(f"{row.method.name} for weights.toml: {tables.as_toml(row, result.dataset)}")


def _verify(result: Result) -> None:
    """Raise where a figure of weights.toml does not hold."""
    from lowlight_cli.bench.verify import claims

    checked = claims(result)
    for claim in checked:
        report.note(f"{claim} {'holds' if claim.holds else 'DIFFERS'}")
    if wrong := [claim for claim in checked if not claim.holds]:
        raise LowlightError(f"{len(wrong)} of {len(checked)} figures in weights.toml differ here: {wrong[0]}")


def _table(table: Table) -> None:
    report.table(table.columns, table.rows)


def _remark(line: str) -> None:
    """A line below a table; in a pipe its first character tells it from the rows."""
    report.data(line if report.drawn(sys.stdout) else f"# {line}")


def _refuse_unwritable(target: Path) -> None:
    """Raise before the work is done where its result would be lost."""
    if target.is_dir() or not target.parent.is_dir():
        what = "is a folder" if target.is_dir() else f"{target.parent} is no folder"
        raise OutputError(f"cannot write {target}: {what}; name a file in a folder that exists")


def _write(target: Path, text: str) -> None:
    try:
        target.write_text(text, "utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}; choose another place") from error
    report.note(f"wrote {target}")
