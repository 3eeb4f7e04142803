"""Expose a picture by one gain in linear light: most networks here get their input exposed this way.

How bright a picture should be depends on the whole of it, which a network that sees only a crop or a tile cannot know.
So the gain is computed once, from a thumbnail, and the network starts from an exposed picture. The curve is
y = 1 - (1 - x)^g in linear light: what a medium that responds to light L with 1 - exp(-L), as film does, would show
after g times the exposure. Its slope in the dark is g, 1 stays 1, nothing is clipped, order is kept.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BAND", "BT_709", "LARGEST_GAIN", "LUMA", "TARGET", "apply_gain", "auto_gain", "smoothstep", "solved", "thumbnail",
    "to_linear", "to_srgb",
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

THUMBNAIL: Final = 64

BAND: Final = 2**20
"""Pixels processed at a time, so that temporaries never grow to multiples of the picture."""

STEPS: Final = 2**16 - 1
"""Steps of the curve's lookup table: every 8- and 16-bit value lies on one. Between them, the error is at most 5e-6 for
a gain of 7 and 3e-4 for one of 400."""

CACHED: Final = 2**17
"""Values processed at a time with the lookup table, so that they stay in the CPU cache."""


def to_linear(srgb: NDArray[np.floating]) -> Picture:
    """Linear light of sRGB-encoded values (IEC 61966-2-1); any shape, [0, 1]."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )


def to_srgb(linear: NDArray[np.floating]) -> Picture:
    """SRGB encoding of linear light (IEC 61966-2-1); any shape, [0, 1]."""
    return np.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    ).astype(np.float32)


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
    exposed = np.empty(picture.shape, np.float32)
    by_table = gain > 1 and picture.size > 2 * STEPS  # below 1 the curve is too steep near white
    step = CACHED // 3 if by_table else BAND
    rows = max(1, step // max(picture.shape[1], 1))
    for top in range(0, picture.shape[0], rows):
        band = picture[top : top + rows]
        exposed[top : top + rows] = _looked_up(band, gain) if by_table else _exposed(band, gain)
    return exposed


def _exposed(picture: Picture, gain: float) -> Picture:
    return to_srgb(_curve(to_linear(picture), gain))


def _looked_up(picture: Picture, gain: float) -> Picture:
    """Like `_exposed`, in a third of the time: by linear interpolation in a lookup table."""
    values, rises = _table(gain)
    at = np.clip(picture, 0, 1) * np.float32(STEPS)
    below = at.astype(np.int32)
    at -= below.astype(np.float32)
    at *= rises.take(below, mode="clip")
    at += values.take(below, mode="clip")
    return at


@functools.lru_cache(maxsize=4)
def _table(gain: float) -> tuple[Picture, Picture]:
    """The curve at each step, and its rise to the next step."""
    values = _exposed(np.linspace(0, 1, STEPS + 1, dtype=np.float32), gain)
    return values, np.diff(values, append=values[-1:])


def _curve(linear: Picture, gain: float) -> Picture:
    return np.asarray(1 - (1 - np.minimum(linear, 1)) ** np.float32(gain), np.float32)
