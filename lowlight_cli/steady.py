"""Smooth the measurements of a clip over its frames: a causal first-order low-pass filter for named values.

y = y + share (x - y), with a share that may change from frame to frame. The caller chooses one share for all the
measurements of a frame; 1 discards the past. Nothing here knows what the values mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Steady"]

Values = NDArray[np.float32]


class Steady:
    """The smoothed values by name, for the previous and for the current frame.

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
        """Begin the next frame; the values settled so far become those of the previous frame.

        Args:
            share: weight of the new frame's measurements, 0 to 1.
        """
        self._before, self._now = self._now, {}
        self._share = share

    def settle(self, name: str, value: NDArray[np.float32] | np.float32) -> Values:
        """Smooth one measurement; calling it again for the same frame gives the same result."""
        measured = np.asarray(value, np.float32)
        before = self._before.get(name)
        if before is not None and before.shape == measured.shape and self._share < 1:
            measured = np.asarray(before + np.float32(self._share) * (measured - before), np.float32)
        self._now[name] = measured
        return measured

    def state(self) -> dict[str, Any]:
        """The values that the next frame needs; the arrays are never modified afterwards."""
        return dict(self._now)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; its arrays may have been converted to lists."""
        self._now = {name: np.asarray(value, np.float32) for name, value in state.items()}
