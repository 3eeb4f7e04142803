"""Lay out the output container: its streams, tags and chapters, all that its header holds before the first packet."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av
import av.error
from av.stream import Disposition

from lowlight_cli.video.aspect import PAIR
from lowlight_cli.video.formats import NAMED, kin
from lowlight_cli.video.timecode import later

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream

    from lowlight_cli.video.encode import Plan
    from lowlight_cli.video.streams import Span

__all__ = ["ALL", "SURPLUS", "Original", "begun"]

_MOV: Final = ("mp4", "mov", "3gp")
_CHAPTERED: Final = (*_MOV, "matroska", "webm", "asf")
"""Containers that hold chapters; FFmpeg silently drops them elsewhere."""

_OWN: Final = {"major_brand", "minor_version", "compatible_brands", "encoder", "software"}
"""Tags that describe how a file was written; the muxer sets its own."""

_PLAIN: Final = _OWN | {
    "title", "artist", "album", "album_artist", "comment", "composer", "copyright", "creation_time", "date",
    "description", "episode_id", "genre", "grouping", "language", "lyrics", "network", "show", "synopsis", "timecode",
    "track", "year",
}  # fmt: skip
"""Tags that have their own boxes in MP4; others need the newer kind of box, beside which no cover is written."""

_BOTH: Final = {"keywords", "location", "location-eng"}
"""Other tags that survive in either kind of box."""

_COUNTED: Final = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS_")
"""Prefixes of Matroska's statistics tags, which describe the old video."""

_PICTURES: Final = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}
"""File name and MIME type of a cover in Matroska, by its codec."""

SURPLUS: Final = ((), ("data", "unknown"), ("data", "unknown", "attachment", "subtitle"))
"""Kinds of streams to leave out, one set after the other, until the container accepts the rest."""

ALL: Final = (*SURPLUS[-1], "audio", "video")
"""All kinds of streams beside the new video."""


@dataclass(frozen=True)
class Original:
    """The clip that was read.

    Attributes:
        container: opened for reading.
        index: of the video stream that is replaced.
        span: the part to write.
        lead: seconds to subtract from its clock, see `Plan`.
        again: opens it once more, at its beginning.
    """

    container: InputContainer
    index: int
    span: Span
    lead: Fraction
    again: Callable[[], InputContainer]

    def shift(self, base: Fraction) -> int:
        """Ticks of `base` to subtract from every timestamp."""
        return self.span.shift(base) + round(self.lead / base)

    def alike(self, container: str) -> bool:
        """Whether the container to write is of the same kind as the clip's."""
        return kin(self.container.format.name, container)


def begun(
    clip: Original | None, plan: Plan, path: str, tries: tuple[tuple[str, ...], ...] = SURPLUS
) -> tuple[OutputContainer, Any, dict[int, Stream], list[str]]:
    """Write the header, first with all streams, then without those that the container may refuse.

    Args:
        clip: where the other streams come from; None for the video alone.
        plan: how the video is encoded.
        path: of the output.
        tries: kinds of streams to leave out, one set after the other.

    Returns:
        The container, the new video's stream, the copied streams by their index in the clip, and notes for the user.

    Raises:
        av.error.FFmpegError: the container refuses even the last try.
        DeviceError: the encoder does not work here, or not with these options.
    """
    for surplus in tries:
        out = av.open(path, "w", format=plan.container, options=_options(clip, plan))
        try:
            video, copies, notes = _laid_out(clip, out, plan, surplus)
            out.start_encoding()
        except (av.error.FFmpegError, ValueError):
            with contextlib.suppress(av.error.FFmpegError):
                out.close()
            if clip is None or surplus == tries[-1]:
                raise
            continue
        return out, video, copies, notes
    raise AssertionError("the last try raises or returns")


def _options(clip: Original | None, plan: Plan) -> dict[str, str]:
    """Options for the muxer."""
    if plan.container == "mpegts":
        return {"mpegts_copyts": "1"}
    if plan.constant:
        return {"strict": "-1"}  # more than 8 bits are an extension of YUV4MPEG2
    if plan.container not in _MOV:
        return {"write_crc32": "0"} if plan.shaped else {}  # `say_aspect` edits the header, and checksums would break
    flags = "+faststart"
    if clip and set(clip.container.metadata) - _PLAIN and not _covers(clip, plan):
        flags += "+use_metadata_tags"
    bases = [plan.base, *(stream.time_base for stream in (clip.container.streams if clip else ()) if stream.time_base)]
    scale = math.lcm(*(base.denominator for base in bases))
    options = {"movflags": flags, "video_track_timescale": str(plan.base.denominator)}
    # MP4 states a stream's late start in ticks of the whole movie: a timescale that fits every stream keeps it exact
    return options | ({"movie_timescale": str(scale)} if scale < 2**31 else {})


def _covers(clip: Original, plan: Plan) -> bool:
    """Whether the result has a cover, beside which MP4 cannot hold unusual tags."""
    return plan.container == "mp4" and any(_cover(stream) for stream in clip.container.streams)


def _cover(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _laid_out(
    clip: Original | None, out: OutputContainer, plan: Plan, surplus: tuple[str, ...]
) -> tuple[Any, dict[int, Stream], list[str]]:
    """Make the streams in the clip's order: the new video, the copies by their index in the clip, and notes."""
    if clip is None:
        return _video(out, plan), {}, []
    copies: dict[int, Stream] = {}
    video, notes = None, []
    for stream in clip.container.streams:
        if stream.index == clip.index:
            video = _video(out, plan)
            video.metadata.update(_tags(clip, plan))
            video.disposition = stream.disposition
            continue
        if _written_anew(clip, stream, plan.container):
            continue
        try:
            if stream.type in surplus:
                raise ValueError("is refused with the others")
            _check(clip, stream, plan.container, [each.type for each in copies.values()])
            if _cover(stream) and plan.container == "matroska":
                out.add_attachment(*_attachment(clip, stream))
                continue
            copy = out.add_stream_from_template(stream, opaque=True)
        except (av.error.FFmpegError, ValueError):
            notes.append(f"{plan.container} cannot hold stream {stream.index} ({_what(stream)}): left out")
            continue
        if stream.type == "video" and not _cover(stream):
            notes.append(f"stream {stream.index} is another picture: copied as it is, not lit")
        copy.metadata.update(_moved(stream.metadata, clip, plan))
        copy.disposition = stream.disposition
        copies[stream.index] = copy
    lost = [key for key in clip.container.metadata if key.lower() not in _PLAIN | _BOTH]
    if lost and _covers(clip, plan):
        notes.append(f"mp4 holds a cover or unusual tags, not both: left out {', '.join(lost)}")
    tags = {key: value for key, value in clip.container.metadata.items() if key not in _OWN}
    out.metadata.update(_moved(tags, clip, plan))
    chapters = list(_chapters(clip))
    if chapters and plan.container not in _CHAPTERED:
        notes.append(f"{plan.container} cannot hold chapters: left out")
    out.set_chapters(chapters)
    return video or _video(out, plan), copies, notes


def _written_anew(clip: Original, stream: Stream, container: str) -> bool:
    """Whether the muxer writes this stream by itself: a timecode that is also a tag, or chapters."""
    if stream.type != "data":
        return False
    if "timecode" in stream.metadata:
        return container in ("mp4", "mov", "matroska", "webm")
    return container in _MOV and stream.name == "bin_data" and bool(clip.container.chapters())


def _what(stream: Stream) -> str:
    """A stream's kind in a word or two."""
    if _cover(stream):
        return "cover"
    codec = stream.codec_context.name if stream.codec_context else getattr(stream, "name", None)
    return f"{stream.type}, {codec or 'no codec'}"


def _check(clip: Original, stream: Stream, container: str, beside: list[str]) -> None:
    """Raise ValueError or PyAV's error if a container cannot hold a stream; some fail late, by aborting, or never.

    Args:
        clip: where the stream comes from.
        stream: the stream to check.
        container: FFmpeg's name of the output container.
        beside: kinds of the streams that are copied already.
    """
    name = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    if _cover(stream) and container not in ("mp4", "matroska"):
        raise ValueError("would be a film of one frame, or dropped")
    if stream.type in ("data", "unknown") and ("timecode" in stream.metadata or not clip.alike(container)):
        raise ValueError("would be a stream that nobody can read")
    if stream.type == "attachment" and container != "matroska":
        raise ValueError("would be data without a name, or dropped")
    if container == "mpegts" and stream.type in NAMED and name not in NAMED[stream.type]:
        raise ValueError("would be data without a name")
    if container == "mpeg" and stream.type == "subtitle" and name != "dvd_subtitle":
        raise ValueError("would be read as pictures")
    if container == "flv" and (stream.type == "video" or stream.type in beside):
        raise ValueError("would be hidden by the first of its kind")
    if container == "flv" and name.startswith("pcm_"):
        raise ValueError("ends the process, FFmpeg 8.1")
    if stream.type == "audio":
        with av.open(os.devnull, "w", format=container) as alone:
            alone.add_stream_from_template(stream, opaque=True)
            alone.start_encoding()


def _attachment(clip: Original, stream: Stream) -> tuple[str, str, bytes]:
    """File name, MIME type and bytes of a cover."""
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    name, kind = _PICTURES.get(codec, ("", ""))
    name, kind = stream.metadata.get("filename", name), stream.metadata.get("mimetype", kind)
    if not (name and kind):
        raise ValueError("has no name")
    container = clip.again()
    for packet in container.demux(container.streams[stream.index]):
        if packet.size:
            return name, kind, bytes(packet)
    raise ValueError("is empty")


def _tags(clip: Original, plan: Plan) -> dict[str, str]:
    """Tags of the new video; a timecode that exists only as a track of its own becomes one of them."""
    streams = clip.container.streams
    tags = {key: value for key, value in streams[clip.index].metadata.items() if not _own(key) and key not in PAIR}
    for stream in streams:
        if stream.type == "data" and "timecode" in stream.metadata and not any(k.lower() == "timecode" for k in tags):
            tags["timecode"] = stream.metadata["timecode"]
    return _moved(tags, clip, plan)


def _moved(tags: Mapping[str, str], clip: Original, plan: Plan) -> dict[str, str]:
    """The tags, with the timecode advanced to the part's first frame."""
    begin, _ = clip.span.bounds(Fraction(0))
    frames = math.ceil(begin * plan.rate)
    return {key: later(value, frames, plan.rate) if key.lower() == "timecode" else value for key, value in tags.items()}


def _video(out: OutputContainer, plan: Plan) -> Any:
    video: Any = out.add_stream(plan.name, rate=plan.rate)
    plan.configure(video)
    video.codec_context.options = dict(plan.options)
    video.codec_context.time_base = plan.clock  # the MPEG-4 header states it
    video.time_base = plan.tick
    if plan.container in _MOV and video.codec_context.codec.canonical_name == "hevc":
        video.codec_context.codec_tag = "hvc1"  # the tag that QuickTime and Safari play
    if plan.shaped:
        video.metadata.update(PAIR)
    if plan.matrix:
        video.set_display_matrix(plan.matrix)
    plan.open(video.codec_context)
    return video


def _own(key: str) -> bool:
    return key.upper().startswith(_COUNTED) or key.lower() in ("encoder", "vendor_id", "alpha_mode")


def _chapters(clip: Original) -> Iterator[Any]:
    for chapter in clip.container.chapters():
        base = chapter["time_base"] or Fraction(1, 1000)
        start, end = (chapter[side] - clip.shift(base) for side in ("start", "end"))
        stop = None if clip.span.stop is None else (clip.span.stop - clip.span.start) / base
        if end <= 0 or (stop is not None and start >= stop):
            continue
        yield {**chapter, "start": max(0, start), "end": end if stop is None else min(end, round(stop))}
