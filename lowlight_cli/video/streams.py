"""Read a clip: its video stream frame by frame, each with its timestamp.

In place of a damaged frame the one before is repeated: if frames were dropped, sound and picture would drift apart. The
packets' timestamps tell which frames are missing.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import math
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
from numpy.typing import NDArray

from lowlight_cli.errors import InputError, UsageError
from lowlight_cli.video import addresses
from lowlight_cli.video.addresses import Address
from lowlight_cli.video.colour import Colours, Converter
from lowlight_cli.video.formats import ORDERED, kin
from lowlight_cli.video.opening import film_of, from_keyframe, onward, read, sequential, stated_end, zero

if TYPE_CHECKING:
    import numpy as np
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame

    from lowlight_cli.pictures import Photo

__all__ = ["Clip", "Frame", "Span", "opened"]

_UNTIMED: Final[Any] = av.format.Flags.no_timestamps.value
"""Set for raw streams without a container: times are counted from the beginning, and are unknown after a seek."""

_Found: TypeAlias = "tuple[VideoFrame, int, int, bool]"
"""A frame, its tick, its duration, and whether it is repeated in place of one that could not be read."""


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        picture: (H, W, 3) float32 RGB in [0, 1], as stored: not rotated.
        pts: when it is shown, in ticks of the stream's time base; each is later than the one before.
        duration: in ticks; 0 if unknown.
        number: its number in an image sequence, which may be 0; None in a clip.
        photo: in an image sequence, everything that its file holds.
    """

    picture: NDArray[np.float32] = field(repr=False)
    pts: int
    duration: int
    number: int | None = None
    photo: Photo | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Span:
    """A part of a clip, in seconds from its beginning; `stop` is exclusive, and None is the end.

    Raises:
        UsageError: the part is empty or begins before the clip.
    """

    start: float = 0.0
    stop: float | None = None

    def shift(self, base: Fraction) -> int:
        """Ticks of `base` before the part, to be subtracted from every timestamp."""
        return round(_exact(self.start) / base)

    def bounds(self, zero: Fraction) -> tuple[Fraction, Fraction | None]:
        """Beginning and exclusive end of the part, for a clip that begins at `zero`."""
        return zero + _exact(self.start), None if self.stop is None else zero + _exact(self.stop)

    def __post_init__(self) -> None:
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise UsageError(
                f"from {self.start:g} s to {self.stop:g} s is not a part of a clip: --start must come before --end"
            )


class Clip:
    """A clip that is open for reading; use it as a context manager.

    Attributes:
        name, container_name: what messages call it, and what FFmpeg calls the container.
        width, height: of the frames as stored.
        rotation: degrees by which a player rotates them, counter-clockwise.
        matrix: FFmpeg's display matrix, nine numbers; None if there is none, or it cannot be read.
        colours: the stream's colour metadata.
        aspect: pixel aspect ratio, width over height, or None.
        fields: field order as FFmpeg numbers it; 1 is progressive, 0 unspecified.
        pixel_format: FFmpeg's name.
        base: time base, in seconds per tick.
        rate: average frames per second.
        zero: start time, in seconds of its own clock.
        live: it plays in real time, once; its time begins with its first frame.
        again: opens it once more; None if it can be read only once.
        notes: what was odd, one line each; complete when the last frame is read.
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
        self.container, self.name, self.span, self.live, self.again = container, name, span, live, again
        self.container_name = container.format.name
        self.stream = film_of(container, name)
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
        # the packets state decoding times only, and FFmpeg's guess of a frame's time is that of a neighbour
        untold = self.container_name in ORDERED and self.codec in ("h264", "hevc")
        self._guessed, self._in_order = untold and context.has_b_frames, untold and not context.has_b_frames
        self._timed = not (self._guessed or container.format.flags & _UNTIMED)
        self._read = self._frames(self._packets())
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
        """Whether it has transparency: in its pixels, or beside them as in VP8 and VP9, where it is not read."""
        beside = any(key.lower() == "alpha_mode" and value == "1" for key, value in self.stream.metadata.items())
        return beside or any(part.is_alpha for part in av.VideoFormat(self.pixel_format, 16, 16).components)

    @property
    def frames(self) -> int:
        """Number of frames by the header, without those that an edit list is known to hide; 0 if unknown."""
        return max(0, self.stream.frames - len(self._trimmed))

    @property
    def seconds(self) -> float | None:
        """Length of the part to enhance, in seconds, by the header; None if unknown."""
        length = self.stream.duration * self.base if self.stream.duration else None
        if length is None and self.container.duration:
            length = Fraction(self.container.duration, av.time_base)
        ends = [float(each) for each in (length, self.span.stop) if each is not None]
        return max(0.0, min(ends) - self.span.start) if ends else None

    @property
    def count(self) -> int | None:
        """Approximate number of frames in the part; None if unknown."""
        whole = self.span == Span()
        if whole and self.frames:
            return self.frames
        return None if self.seconds is None else round(self.seconds * float(self.rate))

    def decoded(self, after: int | None = None) -> Iterator[Frame]:
        """Yield the frames of the part, in order.

        Args:
            after: timestamp, as in `Frame`, after which to continue.

        Raises:
            InputError: the part has no frames.
        """
        begin, end = self.span.bounds(self.zero)
        shift = self.span.shift(self.base) + (self._first[1] if self.live else 0)
        wanted = begin if after is None else (after + shift) * self.base
        frames: Iterator[_Found] = itertools.chain([self._first], self._read)
        if self.again and self._timed and wanted > self.zero + 1:
            frames = self._sought(wanted, self.again)
        shown, last, duration, before, picture = 0, after, 0, None, None
        sizes = {(self.width, self.height)}
        stated = (self.stream.start_time or 0) + (self.stream.duration or 0) if kin(self.container_name, "mp4") else 0
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
            if stated and pts < stated:  # for FFmpeg, a frame in MP4 lasts until the next is decoded
                duration = min(duration, stated - pts)
            duration = duration if end is None else min(duration, math.ceil(end / self.base) - pts)
            last = pts - shift
            shown, self.repeated = shown + 1, self.repeated + repeated
            if picture is None or frame is not before:
                before, picture = frame, self._converter.picture(frame)
            yield Frame(picture, last, duration)
        if not shown and after is None:
            raise InputError(f"{self.name}: no frame from {self.span.start:g} s on; the clip is shorter")
        if self.repeated:
            self.notes.append(f"{self.repeated} damaged frames could not be read: the frame before is shown again")
        if self.span != Span() or after is not None or last is None:
            return
        found, promised = float((last + duration) * self.base), stated_end(self.container, self.stream)
        # AVI headers sometimes count one frame too many
        if self.frames > shown + 1:
            self.notes.append(f"cut short: the header promises {self.frames} frames, {shown} could be read")
        elif promised is not None and found < promised - 0.5:
            self.notes.append(f"cut short: the header promises {promised:.2f} s, the picture ends at {found:.2f} s")

    def last(self) -> float:
        """When the part's last frame begins, in seconds from the clip's beginning; read from packets, not decoded.

        The clip cannot be read any more after that, and must not be live or a file object.
        """
        assert self.again
        (begin, end), times = self.span.bounds(self.zero), list[Fraction]()
        if self.seconds and self._timed:
            with contextlib.suppress(av.error.FFmpegError):  # no index
                near = begin + _exact(self.seconds) - 1 / self.rate
                times = self._times(self._near(near, self.again), end)
        if not times:
            self._reopen(self.again)
            times = self._times(self._packets(), end)
        return float(max(times, default=begin) - self.zero)

    def _times(self, packets: Iterator[Packet[Any]], end: Fraction | None) -> list[Fraction]:
        """When the packets' frames are shown, in seconds of the clip's clock, as far as that is before `end`."""
        ticks = [
            packet.dts if packet.pts is None else packet.pts
            for packet in packets if packet.size and not packet.is_discard
        ]  # fmt: skip
        times = [number / self.rate if tick is None else tick * self.base for number, tick in enumerate(ticks)]
        return [each for each in times if end is None or each < end]

    def _first_frame(self) -> _Found:
        for found in self._read:
            return found
        if self.again is None and not self.live and kin(self.container_name, "mp4"):
            raise InputError(
                f"{self.name}: no frame of its video can be decoded; if its index stands at its end, a pipe cannot go "
                "back to the frames: name the file, or put the index first by ffmpeg -movflags +faststart"
            )
        raise InputError(f"{self.name}: no frame of its video can be decoded; is it complete?")

    def _sought(self, wanted: Fraction, again: Callable[[], InputContainer]) -> Iterator[_Found]:
        """As `_frames`, from a keyframe at or before `wanted` on; from the beginning if none is found.

        A seek may miss without an error: it may end behind `wanted` in an address of MPEG-TS, a server that cannot seek
        back goes nowhere, and a picture may be whole only some frames behind its keyframe. So the first decoded frame
        decides.
        """
        told, back = len(self.notes), 0
        while wanted - back > self.zero:
            try:
                frames = self._frames(self._near(wanted - back, again))
            except av.error.FFmpegError:
                break  # no index
            first = next((found for found in frames if not found[3]), None)
            if first and first[0].pts is not None and first[1] * self.base <= wanted:
                return itertools.chain([first], frames)
            back = 2 * back or 1
        del self.notes[told:]  # those of failed tries
        self._reopen(again)
        return self._frames(self._packets())

    def _near(self, moment: Fraction, again: Callable[[], InputContainer]) -> Iterator[Packet[Any]]:
        """The video's packets from a keyframe on that is shown by `moment`; if a seek misses, from elsewhere."""
        if sequential(self.container):
            self._reopen(again)
            return from_keyframe(self._packets(), moment)
        self.container.seek(int(moment / self.base), stream=self.stream)
        return self._packets()

    def _reopen(self, again: Callable[[], InputContainer]) -> None:
        before, self.container = self.container, again()
        self.stream = film_of(self.container, self.name)
        before.close()

    def _frames(self, packets: Iterator[Packet[Any]]) -> Iterator[_Found]:
        """Yield frames with tick, duration and whether they repeat the one before; ticks rise."""
        missing: list[int] = []  # ticks of packets whose frames are yet to come
        damaged, until, last, before = False, 0, None, None
        step = max(1, round(1 / self.rate / self.base))
        for packet in packets:
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
                    pts = last + 1  # ticks must rise to be written, and no frame is dropped
                yield frame, pts, frame.duration, False
                before, last = frame, pts
        for tick in sorted(missing) if damaged and before else ():
            if last is None or tick > last:
                assert before
                yield before, tick, 0, True
                last = tick

    def _packets(self) -> Iterator[Packet[Any]]:
        """Yield the video's packets, the last of them empty; if the file becomes unreadable, they end there."""
        try:
            yield from onward(self.container.demux(self.stream), self.stream.index)
        except av.error.FFmpegError as error:
            if self.live and isinstance(error, av.error.ExitError):
                self.notes.append(f"nothing has come for {addresses.PATIENCE[1]:g} s: it ends there")
            else:
                self.notes.append(f"cannot be read to its end ({error.strerror}): what comes after is lost")
            last = av.Packet()
            last.stream = self.stream
            yield last
        except IndexError:  # raised by PyAV after the last packet
            self.notes.append("a stream begins in the middle: left out")


def opened(source: Path | Address | Any, name: str, span: Span | None = None) -> Clip:
    """Open a clip.

    Args:
        source: a file, an address, or a binary file object.
        name: what messages call it.
        span: the part that is wanted.

    Raises:
        InputError: the file does not exist, is not a clip, or has no video that can be read.
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


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    with contextlib.suppress(ValueError):  # PyAV has no name for some that may lie there, such as EXIF in Motion JPEG
        data: Mapping[Any, Any] = frame.side_data
        found = data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
        return struct.unpack("=9i", bytes(found)) if found else None
    return None
