"""Statistics of natural pictures, on which NIQE rests: normalised contrast, and the shape of its distribution."""

from __future__ import annotations

import functools
import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "features"]

Plane = NDArray[np.float64]

BLOCK: Final = 96
"""Side of the blocks that are looked at, in pixels of the finer scale."""
SHIFTS: Final = ((0, 1), (1, 0), (1, 1), (1, -1))
LUMA: Final = np.array([65.481, 128.553, 24.966])
HALVING: Final = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
"""Matlab's imresize to half the size: the bicubic kernel, twice as wide."""


def features(x: NDArray[np.floating], sharpest: float = 0.0) -> Plane:
    """36 numbers a row for each block of (H, W, 3) in [0, 1]; blocks that are flat have none.

    Args:
        x: sRGB-encoded; what fills no block at the right and bottom is left out.
        sharpest: leave out blocks less sharp than this share of the sharpest.

    Example:
        >>> features(np.random.default_rng(0).random((200, 300, 3))).shape
        (6, 36)
    """
    luma = np.rint(16 + x.astype(np.float64) @ LUMA)
    rows, columns = (side // BLOCK for side in luma.shape)
    if not rows * columns:
        return np.empty((0, 36))
    luma = luma[: rows * BLOCK, : columns * BLOCK]
    scales = []
    for side in (BLOCK, BLOCK // 2):
        normal, deviation = _normalised(luma)
        blocks = _blocks(normal, side)
        scales.append(np.array([_block(block) for block in blocks]))
        if side == BLOCK:
            sharpness = _blocks(deviation, side).mean((1, 2))
            luma = _halved(_halved(luma).T).T
    found = np.concatenate(scales, 1)
    kept = np.isfinite(found).all(1) & (sharpness >= sharpest * sharpness.max())
    return np.asarray(found[kept], np.float64)


def _normalised(plane: Plane) -> tuple[Plane, Plane]:
    """Contrast that is left where local mean and deviation are taken out, and that deviation."""

    def blur(values: Plane) -> Plane:
        return np.asarray(cv2.GaussianBlur(values, (7, 7), 7 / 6, borderType=cv2.BORDER_REPLICATE), np.float64)

    mean = blur(plane)
    deviation = np.sqrt(np.abs(blur(plane**2) - mean**2))
    return (plane - mean) / (deviation + 1), deviation


def _blocks(plane: Plane, side: int) -> Plane:
    """(blocks, side, side)."""
    height, width = plane.shape
    return plane.reshape(height // side, side, width // side, side).swapaxes(1, 2).reshape(-1, side, side)


def _block(block: Plane) -> list[float]:
    """Of a block, and of its products with its neighbours in four directions."""
    alpha, left, right = _shape(block)
    found = [alpha, (left + right) / 2]
    for shift in SHIFTS:
        alpha, left, right = _shape(block * np.roll(block, shift, (0, 1)))
        mean = (right - left) * math.gamma(2 / alpha) / math.gamma(1 / alpha)
        found += [alpha, mean, left, right]
    return found


def _shape(values: Plane) -> tuple[float, float, float]:
    """An asymmetric generalised Gaussian by its moments: exponent, and scale to the left and to the right."""
    left, right = (float(np.sqrt((part**2).mean())) if part.size else math.nan for part in _sides(values))
    if not left or not right:
        return 1.0, math.nan, math.nan
    ratio = left / right
    wanted = float(np.abs(values).mean()) ** 2 / float((values**2).mean())
    wanted *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    alphas, moments, scales = _exponents()
    if math.isnan(wanted):
        return 1.0, math.nan, math.nan
    nearest = int(np.argmin((moments - wanted) ** 2))
    return float(alphas[nearest]), left * float(scales[nearest]), right * float(scales[nearest])


def _sides(values: Plane) -> tuple[Plane, Plane]:
    return values[values < 0], values[values > 0]


@functools.cache
def _exponents() -> tuple[Plane, Plane, Plane]:
    """Exponents that are tried, the moment's ratio that each has, and the scale of unit deviation."""
    alphas = np.arange(0.2, 10.001, 0.001)
    one, two, three = (np.array([math.gamma(order / alpha) for alpha in alphas]) for order in (1, 2, 3))
    return alphas, two**2 / (one * three), np.sqrt(one / three)


def _halved(plane: Plane) -> Plane:
    """Half as many rows."""
    padded = np.pad(plane, ((3, 3), (0, 0)), "symmetric")
    count = plane.shape[0] // 2
    return np.asarray(sum(w * padded[n : n + 2 * count : 2] for n, w in enumerate(HALVING)), np.float64)
