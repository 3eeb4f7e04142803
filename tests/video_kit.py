"""Clips for tests, made here frame by frame, and what there is to know of one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

Pictures = Iterable[NDArray[np.uint8]]

BASE = Fraction(1, 12800)
STEP = 512
"""Ticks of a frame at 25 frames a second."""


@contextlib.contextmanager
def disk_full_after(files: int) -> Iterator[None]:
    """Inside the block, the disk is full once so many files have been written to it."""
    safe, left = os.fsync, [files]

    def full(descriptor: int) -> None:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        safe(descriptor)

    with pytest.MonkeyPatch.context() as disk:
        disk.setattr(os, "fsync", full)
        yield


def pictures(count: int, height: int = 36, width: int = 64) -> Iterator[NDArray[np.uint8]]:
    """A dark slope on which a brighter square moves."""
    slope = np.linspace(4, 50, width)[None, :, None] * np.array([1.0, 0.9, 0.8])
    for number in range(count):
        picture = np.broadcast_to(slope, (height, width, 3)).astype(np.uint8).copy()
        left = number % (width - 8)
        picture[8:16, left : left + 8] = (90, 60, 40)
        yield picture


def write(
    path: Path,
    shown: Pictures | None = None,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    ticks: Sequence[int] | None = None,
    base: Fraction = BASE,
    colours: tuple[int, int, int, int] | None = None,
    sound: str = "",
    second: str = "",
    sound_first: bool = False,
    sound_after: float = 0.0,
    subtitles: bool = False,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    tags: dict[str, str] | None = None,
    chapters: Sequence[Any] = (),
    options: dict[str, str] | None = None,
    delay: int = 0,
    disposition: Disposition | None = None,
) -> Path:
    """A clip of RGB pictures; `colours` are matrix, primaries, transfer and range in H.273's numbers.

    `sound_after` are seconds of sound after the last picture.
    """
    frames = list(pictures(12) if shown is None else shown)
    height, width, _ = frames[0].shape
    ticks = [number * STEP for number in range(len(frames))] if ticks is None else ticks
    with av.open(str(path), "w") as out:
        out.metadata.update(tags or {})
        out.set_chapters(list(chapters))
        heard: Any = out.add_stream(sound, rate=48000) if sound and sound_first else None
        video: Any = out.add_stream(codec, rate=25, options=options or {})
        video.width, video.height, video.pix_fmt = width, height, pixels
        video.time_base = video.codec_context.time_base = base
        if colours:
            video.colorspace, video.color_primaries, video.color_trc, video.color_range = colours
        if aspect:
            video.sample_aspect_ratio = aspect
        if matrix:
            video.set_display_matrix(matrix)
        if disposition is not None:
            video.disposition = disposition
        if sound and not sound_first:
            heard = out.add_stream(sound, rate=48000)
        other: Any = out.add_stream(second, rate=48000) if second else None
        texts: Any = out.add_mux_stream("subrip") if subtitles else None
        for picture, tick in zip(frames, ticks, strict=True):
            made = av.VideoFrame.from_ndarray(picture, "rgb24")
            said, full = (colours[0], colours[3]) if colours else (6, 1)
            frame = made.reformat(format=pixels, dst_colorspace=said if said in (1, 5, 9) else 5, dst_color_range=full)
            frame.pts, frame.time_base = tick + delay, base
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if heard is not None:
            _sound(out, heard, float(ticks[-1] * base) + 0.04 + sound_after)
        if other is not None:
            _sound(out, other, float(ticks[-1] * base) / 2)
        if texts is not None:
            for number, line in enumerate((b"hello", b"night")):
                packet = av.Packet(line)
                packet.stream, packet.time_base = texts, Fraction(1, 1000)
                packet.pts = packet.dts = 100 + number * 200
                packet.duration = 150
                out.mux(packet)
    return path


def _sound(out: Any, stream: Any, seconds: float) -> None:
    kind = stream.codec_context.format.name
    rate, size = 48000, stream.codec_context.frame_size or 1024
    noise = np.random.default_rng(0)
    for start in range(0, int(seconds * rate), size):
        samples = noise.uniform(-0.2, 0.2, (2, size)).astype(np.float32)
        if kind == "s16":
            frame = av.AudioFrame.from_ndarray((samples.T.reshape(1, -1) * 32767).astype(np.int16), "s16", "stereo")
        else:
            frame = av.AudioFrame.from_ndarray(samples, kind, "stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


@dataclass(frozen=True)
class Known:
    """What a clip holds: streams in order, the video's ticks, the other streams' packets, and what is said of it."""

    kinds: tuple[str, ...]
    ticks: tuple[Fraction, ...]
    packets: dict[int, tuple[tuple[Fraction | None, int, str], ...]]
    said: dict[str, Any]
    tags: dict[str, str]
    chapters: tuple[Any, ...]
    duration: int | None


def known(path: Path) -> Known:
    """Look into a clip: everything that has to be the same in the result."""
    packets: dict[int, list[tuple[Fraction | None, int, str]]] = {}
    ticks = []
    with av.open(str(path)) as clip:
        video = clip.streams.video[0]
        for packet in clip.demux():
            if packet.stream.index == video.index:
                ticks += [frame.pts * frame.time_base for frame in packet.decode()]
            elif packet.size:
                when = None if packet.pts is None else packet.pts * packet.time_base
                digest = hashlib.md5(bytes(packet)).hexdigest()
                packets.setdefault(packet.stream.index, []).append((when, packet.size, digest))
        context = video.codec_context
        said = {
            "size": (context.width, context.height),
            "pixels": context.pix_fmt,
            "colours": (context.colorspace, context.color_primaries, context.color_trc, context.color_range),
            "aspect": video.sample_aspect_ratio,
            "base": video.time_base,
            "length": video.duration,
        }
        tags = {key: value for key, value in clip.metadata.items() if key not in ("encoder", "ENCODER")}
        chapters = tuple(
            (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]) for c in clip.chapters()
        )
        return Known(
            tuple(stream.type for stream in clip.streams),
            tuple(ticks),
            {index: tuple(each) for index, each in packets.items()},
            said,
            {key: value for key, value in tags.items() if "brand" not in key and key != "minor_version"},
            chapters,
            clip.duration,
        )


def shown(path: Path, pixels: str = "rgb24") -> list[NDArray[Any]]:
    """Every frame of a clip as FFmpeg alone converts it, (H, W, 3)."""
    with av.open(str(path)) as clip:
        return [frame.to_ndarray(format=pixels) for frame in clip.decode(video=0)]


def turned(degrees: int) -> list[int]:
    """The display matrix that turns by quarter turns, counter-clockwise."""
    one = 65536
    flat = {0: (one, 0, 0, one), 90: (0, -one, one, 0), 180: (-one, 0, 0, -one), 270: (0, one, -one, 0)}[degrees]
    return [flat[0], flat[1], 0, flat[2], flat[3], 0, 0, 0, 1 << 30]
