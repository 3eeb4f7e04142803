"""Open a clip's container for reading (a file, a file object, an address or a camera), choose its video, and put its
packets on one clock.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av
import av.error
import av.stream

from lowlight_cli.errors import InputError
from lowlight_cli.pictures.formats import suffixes
from lowlight_cli.video import addresses
from lowlight_cli.video.addresses import Address
from lowlight_cli.video.formats import JOINED, PLAIN

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

__all__ = ["MAX_PIXELS", "film_of", "from_keyframe", "onward", "read", "sequential", "stated_end", "ticks", "zero"]

MAX_PIXELS: Final = 100_000_000
"""Larger frames are refused: a small file could otherwise take all memory. Those of 12K have 80 million."""

_ALONE: Final = {"format_whitelist": ",".join(PLAIN), "protocol_whitelist": "file"}

_COVER: Final = av.stream.Disposition.attached_pic

_LEAP: Final = Fraction(2**32, 90_000)
"""Half the period of MPEG's clock, in seconds. FFmpeg takes a smaller time for that of the next period, so that a clock
that was set back leaps ahead by more than this."""

_HELD: Final = 1000
"""Packets between two keyframes that are kept in memory, at most."""


def read(source: Path | Address | Any, name: str) -> InputContainer:
    """Open a container; arguments and errors are those of `streams.opened`."""
    av.logging.set_level(None)  # we report problems in our own words
    if isinstance(source, Address):
        return _reached(source)
    try:
        return av.open(
            str(source.absolute()) if isinstance(source, Path) else source,
            "r",
            container_options=_ALONE,
            metadata_errors="replace",
        )  # fmt: skip
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file") from error
    except av.error.ArgumentError as error:  # it is none of `PLAIN`
        if isinstance(source, Path) and source.suffix.lower() in suffixes():
            raise InputError(
                f"{name}: is a picture, which `lowlight enhance` takes; of numbered ones, name the folder"
            ) from error
        raise InputError(
            f"{name}: is not a clip that can be read; of a playlist, name the clips or the address"
        ) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{name}: is not a clip that can be read ({_reason(error)})") from error


def _reached(source: Address) -> InputContainer:
    try:
        return av.open(
            source.url,
            "r",
            format=source.format,
            options=source.settings,
            timeout=addresses.PATIENCE,
            metadata_errors="replace",
        )  # fmt: skip
    except (av.error.ExitError, TimeoutError) as error:
        raise InputError(f"{source}: does not answer; is it switched on, and the address right?") from error
    except av.error.ProtocolNotFoundError as error:
        raise InputError(
            f"{source}: FFmpeg here does not know this kind of address; save it as a file first"
        ) from error
    except av.error.InvalidDataError as error:
        raise InputError(f"{source}: is not a clip that can be read; does it need a player or a login?") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{source}: cannot be opened ({_reason(error)}); check the address") from error


def sequential(container: InputContainer) -> bool:
    """Whether a moment is best reached by reading all that is before, as a seek may land in another of the recordings
    that were joined; not over a network, where that would fetch all of it.
    """
    return container.format.name in JOINED and "://" not in str(container.name)


def zero(container: InputContainer) -> Fraction:
    """Start time of a clip, in seconds of its own clock."""
    return Fraction(container.start_time or 0, av.time_base)


def ticks(container: InputContainer, name: str, end: Fraction | None) -> list[int]:
    """When a video's frames are shown, in ticks and in order, from its packets; closes the container.

    Args:
        container: at its beginning.
        name: for messages.
        end: as far as it is read, in seconds of the clip's clock; None for all.
    """
    found = set[int]()
    with container, contextlib.suppress(av.error.FFmpegError, IndexError):
        stream = film_of(container, name)
        for packet in onward(container.demux(stream), stream.index):
            if end is not None and packet.dts is not None and packet.dts * packet.time_base >= end:
                break
            if packet.pts is not None and not packet.is_discard:
                found.add(packet.pts)
    return sorted(found)


def stated_end(container: InputContainer, stream: VideoStream) -> float | None:
    """When a video ends by the header, in seconds of the clip's clock; None if unknown.

    Of Matroska alone, since others state the number of frames, or nothing. Its header states the end of the longest
    stream, and muxers add that of each as a tag.
    """
    if "matroska" not in container.format.name or not container.duration:
        return None
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if not tag:
        return container.duration / av.time_base if len(container.streams) == 1 else None
    hours, minutes, seconds = map(float, tag.groups())
    return min(hours * 3600 + minutes * 60 + seconds, container.duration / av.time_base)


def film_of(container: InputContainer, name: str) -> VideoStream:
    """Choose the video stream, the first that is not a cover, and discard the packets of all others.

    Raises:
        InputError: there is none, it cannot be decoded here, or its frames have more than `MAX_PIXELS`.
    """
    films = [stream for stream in container.streams.video if not stream.disposition & _COVER]
    if not films:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise InputError(f"{name}: has no video, only {kinds}")
    stream = films[0]
    if container.format.name == "webp_pipe" and not stream.width:  # FFmpeg reads no animated ones
        raise InputError(
            f"{name}: is an animated WebP, which cannot be read here: make numbered pictures of it, for example by "
            "ImageMagick's `convert a.webp -coalesce frames/%05d.png`, and name their folder"
        )
    if stream.codec_context is None or not stream.width:
        raise InputError(f"{name}: nothing here decodes its video, or it is damaged")
    if (pixels := stream.width * stream.height) > MAX_PIXELS:
        raise InputError(
            f"{name}: frames of {stream.width} x {stream.height} ({pixels / 1e6:,.0f} megapixels, at most "
            f"{MAX_PIXELS / 1e6:g} are read); scale them down first, for example with ffmpeg -vf scale"
        )
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # frames may grow later
    stream.thread_type = "AUTO"
    for other in container.streams:
        if other.index != stream.index:
            other.discard = av.stream.Discard.all
    return stream


def onward(packets: Iterable[Packet[Any]], index: int) -> Iterator[Packet[Any]]:
    """Yield packets on one clock that only goes on, also where recordings with a clock each are joined end to end.

    A recording begins where the clock of the video goes back by more than a second; its packets are put behind those
    before, all by the same time, so that sound and picture stay together.

    Args:
        packets: in the order of the file; they are changed in place.
        index: of the video stream.
    """
    shift = before = step = Fraction(0)  # seconds: of this recording and of the one before, and from frame to frame
    last: Fraction | None = None
    ended: Fraction | None = None  # the recording before; for one packet
    early: list[Packet[Any]] = []
    for packet in packets:
        now = None if packet.dts is None or packet.time_base is None else packet.dts * packet.time_base
        gap = Fraction(0) if now is None or last is None else now - last
        joined = not -1 <= gap <= _LEAP
        if packet.stream_index != index:
            if joined or early:
                early.append(packet)  # the video's next packet tells whether a recording begins
            else:
                yield _moved(packet, before if gap > 1 else shift)  # FFmpeg gives the last packet of a stream late
            continue
        if joined:
            before, shift, ended = shift, shift + step - gap, last
        else:
            if ended is not None and now is not None and abs(now - ended) <= 1:
                shift = before  # the clock of one packet was damaged
            elif gap:
                step = gap
            ended = None
        last = last if now is None else now
        yield from (_moved(each, shift) for each in early)
        early.clear()
        yield _moved(packet, shift)
    yield from (_moved(each, shift) for each in early)


def _moved(packet: Packet[Any], seconds: Fraction) -> Packet[Any]:
    """The packet, `seconds` later."""
    if seconds and packet.time_base:
        ticks = round(seconds / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
    return packet


def from_keyframe(packets: Iterable[Packet[Any]], moment: Fraction) -> Iterator[Packet[Any]]:
    """Yield a stream's packets from the last keyframe that is shown by `moment`, in seconds of the clip's clock."""
    packets = iter(packets)
    held: list[Packet[Any]] = []
    for packet in packets:
        shown, decoded = (None if tick is None else tick * packet.time_base for tick in (packet.pts, packet.dts))
        if packet.is_keyframe and shown is not None and shown <= moment:
            held.clear()
        held.append(packet)
        if len(held) == _HELD or (decoded is not None and decoded > moment):
            break
    yield from held
    yield from packets


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
