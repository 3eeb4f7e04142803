"""Clips from stdin and to stdout: YUV4MPEG2, so that the command stands between two others, and sheets for a look."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, BinaryIO, Final

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.enhancer import Enhancer
from lowlight_cli.errors import OutputError
from lowlight_cli.sheets import labelled, reduced
from lowlight_cli.video.colour import upright
from lowlight_cli.video.deblock import Deblock
from lowlight_cli.video.encode import Encoder, planned
from lowlight_cli.video.formats import Encoding
from lowlight_cli.video.making import Course, Made, Making, Tally
from lowlight_cli.video.run import compared, prepared, results
from lowlight_cli.video.series import Source, film
from lowlight_cli.video.streams import Span
from lowlight_cli.video.temporal import Smoothing

__all__ = ["enhance_to_pipe", "preview"]

Y4M: Final = "yuv4mpegpipe"

SIDE: Final = 480
"""Pixels of the longer side of a frame on a sheet."""


def enhance_to_pipe(
    enhancer: Enhancer,
    source: Source,
    sink: BinaryIO,
    making: Making,
    on_frame: Callable[[Course], None] | None = None,
) -> Made:
    """Enhance a clip into a stream of YUV4MPEG2: the video alone, at a constant rate, as the format has it.

    Args:
        enhancer: what brightens; its weights are loaded.
        source: what to read.
        sink: where the stream goes.
        making: how; codec and resuming mean nothing here.
        on_frame: told after each frame.

    Raises:
        InputError: no clip, no video, nothing that can be decoded.
        BrokenPipeError: nobody reads the stream any more.
    """
    tally, told = Tally(making.measure), on_frame or (lambda _: None)
    with film(source, making.span, making.rate) as clip:
        plan = planned(clip, Y4M, Encoding("rawvideo"), wide=making.compare)
        notes = prepared(enhancer, clip, making)
        smoothing, deblock = Smoothing(making.temporal), Deblock(making.deblock)
        encoder, done = Encoder(plan), 0
        out = av.open(sink, "w", format=Y4M, options={"strict": "-1"})  # more than 8 bits are beyond the first standard
        video: Any = out.add_stream(plan.name, rate=plan.rate)
        plan.configure(video)
        frames = results(enhancer, clip, smoothing, deblock, tally, told)
        try:
            with contextlib.closing(frames):
                for lit in frames:
                    picture = lit.picture
                    if making.compare:
                        picture = compared(lit.frame.picture, picture, clip.rotation, (plan.width, plan.height))
                    with tally.timed("encode"):
                        for packed in encoder.encode(picture, lit.frame.pts, lit.frame.duration):
                            packet = av.Packet(packed.data)
                            packet.stream, packet.time_base = video, 1 / plan.rate
                            packet.pts = packet.dts = done
                            out.mux(packet)
                    done += 1
            out.close()
        except BrokenPipeError:
            raise
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(f"the stream cannot be written ({getattr(error, 'strerror', None) or error})") from error
        return Made(
            done, 0, clip.repeated, smoothing.cuts, deblock.share, (plan.width, plan.height), plan.name,
            plan.pixel_format, float(clip.rate), tally.seconds, tally.luma, tally.jitter,
            (*notes, *plan.notes, *clip.notes),
        )  # fmt: skip


def preview(enhancer: Enhancer, source: Source, count: int, making: Making) -> NDArray[np.float32]:
    """A sheet of `count` frames, evenly from the part of the clip, each beside its result: (H, W, 3) in [0, 1].

    Raises:
        InputError: no clip, or no frame.
    """
    span = making.span
    with film(source, span, making.rate) as clip:
        length = clip.seconds or 0.0
    shown = []
    for number in range(count):
        moment = span.start + length * (number + 0.5) / count
        with film(source, Span(moment if length else 0.0), making.rate) as clip:
            picture = next(clip.decoded()).picture
            lit = enhancer.enhance_picture(Deblock(making.deblock).frame(picture))
            for what, each in (("", picture), (", lit", lit)):
                small = np.ascontiguousarray(reduced(np.ascontiguousarray(upright(each, clip.rotation)), SIDE))
                shown.append((f"{moment:.2f} s{what}", small))
    return labelled(shown, 2 if count < 4 else 4)
