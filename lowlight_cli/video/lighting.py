"""Enhance a clip's frames in order, and carry over what was found: brightness, blocks, bars, the gate's decision."""

from __future__ import annotations

from collections.abc import Mapping
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

__all__ = ["Lighting"]

Picture = NDArray[np.float32]


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
        self._alone, self._shot = False, -1

    def frame(self, picture: Picture, seconds: float) -> Picture:
        """Enhance one frame. If there is nothing to do, return `picture` itself, blocks included.

        The area within the bars is enhanced as if it were the whole frame, but the block grid is the whole frame's.

        Args:
            picture: (H, W, 3) float32 RGB in [0, 1]; it is not changed.
            seconds: when it is shown; later than the frame before.
        """
        nothing = self._enhancer.settings.look.strength == 0
        even = picture if nothing else self._deblock.frame(picture)
        where = None if nothing else self._borders.frame(picture, self._smoothing.is_cut)
        inside = inner(even, where)
        lit = self._smoothing.frame(inside, seconds, self._enhance)
        if lit is not inside:
            return framed(picture, where, lit)
        if not nothing:
            self._deblock.discount()
        return picture

    @property
    def cuts(self) -> int:
        """Number of cuts found so far, including an earlier run's."""
        return self._smoothing.cuts

    @property
    def deblocked(self) -> float:
        """How much of the codec's blocks was evened out, 0 to 1: the mean over the frames so far."""
        return self._deblock.share

    def state(self) -> dict[str, Any]:
        """What a run that resumes after this frame needs."""
        parts = self._smoothing.state() | self._deblock.state() | self._borders.state()
        return parts | {"gate": [self._alone, self._shot]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, whose arrays may have become lists."""
        self._smoothing.restore(state)
        self._deblock.restore(state)
        self._borders.restore(state)
        self._alone, self._shot = state["gate"]

    def _enhance(self, picture: Picture, steady: Steady) -> Picture:
        each = self._smoothing.mode == "off"
        if each or self._shot != self._smoothing.cuts:  # once per shot, or it would flicker
            self._alone = left_alone(picture, self._enhancer.settings.look.gate)
            self._shot = self._smoothing.cuts
        if self._alone:
            return picture
        return self._enhancer.enhance_frame(picture, None if each else steady)
