"""Differences of colour and of brightness."""

from __future__ import annotations

import cmath
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.metrics.alone import luma
from lowlight_cli.metrics.once import once

__all__ = ["delta_e", "luma_error"]

Picture = NDArray[np.floating]
Planes = NDArray[np.float64]

PART: Final = 1 << 13
"""So many pixels at a time: the formula has many terms, and these stay in the processor's cache."""
XYZ: Final = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
"""XYZ of linear sRGB."""
WHITE: Final = np.array([0.95047, 1.0, 1.08883])
"""XYZ of D65 for the observer of 2 degrees."""
TURNS: Final = tuple(
    weight * cmath.exp(1j * math.radians(degrees))
    for weight, degrees in ((1, 0), (-0.17, -30), (0.24, 0), (0.32, 6), (-0.20, -63))
)
"""Of T (equation 15): what the hue, as a number on the unit circle, is multiplied with to the power of 0 to 4."""
TINY: Final = 1e-300


def delta_e(x: Picture, y: Picture) -> float:
    """Mean CIEDE2000 over pixels of two pictures (H, W, 3), sRGB-encoded, in [0, 1]; D65, 2 degrees.

    Example:
        >>> grey = np.full((4, 4, 3), 0.5)
        >>> delta_e(grey, grey), round(delta_e(grey * [1, 0, 0], grey * [0, 1, 0]), 3)
        (0.0, 64.696)

    Raises:
        ValueError: the shapes differ.
    """
    if x.shape != y.shape:
        raise ValueError(f"two pictures of one shape are wanted, got {x.shape} and {y.shape}")
    sums = (float(_differences(one, two).sum()) for one, two in zip(_lab(x), _lab(y), strict=True))
    return float(sum(sums) / (x.shape[0] * x.shape[1]))


def luma_error(x: Picture, y: Picture) -> float:
    """How far mean lumas are apart, in [0, 1], of two pictures (H, W, 3) in [0, 1].

    Example:
        >>> round(luma_error(np.full((4, 4, 3), 0.25, np.float32), np.full((4, 4, 3), 0.5, np.float32)), 4)
        0.25
    """
    return abs(luma(x) - luma(y))


@once
def _lab(picture: Picture) -> list[Planes]:
    """CIELAB, (3, n) for each `PART` of the pixels."""
    found, pixels = list[Planes](), picture.reshape(-1, 3)
    for start in range(0, len(pixels), PART):
        srgb = pixels[start : start + PART].T.astype(np.float64, order="C")
        linear = np.where(srgb > 0.04045, ((srgb + 0.055) / 1.055) ** 2.4, srgb / 12.92)
        share = (XYZ / WHITE[:, None]) @ linear
        x, y, z = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
        found.append(np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)]))
    return found


def _differences(one: Planes, two: Planes) -> Planes:
    """CIEDE2000 of colours in CIELAB, (3, n) each: Sharma, Wu, Dalal 2005, equations 2 to 22.

    A colour is a number a + ib: its amount is the chroma, its direction the hue, and no angle is needed but the mean's.
    """
    chroma = (np.abs(one[1] + 1j * one[2]) + np.abs(two[1] + 1j * two[2])) / 2
    stretch = 1.5 - 0.5 * _saturation(chroma)
    first, second = (stretch * a + 1j * b for _, a, b in (one, two))
    c1, c2 = np.abs(first), np.abs(second)
    hue1, hue2 = first / np.maximum(c1, TINY), second / np.maximum(c2, TINY)
    between = hue1 + hue2  # halfway along the shorter arc; of a grey, which has no hue, the other's
    hue = between / np.maximum(np.abs(between), TINY)
    turned = np.copysign(np.abs(hue1 - hue2), (hue1.conj() * hue2).imag)  # twice the sine of half the angle

    level, chroma = (one[0] + two[0]) / 2, (c1 + c2) / 2
    weight = np.polynomial.polynomial.polyval(hue, TURNS).real
    dl = (two[0] - one[0]) / (1 + 0.015 * (level - 50) ** 2 / np.sqrt(20 + (level - 50) ** 2))
    dc = (c2 - c1) / (1 + 0.045 * chroma)
    dh = np.sqrt(c1 * c2) * turned / (1 + 0.015 * chroma * weight)
    blue = np.exp(-(((np.angle(hue, deg=True) % 360 - 275) / 25) ** 2))
    rotation = -np.sin(math.radians(60) * blue) * 2 * _saturation(chroma)
    return np.asarray(np.sqrt(np.maximum(dl**2 + dc**2 + dh**2 + rotation * dc * dh, 0)), np.float64)


def _saturation(chroma: Planes) -> Planes:
    """How far a chroma is among those that look more alike than they are, 0 to 1."""
    power = (chroma * chroma * chroma) ** 2 * chroma  # a tenth of what ** 7 takes
    return np.sqrt(power / (power + 25.0**7))
