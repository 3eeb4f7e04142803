"""Blocks of the codec in the dark, evened out before the network makes them visible.

Where hardly any light is, a codec spends no bits: what was a slope comes back in blocks that differ by one code or two,
and twenty times the exposure makes patches of colour of them. What a code stands for is open to about as much; within
that, each pixel goes to the mean of its surroundings, and to what it was in the frame before. What differs by more is
light, and stays: lamps get no halo, and what moves no trail.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Deblock"]

Picture = NDArray[np.float32]

DARK: Final = (40.0, 60.0)
"""Luma in levels of 255 up to which all is done, and from which nothing: above, the network changes little."""

OPEN: Final = np.array([1.0, 1.5, 1.5], np.float32)
"""Codes of luma and chroma, of 8 bits, that are open; a difference of so many goes altogether."""

SURE: Final = np.array([2.5, 3.0, 3.0], np.float32)
"""From so many codes on, a difference is light."""

WIDE: Final = 16
"""Pixels over which the surroundings reach: the blocks of H.264, and two of most others."""

KEPT: Final = 0.8
"""Of what is open, how much is as in the frame before: about five frames' mean."""

_FORTH: Final = np.array(
    [[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]], np.float32
)  # fmt: skip
"""RGB to luma and chroma (ITU-R BT.709)."""

_BACK: Final = np.linalg.inv(_FORTH).astype(np.float32)


class Deblock:
    """One clip's frames, in order."""

    def __init__(self) -> None:
        self._before: Picture | None = None

    def frame(self, picture: Picture) -> Picture:
        """The frame with its dark parts evened out.

        Args:
            picture: (H, W, 3) float32 RGB in [0, 1]; it is not changed.
        """
        codes = np.asarray(cv2.transform(picture, _FORTH * 255), np.float32)
        low, high = DARK
        luma = codes[..., 0]
        if luma.min() >= high:
            self._before = None
            return picture
        dark = cv2.merge([np.clip((high - luma) / (high - low), 0, 1)] * 3)
        even = codes
        for reach in (WIDE, WIDE // 2):
            even = _nearer(even, _surroundings(even, reach), dark)
        if self._before is not None and self._before.shape == even.shape:
            even = _nearer(even, self._before, dark * np.float32(KEPT))
        self._before = even
        made = np.asarray(cv2.transform(even, _BACK / 255), np.float32)
        np.clip(made, 0, 1, out=made)
        np.copyto(made, picture, where=dark == 0)
        return made


def _nearer(codes: Picture, other: Picture, much: Picture) -> Picture:
    """`codes` moved to `other` by what is open."""
    height, width, _ = codes.shape
    # whole rows: far faster than by threes
    slope = np.tile(-1 / (SURE - OPEN), width)
    full = np.tile(SURE / (SURE - OPEN), width)
    apart = (other - codes).reshape(height, -1)
    share = np.abs(apart)
    share *= slope
    share += full
    np.clip(share, 0, 1, out=share)
    share *= much.reshape(height, -1)
    share *= apart
    share += codes.reshape(height, -1)
    return np.asarray(share.reshape(codes.shape), np.float32)


def _surroundings(codes: Picture, reach: int) -> Picture:
    """Means over about `reach` pixels around each."""
    height, width, _ = codes.shape
    step = reach / 4
    size = max(1, round(width / step)), max(1, round(height / step))
    small = cv2.GaussianBlur(cv2.resize(codes, size, interpolation=cv2.INTER_AREA), (0, 0), 1.5)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
