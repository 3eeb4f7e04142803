"""Metrics for the difference in colour and in brightness between two pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.errors import DeviceError
from lowlight_cli.exposure import bands
from lowlight_cli.metrics.alone import luma
from lowlight_cli.metrics.checks import refuse_unfit
from lowlight_cli.metrics.once import once

__all__ = ["delta_e", "luma_error"]

Picture = NDArray[np.float32]


def delta_e(x: Picture, y: Picture) -> float:
    """Return the mean CIEDE2000 of two sRGB-encoded (H, W, 3) pictures in [0, 1]; by scikit-image, D65, 2 degrees.

    Raises:
        DeviceError: scikit-image is not installed.
        ValueError: as `refuse_unfit`.
    """
    try:
        from skimage import color
    except ImportError as error:
        raise DeviceError("dE 2000 wants scikit-image: pip install 'lowlight-cli[metrics]'") from error
    refuse_unfit(x, y)
    difference: Any = color.deltaE_ciede2000
    total = sum(float(difference(one, two).sum()) for one, two in zip(_lab(x), _lab(y), strict=True))
    return float(total / (x.shape[0] * x.shape[1]))


def luma_error(x: Picture, y: Picture) -> float:
    """Return the absolute difference of the mean lumas of two (H, W, 3) pictures in [0, 1].

    Example:
        >>> round(luma_error(np.full((4, 4, 3), 0.25, np.float32), np.full((4, 4, 3), 0.5, np.float32)), 4)
        0.25

    Raises:
        ValueError: as `refuse_unfit`.
    """
    refuse_unfit(x, y)
    return abs(luma(x) - luma(y))


@once
def _lab(picture: Picture) -> list[NDArray[np.float64]]:
    """Convert to CIELAB, in bands of rows."""
    from skimage.color import rgb2lab

    return [rgb2lab(picture[band].astype(np.float64)) for band in bands(*picture.shape[:2])]
