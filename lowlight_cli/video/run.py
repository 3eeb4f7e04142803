"""One clip from end to end: decode, enhance and encode at the same time, with a bound on what waits between them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.enhancer import Enhancer
from lowlight_cli.look import left_alone, mean_luma
from lowlight_cli.metrics.steadiness import jitter
from lowlight_cli.sheets import labelled
from lowlight_cli.steady import Steady
from lowlight_cli.video.ahead import ahead
from lowlight_cli.video.colour import upright
from lowlight_cli.video.encode import Encoder, Plan, planned
from lowlight_cli.video.formats import CONTAINERS, Encoding
from lowlight_cli.video.mux import assemble
from lowlight_cli.video.parts import LENGTH, Parts
from lowlight_cli.video.streams import Clip, Frame, Span, opened
from lowlight_cli.video.temporal import Smoothing

__all__ = [
    "WAITING",
    "Course",
    "Lit",
    "Made",
    "Making",
    "Tally",
    "compared",
    "enhance_clip",
    "enhanced",
    "partial",
    "read",
]

Picture = NDArray[np.float32]

WAITING: Final = 2
"""Frames that wait between two stages."""


@dataclass(frozen=True)
class Making:
    """How a clip is made.

    Attributes:
        span: which part of it.
        temporal: a mode of `temporal.MODES`.
        encoding: how the video is written.
        compare: write the frames beside their results, with labels.
        resume: go on with what an earlier run left.
        measure: tell the brightness before and after.
    """

    span: Span = field(default_factory=Span)
    temporal: str = "on"
    encoding: Encoding = field(default_factory=Encoding)
    compare: bool = False
    resume: bool = False
    measure: bool = False


@dataclass(frozen=True)
class Course:
    """How far a clip has come.

    Attributes:
        done: frames.
        count: of how many, about; None where nobody knows.
        before: how many of those done are an earlier run's.
        rate: frames a second that the clip has on average.
    """

    done: int
    count: int | None
    before: int
    rate: float


@dataclass
class Lit:
    """A frame and what was made of it; `state` is the smoothing's after it."""

    frame: Frame
    picture: Picture
    state: Mapping[str, Any]


@dataclass(frozen=True)
class Made:
    """What became of a clip.

    Attributes:
        frames: in the result.
        resumed: how many of them an earlier run had made.
        repeated: how many stand for damaged ones.
        cuts: how many were found.
        size: width and height of the frames as written.
        codec: FFmpeg's name of the encoder.
        pixel_format: FFmpeg's name.
        rate: frames a second on average.
        seconds: by stage; stages overlap.
        luma: mean brightness before and after, [0, 1], where that was asked for.
        jitter: root mean square of the change of mean luma from one frame to the next, before and after, in levels of
            255, where that was asked for; cuts count too.
        notes: what is to be known, a line each.
    """

    frames: int
    resumed: int
    repeated: int
    cuts: int
    size: tuple[int, int]
    codec: str
    pixel_format: str
    rate: float
    seconds: Mapping[str, float]
    luma: tuple[float, float] | None
    jitter: tuple[float, float] | None
    notes: tuple[str, ...]


def enhance_clip(
    enhancer: Enhancer,
    source: Path | BinaryIO,
    target: Path,
    making: Making | None = None,
    on_frame: Callable[[Course], None] | None = None,
) -> Made:
    """Enhance a clip; the result has its frames, their timestamps, and all its other streams.

    Interrupted, what is done is written beside the target as `partial(target)`, and the interruption goes on.

    Args:
        enhancer: what brightens; its weights are loaded.
        source: the clip; of a stream that is read once, only the video is kept.
        target: the file to write; one that exists is replaced.
        making: how.
        on_frame: told after each frame.

    Raises:
        InputError: no clip, no video, nothing that can be decoded.
        OutputError: it cannot be written there.
        UsageError: options that the codec does not have.
        DeviceError: an encoder that does not work here.
        ResourceError: memory or disk is used up.
    """
    wish, told = making or Making(), on_frame or (lambda _: None)
    parts, file = Parts(target), source if isinstance(source, Path) else None
    with opened(source, str(file or "standard input"), wish.span) as clip:
        plan = planned(clip, CONTAINERS[target.suffix.lower()], wish.encoding, wide=wish.compare)
        dropped = parts.begin(_job(enhancer, file, wish, plan), resume=wish.resume)
        notes = ["what an earlier run left is of another job or clip: begun anew"] if dropped else []
        smoothing, resumed = Smoothing(wish.temporal), sum(len(part.frames) for part in parts.done)
        if parts.done:
            smoothing.restore(parts.done[-1].state)
        tally = Tally(wish.measure)
        try:
            _encode(enhancer, clip, plan, parts, smoothing, wish, tally, told, resumed)
        except (KeyboardInterrupt, SystemExit):
            if parts.done:
                assemble(file, clip.stream.index, parts, plan, wish.span, partial(target))
            raise
        finally:
            if not parts.done:
                parts.drop()
        with tally.timed("write"):
            notes += [*plan.notes, *clip.notes]
            notes += assemble(file, clip.stream.index, parts, plan, wish.span, target)
        parts.drop()
        return Made(
            sum(len(part.frames) for part in parts.done), resumed, clip.repeated, smoothing.cuts,
            (plan.width, plan.height), plan.name, plan.pixel_format, float(clip.rate), tally.seconds, tally.luma,
            tally.jitter, tuple(notes),
        )  # fmt: skip


def partial(target: Path) -> Path:
    """Where what an interrupted run has done is put."""
    return target.with_name(f"{target.stem}.partial{target.suffix}")


def enhanced(
    enhancer: Enhancer, clip: Clip, frames: Iterator[Frame], smoothing: Smoothing, tally: Tally | None = None
) -> Iterator[Lit]:
    """The frames with their results, in order."""
    look, alone, shots = enhancer.settings.look, False, -1
    before: Lit | None = None

    def enhance(picture: Picture, steady: Steady) -> Picture:
        nonlocal alone, shots
        if shots != smoothing.cuts or smoothing.mode == "off":  # once a shot: it must not go on and off within
            alone, shots = left_alone(picture, look.gate), smoothing.cuts
        if alone:
            return picture
        if smoothing.mode == "off":
            return enhancer.enhance_picture(picture)
        return enhancer.enhance_frame(picture, steady)

    for frame in frames:
        with tally.timed("run") if tally else contextlib.nullcontext():
            if before is None or frame.picture is not before.frame.picture:
                lit = smoothing.frame(frame.picture, float(frame.pts * clip.base), enhance)
            else:
                lit = before.picture
        before = Lit(frame, lit, smoothing.state())
        yield before


def compared(frame: Picture, lit: Picture, rotation: int, height: int, width: int) -> Picture:
    """Both side by side, upright and with labels, (height, width, 3); what is left over is the paper's grey."""
    sheet = labelled([("before", upright(frame, rotation)), ("after", upright(lit, rotation))], 2)
    missing = (0, height - sheet.shape[0]), (0, width - sheet.shape[1]), (0, 0)
    return np.pad(sheet, missing, mode="edge")


@dataclass
class Tally:
    """Seconds by stage, and the brightness of the frames."""

    measure: bool
    seconds: dict[str, float] = field(default_factory=dict)
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the block's time as the stage's."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def see(self, before: Picture, after: Picture) -> None:
        """One more frame."""
        if self.measure:
            self.before.append(mean_luma(before))
            self.after.append(mean_luma(after))

    @property
    def luma(self) -> tuple[float, float] | None:
        """As in `Made`."""
        return (float(np.mean(self.before)), float(np.mean(self.after))) if self.before else None

    @property
    def jitter(self) -> tuple[float, float] | None:
        """As in `Made`."""
        return (jitter(self.before), jitter(self.after)) if self.before else None


def read(clip: Clip, after: int | None, tally: Tally) -> Iterator[Frame]:
    """The clip's frames; the time that they take is the stage `read`."""
    frames = clip.decoded(after)
    while True:
        with tally.timed("read"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _encode(
    enhancer: Enhancer,
    clip: Clip,
    plan: Plan,
    parts: Parts,
    smoothing: Smoothing,
    wish: Making,
    tally: Tally,
    told: Callable[[Course], None],
    resumed: int,
) -> None:
    """All frames that the parts do not have yet; interrupted, what is in the encoder still becomes a part."""
    frames = ahead(read(clip, parts.done[-1].last if parts.done else None, tally), WAITING)
    results = ahead(enhanced(enhancer, clip, frames, smoothing, tally), WAITING)
    encoder, inside = Encoder(plan), 0
    state: Mapping[str, Any] = smoothing.state()
    done, count = resumed, clip.count

    def close() -> None:
        for packed in encoder.flush():
            parts.add(packed)
        parts.close(state)

    try:
        with contextlib.closing(results):
            for lit in results:
                if inside == LENGTH:
                    with tally.timed("encode"):
                        close()
                        encoder, inside = Encoder(plan), 0
                with tally.timed("encode"):
                    picture = lit.picture
                    if wish.compare:
                        picture = compared(lit.frame.picture, picture, clip.rotation, plan.height, plan.width)
                    for packed in encoder.encode(picture, lit.frame.pts, lit.frame.duration):
                        parts.add(packed)
                tally.see(lit.frame.picture, lit.picture)
                inside, done, state = inside + 1, done + 1, lit.state
                told(Course(done, count, resumed, float(clip.rate)))
    finally:
        with tally.timed("encode"):
            close()


def _job(enhancer: Enhancer, source: Path | None, wish: Making, plan: Plan) -> dict[str, Any]:
    """All that a result depends on, but for the machine."""
    status = source.stat() if source else None
    settings = enhancer.settings
    _, resolved = enhancer.load()
    return {
        "source": source and status and [str(source.resolve()), status.st_size, status.st_mtime_ns],
        "weights": resolved.sha256,
        "look": repr([settings.model, settings.look, settings.self_ensemble]),
        "making": repr([wish.span, wish.temporal, wish.compare]),
        "plan": repr(plan),
    }
