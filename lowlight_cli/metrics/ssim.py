"""Structural similarity: as scikit-image computes it per channel in RGB, as Matlab on grey, and over five scales."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["SMALLEST", "ms_ssim", "ssim", "ssim_matlab"]

Picture = NDArray[np.floating]
Planes = NDArray[np.float64]

RADIUS: Final = 5
SMALLEST: Final = 2 * RADIUS + 1
"""Width of the window, and of the smallest picture, in pixels."""
SCALES: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang et al. 2003, section 3.2)."""
GREY: Final = np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])
"""Weights of Matlab's rgb2gray."""


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
    luminance, structure = _maps(x.astype(np.float64), y.astype(np.float64))
    return float((luminance * structure).mean())


def ssim_matlab(x: Picture, y: Picture) -> float:
    """As `ssim`, of grey levels: ssim_index.m (Wang et al. 2004) behind Matlab's rgb2gray, which rounds to 8 bits.

    Example:
        >>> import numpy as np
        >>> ssim_matlab(np.eye(16)[..., None].repeat(3, 2), np.eye(16)[..., None].repeat(3, 2))
        1.0
    """
    _check(x, y)
    luminance, structure = _maps(*(np.rint((picture * 255) @ GREY) / 255 for picture in (x, y)))
    return float((luminance * structure).mean())


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
    a, b = x.astype(np.float64), y.astype(np.float64)
    whole = 1.0
    for number, exponent in enumerate(SCALES):
        luminance, structure = _maps(a, b)
        kept = luminance * structure if number == len(SCALES) - 1 else structure
        whole *= max(float(kept.mean()), 0.0) ** exponent
        a, b = _halved(a), _halved(b)
    return whole


def _check(x: Picture, y: Picture) -> None:
    if x.shape != y.shape:
        raise ValueError(f"two pictures of one shape are wanted, got {x.shape} and {y.shape}")
    if min(x.shape[:2]) < SMALLEST:
        raise ValueError(f"SSIM's window is {SMALLEST} pixels wide, the picture {x.shape[1]}x{x.shape[0]}")


def _maps(a: Planes, b: Planes) -> tuple[Planes, Planes]:
    """Similarity of luminance, and of contrast and structure, where the window lies inside."""

    def blur(picture: Planes) -> Planes:
        return np.asarray(
            cv2.GaussianBlur(picture, (SMALLEST, SMALLEST), 1.5, borderType=cv2.BORDER_REFLECT), np.float64
        )

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, cov = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    inside = (slice(RADIUS, -RADIUS), slice(RADIUS, -RADIUS))
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * cov + c2) / (var_a + var_b + c2)
    return luminance[inside], structure[inside]


def _halved(picture: Planes) -> Planes:
    """Means of 2x2; an odd last row or column is left out."""
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    even = picture[:height, :width]
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
