"""Enhance a clip into a YUV4MPEG2 stream, so that the command works in a pipe, or into a preview sheet."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, BinaryIO, Final

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.enhancer import Enhancer
from lowlight_cli.errors import InputError, reader_gone, unwritten
from lowlight_cli.sheets import labelled, reduced
from lowlight_cli.video.colour import upright
from lowlight_cli.video.encode import Encoder, Plan, planned
from lowlight_cli.video.formats import Y4M, Encoding
from lowlight_cli.video.lighting import Lighting
from lowlight_cli.video.making import Course, Made, Making, Tally, made
from lowlight_cli.video.pace import Packed, at_rate
from lowlight_cli.video.run import Lit, compared, prepared, results
from lowlight_cli.video.series import Source, film
from lowlight_cli.video.streams import Span

__all__ = ["enhance_to_pipe", "preview"]

SIDE: Final = 480
"""Longer side of a frame on a sheet, in pixels."""


def enhance_to_pipe(
    enhancer: Enhancer,
    source: Source,
    sink: BinaryIO,
    making: Making,
    on_frame: Callable[[Course], None] | None = None,
) -> Made:
    """Enhance a clip into a YUV4MPEG2 stream: the video alone, at a constant rate, because the format has no more.

    Each frame is repeated as long as it is shown; see `pace.at_rate`.

    Args:
        enhancer: its weights are loaded.
        source: what to read.
        sink: where the stream goes.
        making: settings; `encoding` and `resume` are ignored.
        on_frame: called after each frame.

    Raises:
        InputError: not a clip, no video, or nothing that can be decoded.
        OutputError, ResourceError: the stream cannot be written, or the disk behind it is full.
        BrokenPipeError: nobody reads the stream any more.
    """
    tally, told, notes = Tally(making.measure), on_frame or (lambda _: None), list[str]()
    with film(source, making.span, making.rate) as clip:
        plan = planned(clip, Y4M, Encoding("rawvideo"), wide=making.compare)
        prepared(enhancer, clip)
        lighting = Lighting(enhancer, making)
        out = av.open(sink, "w", format=Y4M, options={"strict": "-1"})  # more than 8 bits are an extension
        video: Any = out.add_stream(plan.name, rate=plan.rate)
        plan.configure(video)
        video.time_base = 1 / plan.rate  # the header states it as the frame rate
        frames = results(lighting, clip, tally, told)
        try:
            with contextlib.closing(frames):
                packed = _packed(frames, plan, tally, clip.rotation if making.compare else None)
                for number, data in enumerate(at_rate(packed, plan.base, plan.rate, notes)):
                    packet = av.Packet(data)
                    packet.stream, packet.time_base = video, 1 / plan.rate
                    packet.pts = packet.dts = number
                    with tally.timed("write"):
                        out.mux(packet)
            out.close()
        except (av.error.FFmpegError, OSError) as error:
            if isinstance(error, OSError) and reader_gone(error):
                raise BrokenPipeError(errno.EPIPE, "nobody reads the stream") from error
            raise unwritten("standard output", error) from error
        return made(
            clip,
            lighting,
            tally,
            frames=tally.frames,
            resumed=0,
            size=(plan.width, plan.height),
            codec=plan.name,
            pixel_format=plan.pixel_format,
            notes=(*plan.notes, *clip.notes, *notes),
        )


def _packed(frames: Iterator[Lit], plan: Plan, tally: Tally, compare: int | None) -> Iterator[Packed]:
    """Encode the results; with their inputs beside them if `compare` is a rotation, as in `run.compared`."""
    encoder = Encoder(plan)
    for lit in frames:
        picture = lit.picture
        if compare is not None:
            picture = compared(lit.frame.picture, picture, compare, (plan.width, plan.height))
        with tally.timed("encode"):
            ready = list(encoder.encode(picture, lit.frame.pts, lit.frame.duration))
        yield from ready


def preview(enhancer: Enhancer, source: Source, count: int, making: Making) -> NDArray[np.float32]:
    """Make a sheet of `count` frames spread over the part, each beside its result: (H, W, 3) in [0, 1].

    If there are fewer frames, some are shown more than once.

    Raises:
        InputError: not a clip, or no frame.
    """
    alone = replace(making, temporal="off")
    shown: list[tuple[str, NDArray[np.float32]]] = []
    for moment in _moments(source, count, making):
        with film(source, Span(moment, making.span.stop), making.rate) as clip:
            try:
                frame = next(clip.decoded())
            except InputError:
                if not shown:
                    raise
                shown += shown[-2:]  # a packet at the end may be damaged
                continue
            seconds = moment + float(frame.pts * clip.base - clip.zero)
            lit = Lighting(enhancer, alone).frame(frame.picture, seconds)
            for what, each in (("", frame.picture), (", lit", lit)):
                small = np.ascontiguousarray(reduced(np.ascontiguousarray(upright(each, clip.rotation)), SIDE))
                shown.append((f"{seconds:.2f} s{what}", small))
    return labelled(shown, 2 if count < 4 else 4)


def _moments(source: Source, count: int, making: Making) -> list[float]:
    """Moments spread evenly over the part, none after the beginning of its last frame; of what plays live, all now."""
    start = making.span.start
    with film(source, making.span, making.rate) as clip:
        if clip.live:
            return [start] * count
        last, step = max(0.0, clip.last() - start), float(1 / clip.rate)
    # end a little before the last frame, because moments are rounded
    reach = max(0.0, last - step / 4)
    return [start + min((last + step) * (number + 0.5) / count, reach) for number in range(count)]
