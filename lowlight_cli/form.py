"""The one form of a picture between rooms: (H, W, 3) float32 RGB, sRGB-encoded, in [0, 1]; and what is none."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.errors import InputError

__all__ = ["checked", "plain", "scaled"]

LEEWAY: Final = 0.25
"""How far values may lie outside [0, 1]. Resampling overshoots by up to 0.2; beyond that it is another scale."""


def checked(picture: object) -> NDArray[np.float32]:
    """A picture that somebody else made, in the one form: itself where it is in that already.

    Args:
        picture: (H, W, 3), floats in [0, 1]; what lies a little outside is clipped.

    Raises:
        TypeError: it is no array.
        InputError: its shape or its numbers are others.
    """
    if not isinstance(picture, np.ndarray):
        raise TypeError(f"wanted a NumPy array, got {type(picture).__module__}.{type(picture).__qualname__}")
    array = plain(picture)
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise InputError(f"wanted a picture (H, W, 3), got {array.shape}: `enhance` takes grey and alpha too")
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"wanted float numbers in [0, 1], got {array.dtype}: `enhance` takes uint8 and uint16 too")
    return scaled(array)


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """An array without what a subclass makes of it: a matrix stays two-dimensional, whatever is done to it.

    Raises:
        InputError: parts of it are masked, and there is no saying what is under the mask.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise InputError("a masked array does not say what is under its mask: give `array.filled(...)`")
    return np.asarray(array)


def scaled(array: NDArray[Any]) -> NDArray[np.float32]:
    """Floats of any size as float32 in [0, 1]; what is that already comes back itself.

    Raises:
        InputError: they are on another scale, or not finite.
    """
    low, high = float(array.min()), float(array.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise InputError("the array holds values that are not finite")
    if low < -LEEWAY or high > 1 + LEEWAY:
        way = "scale it to 0 to 1" if low < -LEEWAY else "divide it by its white"
        raise InputError(f"float arrays are in [0, 1], this one reaches from {low:g} to {high:g}: {way}")
    values = array.astype(np.float32, copy=False)
    return values if low >= 0 and high <= 1 else values.clip(0, 1)
