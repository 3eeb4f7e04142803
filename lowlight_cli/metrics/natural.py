"""Natural scene statistics for NIQE and BRISQUE: locally normalised contrast and fits to its distribution."""

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
"""Weights of R, G and B in Matlab's rgb2gray."""

HALVING: Final = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
"""Kernel of Matlab's imresize to half the size: bicubic, stretched to twice the width."""


def normalised(plane: Plane, border: int) -> tuple[Plane, Plane]:
    """Subtract the local mean and divide by the local standard deviation + 1; return the result and that deviation.

    Args:
        plane: grey levels, (H, W) in 0 to 255.
        border: OpenCV's border type for the blur.
    """

    def blur(values: Plane) -> Plane:
        return np.asarray(cv2.GaussianBlur(values, (7, 7), 7 / 6, borderType=border), np.float64)

    mean = blur(plane)
    deviation = np.sqrt(np.abs(blur(plane**2) - mean**2))
    return (plane - mean) / (deviation + 1), deviation


def halved(plane: Plane) -> Plane:
    """Reduce (H, W) to half its size, rounded up, as Matlab's imresize does."""
    for _ in range(2):
        padded = np.pad(plane, ((3, 4), (0, 0)), "symmetric")
        count = (plane.shape[0] + 1) // 2
        plane = np.asarray(sum(w * padded[n : n + 2 * count : 2] for n, w in enumerate(HALVING)), np.float64).T
    return plane


def symmetric(values: Plane) -> tuple[float, float]:
    """Fit a generalised Gaussian by its moments; return exponent and variance."""
    square = float((values**2).mean())
    alphas, moments = _exponents()
    return float(alphas[np.argmin(np.abs(1 / moments - square / float(np.abs(values).mean()) ** 2))]), square


def asymmetric(values: Plane) -> tuple[float, float, float]:
    """Fit an asymmetric generalised Gaussian; return exponent, left and right deviation (NaN if a side is empty)."""
    squares = values * values
    sides = values < 0, values > 0
    left, right = (math.sqrt(float((squares * side).sum()) / max(int(side.sum()), 1)) for side in sides)
    if not left or not right:
        return 1.0, math.nan, math.nan
    ratio = left / right
    wanted = float(np.abs(values).mean()) ** 2 / float(squares.mean())
    wanted *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    alphas, moments = _exponents()
    above = min(max(int(np.searchsorted(moments, wanted)), 1), len(moments) - 1)  # moments are ascending
    nearest = above if moments[above] - wanted < wanted - moments[above - 1] else above - 1
    return float(alphas[nearest]), left, right


def spread(alpha: float) -> float:
    """Return the scale of a generalised Gaussian with exponent `alpha` and standard deviation 1."""
    return math.sqrt(math.gamma(1 / alpha) / math.gamma(3 / alpha))


def mean_shift(alpha: float) -> float:
    """Return the distance from mode to mean of an asymmetric generalised Gaussian whose two scales differ by 1."""
    return math.gamma(2 / alpha) / math.gamma(1 / alpha)


@functools.cache
def _exponents() -> tuple[Plane, Plane]:
    """Return the candidate exponents and, for each, the moment ratio mean(|x|)^2 / mean(x^2)."""
    alphas = np.arange(0.2, 10.001, 0.001)
    one, two, three = (np.array([math.gamma(order / alpha) for alpha in alphas]) for order in (1, 2, 3))
    return alphas, two**2 / (one * three)
