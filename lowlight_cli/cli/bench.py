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
SPEED = "Speed"


def bench(
    dataset: Annotated[
        str,
        typer.Option(
            "-d", "--dataset", metavar="NAME|PATH", rich_help_panel=DATA,
            help="With references: lol (eval15), lol-scenes (held out from training), lol-v2-real, lol-v2-syn, sice, "
            "fivek. Without: dicm, lime, mef, npe, vv, exdark, darkface. PATH: a folder with low/ and high/, or with "
            "dark pictures alone.",
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
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", metavar="NAME|all", rich_help_panel=RESULTS, show_default="PSNR, SSIM",
            help="Another column: ssim-gt-mean, ssim-matlab, ms-ssim, delta-e, luma-error; may be given several times.",
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", rich_help_panel=RESULTS, help="Everything, every picture.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", rich_help_panel=RESULTS, help="The table for a README.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", rich_help_panel=RESULTS, help="Every picture, for a sheet.")
    ] = None,
    latex: Annotated[
        Path | None, typer.Option("--latex", metavar="FILE", rich_help_panel=RESULTS, help="The table for a paper.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE", rich_help_panel=RESULTS,
            help="One page with tables, charts and all pictures, to open in a browser.",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", rich_help_panel=RESULTS,
            help="Compare with the figures in weights.toml; ends with 1 where one is off by more than 0.05 dB.",
        ),
    ] = False,
    speed: Annotated[
        bool,
        typer.Option(
            "--speed", rich_help_panel=SPEED,
            help="Measure how fast models are here instead: engines and precisions side by side. No set is needed.",
        ),
    ] = False,
    size: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", rich_help_panel=SPEED, help="Of the picture that --speed takes.")
    ] = "600x400",
    runs: Annotated[
        int, typer.Option(min=1, metavar="N", rich_help_panel=SPEED, help="How many pictures count, of each.")
    ] = 5,
    device: options.Device = "auto",
    precision: options.Precision = options.PrecisionChoice.auto,
    engine: options.Engine = "auto",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:  # fmt: skip
    """Measure models and classical baselines on pairs with a reference, or describe what they do without one.

    PSNR, PSNR with the mean brightness matched, SSIM and seconds at full resolution in 8 bits. The definitions stand
    below the table; with -v also lines for weights.toml. With --speed: how fast, and what of the machine is used.
    """
    from lowlight_cli.bench import export, methods, run, sets
    from lowlight_cli.bench import report as tables
    from lowlight_cli.bench import verify as verification
    from lowlight_cli.bench.lookup import lookup
    from lowlight_cli.bench.page import Gallery, as_html
    from lowlight_cli.metrics.table import chosen

    for target in filter(None, (json, markdown, csv, latex, page)):
        _refuse_unwritable(target)
    chosen(metric or (), True)  # a slip is told before the work
    if speed:
        _speed(
            methods.choose(model or (), weights or ()),
            _size(size),
            runs,
            device,
            precision.value,
            engine,
            offline,
            json,
        )
        return
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
    if memory := lookup(found):
        measured.append(memory)
    gallery = Gallery(measured) if page else None
    with report.progress(found.title, len(found.pairs) * len(measured)) as advance:
        result = run.measure(found, measured, advance, gallery, metric or ())

    _show(result)
    forms = ((json, tables.as_json), (markdown, tables.as_markdown), (csv, export.as_csv), (latex, export.as_latex))
    for path, written in forms:
        if path:
            _write(path, written(result))
    if page and gallery:
        _write(page, as_html(result, gallery))
    if verify:
        _verify(result)


def _size(text: str) -> tuple[int, int]:
    """`600x400` as two numbers."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) * int(height)):
        raise UsageError(f"--size {text!r} is no WIDTHxHEIGHT, such as 600x400")
    return int(width), int(height)


def _speed(
    choices: Sequence[Choice],
    size: tuple[int, int],
    runs: int,
    device: str,
    precision: str,
    engine: str,
    offline: bool,
    json: Path | None,
) -> None:
    """Measure, and show: the table, what it means, what reading and writing take."""
    from lowlight_cli import engines
    from lowlight_cli.bench import speed

    engines.check_names(engine, device, precision)
    with report.progress("speed", len(choices)) as advance:
        result = speed.measure(
            choices,
            speed.wishes(engine, precision),
            size=size,
            runs=runs,
            device=device,
            offline=offline,
            on_message=report.note,
            on_done=advance,
        )
    _table(speed.table(result))
    for name, meaning in speed.DEFINITIONS.items():
        _remark(f"{name}: {meaning}")
    peaks = ", ".join(f"{value:.0f} in {kind}" for kind, value in result.peaks.items())
    _remark(
        f"{size[0]}x{size[1]}, {runs} pictures each; the peak is {peaks} GMAC/s; JPEG at "
        f"{result.decode:.0f} megapixels/s in, {result.encode:.0f} out"
    )
    if json:
        _write(json, speed.as_json(result))


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
        with report.progress(path.name, frames * (1 + 4 * len(ready))) as advance:
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
        if row.method.loaded and result.ranked:
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
