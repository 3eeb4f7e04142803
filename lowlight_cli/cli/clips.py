"""Enhance clips for the commands: process them one by one, show the progress and report each outcome."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lowlight_cli.cli import report
from lowlight_cli.cli.ready import exit_code, lit_by, ran
from lowlight_cli.errors import LowlightError, UsageError

if TYPE_CHECKING:
    import typer

    from lowlight_cli.enhancer import Enhancer
    from lowlight_cli.targets import Job
    from lowlight_cli.video.jobs import ClipJob
    from lowlight_cli.video.making import Course, Made, Making
    from lowlight_cli.video.numbered import Pattern

__all__ = ["LeftOut", "make_clips", "refuse_for_clips"]

PICTURES_ALONE: Final = (
    "format", "quality", "bit_depth", "strip_metadata", "strip_gps", "no_provenance", "max_pixels",
)  # fmt: skip
"""Options that do not apply to clips."""


def make_clips(
    enhancer: Enhancer,
    jobs: Sequence[ClipJob | Job],
    making: Making,
    json: bool,
    begun: float,
    preview: int | None = None,
) -> int:
    """Process the clips one by one, report the outcome of each, and return the exit code."""
    errors: list[LowlightError] = []
    done = skipped = 0
    for job in jobs:
        try:
            if job.error:
                raise job.error
            if job.skip:
                skipped += 1
                report.note(f"{job.target} exists: skipped")
                if json:
                    report.event("clip", _fields(job, "skipped", enhancer))
                continue
            if preview:
                _preview(enhancer, job, preview, making)
                done += 1
                if json:
                    report.event("clip", _fields(job, "done", enhancer))
                else:
                    report.data(str(job.target))
                continue
            made, taken = _make(enhancer, job, making, json)
        except LowlightError as error:
            errors.append(error)
            report.error(str(error))
            if json:
                problem = {"code": error.exit_code, "message": str(error)}
                report.event("clip", _fields(job, "failed", enhancer) | {"error": problem})
            continue
        done += 1
        _tell(job, made, taken, enhancer, json)
    code = exit_code({error.exit_code for error in errors}, len(errors) == len(jobs))
    if json:
        totals = {"done": done, "skipped": skipped, "failed": len(errors)}
        report.event("summary", totals | {"seconds": round(time.perf_counter() - begun, 3), "exit_code": code})
    return code


def refuse_for_clips(context: typer.Context) -> None:
    """Refuse options that apply to pictures only; of those set in the environment, refuse only the privacy options.

    Raises:
        UsageError: such an option is set.
    """
    for name in PICTURES_ALONE:
        source = context.get_parameter_source(name)
        typed = source is not None and source.name == "COMMANDLINE"
        if typed or (name in ("strip_metadata", "strip_gps") and context.params[name]):
            where = f"--{name.replace('_', '-')}" if typed else f"LOWLIGHT_{name.upper()}"
            raise UsageError(f"{where} is for pictures, a clip's tags are copied: leave it out for clips")


@dataclass
class LeftOut:
    """Collects the files in folders that a search leaves out: call it with each; `tell` reports unreadable pictures."""

    clip: bool = False
    unread: set[Path] = field(default_factory=set)
    told: set[Path] = field(default_factory=set)

    def __call__(self, path: Path) -> None:
        """Record one file. For the first clip, say at once that clips are left out."""
        from lowlight_cli.pictures.formats import UNREAD
        from lowlight_cli.video.formats import is_clip

        if path.suffix.lower() in UNREAD:
            self.unread.add(path)
        elif not self.clip and is_clip(path):
            self.clip = True
            report.note(f"{path} is a clip: clips in folders are left out, `lowlight video` takes them one by one")

    def tell(self) -> None:
        """Report in one line how many new pictures are of kinds that cannot be read; each is counted only once."""
        if new := self.unread - self.told:
            kinds = ", ".join(sorted({path.suffix.lower() for path in new}))
            files = f"{len(new)} files are of kinds that are" if len(new) > 1 else "1 file is of a kind that is"
            report.note(f"{files} not read: {kinds}")
            self.told |= new


def _preview(enhancer: Enhancer, job: ClipJob | Job, count: int, making: Making) -> None:
    """Write a sheet of `count` frames and their results."""
    from lowlight_cli.files import make_folder, refuse_unwritable
    from lowlight_cli.pictures import Photo, write
    from lowlight_cli.targets import PIPE
    from lowlight_cli.video.addresses import Address
    from lowlight_cli.video.pipes import preview

    if PIPE in (job.source, job.target) or (isinstance(job.source, Address) and not job.source.stored):
        raise UsageError("--preview needs a clip that is a file, and a file to write: - and live streams will not do")
    target = Path(str(job.target))
    refuse_unwritable(target)
    sheet = preview(enhancer, job.source, count, making)
    make_folder(target)
    write(target, Photo(sheet, name=target.name))


def _make(enhancer: Enhancer, job: ClipJob | Job, making: Making, json: bool) -> tuple[Made, float]:
    """Process one clip and show its progress; return what was made and the seconds that it took."""
    from lowlight_cli.targets import PIPE
    from lowlight_cli.video.numbered import Pattern
    from lowlight_cli.video.pipes import enhance_to_pipe
    from lowlight_cli.video.run import enhance_clip
    from lowlight_cli.video.stills import enhance_to_pictures

    if job.source == PIPE and sys.stdin.isatty():
        raise UsageError("- reads a clip from stdin, which is the terminal: pipe one in, or name a file")
    if job.target == PIPE and (json or sys.stdout.isatty()):
        raise UsageError("the clip would share stdout with --json or go to the terminal: name a file with -o")
    if making.rate and not isinstance(job.source, Pattern):
        raise UsageError(f"--fps is for numbered frames, and {job.source} has a rate of its own")
    source = sys.stdin.buffer if job.source == PIPE else job.source
    name = job.source.name or str(job.source)  # an address may have no path
    follow = _Following(name)
    begun = time.perf_counter()
    try:
        with report.frames(name) as show:

            def see(course: Course) -> None:
                follow.see(course, show)

            if isinstance(job.target, Pattern):
                made = enhance_to_pictures(enhancer, source, job.target, making, see)
            elif job.target == PIPE:
                made = enhance_to_pipe(enhancer, source, sys.stdout.buffer, making, see)
            else:
                made = enhance_clip(enhancer, source, job.target, making, see)
    except (KeyboardInterrupt, SystemExit) as stop:
        _tell_left(job.target, stop)
        raise
    return made, time.perf_counter() - begun


def _tell_left(target: Path | Pattern, stop: BaseException) -> None:
    """Say where an interrupted run left its partial result, and whether --resume can continue it."""
    from lowlight_cli.video.numbered import Pattern
    from lowlight_cli.video.parts import Parts
    from lowlight_cli.video.run import partial

    more = "the same command with --resume goes on"
    if isinstance(target, Pattern):
        if target.mark.exists():
            report.note(more)
        return
    begun = Parts(target).folder.exists()
    left = getattr(stop, "__notes__", [])
    if begun and not left and partial(target).exists():  # an earlier run's
        left = [f"what is done is in {partial(target)}"]
    if left:
        report.note("; ".join([*left, more] if begun else left))


@dataclass
class _Following:
    """Reports the progress of one clip: in the bar, or as a line every `report.EVERY` seconds."""

    name: str
    start: float = field(default_factory=time.perf_counter)
    last: float = field(default_factory=time.perf_counter)

    def see(self, course: Course, show: Any) -> None:
        """Update the progress after a frame."""
        now = time.perf_counter()
        rate = (course.done - course.before) / max(now - self.start, 1e-3)
        parts = [f"{rate:.2f} frames/s"]
        if course.rate:
            parts.append(f"{rate / course.rate:.2f} x real time")
        if course.count:
            parts.append(report.time_left(max(0, course.count - course.done) / max(rate, 1e-6)))
        told = ", ".join(parts)
        if not show(course.done, course.count, told) and now - self.last > report.EVERY:
            self.last = now
            report.note(f"{self.name}: {course.done}/{course.count or '?'}, {told}")


def _tell(job: ClipJob | Job, made: Made, taken: float, enhancer: Enhancer, json: bool) -> None:
    """Print the path or a JSON line to stdout, and notes and figures to stderr."""
    for each in made.notes:
        report.note(f"{job.source}: {each}")
    if json:
        report.event("clip", _fields(job, "done", enhancer) | _measured(made, taken, enhancer))
    elif str(job.target) != "-":
        report.data(str(job.target))
    spent = ", ".join(f"{stage} {value:.2f}" for stage, value in made.seconds.items())
    report.detail(f"{job.source}: {made.size[0]}x{made.size[1]} {made.codec} {made.pixel_format}, {spent}")
    fresh = made.frames - made.resumed
    rate = fresh / max(taken, 1e-3)
    even = f"blocks in the dark evened out by {made.deblocked:.0%}, " if made.deblocked >= 0.005 else ""
    report.note(
        f"{made.frames} {'frame' if made.frames == 1 else 'frames'} lit with {lit_by(enhancer)}, {even}{taken:.2f} s, "
        f"{rate:.2f} frames/s, {rate / made.rate:.2f} x real time"
    )


def _fields(job: ClipJob | Job, status: str, enhancer: Enhancer) -> dict[str, Any]:
    """Return the JSON fields that every clip has."""
    return {
        "input": str(job.source),
        "output": str(job.target),
        "status": status,
        "model": enhancer.settings.model,
    }


def _measured(made: Made, taken: float, enhancer: Enhancer) -> dict[str, Any]:
    """Return the further JSON fields of a finished clip."""
    fresh = made.frames - made.resumed
    fields: dict[str, Any] = {
        **ran(enhancer),
        "width": made.size[0],
        "height": made.size[1],
        "codec": made.codec,
        "pixel_format": made.pixel_format,
        "frames": made.frames,
        "resumed": made.resumed,
        "repeated": made.repeated,
        "cuts": made.cuts,
        "deblocked": round(made.deblocked, 4),
        "seconds": {stage: round(value, 4) for stage, value in made.seconds.items()},
        "frames_per_second": round(fresh / max(taken, 1e-3), 3),
        "real_time": round(fresh / max(taken, 1e-3) / made.rate, 4),
        "notes": list(made.notes),
    }
    for name, both in (("luma", made.luma), ("jitter", made.jitter)):
        if both:
            fields[name] = {"before": round(both[0], 4), "after": round(both[1], 4)}
    return fields
