"""`lowlight enhance`: brighten pictures, folders of pictures, and clips."""

from __future__ import annotations

import contextlib
import glob
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from lowlight_cli import DEFAULT_MODEL
from lowlight_cli.cli import options, report
from lowlight_cli.cli.ready import exit_code, lit_by, ran, ready
from lowlight_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lowlight_cli.enhancer import Enhancer
    from lowlight_cli.files import Outcome
    from lowlight_cli.targets import Job

__all__ = ["DEPTHS", "STAGES", "enhance", "fields", "summary", "tell", "tell_plan"]

STAGES: Final = ("import", "weights", "read", "run", "write")
"""The stages that the time of a file consists of; only the first file has the first two."""

DEPTHS: Final[dict[options.BitDepthChoice, Literal["keep", 8, 16]]] = {
    options.BitDepthChoice.keep: "keep",
    options.BitDepthChoice.eight: 8,
    options.BitDepthChoice.sixteen: 16,
}


def enhance(
    context: typer.Context,
    # readable=False disables typer's check: an unreadable file is one failed file of several, not a usage error
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...", readable=False, show_default=False, help="Pictures, folders, clips, or - for stdin."
        ),
    ],
    output: Annotated[
        str | None,  # a Path would lose the trailing slash that marks a folder
        typer.Option(
            "-o", "--output", metavar="OUT", show_default="photo_lit.jpg, FOLDER_lit/",
            help="A file, a folder (inputs keep their names in it), or - for stdout.",
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
    """Brighten pictures: JPEG, PNG, WebP, TIFF, BMP, AVIF; HEIC, RAW and clips with an extra.

    Depth, colour profile, transparency and metadata are kept. stdout has the written paths, stderr all else.
    Options are read from the environment too: LOWLIGHT_MODEL, LOWLIGHT_DEVICE and so on.

    \b
      lowlight enhance photo.jpg                    writes photo_lit.jpg
      lowlight enhance *.jpg -o lit --exist skip    goes on where it stopped
      lowlight enhance - --format png < dark.jpg > lit.png
    """  # noqa: D301  # the backspace keeps typer from filling the lines
    start = time.perf_counter()
    from lowlight_cli.cli.clips import LeftOut, make_clips, refuse_for_clips
    from lowlight_cli.files import Saving, enhance_files
    from lowlight_cli.folders.search import chosen
    from lowlight_cli.pictures import FORMATS, READ_ONLY, suffix_of
    from lowlight_cli.targets import plan
    from lowlight_cli.video.formats import CONTAINERS, need_av

    inputs = [path for each in inputs for path in _meant(each)]
    if clips := _clips(inputs):
        refuse_for_clips(context)
        need_av()
    imported = time.perf_counter() - start
    suffix = None if format == "keep" or clips else suffix_of(format)
    formats, become = (CONTAINERS, {}) if clips else (FORMATS, READ_ONLY)
    search = chosen(on_other=(left_out := LeftOut()))
    jobs = plan(inputs, output, formats=formats, become=become, suffix=suffix, exist=exist.value, search=search)
    left_out.tell()
    saving = Saving(
        format=format,
        quality=quality,
        depth=DEPTHS[bit_depth],
        strip_metadata=strip_metadata,
        strip_gps=strip_gps,
        provenance=not no_provenance,
        compare=compare,
    )
    with ready(context.params) as enhancer:
        if dry_run:
            code = tell_plan(jobs, json)
        elif clips:
            from lowlight_cli.video.making import Making

            code = make_clips(enhancer, jobs, Making(compare=compare, measure=json), json, start)
        else:
            stdin = _pipes(jobs, json)
            enhancer.expect(len(jobs))
            outcomes = enhance_files(enhancer, jobs, saving, stdin=stdin, max_pixels=int(max_pixels), measure=json)
            code = _follow(outcomes, enhancer, len(jobs), json, start, imported)
    if code:
        raise typer.Exit(code)


def _meant(path: Path) -> list[Path]:
    """Return the files that an input means: if there is no such file, expand `*` and `?` in it.

    The shells of Windows leave that to the program. Brackets are literal, because they occur in file names.
    """
    from lowlight_cli.targets import exists

    pattern = str(path).replace("[", "[[]")
    if exists(path) or not set(pattern) & set("*?"):
        return [path]
    return [Path(name) for name in sorted(glob.glob(pattern))] or [path]  # noqa: PTH207  # hidden files are passed


def _clips(inputs: Sequence[Path]) -> bool:
    """Whether the inputs are clips, judged by their names.

    Raises:
        UsageError: only some of them are.
    """
    from lowlight_cli.targets import is_dir
    from lowlight_cli.video.formats import is_clip

    clips = [path for path in inputs if is_clip(path) and not is_dir(path)]
    if clips and len(clips) < len(inputs):
        raise UsageError(f"{clips[0]} is a clip, other inputs are not: give clips a command of their own")
    return bool(clips)


def _pipes(jobs: Sequence[Job], json: bool) -> bytes | None:
    """Read stdin if a job needs it, after checking that stdin and stdout suit the jobs."""
    from lowlight_cli.targets import PIPE

    if jobs[0].target == PIPE:
        if json:
            raise UsageError("--json and the picture cannot share stdout: name a file with -o")
        if sys.stdout.isatty():
            raise UsageError("the picture's bytes would go to the terminal: name a file with -o, or redirect stdout")
    if jobs[0].source != PIPE:
        return None
    if sys.stdin.isatty():
        raise UsageError("- reads a picture from stdin, which is the terminal: pipe one in, or name a file")
    return sys.stdin.buffer.read()


def _follow(
    outcomes: Iterator[Outcome], enhancer: Enhancer, count: int, json: bool, start: float, imported: float
) -> int:
    """Consume the outcomes, report each file, and return the exit code."""
    left, skipped, errors = 0, 0, []
    bar = report.progress(enhancer.settings.model, count) if count > 1 else contextlib.nullcontext(_ignore)
    with bar as advance:
        for outcome in outcomes:
            seconds = {stage: outcome.seconds[stage] for stage in STAGES if stage in outcome.seconds}
            if "import" in seconds:
                seconds["import"] += imported
            if json:
                report.event("file", fields(outcome, enhancer, seconds))
            tell(outcome, seconds, json)
            if outcome.error:
                errors.append(outcome.error)
            left += outcome.left
            skipped += outcome.skipped
            advance(1)
    done = count - skipped - len(errors)
    code = exit_code({error.exit_code for error in errors}, len(errors) == count)
    taken = time.perf_counter() - start
    if json:
        totals = {
            "done": done,
            "left_alone": left,
            "skipped": skipped,
            "failed": len(errors),
            "seconds": round(taken, 3),
            "exit_code": code,
        }
        report.event("summary", totals)
    if done or count > 1:
        report.note(summary(done, left, skipped, len(errors), enhancer, taken))
    return code


def tell(outcome: Outcome, seconds: Mapping[str, float], json: bool) -> None:
    """Report one file: its path (or the picture itself) to stdout, errors and notes to stderr."""
    if outcome.error:
        report.error(str(outcome.error))
    elif outcome.skipped:
        found = "is the result of another input" if outcome.path == outcome.target else "exists"
        report.note(f"{outcome.target} {found}: skipped")
    elif outcome.data is not None:
        report.raw(outcome.data)
    elif not json:
        report.path(outcome.target)
    for each in outcome.notes:
        report.note(f"{outcome.path}: {each}")
    if outcome.size:
        spent = ", ".join(f"{stage} {value:.2f}" for stage, value in seconds.items())
        size = f"{outcome.size[0]}x{outcome.size[1]}" + (f" in {outcome.tiles} tiles" if outcome.tiles > 1 else "")
        report.detail(f"{outcome.path}: {size}, {sum(seconds.values()):.2f} s: {spent}")


def summary(done: int, left: int, skipped: int, failed: int, enhancer: Enhancer, taken: float) -> str:
    """Return `2 lit with dgaf.best on cpu in bf16 (no GPU found, the CPU has bf16), 1 failed, 2.13 s` and the like.

    `done` includes the `left` pictures that were already bright.
    """
    lit = [f"{done - left} lit with {lit_by(enhancer)}"] if done > left else []
    others = ((left, "left alone (bright already)"), (skipped, "skipped"), (failed, "failed"))
    return ", ".join([*lit, *(f"{number} {what}" for number, what in others if number), f"{taken:.2f} s"])


def fields(outcome: Outcome, enhancer: Enhancer, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return the fields of the JSON line of a file."""
    fields: dict[str, Any] = {
        "input": str(outcome.path),
        "output": str(outcome.target),
        "status": "failed" if outcome.error else "skipped" if outcome.skipped else "done",
        "model": enhancer.settings.model,
    }
    if outcome.error:
        fields["error"] = {"code": outcome.error.exit_code, "message": str(outcome.error)}
    if outcome.size:
        fields |= {
            **ran(enhancer),
            "width": outcome.size[0],
            "height": outcome.size[1],
            "tiles": outcome.tiles,
            "seconds": {stage: round(value, 4) for stage, value in seconds.items()},
            "notes": list(outcome.notes),
        }
    if outcome.before and outcome.after:
        both = {"before": outcome.before, "after": outcome.after}
        fields["luma"] = {when: round(light.luma, 4) for when, light in both.items()}
        fields["clipped"] = {
            when: {"black": round(light.black, 4), "white": round(light.white, 4)} for when, light in both.items()
        }
    return fields


def tell_plan(jobs: Sequence[Job], json: bool) -> int:
    """Print what would be done, file by file, and return the exit code of the errors known so far."""
    for job in jobs:
        if json:
            status = "failed" if job.error else "skipped" if job.skip else "planned"
            report.event("plan", {"input": str(job.source), "output": str(job.target), "status": status})
        elif not job.error:
            report.data(f"{job.source} -> {job.target}{' (exists: skipped)' if job.skip else ''}")
        if job.error:
            report.error(str(job.error))
    return exit_code({job.error.exit_code for job in jobs if job.error}, all(job.error for job in jobs))


def _ignore(_: float) -> None:
    """Stands in for the progress bar when there is only one file."""
