"""`lowlight bench`: measure models and baselines so that the figures can be trusted and reproduced."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from lowlight_cli.cli import measuring, options, report
from lowlight_cli.errors import UsageError

__all__ = ["bench"]

DATA = "Data"
RESULTS = "Results"
SPEED = "Speed"

OWN: Final[dict[str, tuple[str, ...]]] = {"speed": ("size", "runs", "compiled"), "clip": ("frames",), "task": ()}
"""Modes that replace metrics on data sets (the first one given wins), each with the options that only it has."""
SHARED: Final = {"speed": ("json",), "clip": (), "task": ("dataset", "root", "limit", "external", "json")}
"""Further options that each mode accepts besides `ALWAYS`."""
ALWAYS: Final = ("model", "weights", "offline", "device", "precision", "engine", "quiet", "verbose", "debug")


def bench(
    context: typer.Context,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "-d", "--dataset", metavar="NAME|PATH", rich_help_panel=DATA, show_default="lol",
            help="With references: lol (eval15), lol-scenes (held out from training), lol-v2-real, lol-v2-syn, sice, "
            "fivek. Without: dicm, lime, mef, npe, vv, exdark, darkface. PATH: a folder with low/ and high/, or with "
            "dark pictures alone. May be given several times, for one table each.",
        ),
    ] = None,
    root: Annotated[
        Path,
        typer.Option(
            "--root", metavar="DIR", envvar="LOWLIGHT_DATA", rich_help_panel=DATA, help="Folder of the data sets."
        ),
    ] = Path("data"),
    limit: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=DATA, show_default="all", help="Use only N pictures of each set."),
    ] = None,
    clip: Annotated[
        list[Path] | None,
        typer.Option(
            "--clip", metavar="FILE", rich_help_panel=DATA, show_default=False,
            help="Measure how much a clip flickers with each kind of smoothing, not pairs; may be given several times.",
        ),
    ] = None,
    frames: Annotated[
        int,
        typer.Option("--frames", min=2, metavar="N", rich_help_panel=DATA, help="Use at most N frames of each clip."),
    ] = 60,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "-m", "--model", metavar="NAME[.TAG]", show_default="all shipped ones", rich_help_panel=options.MODEL,
            help="Model to measure besides the baselines; may be given several times.",
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "-w", "--weights", metavar="TAG|FILE|hf://...|https://...", rich_help_panel=options.MODEL,
            show_default=False, help="Weights for the one model given with -m; may be given several times.",
        ),
    ] = None,
    offline: options.Offline = False,
    external: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR", rich_help_panel=options.MODEL, show_default=False,
            help="Folder of another program's results, named like the low pictures; for several sets, with one "
            "subfolder per set, named like the set or its folder. May be given several times.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", metavar="NAME|all", rich_help_panel=RESULTS, show_default="PSNR, SSIM",
            help="Additional metric: ssim-gt-mean, ssim-matlab, ms-ssim, fsim, lpips, delta-e, luma-error, niqe, "
            "niqe-own, brisque; may be given several times.",
        ),
    ] = None,
    task: Annotated[
        Literal["faces", "people"] | None,
        typer.Option(
            "--task", rich_help_panel=RESULTS, show_default=False,
            help="Count what a detector finds before and after, instead of metrics; checked if the set has labels.",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", metavar="FILE", rich_help_panel=RESULTS,
            help="Save results to FILE as they are measured, and do not repeat those that it already holds.",
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", rich_help_panel=RESULTS, help="Write all results as JSON.")
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", rich_help_panel=RESULTS, help="Write the tables in Markdown."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", rich_help_panel=RESULTS, help="Write one row per picture.")
    ] = None,
    latex: Annotated[
        Path | None, typer.Option("--latex", metavar="FILE", rich_help_panel=RESULTS, help="Write the tables in LaTeX.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE", rich_help_panel=RESULTS,
            help="Write one HTML page with tables, charts and all pictures.",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", rich_help_panel=RESULTS,
            help="Compare with the figures in weights.toml; exit with 1 if one differs, PSNR by more than 0.05 dB.",
        ),
    ] = False,
    speed: Annotated[
        bool,
        typer.Option(
            "--speed", rich_help_panel=SPEED,
            help="Measure speed on this machine instead, engines and precisions side by side; needs no data set.",
        ),
    ] = False,
    size: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", rich_help_panel=SPEED, help="Size of the picture for --speed.")
    ] = "600x400",
    runs: Annotated[
        int, typer.Option(min=1, metavar="N", rich_help_panel=SPEED, help="Pictures to time per table row.")
    ] = 5,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile", rich_help_panel=SPEED,
            help="With --speed, also measure torch compiled; on an NVIDIA GPU, half a minute per network.",
        ),
    ] = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    engine: options.Engine = "auto",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:  # fmt: skip
    """Measure models and classical baselines on pairs with a reference, or describe what they do without one.

    PSNR, PSNR with the mean brightness matched, SSIM and seconds at full resolution in 8 bits. The definitions stand
    below the tables; with -v also lines for weights.toml. With --speed: their speed and use of the machine.
    """
    _refuse_idle(context)
    from lowlight_cli.bench import methods, sets
    from lowlight_cli.bench import verify as verification
    from lowlight_cli.bench.precheck import looked_at
    from lowlight_cli.metrics.table import check

    wanted = {"json": json, "markdown": markdown, "csv": csv, "latex": latex, "report": page, "resume": resume}
    targets = {f"--{name}": target for name, target in wanted.items() if target}
    for target in targets.values():
        measuring.refuse_unwritable(target)
    measuring.refuse_overwriting(targets, weights or ())
    check(metric or ())  # report a typing mistake before the work
    running = measuring.Running(device, precision, engine, offline)
    if speed:
        measuring.speed(methods.choose(model or (), weights or ()), size, runs, running, json, compiled=compiled)
        return
    if clip:
        measuring.clips(clip, frames, methods.choose(model or ["dgaf"], weights or ()), running)
        return
    names = list(dict.fromkeys(dataset or ["lol"]))
    found = [sets.find(name, root.expanduser(), limit) for name in names]
    if external:
        methods.refuse_one_folder(found)
    given = [[methods.external(text, each, len(found) == 1) for text in external or ()] for each in found]
    count = sum(len(each.pairs) * (1 + each.paired + len(external or ())) for each in found)
    with report.progress("looking at the pictures", count) as advance:
        found = looked_at(list(zip(found, given, strict=True)), advance)
    if task:
        from lowlight_cli.bench.detectors import detector

        detector(task)  # report a missing package before the work
    networks = [measuring.loaded(choice, running) for choice in methods.choose(model or (), weights or ())]
    if not any(method.loaded for method in networks):
        report.note("there are no shipped weights to measure: the baselines only; -m and -w name others")
    rows = [[*theirs, *networks, *methods.baselines()] for theirs in given]
    if task:
        measuring.task(task, found, rows, json)
        return
    if verify:
        verification.refuse_nothing(networks, found)
    written = measuring.Written(json, markdown, csv, latex, page)
    results = measuring.sets(found, rows, metric or (), offline, resume, written)
    if verify:
        measuring.verify(results, running.precision)


def _refuse_idle(context: typer.Context) -> None:
    """Refuse options on the command line that would have no effect; those set in the environment are ignored.

    Raises:
        UsageError: there are such options; the message names them.
    """
    typed: dict[str, str] = {}
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name and source and source.name == "COMMANDLINE":
            typed[option.name] = max(option.opts, key=len)
    mode = next((name for name in OWN if context.params[name]), None)
    if mode:
        taken = {mode, *OWN[mode], *SHARED[mode], *ALWAYS}
        if idle := [word for name, word in typed.items() if name not in taken]:
            raise UsageError(f"--{mode} has no use for {', '.join(idle)}: leave {_them(idle)} out")
    else:
        for owner, names in OWN.items():
            if idle := [typed[name] for name in names if name in typed]:
                raise UsageError(f"nothing uses {', '.join(idle)} without --{owner}: leave {_them(idle)} out")


def _them(words: list[str]) -> str:
    return "it" if len(words) == 1 else "them"
