"""`lowlight video`: brighten a clip without flicker."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from lowlight_cli import DEFAULT_MODEL
from lowlight_cli.cli import options
from lowlight_cli.cli.ready import ready
from lowlight_cli.cli.totals import tell_plan

__all__ = ["video"]

VIDEO: Final = "Video"


def _moment(text: str) -> float:
    """Parse `90`, `1:30` or `0:01:30.5` as seconds."""
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        raise typer.BadParameter(f"{text!r} is not a time; write it as 90, 1:30 or 0:01:30.5")
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def _bitrate(text: str) -> int:
    """Parse `4M`, `800k` or a plain number as bits per second."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)", text)
    if not found:
        raise typer.BadParameter(f"{text!r} is not a bit rate; write it as 4M, 800k or 4000000")
    return round(float(found[1]) * {"": 1, "k": 1000, "M": 1_000_000}[found[2]])


def _rate(text: str) -> Fraction:
    """Parse the frame rate `24`, `23.976` or `24000/1001`."""
    found = re.fullmatch(r"(\d+)/(\d+)|\d+(\.\d+)?", text)
    try:
        rate = Fraction(text).limit_denominator(100_000) if found else Fraction(0)
    except ZeroDivisionError:
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise typer.BadParameter(f"{text!r} is not a frame rate; write it as 24, 23.976 or 24000/1001")
    return rate


def _unheard(what: str) -> Any:
    """A hidden option that clips do not support; declared so that a user who relies on it gets an error."""
    return typer.Option(f"--strip-{what}", envvar=f"LOWLIGHT_STRIP_{what.upper()}", hidden=True)


def video(
    context: typer.Context,
    clip: Annotated[
        str,
        typer.Argument(
            metavar="CLIP", show_default=False,
            help="A clip, numbered frames (a folder, or frames/%05d.png), a URL, a camera, or - for stdin.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="OUT", readable=False, show_default="clip_lit.mp4, FRAMES_lit/",
            help="The file to write; its suffix selects the container. lit/%05d.png writes frames, - writes YUV4MPEG2 "
            "to stdout.",
        ),
    ] = None,
    temporal: Annotated[
        str,
        typer.Option(
            "--temporal", metavar="off|on|strong", envvar="LOWLIGHT_TEMPORAL", show_envvar=False, rich_help_panel=VIDEO,
            help="How strongly to hold brightness steady while the light of the scene stays the same.",
        ),
    ] = "on",
    deblock: Annotated[
        bool | None,
        typer.Option(
            "--deblock/--no-deblock", envvar="LOWLIGHT_DEBLOCK", show_envvar=False, rich_help_panel=VIDEO,
            show_default="where the clip shows blocks",
            help="First smooth block artefacts of the codec in dark areas, which the network would make visible.",
        ),
    ] = None,
    start: Annotated[
        float | None,
        typer.Option(
            "--start", metavar="TIME", parser=_moment, show_default="the beginning", rich_help_panel=VIDEO,
            help="Start at this time: seconds, or 1:30.",
        ),
    ] = None,
    end: Annotated[
        float | None,
        typer.Option(
            "--end", metavar="TIME", parser=_moment, show_default="the end", rich_help_panel=VIDEO,
            help="Stop at this time.",
        ),
    ] = None,
    fps: Annotated[
        Fraction | None,
        typer.Option(
            "--fps", metavar="RATE", parser=_rate, show_default="25", rich_help_panel=VIDEO,
            help="Frame rate of numbered frames, such as 24 or 24000/1001.",
        ),
    ] = None,
    input_option: Annotated[
        list[str] | None,
        typer.Option(
            "--input-option", metavar="KEY=VALUE", rich_help_panel=VIDEO, show_default=False,
            help="FFmpeg option for a URL or a camera, such as rtsp_transport=udp or video_size=1280x720; may be given "
            "several times.",
        ),
    ] = None,
    codec: Annotated[
        str,
        typer.Option(
            "--codec", metavar="auto|h264|hevc|av1|vp9|prores|ffv1|...", envvar="LOWLIGHT_CODEC", show_envvar=False,
            rich_help_panel=VIDEO,
            help="Codec to encode with; auto follows the clip. FFmpeg encoders such as h264_nvenc work too.",
        ),
    ] = "auto",
    crf: Annotated[
        int | None,
        typer.Option(
            "--crf", min=0, max=63, metavar="N", show_default="by codec", rich_help_panel=VIDEO,
            help="Constant quality on the codec's scale; lower is better, in larger files.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", metavar="WORD", show_default="by codec", rich_help_panel=VIDEO,
            help="Encoder preset that trades speed against size, such as slow.",
        ),
    ] = None,
    bitrate: Annotated[
        int | None,
        typer.Option(
            "--bitrate", metavar="RATE", parser=_bitrate, show_default="by quality", rich_help_panel=VIDEO,
            help="Bits per second, such as 4M, instead of constant quality.",
        ),
    ] = None,
    hardware: Annotated[
        bool, typer.Option("--hardware", rich_help_panel=VIDEO, help="Use a hardware encoder if one works.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", rich_help_panel=VIDEO, help="Continue an interrupted run of the same command."),
    ] = False,
    preview: Annotated[
        int | None,
        typer.Option(
            "--preview", min=1, max=64, metavar="N", rich_help_panel=VIDEO, show_default=False,
            help="Only write a sheet of N frames with their results, to check before the long run.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel=options.FILES, help="Say what would be written; do nothing.")
    ] = False,
    strip_metadata: Annotated[bool, _unheard("metadata")] = False,
    strip_gps: Annotated[bool, _unheard("gps")] = False,
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
    """Brighten a clip without flicker; sound, subtitles, chapters and tags are copied.

    Every frame keeps its time. Exposure and colour are held steady, so that nothing flickers; cuts and lamps that are
    switched on are followed. Depth, colour labels and rotation are kept.

    \b
      lowlight video night.mp4                        writes night_lit.mp4
      lowlight video night.mov -o lit.mkv --codec hevc --crf 18
      lowlight video night.mp4 --start 1:30 --end 1:40 --compare
      lowlight video night.mp4 --preview 8            writes night_lit.jpg
      lowlight video frames/%05d.png -o lit.mp4 --fps 24
      lowlight video rtsp://camera/night -o night.mkv --end 10:00
      ffmpeg ... -f yuv4mpegpipe - | lowlight video - -o - | ffmpeg -i - ...
    """  # noqa: D301  # the backspace keeps typer from filling the lines
    begun = time.perf_counter()
    from lowlight_cli.video.formats import Encoding, need_av

    need_av()
    from lowlight_cli.cli.clips import make_clips, refuse_for_clips
    from lowlight_cli.errors import UsageError
    from lowlight_cli.video.addresses import Address, option
    from lowlight_cli.video.jobs import ClipJob, clip_job
    from lowlight_cli.video.making import Making
    from lowlight_cli.video.streams import Span
    from lowlight_cli.video.temporal import Smoothing
    from lowlight_cli.weights.fetch import offline_reason

    refuse_for_clips(context)
    Smoothing(temporal)
    making = Making(
        span=Span(start or 0.0, end),
        temporal=temporal,
        deblock=deblock,
        encoding=Encoding(codec, crf, preset, bitrate, hardware),
        compare=compare,
        resume=resume,
        overwrite=exist == "overwrite",
        measure=json,
        rate=fps,
    )
    told = dict(map(option, input_option or ()))
    job = clip_job(clip, output, exist=exist, resume=resume, sheet=bool(preview), options=told)
    reason = offline_reason(offline)
    # A camera is no network; HF_HUB_OFFLINE is about models.
    if reason not in ("", "HF_HUB_OFFLINE") and isinstance(job.source, Address) and not job.source.format:
        raise UsageError(f"{job.source} is an address, and {reason} forbids the network: name a file, or leave it out")
    if isinstance(job, ClipJob) and job.begun:
        making = replace(making, resume=True)
    with ready(context.params) as enhancer:
        code = tell_plan([job], json) if dry_run else make_clips(enhancer, [job], making, json, begun, preview)
    if code:
        raise typer.Exit(code)
