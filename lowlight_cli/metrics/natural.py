"""Statistics of natural pictures, on which NIQE and BRISQUE rest: contrast, normalised, and how it is distributed."""

from __future__ import annotations

import functools
import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["asymmetric", "halved", "mean_shift", "normalised", "spread", "symmetric"]

Plane = NDArray[np.float64]

GREY: Final = np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])
"""Weights of Matlab's rgb2gray."""

HALVING: Final = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
"""Matlab's imresize to half the size: the bicubic kernel, twice as wide."""


def normalised(plane: Plane, border: int) -> tuple[Plane, Plane]:
    """What is left of (H, W) in 0 to 255 where local mean and deviation are taken out, and that deviation.

    Args:
        plane: grey levels.
        border: what OpenCV is to take for what lies beyond.
    """

    def blur(values: Plane) -> Plane:
        return np.asarray(cv2.GaussianBlur(values, (7, 7), 7 / 6, borderType=border), np.float64)

    mean = blur(plane)
    deviation = np.sqrt(np.abs(blur(plane**2) - mean**2))
    return (plane - mean) / (deviation + 1), deviation


def halved(plane: Plane) -> Plane:
    """(H, W) at half its size, rounded up, as Matlab's imresize makes it."""
    for _ in range(2):
        padded = np.pad(plane, ((3, 4), (0, 0)), "symmetric")
        count = (plane.shape[0] + 1) // 2
        plane = np.asarray(sum(w * padded[n : n + 2 * count : 2] for n, w in enumerate(HALVING)), np.float64).T
    return plane


def symmetric(values: Plane) -> tuple[float, float]:
    """A generalised Gaussian by its moments: exponent and variance."""
    square = float((values**2).mean())
    alphas, moments = _exponents()
    return float(alphas[np.argmin(np.abs(1 / moments - square / float(np.abs(values).mean()) ** 2))]), square


def asymmetric(values: Plane) -> tuple[float, float, float]:
    """An asymmetric one: exponent, and deviations to the left and to the right; no numbers where a side is empty."""
    squares = values * values
    sides = values < 0, values > 0
    left, right = (math.sqrt(float((squares * side).sum()) / max(int(side.sum()), 1)) for side in sides)
    if not left or not right:
        return 1.0, math.nan, math.nan
    ratio = left / right
    wanted = float(np.abs(values).mean()) ** 2 / float(squares.mean())
    wanted *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    alphas, moments = _exponents()
    above = min(max(int(np.searchsorted(moments, wanted)), 1), len(moments) - 1)  # moments only grow
    nearest = above if moments[above] - wanted < wanted - moments[above - 1] else above - 1
    return float(alphas[nearest]), left, right


def spread(alpha: float) -> float:
    """The scale of a generalised Gaussian of exponent `alpha` and deviation 1."""
    return math.sqrt(math.gamma(1 / alpha) / math.gamma(3 / alpha))


def mean_shift(alpha: float) -> float:
    """How far the mean of an asymmetric one lies from its mode, for sides whose scales differ by 1."""
    return math.gamma(2 / alpha) / math.gamma(1 / alpha)


@functools.cache
def _exponents() -> tuple[Plane, Plane]:
    """Exponents that are tried, and the ratio of the squared mean of amounts to the mean of squares that each has."""
    alphas = np.arange(0.2, 10.001, 0.001)
    one, two, three = (np.array([math.gamma(order / alpha) for alpha in alphas]) for order in (1, 2, 3))
    return alphas, two**2 / (one * three)
