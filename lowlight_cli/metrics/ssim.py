"""SSIM in three forms: per RGB channel as in scikit-image, on grey levels as in Matlab, and over five scales."""

from __future__ import annotations

import itertools
import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.metrics.checks import refuse_unfit
from lowlight_cli.metrics.natural import GREY
from lowlight_cli.metrics.once import once

__all__ = ["SMALLEST", "ms_ssim", "ssim", "ssim_matlab"]

Picture = NDArray[np.floating]
Planes = NDArray[np.float64]

RADIUS: Final = 5
SMALLEST: Final = 2 * RADIUS + 1
"""Width of the window in pixels, and so of the smallest picture."""
SCALES: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang et al. 2003, section 3.2)."""
PART: Final = (64, 256)
"""Rows and columns processed at a time, so that intermediate arrays stay in the processor's cache."""


def ssim(x: Picture, y: Picture) -> float:
    """Return mean SSIM (Wang et al. 2004): 11x11 Gaussian of sigma 1.5, population variances, borders left out.

    Args:
        x: (H, W, 3) in [0, 1], at least 11 pixels a side.
        y: the same shape.

    Example:
        >>> import numpy as np
        >>> ssim(np.eye(16)[..., None].repeat(3, 2), np.eye(16)[..., None].repeat(3, 2))
        1.0

    Raises:
        ValueError: as `refuse_unfit`, or a side is shorter than the window.
    """
    _check(x, y)
    return _means(x, y)[0]


def ssim_matlab(x: Picture, y: Picture) -> float:
    """Like `ssim`, errors included, on grey levels: ssim_index.m (Wang et al. 2004) after Matlab's rgb2gray (8 bits).

    Example:
        >>> import numpy as np
        >>> ssim_matlab(np.eye(16)[..., None].repeat(3, 2), np.eye(16)[..., None].repeat(3, 2))
        1.0
    """
    _check(x, y)
    return _means(_grey(x), _grey(y))[0]


def ms_ssim(x: Picture, y: Picture) -> float:
    """Return multi-scale SSIM (Wang, Simoncelli, Bovik 2003) per RGB channel; each scale is 2x2 means of the previous.

    Each scale contributes its mean over pixels and channels; a negative mean counts as 0. The result is NaN for
    pictures of less than 176 pixels a side, whose coarsest scale is smaller than the window.

    Example:
        >>> import numpy as np
        >>> picture = np.random.default_rng(0).random((176, 180, 3))
        >>> ms_ssim(picture, picture), ms_ssim(picture[:175], picture[:175])
        (1.0, nan)

    Raises:
        ValueError: as `ssim`.
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
    refuse_unfit(x, y)
    if min(x.shape[:2]) < SMALLEST:
        raise ValueError(f"SSIM's window is {SMALLEST} pixels wide, the picture {x.shape[1]}x{x.shape[0]}")


@once
def _means(x: Picture, y: Picture) -> tuple[float, float]:
    """Return the means of the SSIM map and of its contrast-structure term, where the window fits inside the picture."""
    whole = structure = 0.0
    height, width = (side - 2 * RADIUS for side in x.shape[:2])
    for top, left in itertools.product(range(0, height, PART[0]), range(0, width, PART[1])):
        part = np.s_[top : top + PART[0] + 2 * RADIUS, left : left + PART[1] + 2 * RADIUS]
        first, second = _sums(x[part].astype(np.float64), y[part].astype(np.float64))
        whole, structure = whole + first, structure + second
    count = x[RADIUS:-RADIUS, RADIUS:-RADIUS].size
    return whole / count, structure / count


def _sums(a: Planes, b: Planes) -> tuple[float, float]:
    """Return the sums of the same two maps over one part of the picture."""

    def blur(values: Planes) -> Planes:
        blurred = cv2.GaussianBlur(values, (SMALLEST, SMALLEST), 1.5)
        return np.asarray(blurred[RADIUS:-RADIUS, RADIUS:-RADIUS], np.float64)

    mean_a, mean_b = blur(a), blur(b)
    # covariance = mean of the product - product of the means; the two variances are needed only as a sum
    product, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    covariance, variances = blur(a * b) - product, blur(a * a + b * b) - squares
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * covariance + c2) / (variances + c2)
    luminance = (2 * product + c1) / (squares + c1)
    return float((luminance * structure).sum()), float(structure.sum())


@once
def _grey(picture: Picture) -> Planes:
    """Convert to grey, rounded to 8-bit levels, in [0, 1]."""
    return np.asarray(np.rint((picture * 255) @ GREY) / 255, np.float64)


def _halved(picture: Picture) -> Planes:
    """Average 2x2 blocks; an odd last row or column is dropped."""
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    even = picture[:height, :width].astype(np.float64)
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
