"""What is measured of each frame of a clip, mixed into what was measured before: a causal filter of one number a frame.

A first-order low pass with a share that changes from frame to frame: y = y + share (x - y). Who sees the frames decides
the share, once for all that is measured of one; 1 forgets what was before. Nothing here knows what the values mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Steady"]

Values = NDArray[np.float32]


class Steady:
    """Values by name, as they were settled for the frame before.

    >>> import numpy
    >>> steady = Steady()
    >>> steady.begin(1.0)
    >>> float(steady.settle("gain", numpy.float32(8)))
    8.0
    >>> steady.begin(0.25)
    >>> float(steady.settle("gain", numpy.float32(4)))
    7.0
    """

    def __init__(self) -> None:
        self._share = 1.0
        self._before: dict[str, Values] = {}
        self._now: dict[str, Values] = {}

    def begin(self, share: float) -> None:
        """The next frame begins; what was settled until now is what was before.

        Args:
            share: how much of this frame's measurements counts, 0 to 1.
        """
        self._before, self._now = self._now, {}
        self._share = share

    def settle(self, name: str, value: NDArray[np.float32] | np.float32) -> Values:
        """The value to use in place of one that was measured; asked twice for one frame, it says the same twice."""
        measured = np.asarray(value, np.float32)
        before = self._before.get(name)
        if before is not None and before.shape == measured.shape and self._share < 1:
            measured = np.asarray(before + np.float32(self._share) * (measured - before), np.float32)
        self._now[name] = measured
        return measured

    def state(self) -> dict[str, Any]:
        """What the next frame needs; nobody changes the arrays afterwards."""
        return dict(self._now)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; its arrays may have become lists."""
        self._now = {name: np.asarray(value, np.float32) for name, value in state.items()}
