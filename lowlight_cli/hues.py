"""Saturated lights keep their colour: red neon stays red, a sodium lamp orange.

Exposure works on each channel separately. In a saturated light one channel is full already and only the others are
lifted: red turns to pink, green to cyan. So bright saturated colours take most of the ratio of their channels from the
input, and their largest channel from the output. Most, not all: the core of a light is to stay lighter than its glow.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.exposure import extremes, largest, smallest, smoothstep, to_linear, to_srgb

__all__ = ["keep_hues"]

Picture = NDArray[np.float32]

BRIGHT: Final = (0.2, 0.9)
"""Largest channel of an input pixel, sRGB-encoded: below the range it is no light and its colour is noise, above it is
one."""

PURE: Final = (0.85, 0.97)
"""Saturation of an input pixel, 1 - smallest / largest channel in linear light: below the range it is paint, above it a
light."""

MUCH: Final = 0.8
"""Largest share, in linear light, of the input's ratio of channels. With all of it, flames and neon are flat and darker
than their glow."""

_RATIO: Final = 0.425
"""Ratio of smallest to largest channel, sRGB-encoded, above which no pixel is saturated enough: a quick first test."""


def keep_hues(before: Picture, after: Picture) -> None:
    """Give bright saturated colours in `after` most of the hue and saturation that they have in `before`; in place.

    Args:
        before: (H, W, 3) RGB, sRGB-encoded, [0, 1].
        after: of the same shape; it is changed.

    Example:
        >>> neon = np.array([[[1, 0.1, 0.1]]], np.float32)
        >>> pink = np.array([[[1, 0.6, 0.7]]], np.float32)
        >>> keep_hues(neon, pink)
        >>> pink.astype(float).round(2).tolist()
        [[[1.0, 0.3, 0.35]]]
    """
    brightest, dimmest = extremes(before)
    # Indices rather than a mask: faster, as in `highlights`.
    where = np.flatnonzero((brightest > BRIGHT[0]) & (dimmest < _RATIO * brightest))
    if not where.size:
        return
    shown = to_linear(before.reshape(-1, 3).take(where, 0))
    peak = largest(shown)
    much = np.float32(MUCH) * smoothstep(1 - smallest(shown) / peak, *PURE)
    much *= smoothstep(brightest.ravel().take(where), *BRIGHT)
    pixels = after.reshape(-1, 3)
    lit = to_linear(pixels.take(where, 0))
    kept = shown * (largest(lit) / peak)[:, None]
    pixels[where] = to_srgb(lit + much[:, None] * (kept - lit))
