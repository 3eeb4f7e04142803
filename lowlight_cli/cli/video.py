"""`lowlight video`: a dark clip in, a lit clip out, without flicker."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lowlight_cli import DEFAULT_MODEL
from lowlight_cli.cli import options, report
from lowlight_cli.errors import LowlightError, UsageError

if TYPE_CHECKING:
    from lowlight_cli.enhancer import Enhancer
    from lowlight_cli.targets import Job
    from lowlight_cli.video.run import Course, Made, Making

__all__ = ["make_clips", "video"]

VIDEO: Final = "Video"

EVERY: Final = 30.0
"""Seconds between two lines of progress where stderr is no terminal."""


def _moment(text: str) -> float | None:
    """`90`, `1:30` or `0:01:30.5` in seconds."""
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        raise typer.BadParameter(f"{text!r} is no time such as 90, 1:30 or 0:01:30.5")
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def _bitrate(text: str) -> int | None:
    """`4M`, `800k` or bits a second."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)", text)
    if not found:
        raise typer.BadParameter(f"{text!r} is no rate such as 4M, 800k or 4000000")
    return round(float(found[1]) * {"": 1, "k": 1000, "M": 1_000_000}[found[2]])


def video(
    clip: Annotated[
        Path, typer.Argument(metavar="CLIP", readable=False, show_default=False, help="A clip, or - for stdin.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="OUT", readable=False, show_default="clip_lit.mp4",
            help="The file to write; its suffix chooses the container. - is YUV4MPEG2 on stdout.",
        ),
    ] = None,
    temporal: Annotated[
        str,
        typer.Option(
            "--temporal", metavar="off|on|strong", envvar="LOWLIGHT_TEMPORAL", show_envvar=False, rich_help_panel=VIDEO,
            help="How firmly brightness is held while the scene's light stays as it is.",
        ),
    ] = "on",
    start: Annotated[
        float | None,
        typer.Option(
            "--start", metavar="TIME", parser=_moment, show_default="the beginning", rich_help_panel=VIDEO,
            help="Begin there: seconds, or 1:30.",
        ),
    ] = None,
    end: Annotated[
        float | None,
        typer.Option(
            "--end", metavar="TIME", parser=_moment, show_default="the end", rich_help_panel=VIDEO, help="End there."
        ),
    ] = None,
    codec: Annotated[
        str,
        typer.Option(
            "--codec", metavar="auto|h264|hevc|av1|vp9|prores|ffv1|…", envvar="LOWLIGHT_CODEC", show_envvar=False,
            rich_help_panel=VIDEO,
            help="How to encode; auto is as the clip was. Also an encoder of FFmpeg, such as h264_nvenc.",
        ),
    ] = "auto",
    crf: Annotated[
        int | None,
        typer.Option(
            "--crf", min=0, max=63, metavar="N", show_default="by codec", rich_help_panel=VIDEO,
            help="Constant quality on the codec's scale; less is better and larger.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", metavar="WORD", show_default="by codec", rich_help_panel=VIDEO,
            help="The encoder's word for speed against size, such as slow.",
        ),
    ] = None,
    bitrate: Annotated[
        int | None,
        typer.Option(
            "--bitrate", metavar="RATE", parser=_bitrate, show_default="by quality", rich_help_panel=VIDEO,
            help="Bits a second, such as 4M, in place of a constant quality.",
        ),
    ] = None,
    hardware: Annotated[
        bool, typer.Option("--hardware", rich_help_panel=VIDEO, help="Encode in hardware, where some works.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", rich_help_panel=VIDEO, help="Go on where a run of the same command was cut short."),
    ] = False,
    preview: Annotated[
        int | None,
        typer.Option(
            "--preview", min=1, max=64, metavar="N", rich_help_panel=VIDEO, show_default=False,
            help="Only write a sheet of N frames and their results, to look at before the long run.",
        ),
    ] = None,
    model: options.Model = DEFAULT_MODEL,
    weights: options.Weights = None,
    offline: options.Offline = False,
    strength: options.Strength = 1.0,
    exposure: options.Exposure = None,
    protect_highlights: options.ProtectHighlights = False,
    gate: options.Gate = None,
    self_ensemble: options.SelfEnsemble = False,
    compare: options.Compare = False,
    exist: options.Exist = options.ExistChoice.error,
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
    """Brighten a clip: every frame, at its moment; sound, subtitles, chapters and tags are copied.

    What is global, such as the exposure, is held steady over time, so that nothing flickers; cuts and lamps that go on
    are followed at once. Depth, colour labels and rotation are kept.

    \b
      lowlight video night.mp4                        writes night_lit.mp4
      lowlight video night.mov -o lit.mkv --codec hevc --crf 18
      lowlight video night.mp4 --start 1:30 --end 1:40 --compare
      lowlight video night.mp4 --preview 8            writes night_lit.jpg
      ffmpeg ... -f yuv4mpegpipe - | lowlight video - -o - | ffmpeg -i - ...
    """  # noqa: D301  # the backspace keeps typer from filling the lines
    begun = time.perf_counter()
    from lowlight_cli.targets import plan
    from lowlight_cli.video.formats import CONTAINERS, Encoding, need_av

    need_av()
    from lowlight_cli.enhancer import Enhancer
    from lowlight_cli.video.run import Making
    from lowlight_cli.video.streams import Span
    from lowlight_cli.video.temporal import Smoothing

    Smoothing(temporal)
    making = Making(
        span=Span(start or 0.0, end),
        temporal=temporal,
        encoding=Encoding(codec, crf, preset, bitrate, hardware),
        compare=compare,
        resume=resume,
        measure=json,
    )
    if preview:
        from lowlight_cli.pictures import FORMATS

        output = output or clip.with_name(f"{clip.stem}_lit.jpg")
        jobs = plan([clip], output, formats=FORMATS, exist=exist.value)
    else:
        jobs = plan([clip], output, formats=CONTAINERS, exist=exist.value)
    with report.transfer(f"weights of {model}") as moved:
        enhancer = Enhancer(
            model,
            weights,
            device=device,
            precision=precision.value,
            engine=engine,
            strength=strength,
            exposure=exposure,
            protect_highlights=protect_highlights,
            gate=gate,
            self_ensemble=self_ensemble,
            tile=tile,
            memory=memory,
            offline=offline,
            on_message=report.note,
            on_progress=moved,
        )
        code = make_clips(enhancer, jobs, making, json, begun, preview)
    if code:
        raise typer.Exit(code)


def make_clips(
    enhancer: Enhancer, jobs: list[Job], making: Making, json: bool, begun: float, preview: int | None = None
) -> int:
    """Make one clip after the other, and tell what becomes of each; the exit code."""
    from lowlight_cli.cli.enhance import exit_code

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
    code = exit_code(errors, len(jobs))
    if json:
        totals = {"done": done, "skipped": skipped, "failed": len(errors)}
        report.event("summary", totals | {"seconds": round(time.perf_counter() - begun, 3), "exit_code": code})
    return code


def _preview(enhancer: Enhancer, job: Job, count: int, making: Making) -> None:
    """A sheet of frames with their results."""
    from lowlight_cli.pictures import Photo, write
    from lowlight_cli.targets import PIPE
    from lowlight_cli.video.pipes import preview

    if PIPE in (job.source, job.target):
        raise UsageError("--preview looks at several places of a file, and writes one: - is none")
    sheet = preview(enhancer, job.source, count, making.span)
    write(job.target, Photo(sheet, name=job.target.name))
    report.path(job.target)


def _make(enhancer: Enhancer, job: Job, making: Making, json: bool) -> tuple[Made, float]:
    """One clip, with its progress; what was made, and the seconds that it took."""
    from lowlight_cli.engines import SteadyEngine
    from lowlight_cli.targets import PIPE
    from lowlight_cli.video.pipes import enhance_to_pipe
    from lowlight_cli.video.run import enhance_clip, partial

    if job.source == PIPE and sys.stdin.isatty():
        raise UsageError("- reads a clip from stdin, which is the terminal: pipe one in, or name a file")
    if job.target == PIPE and (json or sys.stdout.isatty()):
        raise UsageError("the clip would share stdout with --json or go to the terminal: name a file with -o")
    source = sys.stdin.buffer if job.source == PIPE else job.source
    engine, _ = enhancer.load()
    if making.temporal != "off" and not isinstance(engine, SteadyEngine):
        report.note(f"{engine.name} cannot hold what the network measures: only exposure and level are held steady")
    follow = _Following(job.source.name)
    begun = time.perf_counter()
    try:
        with report.frames(job.source.name) as show:

            def see(course: Course) -> None:
                follow.see(course, show)

            if job.target == PIPE:
                made = enhance_to_pipe(enhancer, source, str(job.source), sys.stdout.buffer, making, see)
            else:
                made = enhance_clip(enhancer, source, job.target, making, see)
    except (KeyboardInterrupt, SystemExit):
        if partial(job.target).exists():
            report.note(f"what is done is in {partial(job.target)}; the same command with --resume goes on")
        raise
    return made, time.perf_counter() - begun


@dataclass
class _Following:
    """What is told of the progress."""

    name: str
    start: float = field(default_factory=time.perf_counter)
    last: float = field(default_factory=time.perf_counter)

    def see(self, course: Course, show: Any) -> None:
        """A frame more."""
        now = time.perf_counter()
        rate = (course.done - course.before) / max(now - self.start, 1e-3)
        parts = [f"{rate:.2f} frames/s"]
        if course.rate:
            parts.append(f"{rate / course.rate:.2f} x real time")
        if course.count:
            left = max(0, course.count - course.done) / max(rate, 1e-6)
            parts.append(f"{left:.0f} s left" if left < 100 else f"{left / 60:.0f} min left")
        told = ", ".join(parts)
        if not show(course.done, course.count, told) and now - self.last > EVERY:
            self.last = now
            report.note(f"{self.name}: {course.done}/{course.count or '?'}, {told}")


def _tell(job: Job, made: Made, taken: float, enhancer: Enhancer, json: bool) -> None:
    """The path to stdout, what there is to say to stderr."""
    for each in made.notes:
        report.note(f"{job.source}: {each}")
    if json:
        report.event("clip", _fields(job, "done", enhancer) | _measured(made, taken, enhancer))
    elif str(job.target) != "-":
        report.path(job.target)
    spent = ", ".join(f"{stage} {value:.2f}" for stage, value in made.seconds.items())
    report.detail(f"{job.source}: {made.size[0]}x{made.size[1]} {made.codec} {made.pixel_format}, {spent}")
    engine, resolved = enhancer.load()
    name = resolved.checkpoint.name if resolved.checkpoint else f"{enhancer.settings.model} ({resolved.path})"
    fresh = made.frames - made.resumed
    rate = fresh / max(taken, 1e-3)
    report.note(
        f"{made.frames} frames lit with {name} on {engine.device} in {engine.precision}, {taken:.2f} s, "
        f"{rate:.2f} frames/s, {rate / made.rate:.2f} x real time"
    )


def _fields(job: Job, status: str, enhancer: Enhancer) -> dict[str, Any]:
    """What a JSON line says of every clip."""
    return {
        "input": str(job.source),
        "output": str(job.target),
        "status": status,
        "model": enhancer.settings.model,
    }


def _measured(made: Made, taken: float, enhancer: Enhancer) -> dict[str, Any]:
    """What a JSON line says of a clip that was made."""
    engine, resolved = enhancer.load()
    fresh = made.frames - made.resumed
    fields: dict[str, Any] = {
        "weights": resolved.sha256,
        "engine": engine.name,
        "device": engine.device,
        "precision": engine.precision,
        "width": made.size[0],
        "height": made.size[1],
        "codec": made.codec,
        "pixel_format": made.pixel_format,
        "frames": made.frames,
        "resumed": made.resumed,
        "repeated": made.repeated,
        "cuts": made.cuts,
        "seconds": {stage: round(value, 4) for stage, value in made.seconds.items()},
        "frames_per_second": round(fresh / max(taken, 1e-3), 3),
        "real_time": round(fresh / max(taken, 1e-3) / made.rate, 4),
        "notes": list(made.notes),
    }
    for name, both in (("luma", made.luma), ("jitter", made.jitter)):
        if both:
            fields[name] = {"before": round(both[0], 4), "after": round(both[1], 4)}
    return fields
