"""Enhance a clip's frames in order, and carry over what was found: brightness, blocks, bars, the gate's decision.

Each frame has three stages, so that three threads can work on three frames: its blocks are evened out; it begins with
what is measured of it and settled over time, and the network; it is finished by the look of its pixels, its level, and
its borders. No stage reads what a later one changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.borders import Borders, framed, inner
from lowlight_cli.enhancer import Enhancer
from lowlight_cli.look import left_alone
from lowlight_cli.steady import Steady
from lowlight_cli.video.deblock import Deblock
from lowlight_cli.video.making import Making
from lowlight_cli.video.temporal import Smoothing

__all__ = ["Even", "Lighting"]

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Even:
    """A frame whose blocks are evened out.

    Attributes:
        picture: (H, W, 3) float32 RGB in [0, 1], as it came.
        even: the same without blocks.
        share: how much of them was evened out, 0 to 1.
        state: the part of the state that the first stage changes, after this frame.
    """

    picture: Picture
    even: Picture
    share: float
    state: dict[str, Any]


class Lighting:
    """Enhances one clip's frames, which must come in order.

    Args:
        enhancer: its weights are loaded.
        making: settings, of which `temporal` and `deblock` matter here.

    Raises:
        UsageError: unknown smoothing mode.
    """

    def __init__(self, enhancer: Enhancer, making: Making) -> None:
        self._enhancer = enhancer
        self._smoothing, self._deblock = Smoothing(making.temporal), Deblock(making.deblock)
        self._borders = Borders()
        self._nothing = enhancer.settings.look.strength == 0
        self._alone, self._shot = False, -1

    def frame(self, picture: Picture, seconds: float) -> Picture:
        """Enhance one frame. If there is nothing to do, return `picture` itself, blocks included.

        The area within the bars is enhanced as if it were the whole frame, but the block grid is the whole frame's.

        Args:
            picture: (H, W, 3) float32 RGB in [0, 1]; it is not changed.
            seconds: when it is shown; later than the frame before.
        """
        lit, _ = self.begin(self.even(picture), seconds)()
        return lit

    def even(self, picture: Picture) -> Even:
        """The first stage of a frame, in the order of the frames."""
        if self._nothing:
            return Even(picture, picture, 0.0, self._deblock.state())
        return Even(picture, self._deblock.frame(picture), self._deblock.last, self._deblock.state())

    def begin(self, frame: Even, seconds: float) -> Callable[[], tuple[Picture, dict[str, Any]]]:
        """The second stage, in any thread, but in the order of the frames.

        Args:
            frame: from `even`.
            seconds: when it is shown.

        Returns:
            The third, under the same terms: it gives the result, and the state after this frame, however far others
            have got.
        """
        picture = frame.picture
        where = None if self._nothing else self._borders.frame(picture, self._smoothing.is_cut)
        finish = self._smoothing.begin(inner(frame.even, where), seconds, self._begin)
        if finish is None:
            self._deblock.discount(frame.share)
        begun = self.state() | frame.state

        def finished() -> tuple[Picture, dict[str, Any]]:
            lit = picture if finish is None else framed(picture, where, finish())
            return lit, begun | self._smoothing.level_state()

        return finished

    @property
    def cuts(self) -> int:
        """Number of cuts found so far, including an earlier run's."""
        return self._smoothing.cuts

    @property
    def deblocked(self) -> float:
        """How much of the codec's blocks was evened out, 0 to 1: the mean over the frames so far."""
        return self._deblock.share

    def state(self) -> dict[str, Any]:
        """What a run that resumes after this frame needs, if all that were begun are finished."""
        parts = self._smoothing.state() | self._deblock.state() | self._borders.state()
        return parts | {"gate": [self._alone, self._shot]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, whose arrays may have become lists."""
        self._smoothing.restore(state)
        self._deblock.restore(state)
        self._borders.restore(state)
        self._alone, self._shot = state["gate"]

    def _begin(self, picture: Picture, steady: Steady) -> Callable[[], Picture] | None:
        each = self._smoothing.mode == "off"
        if each or self._shot != self._smoothing.cuts:  # once per shot, or it would flicker
            self._alone = left_alone(picture, self._enhancer.settings.look.gate)
            self._shot = self._smoothing.cuts
        return None if self._alone else self._enhancer.begin_frame(picture, None if each else steady)
