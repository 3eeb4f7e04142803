"""Descriptive metrics that need no reference: brightness, clipped light, colour shift. None of them rates quality."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.exposure import BT_709, to_linear
from lowlight_cli.metrics.checks import refuse_unfit
from lowlight_cli.metrics.once import once

__all__ = ["colour_shift", "luma", "whitened"]

Picture = NDArray[np.float32]

WEIGHTS: Final = np.array(BT_709)
WHITE: Final = 253.5 / 255
COLOURED: Final = 16.5 / 255


@once
def luma(x: Picture) -> float:
    """Return the mean luma of an (H, W, 3) picture in [0, 1].

    Example:
        >>> round(luma(np.full((4, 4, 3), 0.25, np.float32)), 4)
        0.25

    Raises:
        ValueError: as `refuse_unfit`.
    """
    refuse_unfit(x)
    return float((x.astype(np.float64) @ WEIGHTS).mean())


def whitened(x: Picture, dark: Picture) -> float:
    """Return the share of pixels with a channel at 254 or 255 in the result `x` but none in `dark`, (H, W, 3) each.

    Example:
        >>> dark = np.zeros((2, 2, 3), np.float32); dark[0, 0] = 1
        >>> whitened(np.ones((2, 2, 3), np.float32), dark)
        0.75

    Raises:
        ValueError: as `refuse_unfit`.
    """
    refuse_unfit(x, dark)
    return float(((x > WHITE).any(2) & ~(dark > WHITE).any(2)).mean())


def colour_shift(x: Picture, dark: Picture) -> float:
    """Return the mean angle in degrees between the linear RGB of the result and that of the dark picture.

    Only pixels that have a channel above 16 of 255 in the dark picture count, and that are not black in the result. The
    angle is 0 if there are none, and for every gain in linear light that does not clip.

    Example:
        >>> grey, red = np.full((2, 2, 3), 0.5, np.float32), np.zeros((2, 2, 3), np.float32); red[..., 0] = 0.5
        >>> round(colour_shift(red, grey), 2)
        54.74

    Raises:
        ValueError: as `refuse_unfit`.
    """
    refuse_unfit(x, dark)
    kept = (dark > COLOURED).any(2) & (x > 0).any(2)
    if not kept.any():
        return 0.0
    a, b = to_linear(x[kept]).astype(np.float64), to_linear(dark[kept]).astype(np.float64)
    cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())
