"""`lowlight batch`: enhance a folder of pictures with overlapped stages, a manifest and `--resume`."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lowlight_cli import DEFAULT_MODEL
from lowlight_cli.cli import options, report
from lowlight_cli.cli.enhance import DEPTHS, STAGES, fields, summary, tell, tell_plan
from lowlight_cli.cli.ready import Ended, exit_code, ready
from lowlight_cli.errors import ResourceError, UsageError, disk_full

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from lowlight_cli.enhancer import Enhancer
    from lowlight_cli.files import Outcome
    from lowlight_cli.targets import Search

__all__ = ["batch"]

SEARCH: Final = "Search"

FULL: Final = 3
"""Give up after this many results in a row that failed because the disk is full."""


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
    protect_highlights: options.ProtectHighlights = None,
    gate: options.Gate = None,
    self_ensemble: options.SelfEnsemble = False,
    compare: options.Compare = False,
    exist: options.Exist = options.ExistChoice.error,
    format: options.Format = "keep",
    quality: options.Quality = None,
    bit_depth: options.BitDepth = options.BitDepthChoice.keep,
    strip_metadata: options.StripMetadata = False,
    strip_gps: options.StripGps = False,
    no_provenance: options.Provenance = False,
    max_pixels: options.MaxPixels = 500e6,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel=options.FILES, help="Say what would be written; do nothing.")
    ] = False,
    device: options.Device = "auto",
    precision: options.Precision = options.PrecisionChoice.auto,
    engine: options.Engine = "auto",
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
    from lowlight_cli.files import Saving
    from lowlight_cli.folders.batch import enhance_folder, output_folder, planned, prepare
    from lowlight_cli.folders.cluster import enhance_on_cluster
    from lowlight_cli.folders.forecast import foreseen
    from lowlight_cli.folders.manifest import claimed
    from lowlight_cli.folders.search import chosen
    from lowlight_cli.folders.watch import arrivals, there
    from lowlight_cli.pictures import suffixes

    if watch and (dry_run or exist is options.ExistChoice.number):
        raise UsageError(f"--watch and --{'dry-run' if dry_run else 'exist number'} exclude each other")
    if watch and ray:
        raise UsageError("--watch works on this machine alone: leave out --ray, or run --ray --resume again later")
    root = output_folder(folder, output)
    left_out = LeftOut()
    search = chosen(include or (), exclude or (), report.warning if watch else None, left_out)
    saving = Saving(
        format=format,
        quality=quality,
        depth=DEPTHS[bit_depth],
        strip_metadata=strip_metadata,
        strip_gps=strip_gps,
        provenance=not no_provenance,
        compare=compare,
    )
    with ready(context.params) as enhancer, contextlib.ExitStack() as claim:
        totals: list[_Totals] = []
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
            found = planned(folder, root, each, format=format, exist=exist.value, resume=resume or watch, apart=watch)
            left_out.tell()
            if dry_run:
                code = tell_plan(foreseen(found, enhancer, saving, report.note), json)
            else:
                limit = int(max_pixels)
                if ray:
                    enhancer.expect(len(found.jobs))
                    outcomes = enhance_on_cluster(enhancer, found, saving, ray, max_pixels=limit)
                else:
                    outcomes = enhance_folder(enhancer, found, saving, max_pixels=limit)
                totals.append(_follow(outcomes, enhancer, len(found.jobs), json, start))
                code = totals[-1].exit_code
    if code:
        raise typer.Exit(code)


def _until_interrupted(rounds: Iterator[Search], totals: Sequence[_Totals]) -> Iterator[Search]:
    """Yield the rounds of --watch. Ctrl-C while it waits is the normal way to end it, not an error."""
    try:
        yield from rounds
    except KeyboardInterrupt:
        lit, failed = sum(each.done - each.left for each in totals), sum(each.failed for each in totals)
        report.note(f"ended: {lit} lit{f', {failed} failed' if failed else ''}")
        raise Ended from None


@dataclass
class _Totals:
    """Counts of the files processed so far; `full` counts consecutive disk-full errors."""

    count: int
    done: int = 0
    left: int = 0
    skipped: int = 0
    failed: int = 0
    codes: set[int] = field(default_factory=set)
    full: int = 0
    start: float = field(default_factory=time.perf_counter)

    def add(self, outcome: Outcome) -> None:
        """Count one outcome. The clock starts once a file is not skipped."""
        if outcome.skipped and not self.done + self.failed:
            self.start = time.perf_counter()
        self.skipped += outcome.skipped
        self.failed += outcome.error is not None
        self.done += not (outcome.skipped or outcome.error)
        self.left += outcome.left
        if outcome.error:
            self.codes.add(outcome.error.exit_code)
        self.full = self.full + 1 if disk_full(outcome.error) else 0

    @property
    def exit_code(self) -> int:
        """0 if nothing failed, the common code of the errors if all files failed alike, else 1."""
        return exit_code(self.codes, self.failed == self.count)

    def __str__(self) -> str:
        """Return, for example, `312/1000, 1 failed, 4.10 pictures/s, 3 min left`."""
        seen = self.done + self.failed
        rate = seen / max(time.perf_counter() - self.start, 1e-3)
        parts = [f"{seen + self.skipped}/{self.count}"]
        parts += [f"{self.failed} failed"] if self.failed else []
        if seen:
            parts += [f"{rate:.2f} pictures/s", report.time_left((self.count - seen - self.skipped) / rate)]
        return ", ".join(parts)


def _follow(
    outcomes: Generator[Outcome, None, None], enhancer: Enhancer, count: int, json: bool, start: float
) -> _Totals:
    """Consume the outcomes, report each file, and return the totals."""
    totals, last = _Totals(count), time.perf_counter()
    try:
        with report.progress(enhancer.settings.model, count) as advance, contextlib.closing(outcomes):
            for outcome in outcomes:
                totals.add(outcome)
                seconds = {stage: outcome.seconds[stage] for stage in STAGES if stage in outcome.seconds}
                if json:
                    report.event("file", fields(outcome, enhancer, seconds))
                if not outcome.skipped:
                    tell(outcome, seconds, json)
                if totals.full == FULL:
                    raise ResourceError(f"the disk is full: {totals}; make room, then the same with --resume goes on")
                advance(1)
                if time.perf_counter() - last > report.EVERY:
                    report.note(str(totals))
                    last = time.perf_counter()
    except (KeyboardInterrupt, SystemExit):
        report.note(f"{totals}; the same command with --resume goes on")
        raise
    taken = time.perf_counter() - start
    if json:
        told = {"done": totals.done, "left_alone": totals.left, "skipped": totals.skipped, "failed": totals.failed}
        report.event("summary", {**told, "seconds": round(taken, 3), "exit_code": totals.exit_code})
    report.note(summary(totals.done, totals.left, totals.skipped, totals.failed, enhancer, taken))
    return totals
