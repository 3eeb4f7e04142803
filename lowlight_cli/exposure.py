"""Expose a picture by one gain in linear light: most networks here get their input exposed this way.

How bright a picture should be depends on the whole of it, which a network that sees only a crop or a tile cannot know.
So the gain is computed once, from a thumbnail, and the network starts from an exposed picture. The curve is
y = 1 - (1 - x)^g in linear light: what a medium that responds to light L with 1 - exp(-L), as film does, would show
after g times the exposure. Its slope in the dark is g, 1 stays 1, nothing is clipped, order is kept.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BAND", "BT_709", "LARGEST_GAIN", "LUMA", "TARGET", "apply_gain", "auto_gain", "bands", "extremes", "largest",
    "smallest", "smoothstep", "solved", "thumbnail", "to_light", "to_linear", "to_srgb",
]  # fmt: skip

Picture = NDArray[np.float32]

BT_709: Final = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue in luma, or in luminance for linear channels (ITU-R BT.709)."""

LUMA: Final = np.array(BT_709, np.float32)
"""The same as a float32 array, for matrix products."""

TARGET: Final = 0.44
"""Mean of the exposed picture, sRGB-encoded: the average of the references in paired data sets."""

LARGEST_GAIN: Final = 400.0
"""Beyond this gain, eight bits hold nothing more to bring out."""

WHITEST: Final = 0.996
"""Linear value that counts as white where light is wanted: film gets there, but not to 1."""

THUMBNAIL: Final = 64

BAND: Final = 2**17
"""Pixels processed at a time: temporaries stay small and near the CPU."""

STEPS: Final = 2**16 - 1
"""Steps of the lookup tables: every 8- and 16-bit value lies on one. Between them, the error is at most 5e-7 for the
sRGB encoding, 2e-6 for a gain of 50, 6e-5 for one of 400."""


def to_linear(srgb: NDArray[np.floating]) -> Picture:
    """Linear light of sRGB-encoded values (IEC 61966-2-1); any shape, clipped to [0, 1]."""
    return _looked_up(srgb, _linear_table())


def to_srgb(linear: NDArray[np.floating]) -> Picture:
    """SRGB encoding of linear light (IEC 61966-2-1); any shape, clipped to [0, 1]."""
    return _looked_up(linear, _srgb_table())


def to_light(srgb: NDArray[np.floating]) -> Picture:
    """The light that film was exposed to, -log(1 - x) of linear light x: any shape, 0 to 5.5, which counts as white."""
    return _looked_up(srgb, _light_table())


def bands(height: int, width: int) -> Iterator[slice]:
    """Row slices of about `BAND` pixels, each at least one row high."""
    rows = max(1, BAND // max(width, 1))
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def largest(picture: Picture) -> Picture:
    """The largest channel: (..., 3) to (...), in a thirtieth of the time of `max`."""
    return np.maximum(np.maximum(picture[..., 0], picture[..., 1]), picture[..., 2])


def smallest(picture: Picture) -> Picture:
    """The smallest channel: (..., 3) to (...)."""
    return np.minimum(np.minimum(picture[..., 0], picture[..., 1]), picture[..., 2])


def extremes(picture: Picture) -> tuple[Picture, Picture]:
    """The largest and the smallest channel of a band, (H, W, 3) to (H, W) each, in half the time of one by one."""
    red, green, blue = cv2.split(picture)
    most, least = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    return np.asarray(most, np.float32), np.asarray(least, np.float32)


def smoothstep(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """0 up to `low`, 1 from `high` on, smooth between; any shape."""
    x = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(x * x * (3 - 2 * x), np.float32)


def thumbnail(picture: Picture, size: int = THUMBNAIL) -> Picture:
    """Average over a grid of at most `size` x `size` cells: (H, W, 3) to (h, w, 3), same range.

    Every pixel counts once, so that a lamp of a single pixel is neither lost nor enlarged.
    """
    height, width = picture.shape[:2]
    rows = np.linspace(0, height, min(size, height) + 1).astype(int)
    columns = np.linspace(0, width, min(size, width) + 1).astype(int)
    # One row of cells at a time: all at once, NumPy would make a copy in double precision.
    lines = np.stack([picture[top:end].sum(0, dtype=np.float64) for top, end in itertools.pairwise(rows)])
    sums = np.add.reduceat(lines, columns[:-1], 1)
    cells = np.diff(rows)[:, None] * np.diff(columns)[None, :]
    return np.asarray(sums / cells[..., None], np.float32)


def auto_gain(picture: Picture) -> float:
    """The gain, 1 to `LARGEST_GAIN`, after which the picture's sRGB-encoded mean is `TARGET`.

    Args:
        picture: (H, W, 3) RGB, sRGB-encoded, [0, 1]; a picture that is already brighter gets 1.
    """
    small = to_linear(thumbnail(picture))
    if to_srgb(small).mean() >= TARGET:
        return 1.0
    return solved(lambda gain: to_srgb(_curve(small, gain)).mean(), TARGET, 1.0, LARGEST_GAIN, 20)


def solved(
    brightness: Callable[[float], np.floating], target: float, least: float, largest: float, steps: int
) -> float:
    """The gain at which an increasing `brightness` reaches `target`, by bisection of its logarithm.

    Args:
        brightness: brightness as a function of the gain.
        target: wanted brightness; if no gain reaches it, the result is close to `least` or `largest`.
        least: smallest gain, above 0.
        largest: largest gain, above `least`.
        steps: number of bisections.
    """
    low, high = np.log(least), np.log(largest)
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if brightness(float(np.exp(middle))) < target else (low, middle)
    return float(np.exp((low + high) / 2))


def apply_gain(picture: Picture, gain: float) -> Picture:
    """Expose (H, W, 3) sRGB-encoded RGB in [0, 1] by `gain`; a gain of 1 returns the picture itself."""
    if gain == 1.0:
        return picture
    if gain > 1 and picture.size > 2 * STEPS:  # below 1 the curve is too steep near white for a table
        return _looked_up(picture, _gain_table(gain))
    return _exposed(picture, gain)


def _exposed(picture: Picture, gain: float) -> Picture:
    return to_srgb(_curve(to_linear(picture), gain))


def _curve(linear: Picture, gain: float) -> Picture:
    return np.asarray(1 - (1 - linear) ** np.float32(gain), np.float32)


_Table = tuple[Picture, Picture]
"""A function's values at `STEPS` + 1 even steps of [0, 1], and the rise from each to the next."""


def _looked_up(values: NDArray[np.floating], table: _Table) -> Picture:
    """A function by linear interpolation in its table: a sixth of the time that powers take."""
    flat = np.ravel(values)
    result = np.empty(flat.size, np.float32)
    heights, rises = table
    for start in range(0, flat.size, BAND):
        part = slice(start, start + BAND)
        at = np.clip(flat[part], 0, 1) * np.float32(STEPS)
        below = at.astype(np.int32)
        at -= below.astype(np.float32)
        at *= rises.take(below, mode="clip")
        at += heights.take(below, mode="clip")
        result[part] = at
    return result.reshape(values.shape)


def _tabled(heights: NDArray[np.floating]) -> _Table:
    heights = heights.astype(np.float32)
    return heights, np.diff(heights, append=heights[-1:])


@functools.cache
def _linear_table() -> _Table:
    srgb = np.linspace(0, 1, STEPS + 1)
    return _tabled(np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4))


@functools.cache
def _srgb_table() -> _Table:
    linear = np.linspace(0, 1, STEPS + 1)
    return _tabled(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055))


@functools.cache
def _light_table() -> _Table:
    return _tabled(-np.log1p(-np.minimum(to_linear(np.linspace(0, 1, STEPS + 1)), WHITEST)))


@functools.lru_cache(maxsize=4)
def _gain_table(gain: float) -> _Table:
    return _tabled(_exposed(np.linspace(0, 1, STEPS + 1, dtype=np.float32), gain))
