"""The clip out: the new video in place of the old, every other stream copied packet by packet, in their order."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av
import av.error
from av.stream import Disposition

from lowlight_cli.errors import OutputError
from lowlight_cli.video.aspect import PAIR, say_aspect
from lowlight_cli.video.formats import NAMED
from lowlight_cli.video.parts import Parts, explained
from lowlight_cli.video.streams import read, zero

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream

    from lowlight_cli.video.addresses import Address
    from lowlight_cli.video.encode import Plan
    from lowlight_cli.video.streams import Span

__all__ = ["assemble", "decoding_ticks", "rehearse"]

_MOV: Final = ("mp4", "mov", "3gp")
_OWN: Final = {"major_brand", "minor_version", "compatible_brands", "encoder", "software"}
"""Tags that say how a file was written; they are the muxer's."""

_PLAIN: Final = _OWN | {
    "title", "artist", "album", "album_artist", "comment", "composer", "copyright", "creation_time", "date",
    "description", "episode_id", "genre", "grouping", "language", "lyrics", "network", "show", "synopsis", "timecode",
    "track", "year",
}  # fmt: skip
"""Tags that MP4 has boxes of its own for; others need the newer kind of box, beside which no cover is written."""

_BOTH: Final = {"keywords", "location", "location-eng"}
"""Tags that both kinds of boxes hold all the same."""

_COUNTED: Final = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS_")
"""Beginnings of Matroska's tags that count bytes of the old video."""

_SURPLUS: Final = ((), ("data", "unknown"), ("data", "unknown", "attachment", "subtitle"))
"""Kinds that are left out, one set after the other, where a container refuses them."""


@dataclass(frozen=True)
class Original:
    """The clip that was read: its streams, which of them is the video that is replaced, and the part that is meant.

    `again` opens it once more, at its beginning.
    """

    container: InputContainer
    index: int
    span: Span
    again: Callable[[], InputContainer]


def assemble(
    source: Path | Address | None, index: int, parts: Parts, plan: Plan, span: Span, target: Path
) -> list[str]:
    """Write the clip under a temporary name, make it safe, and give it its own at one stroke.

    Args:
        source: the clip that was read, for its other streams; None where it cannot be read again.
        index: of the stream in it that is replaced.
        parts: the new video.
        plan: how it was encoded.
        span: which part of the clip.
        target: the file; one that exists is replaced.

    Returns:
        What could not be kept, a line each.

    Raises:
        OutputError: it cannot be written there, or the container does not take it.
        ResourceError: the disk is full.
    """
    part = parts.folder / f"clip{target.suffix}"  # where a crash leaves it, a later run drops it with the rest
    try:
        with contextlib.ExitStack() as stack:
            clip = _original(source, index, span, stack)
            notes = _write(clip, parts, plan, part)
        if plan.shaped and plan.aspect:
            say_aspect(part, plan.width, plan.height, plan.aspect)
        with part.open("rb+") as file:  # Windows makes only safe what is open for writing
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise explained(target, error) from error
    except av.error.FFmpegError as error:
        raise _refused(target, error) from error
    finally:
        part.unlink(missing_ok=True)
    return notes


def rehearse(source: Path | Address | None, index: int, plan: Plan, span: Span, target: Path) -> None:
    """Lay the clip out where nobody reads it, so that what its container refuses is known before the first frame.

    The arguments are those of `assemble`.

    Raises:
        OutputError: the container does not take the video.
        DeviceError: the encoder does not work here, or not with these options.
    """
    try:
        with contextlib.ExitStack() as stack:
            clip = _original(source, index, span, stack)
            out, *_ = _begun(clip, plan, os.devnull)
            with contextlib.suppress(av.error.FFmpegError):  # no frame came
                out.close()
    except av.error.FFmpegError as error:
        raise _refused(target, error) from error


def decoding_ticks(pts: list[int]) -> list[int]:
    """When each frame has to be decoded, rising and never after it is shown; `pts` are in the order of decoding."""
    shown = sorted(pts)
    rank = {tick: position for position, tick in enumerate(shown)}
    delay = max((position - rank[tick] for position, tick in enumerate(pts)), default=0)
    step = shown[1] - shown[0] if len(shown) > 1 else 1
    return [shown[at - delay] if at >= delay else shown[0] - (delay - at) * step for at in range(len(pts))]


def _original(source: Path | Address | None, index: int, span: Span, stack: contextlib.ExitStack) -> Original | None:
    """The clip that was read, open until the stack is left; None where there is nothing to copy."""
    if source is None:
        return None

    def container() -> InputContainer:
        return stack.enter_context(read(source, str(source)))

    return Original(container(), index, span, container)


def _refused(target: Path, error: av.error.FFmpegError) -> OutputError:
    return OutputError(f"{target}: cannot be written ({error.strerror}); choose another suffix or --codec")


def _write(clip: Original | None, parts: Parts, plan: Plan, part: Path) -> list[str]:
    out, video, copies, notes = _begun(clip, plan, str(part))
    with out:
        _interleave(out, _new(parts, plan, video), _copied(clip, copies))
    return notes


def _begun(clip: Original | None, plan: Plan, path: str) -> tuple[OutputContainer, Any, dict[int, Stream], list[str]]:
    """Write the header: try with all streams, then without those that the container may refuse."""
    for surplus in _SURPLUS:
        out = av.open(path, "w", format=plan.container, options=_options(clip, plan))
        try:
            video, copies, notes = _laid_out(clip, out, plan, surplus)
            out.start_encoding()
        except (av.error.FFmpegError, ValueError):
            with contextlib.suppress(av.error.FFmpegError):
                out.close()
            if clip is None or surplus == _SURPLUS[-1]:
                raise
            continue
        return out, video, copies, notes
    raise AssertionError("the last try raises or returns")


def _options(clip: Original | None, plan: Plan) -> dict[str, str]:
    """What the muxer is told."""
    if plan.container == "mpegts":
        return {"mpegts_copyts": "1"}
    if plan.constant:
        return {"strict": "-1"}  # more than 8 bits are beyond the first standard
    if plan.container not in _MOV:
        return {"write_crc32": "0"} if plan.shaped else {}  # sums would not hold for what is put in
    flags = "+faststart"
    if clip and set(clip.container.metadata) - _PLAIN and not _covers(clip, plan):
        flags += "+use_metadata_tags"
    bases = [plan.base, *(stream.time_base for stream in (clip.container.streams if clip else ()) if stream.time_base)]
    scale = math.lcm(*(base.denominator for base in bases))
    options = {"movflags": flags, "video_track_timescale": str(plan.base.denominator)}
    # where a stream does not begin at once, MP4 counts the gap in ticks of the whole clip: a fine one keeps it exact
    return options | ({"movie_timescale": str(scale)} if scale < 2**31 else {})


def _covers(clip: Original, plan: Plan) -> bool:
    """Whether there is a cover to write."""
    streams = clip.container.streams
    return plan.container == "mp4" and any(stream.disposition & Disposition.attached_pic for stream in streams)


def _laid_out(
    clip: Original | None, out: OutputContainer, plan: Plan, surplus: tuple[str, ...]
) -> tuple[Any, dict[int, Stream], list[str]]:
    """Make the streams, in the order of the clip: the new video, the copies by the index of what they copy."""
    video, copies, notes = None, {}, []
    for stream in clip.container.streams if clip else ():
        if clip and stream.index == clip.index:
            video = _video(out, plan)
            video.metadata.update({k: v for k, v in stream.metadata.items() if not _own(k) and k not in PAIR})
            video.disposition = stream.disposition
            continue
        if plan.container in _MOV and stream.type == "data" and stream.name == "bin_data":
            continue  # the text of the chapters, which the muxer writes anew
        cover = plan.container == "mov" and stream.disposition & Disposition.attached_pic  # which it drops unsaid
        if stream.type in surplus or cover:
            kind = "cover" if cover else stream.type
            notes.append(f"{plan.container} cannot hold stream {stream.index} ({kind}): left out")
            continue
        try:
            if stream.type in NAMED:
                _check(stream, plan.container)
            copy = out.add_stream_from_template(stream, opaque=True)
        except (av.error.FFmpegError, ValueError):
            what = stream.codec_context.name if stream.codec_context else "no codec"
            notes.append(f"{plan.container} cannot hold stream {stream.index} ({stream.type}, {what}): left out")
            continue
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        copies[stream.index] = copy
    if clip:
        lost = [key for key in clip.container.metadata if key.lower() not in _PLAIN | _BOTH]
        if lost and _covers(clip, plan):
            notes.append(f"mp4 holds a cover or unusual tags, not both: left out {', '.join(lost)}")
        out.metadata.update({key: value for key, value in clip.container.metadata.items() if key not in _OWN})
        out.set_chapters(list(_chapters(clip)))
    return video or _video(out, plan), copies, notes


def _check(stream: Stream, container: str) -> None:
    """Raise an error of PyAV's where a container cannot hold a stream, which some say late, by an abort, or never."""
    name = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    if container == "mpegts" and name not in NAMED[stream.type]:
        raise ValueError("would be data without a name")
    if container == "flv" and name.startswith("pcm_"):
        raise ValueError("ends the process, FFmpeg 8.1")
    if stream.type == "audio":
        with av.open(os.devnull, "w", format=container) as alone:
            alone.add_stream_from_template(stream, opaque=True)
            alone.start_encoding()


def _video(out: OutputContainer, plan: Plan) -> Any:
    video: Any = out.add_stream(plan.name, rate=plan.rate)
    plan.configure(video)
    video.codec_context.options = dict(plan.options)
    video.codec_context.time_base = plan.clock  # an MPEG-4 header states it
    video.time_base = 1 / plan.rate if plan.constant else plan.base
    if plan.container in _MOV and video.codec_context.codec.canonical_name == "hevc":
        video.codec_context.codec_tag = "hvc1"  # what QuickTime and Safari play
    if plan.shaped:
        video.metadata.update(PAIR)
    if plan.matrix:
        video.set_display_matrix(plan.matrix)
    plan.open(video.codec_context)
    return video


def _own(key: str) -> bool:
    return key.upper().startswith(_COUNTED) or key in ("encoder", "vendor_id", "ENCODER")


def _chapters(clip: Original) -> Iterator[Any]:
    for chapter in clip.container.chapters():
        base = chapter["time_base"] or Fraction(1, 1000)
        start, end = (chapter[side] - clip.span.shift(base) for side in ("start", "end"))
        stop = None if clip.span.stop is None else (clip.span.stop - clip.span.start) / base
        if end <= 0 or (stop is not None and start >= stop):
            continue
        yield {**chapter, "start": max(0, start), "end": end if stop is None else min(end, round(stop))}


def _new(parts: Parts, plan: Plan, video: Stream) -> Iterator[Any]:
    """The new video's packets; each lasts until the next is shown."""
    frames = [frame for part in parts.done for frame in part.frames]
    shown = sorted((pts, duration) for pts, duration, *_ in frames)
    lasts = {pts: then - pts for (pts, _), (then, _) in itertools.pairwise(shown)}
    ticks = decoding_ticks([pts for pts, *_ in frames])
    for number, (packed, dts) in enumerate(zip(parts.packets(), ticks, strict=True)):
        packet = av.Packet(packed.data)
        if plan.constant:
            packet.stream, packet.time_base = video, 1 / plan.rate
            packet.pts = packet.dts = number
            yield packet
            continue
        packet.stream, packet.time_base = video, plan.base
        packet.pts, packet.dts = packed.pts, dts
        packet.duration = lasts.get(packed.pts, packed.duration) or round(1 / plan.rate / plan.base)
        packet.is_keyframe = packed.key
        yield packet


def _copied(clip: Original | None, copies: dict[int, Stream]) -> Iterator[Any]:
    """The other streams' packets as they are, those of the part, timed from its beginning."""
    if not clip or not copies:
        return
    container = clip.container
    begin, end = clip.span.bounds(zero(container))
    stop = None  # Matroska gives the last packet its full length, although the clip ends within
    if container.duration and "matroska" in container.format.name:
        stop = zero(container) + Fraction(container.duration, av.time_base)
    with contextlib.suppress(av.error.FFmpegError):  # what is cut short ends there; the video has said so
        for packet in _packets(clip, begin):
            stream, base = packet.stream, packet.time_base
            if packet.size == 0 or stream.index not in copies:
                continue
            when = _shown(packet)
            if when is not None and ((clip.span.start and when < begin) or (end is not None and when >= end)):
                continue
            if stop and when is not None and packet.duration and when < stop:
                packet.duration = min(packet.duration, round((stop - when) / base))
            shift = clip.span.shift(base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            packet.stream = copies[stream.index]
            yield packet


def _packets(clip: Original, begin: Fraction) -> Iterator[Any]:
    """All streams' packets, from about `begin` on; from the beginning where one cannot go there."""
    if clip.span.start <= 1:
        return clip.container.demux()
    with contextlib.suppress(av.error.FFmpegError):
        clip.container.seek(int((begin - 1) * av.time_base))  # MPEG-TS lands a little behind
        packets = clip.container.demux()
        first = next(packets, None)
        when = _shown(first) if first else None
        if when is not None and when <= begin:  # a server that cannot go back lands anywhere, and raises nothing
            return itertools.chain([first], packets)
    return clip.again().demux()


def _shown(packet: Any) -> Fraction | None:
    tick = packet.pts if packet.pts is not None else packet.dts
    return None if tick is None else tick * packet.time_base


def _interleave(out: OutputContainer, video: Iterator[Any], copied: Iterable[Any]) -> None:
    """Both kinds in the order of time, as players read them."""
    coming = next(video, None)
    for packet in copied:
        when = _seconds(packet)
        while coming is not None and (when is None or _seconds(coming) <= when):  # type: ignore[operator]
            out.mux(coming)
            coming = next(video, None)
            if when is None:
                break
        out.mux(packet)
    while coming is not None:
        out.mux(coming)
        coming = next(video, None)


def _seconds(packet: Any) -> Fraction | None:
    tick = packet.dts if packet.dts is not None else packet.pts
    return None if tick is None else tick * packet.time_base
