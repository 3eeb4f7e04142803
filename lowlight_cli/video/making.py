"""What is told to and by the making of a clip: the wish, the course, the frames on their way, the result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.look import mean_luma
from lowlight_cli.metrics.steadiness import jitter
from lowlight_cli.video.formats import Encoding
from lowlight_cli.video.streams import Frame, Span

__all__ = ["Course", "Lit", "Made", "Making", "Tally"]

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Making:
    """How a clip is made.

    Attributes:
        span: which part of it.
        temporal: a mode of `temporal.MODES`.
        deblock: whether to even out the codec's blocks in the dark first; None is as far as the clip shows some.
        encoding: how the video is written.
        compare: write the frames beside their results, with labels.
        resume: go on with what an earlier run left.
        overwrite: pictures that are there may be replaced where there is nothing to go on with.
        measure: tell the brightness before and after.
        rate: frames a second of numbered pictures; None is 25.
    """

    span: Span = field(default_factory=Span)
    temporal: str = "on"
    deblock: bool | None = None
    encoding: Encoding = field(default_factory=Encoding)
    compare: bool = False
    resume: bool = False
    overwrite: bool = False
    measure: bool = False
    rate: Fraction | None = None


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
    """A frame and what was made of it; `state` is the lighting's after it."""

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
        deblocked: how much of the codec's blocks was evened out, mean over the frames that were made now, 0 to 1.
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
    deblocked: float
    size: tuple[int, int]
    codec: str
    pixel_format: str
    rate: float
    seconds: Mapping[str, float]
    luma: tuple[float, float] | None
    jitter: tuple[float, float] | None
    notes: tuple[str, ...]


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
