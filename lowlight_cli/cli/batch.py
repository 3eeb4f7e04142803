"""`lowlight batch`: enhance a folder of pictures with overlapped stages, a manifest and `--resume`."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lowlight_cli import DEFAULT_MODEL
from lowlight_cli.cli import options, report
from lowlight_cli.cli.ready import Ended, ready, saving
from lowlight_cli.cli.totals import Totals, tell_plan
from lowlight_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lowlight_cli.targets import Search

__all__ = ["batch"]

SEARCH: Final = "Search"


def batch(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(
            metavar="FOLDER", readable=False, help="Folder of pictures; subfolders are included.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="OUT", readable=False, show_default="FOLDER_lit/",
            help="Output folder; it mirrors the tree of FOLDER.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue an earlier run: skip what its manifest lists, if input, weights and settings are the same "
            "and the output is intact.",
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Process FOLDER as with --resume, then wait for more pictures; each is taken once it is complete. "
            "Ctrl-C ends it.",
        ),
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", metavar="[ADDRESS]", show_default=False, rich_help_panel=options.MACHINE,
            help="Distribute the pictures over a Ray cluster: at HOST:PORT, else one running here, else a new one on "
            "this machine. All machines need access to FOLDER and OUT.",
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB", rich_help_panel=SEARCH, show_default="all",
            help="Process only what matches, such as '*.jpg' or '2024/**/raw'; may be given several times.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB", rich_help_panel=SEARCH, show_default="none",
            help="Leave out what matches, files or whole folders; may be given several times.",
        ),
    ] = None,
    model: options.Model = DEFAULT_MODEL,
    weights: options.Weights = None,
    offline: options.Offline = False,
    strength: options.Strength = 1.0,
    exposure: options.Exposure = None,
    protect_highlights: options.ProtectHighlights = True,
    gate: options.Gate = None,
    self_ensemble: options.SelfEnsemble = False,
    compare: options.Compare = False,
    exist: options.Exist = "error",
    format: options.Format = "keep",
    quality: options.Quality = None,
    bit_depth: options.BitDepth = "keep",
    strip_metadata: options.StripMetadata = False,
    strip_gps: options.StripGps = False,
    no_provenance: options.Provenance = False,
    max_pixels: options.MaxPixels = 500e6,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel=options.FILES, help="Say what would be written; do nothing.")
    ] = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    engine: options.Engine = "auto",
    compiled: options.Compile = False,
    tile: options.Tile = None,
    memory: options.Memory = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:  # fmt: skip
    """Brighten a folder and its subfolders; --resume continues an interrupted run.

    Reading, the network and writing overlap. A picture that fails does not stop the others. OUT also gets
    lowlight-manifest.jsonl, with one line per picture: hashes, seconds and brightness.

    \b
      lowlight batch holiday                              writes holiday_lit/
      lowlight batch holiday -o lit --exclude thumbs
      lowlight batch holiday --resume                     goes on where it stopped
      lowlight batch inbox -o outbox --watch              takes what lands in inbox
    """  # noqa: D301  # the backspace keeps typer from filling the lines
    start = time.perf_counter()
    from lowlight_cli.cli.clips import LeftOut
    from lowlight_cli.folders.batch import enhance_folder, output_folder, planned, prepare
    from lowlight_cli.folders.cluster import enhance_on_cluster
    from lowlight_cli.folders.forecast import foreseen
    from lowlight_cli.folders.manifest import claimed, followed
    from lowlight_cli.folders.search import chosen
    from lowlight_cli.folders.watch import arrivals, there
    from lowlight_cli.pictures import suffixes

    if watch and (dry_run or exist == "number"):
        raise UsageError(f"--watch and --{'dry-run' if dry_run else 'exist number'} exclude each other")
    if watch and ray:
        raise UsageError("--watch works on this machine alone: leave out --ray, or run --ray --resume again later")
    root = output_folder(folder, output)
    left_out = LeftOut()
    search = chosen(include or (), exclude or (), report.warning if watch else None, left_out)
    way = saving(context.params)
    with ready(context.params) as enhancer, contextlib.ExitStack() as claim:
        totals = Totals(enhancer, 0, json, start, batch=True)
        known = followed(root) if resume or watch else None
        if not dry_run:
            claim.enter_context(claimed(root))
        if watch:
            # Report bad weights now, not when the first picture arrives. The pictures already there decide the engine.
            prepare(enhancer, there(folder, search, suffixes(), root))
            left_out.tell()
            report.note(f"waiting for pictures in {folder}; Ctrl-C ends it")
        rounds: Iterable[Search] = (search,)
        if watch:
            rounds = _until_interrupted(arrivals(folder, search, suffixes(), root), totals)
        for each in rounds:
            if watch:
                start = time.perf_counter()  # waiting does not count as work
            found = planned(folder, root, each, format=format, exist=exist, known=known, apart=watch)
            left_out.tell()
            if dry_run:
                code = tell_plan(foreseen(found, enhancer, way, report.note), json)
            else:
                limit = int(max_pixels)
                if ray:
                    enhancer.expect(len(found.jobs))
                    outcomes = enhance_on_cluster(enhancer, found, way, ray, max_pixels=limit)
                else:
                    outcomes = enhance_folder(enhancer, found, way, max_pixels=limit)
                these = Totals(enhancer, len(found.jobs), json, start, batch=True, full=totals.full)
                these.follow(outcomes)
                totals.add(these)
                code = these.exit_code
    if code:
        raise typer.Exit(code)


def _until_interrupted(rounds: Iterator[Search], totals: Totals) -> Iterator[Search]:
    """Yield the rounds of --watch. A signal while it waits is the normal way to end it, not an error."""
    try:
        yield from rounds
    except (KeyboardInterrupt, SystemExit) as ending:
        failed = f", {totals.failed} failed" if totals.failed else ""
        report.note(f"ended: {totals.done - totals.left} lit{failed}")
        if isinstance(ending, SystemExit):  # it has the exit code
            raise
        raise Ended from None
