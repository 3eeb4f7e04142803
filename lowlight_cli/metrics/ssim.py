"""Structural similarity: as scikit-image computes it per channel in RGB, as Matlab on grey, and over five scales."""

from __future__ import annotations

import itertools
import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.metrics.natural import GREY
from lowlight_cli.metrics.once import once

__all__ = ["SMALLEST", "ms_ssim", "ssim", "ssim_matlab"]

Picture = NDArray[np.floating]
Planes = NDArray[np.float64]

RADIUS: Final = 5
SMALLEST: Final = 2 * RADIUS + 1
"""Width of the window, and of the smallest picture, in pixels."""
SCALES: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang et al. 2003, section 3.2)."""
PART: Final = (64, 256)
"""Rows and columns worked on at a time: what is needed in between stays in the processor's cache."""


def ssim(x: Picture, y: Picture) -> float:
    """Mean structural similarity (Wang et al. 2004): Gaussian of sigma 1.5, 11x11, population variances, borders out.

    Args:
        x: (H, W, 3) in [0, 1], at least 11 pixels a side.
        y: the same shape.

    Example:
        >>> import numpy as np
        >>> ssim(np.eye(16)[..., None].repeat(3, 2), np.eye(16)[..., None].repeat(3, 2))
        1.0

    Raises:
        ValueError: the shapes differ, or a side is shorter than the window.
    """
    _check(x, y)
    return _means(x, y)[0]


def ssim_matlab(x: Picture, y: Picture) -> float:
    """As `ssim`, of grey levels: ssim_index.m (Wang et al. 2004) behind Matlab's rgb2gray, which rounds to 8 bits.

    Example:
        >>> import numpy as np
        >>> ssim_matlab(np.eye(16)[..., None].repeat(3, 2), np.eye(16)[..., None].repeat(3, 2))
        1.0
    """
    _check(x, y)
    return _means(_grey(x), _grey(y))[0]


def ms_ssim(x: Picture, y: Picture) -> float:
    """Over five scales (Wang, Simoncelli, Bovik 2003), each 2x2 means of the one before, per channel in RGB.

    Means are taken over pixels and channels at each scale, and one below 0 counts as 0. Not a number for pictures of
    less than 176 pixels a side, whose coarsest scale is smaller than the window.

    Example:
        >>> import numpy as np
        >>> picture = np.random.default_rng(0).random((176, 180, 3))
        >>> ms_ssim(picture, picture), ms_ssim(picture[:175], picture[:175])
        (1.0, nan)
    """
    _check(x, y)
    if min(x.shape[:2]) >> (len(SCALES) - 1) < SMALLEST:
        return math.nan
    product = 1.0
    for number, exponent in enumerate(SCALES):
        whole, structure = _means(x, y)
        product *= max(whole if number == len(SCALES) - 1 else structure, 0.0) ** exponent
        x, y = _halved(x), _halved(y)
    return product


def _check(x: Picture, y: Picture) -> None:
    if x.shape != y.shape:
        raise ValueError(f"two pictures of one shape are wanted, got {x.shape} and {y.shape}")
    if min(x.shape[:2]) < SMALLEST:
        raise ValueError(f"SSIM's window is {SMALLEST} pixels wide, the picture {x.shape[1]}x{x.shape[0]}")


@once
def _means(x: Picture, y: Picture) -> tuple[float, float]:
    """Means of the map of similarity, and of its part of contrast and structure, where the window lies inside."""
    whole = structure = 0.0
    height, width = (side - 2 * RADIUS for side in x.shape[:2])
    for top, left in itertools.product(range(0, height, PART[0]), range(0, width, PART[1])):
        part = np.s_[top : top + PART[0] + 2 * RADIUS, left : left + PART[1] + 2 * RADIUS]
        first, second = _sums(x[part].astype(np.float64), y[part].astype(np.float64))
        whole, structure = whole + first, structure + second
    count = x[RADIUS:-RADIUS, RADIUS:-RADIUS].size
    return whole / count, structure / count


def _sums(a: Planes, b: Planes) -> tuple[float, float]:
    """The same of a part, as sums."""

    def blur(values: Planes) -> Planes:
        blurred = cv2.GaussianBlur(values, (SMALLEST, SMALLEST), 1.5)
        return np.asarray(blurred[RADIUS:-RADIUS, RADIUS:-RADIUS], np.float64)

    mean_a, mean_b = blur(a), blur(b)
    # the covariance is the mean product less the product of means; the two variances are only ever wanted as a sum
    product, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    covariance, variances = blur(a * b) - product, blur(a * a + b * b) - squares
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * covariance + c2) / (variances + c2)
    luminance = (2 * product + c1) / (squares + c1)
    return float((luminance * structure).sum()), float(structure.sum())


@once
def _grey(picture: Picture) -> Planes:
    """Grey levels of 8 bits, in [0, 1]."""
    return np.asarray(np.rint((picture * 255) @ GREY) / 255, np.float64)


def _halved(picture: Picture) -> Planes:
    """Means of 2x2; an odd last row or column is left out."""
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    even = picture[:height, :width].astype(np.float64)
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
