"""A clip in: its video stream frame by frame, each with its tick, and all else as packets to copy.

What a damaged packet should have shown is shown again from the frame before: no frame is dropped, or sound and
picture would part. Which frames are missing is known from the packets' timestamps.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import av
import av.error
import av.format
import av.sidedata.sidedata
import av.stream
from numpy.typing import NDArray

from lowlight_cli.errors import InputError, UsageError
from lowlight_cli.video import addresses
from lowlight_cli.video.addresses import Address
from lowlight_cli.video.colour import Colours, Converter
from lowlight_cli.video.formats import ORDERED, kin
from lowlight_cli.video.opening import read, zero

if TYPE_CHECKING:
    import numpy as np
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from lowlight_cli.pictures import Photo

__all__ = ["Clip", "Frame", "Span", "opened"]

_COVER: Final = av.stream.Disposition.attached_pic

_UNTIMED: Final[Any] = av.format.Flags.no_timestamps.value
"""Streams without a container: times are counted from the beginning, and nowhere else can one know them."""

_Found: TypeAlias = "tuple[VideoFrame, int, int, bool]"
"""A frame, its tick, its duration, and whether it stands for one that could not be read."""


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        picture: (H, W, 3) float32 RGB in [0, 1], as stored: not turned.
        pts: when it is shown, in ticks of the stream's time base; each is later than the one before.
        duration: ticks; 0 where nobody knows.
        number: its own in a row of pictures, 0 too; None in a clip.
        photo: all that its file says, in a row of pictures.
    """

    picture: NDArray[np.float32] = field(repr=False)
    pts: int
    duration: int
    number: int | None = None
    photo: Photo | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Span:
    """A part of a clip, in seconds from its beginning; `stop` is not in it, and None is the end.

    Raises:
        UsageError: it is empty or begins before the clip.
    """

    start: float = 0.0
    stop: float | None = None

    def shift(self, base: Fraction) -> int:
        """Ticks of `base` that lie before the part: what is taken off every timestamp."""
        return round(_exact(self.start) / base)

    def bounds(self, zero: Fraction) -> tuple[Fraction, Fraction | None]:
        """The first moment of the part and the first behind it, where the clip begins at `zero`."""
        return zero + _exact(self.start), None if self.stop is None else zero + _exact(self.stop)

    def __post_init__(self) -> None:
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise UsageError(
                f"from {self.start:g} s to {self.stop:g} s is not a part of a clip: --start must come before --end"
            )


class Clip:
    """A clip that is open for reading; use it as a context.

    Attributes:
        name: what messages call it.
        container_name: FFmpeg's name of the container.
        width, height: of the frames as stored.
        rotation: how a player turns them, counter-clockwise in degrees.
        matrix: the display matrix, nine numbers of FFmpeg, or None.
        colours: what the stream says of them.
        aspect: of a pixel, width over height, or None.
        fields: FFmpeg's number of the order of fields; 1 is progressive, 0 unsaid.
        pixel_format: FFmpeg's name.
        base: seconds a tick.
        rate: frames a second on average.
        zero: when it begins, in seconds of its own clock.
        live: it plays as it comes, once; its time begins with its first frame.
        notes: what was odd, a line each; complete when the last frame is read.
    """

    def __init__(
        self,
        container: InputContainer,
        name: str,
        span: Span,
        *,
        live: bool = False,
        again: Callable[[], InputContainer] | None = None,
    ) -> None:
        self.container, self.name, self.span, self.live, self._again = container, name, span, live, again
        self.container_name = container.format.name
        self.stream = _video(container, name)
        self.notes: list[str] = []
        self.base: Fraction = self.stream.time_base or Fraction(1, 90_000)
        self.rate: Fraction = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self.zero = zero(container)
        self.width, self.height = self.stream.width, self.stream.height
        context = self.stream.codec_context
        self.pixel_format = context.pix_fmt or ""
        self.colours = Colours(context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        self.aspect = self.stream.sample_aspect_ratio
        self.fields = context.field_order
        self.repeated = 0
        self._trimmed: set[int | None] = set()
        # the packets say when they are decoded, and FFmpeg's guess of when each is shown is that of its neighbour
        untold = self.container_name in ORDERED and self.codec in ("h264", "hevc")
        self._guessed, self._in_order = untold and context.has_b_frames, untold and not context.has_b_frames
        self._read = self._frames()
        self._first = self._first_frame()
        if live:
            self.zero = self._first[1] * self.base
        self.rotation, self.matrix = self._first[0].rotation, _display_matrix(self._first[0])
        self.colours.check(name)
        self._converter = Converter(self.colours, self.width, self.height)

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def codec(self) -> str:
        """FFmpeg's name of the stream's codec."""
        return str(self.stream.codec_context.codec.canonical_name)

    @property
    def transparent(self) -> bool:
        """Whether it has transparency: in its pixels, or, as VP8 and VP9 have it, beside them, where none reads it."""
        beside = any(key.lower() == "alpha_mode" and value == "1" for key, value in self.stream.metadata.items())
        return beside or any(part.is_alpha for part in av.VideoFormat(self.pixel_format, 16, 16).components)

    @property
    def frames(self) -> int:
        """How many the header promises, without those that an edit list is known to hide; 0 where it says nothing."""
        return max(0, self.stream.frames - len(self._trimmed))

    @property
    def seconds(self) -> float | None:
        """How long the part to enhance is, as far as the header knows."""
        length = self.stream.duration * self.base if self.stream.duration else None
        if length is None and self.container.duration:
            length = Fraction(self.container.duration, av.time_base)
        ends = [float(each) for each in (length, self.span.stop) if each is not None]
        return max(0.0, min(ends) - self.span.start) if ends else None

    @property
    def count(self) -> int | None:
        """How many frames there are to come, about; None where nobody knows."""
        whole = self.span == Span()
        if whole and self.frames:
            return self.frames
        return None if self.seconds is None else round(self.seconds * float(self.rate))

    def decoded(self, after: int | None = None) -> Iterator[Frame]:
        """The frames of the part, in order.

        Args:
            after: the timestamp, as in `Frame`, behind which to go on.

        Raises:
            InputError: there is none.
        """
        begin, end = self.span.bounds(self.zero)
        shift = self.span.shift(self.base) + (self._first[1] if self.live else 0)
        wanted = begin if after is None else (after + shift) * self.base
        frames: Iterator[_Found] = itertools.chain([self._first], self._read)
        timed = not (self._guessed or self.container.format.flags & _UNTIMED)
        if self._again and timed and wanted > self.zero + 1:
            frames = self._sought(wanted, self._again)
        shown, last, before, picture = 0, after, None, None
        sizes = {(self.width, self.height)}
        for frame, pts, duration, repeated in frames:
            if end is not None and pts * self.base >= end:
                break
            if (self.span.start and pts * self.base < begin) or (last is not None and pts - shift <= last):
                continue
            size = frame.width, frame.height
            if size not in sizes:
                sizes.add(size)
                where = float(pts * self.base - self.zero)
                self.notes.append(
                    f"the size changes to {size[0]}x{size[1]} at {where:.2f} s: scaled to {self.width}x{self.height}"
                )
            last = pts - shift
            shown, self.repeated = shown + 1, self.repeated + repeated
            if picture is None or frame is not before:
                before, picture = frame, self._converter.picture(frame)
            yield Frame(picture, last, duration)
        if not shown and after is None:
            raise InputError(f"{self.name}: no frame from {self.span.start:g} s on; the clip is shorter")
        if self.repeated:
            self.notes.append(f"{self.repeated} damaged frames could not be read: the frame before is shown again")
        # AVI counts one more at times
        if self.span == Span() and after is None and self.frames > shown + 1:
            self.notes.append(f"cut short: the header promises {self.frames} frames, {shown} could be read")

    def _first_frame(self) -> _Found:
        for found in self._read:
            return found
        if self._again is None and not self.live and kin(self.container_name, "mp4"):
            raise InputError(
                f"{self.name}: no frame of its video can be decoded; if its index stands at its end, a pipe cannot go "
                "back to the frames: name the file, or put the index first by ffmpeg -movflags +faststart"
            )
        raise InputError(f"{self.name}: no frame of its video can be decoded; is it complete?")

    def _sought(self, wanted: Fraction, again: Callable[[], InputContainer]) -> Iterator[_Found]:
        """As `_frames`, from a key frame at or before `wanted` on; from the beginning where none is found.

        MPEG-TS and MPEG-PS go to a packet near by, whose key frame lies behind what is wanted, and a server that cannot
        go back to nowhere, and none of them says so: what decodes first tells.
        """
        told, back = len(self.notes), 0
        while wanted - back > self.zero:
            try:
                self.container.seek(int((wanted - back) / self.base), stream=self.stream)
            except av.error.FFmpegError:
                break  # no index
            frames = self._frames()
            first = next((found for found in frames if not found[3]), None)
            if first and first[0].pts is not None and first[1] * self.base <= wanted:
                return itertools.chain([first], frames)
            back = 2 * back or 1
        del self.notes[told:]  # of tries
        before, self.container = self.container, again()
        self.stream = _video(self.container, self.name)
        before.close()
        return self._frames()

    def _frames(self) -> Iterator[_Found]:
        """Frames with tick, duration and whether they repeat the one before; ticks rise."""
        missing: list[int] = []  # ticks of packets that have shown no frame yet
        damaged, until, last, before = False, 0, None, None
        step = max(1, round(1 / self.rate / self.base))
        for packet in self._packets():
            if self._in_order:
                packet.pts = packet.dts
            if packet.is_discard:
                self._trimmed.add(packet.dts)
            elif packet.size and packet.pts is not None:
                heapq.heappush(missing, packet.pts)
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                frames = []
                damaged = True
                until = max(until, packet.pts or 0, *missing[:1])
            if packet.is_corrupt:
                damaged, until = True, max(until, packet.pts or 0)
            for frame in frames:
                pts = frame.pts if frame.pts is not None else step + (last if last is not None else -step)
                if self._guessed and missing and not damaged:
                    pts = missing[0]
                lost = []
                while missing and missing[0] <= pts:
                    if (tick := heapq.heappop(missing)) < pts and (last is None or tick > last):
                        lost.append(tick)
                for tick in lost if damaged else ():
                    yield before or frame, tick, 0, True
                    last = tick
                if damaged and frame.key_frame and pts > until:
                    damaged = False
                if last is not None and pts <= last:
                    pts = last + 1  # ticks that stand still or go back cannot be written, and no frame is dropped
                yield frame, pts, frame.duration, False
                before, last = frame, pts
        for tick in sorted(missing) if damaged and before else ():
            if last is None or tick > last:
                assert before
                yield before, tick, 0, True
                last = tick

    def _packets(self) -> Iterator[Packet[Any]]:
        """The video's packets, the last of them empty; a file that cannot be read on ends there."""
        try:
            yield from self.container.demux(self.stream)
        except av.error.FFmpegError as error:
            if self.live and isinstance(error, av.error.ExitError):
                self.notes.append(f"nothing has come for {addresses.PATIENCE[1]:g} s: it ends there")
            else:
                self.notes.append(f"cannot be read to its end ({error.strerror}): what comes after is lost")
            last = av.Packet()
            last.stream = self.stream
            yield last
        except IndexError:  # PyAV's, after the last packet
            self.notes.append("a stream begins in the middle: left out")


def opened(source: Path | Address | Any, name: str, span: Span | None = None) -> Clip:
    """Open a clip.

    Args:
        source: a file, an address, or a binary file object.
        name: what messages call it.
        span: the part that is wanted.

    Raises:
        InputError: there is no such file, it is no clip, or it has no video that can be read.
    """
    container = read(source, name)
    live = isinstance(source, Address) and not (source.stored and container.duration)
    again = functools.partial(read, source, name) if isinstance(source, Path | Address) and not live else None
    try:
        return Clip(container, name, span or Span(), live=live, again=again)
    except BaseException:
        container.close()
        raise


def _exact(seconds: float) -> Fraction:
    return Fraction(seconds).limit_denominator(1_000_000)


def _video(container: InputContainer, name: str) -> VideoStream:
    """The video that is meant: the first that is no cover picture.

    Raises:
        InputError: there is none, or nothing here decodes it.
    """
    films = [stream for stream in container.streams.video if not stream.disposition & _COVER]
    if not films:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise InputError(f"{name}: has no video, only {kinds}")
    stream = films[0]
    if stream.codec_context is None or not stream.width:
        raise InputError(f"{name}: nothing here decodes its video, or it is damaged")
    stream.thread_type = "AUTO"
    for other in container.streams:
        if other.index != stream.index:
            other.discard = av.stream.Discard.all
    return stream


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    data: Mapping[Any, Any] = frame.side_data
    found = data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
    return struct.unpack("=9i", bytes(found)) if found else None
