"""SSIM as scikit-image computes it with a Gaussian window: the field's definition, per channel in RGB."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["SMALLEST", "ssim"]

RADIUS: Final = 5
SMALLEST: Final = 2 * RADIUS + 1
"""Width of the window, and of the smallest picture, in pixels."""


def ssim(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
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
    if x.shape != y.shape:
        raise ValueError(f"two pictures of one shape are wanted, got {x.shape} and {y.shape}")
    if min(x.shape[:2]) < SMALLEST:
        raise ValueError(f"SSIM's window is {SMALLEST} pixels wide, the picture {x.shape[1]}x{x.shape[0]}")

    def blur(picture: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(
            cv2.GaussianBlur(picture, (SMALLEST, SMALLEST), 1.5, borderType=cv2.BORDER_REFLECT), np.float64
        )

    a, b = x.astype(np.float64), y.astype(np.float64)
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, cov = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(similarity[RADIUS:-RADIUS, RADIUS:-RADIUS].mean())
