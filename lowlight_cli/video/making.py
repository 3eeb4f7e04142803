"""Data classes of a clip's run: its settings, its progress, a frame with its result, the outcome, measurements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.files import timed
from lowlight_cli.look import mean_luma
from lowlight_cli.metrics.steadiness import jitter
from lowlight_cli.video.formats import Encoding
from lowlight_cli.video.streams import Frame, Span

if TYPE_CHECKING:
    from lowlight_cli.video.lighting import Lighting
    from lowlight_cli.video.series import Film

__all__ = ["Course", "Lit", "Made", "Making", "Tally", "made"]

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Making:
    """Settings of a run.

    Attributes:
        span: which part of the clip.
        temporal: a mode of `temporal.MODES`.
        deblock: whether to even out the codec's blocks in dark areas first; None for as much as the clip shows them.
        encoding: how the video is encoded.
        compare: write the frames beside their results, with labels.
        resume: continue what an earlier run left.
        overwrite: pictures that exist may be replaced if there is nothing to resume.
        measure: measure the brightness before and after.
        rate: frames per second of an image sequence; None is 25.
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
    """Progress of a clip.

    Attributes:
        done: number of frames done.
        count: number of frames in all, approximately; None if unknown.
        before: how many of `done` an earlier run made.
        rate: average frames per second of the clip.
    """

    done: int
    count: int | None
    before: int
    rate: float


@dataclass
class Lit:
    """A frame and its result; `state` is the lighting's after it."""

    frame: Frame
    picture: Picture
    state: Mapping[str, Any]


@dataclass(frozen=True)
class Made:
    """The outcome of a run.

    Attributes:
        frames: number of frames in the result.
        resumed: how many of them an earlier run made.
        repeated: how many replace damaged ones.
        cuts: number of cuts found.
        deblocked: how much of the codec's blocks was evened out, 0 to 1: the mean over this run's frames.
        size: width and height of the frames as written.
        codec: FFmpeg's name of the encoder, or the format of pictures.
        pixel_format: FFmpeg's name.
        rate: average frames per second.
        seconds: by stage; stages overlap.
        luma: mean brightness before and after, [0, 1], if measured.
        jitter: root mean square of the change of mean luma from one frame to the next, before and after, in levels of
            255, if measured; cuts count too.
        notes: messages for the user, one line each.
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
    """Seconds by stage, the number of frames, and their brightness."""

    measure: bool
    frames: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    def timed(self, stage: str) -> AbstractContextManager[None]:
        """Add the run time of the block to the stage's."""
        return timed(self.seconds, stage)

    def see(self, before: Picture, after: Picture) -> None:
        """Count one more frame, and measure it if `measure`."""
        self.frames += 1
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


def made(
    clip: Film,
    lighting: Lighting,
    tally: Tally,
    *,
    frames: int,
    resumed: int,
    size: tuple[int, int],
    codec: str,
    pixel_format: str,
    notes: Iterable[str],
) -> Made:
    """The outcome of a run over `clip`; what is given by name is as in `Made`."""
    return Made(
        frames=frames,
        resumed=resumed,
        repeated=clip.repeated,
        cuts=lighting.cuts,
        deblocked=lighting.deblocked,
        size=size,
        codec=codec,
        pixel_format=pixel_format,
        rate=float(clip.rate),
        seconds=tally.seconds,
        luma=tally.luma,
        jitter=tally.jitter,
        notes=tuple(notes),
    )
