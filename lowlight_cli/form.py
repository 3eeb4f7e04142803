"""Check and convert arrays to the internal picture form: (H, W, 3) float32 RGB, sRGB-encoded, in [0, 1]."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.errors import InputError

__all__ = ["checked", "plain", "scaled"]

LEEWAY: Final = 0.25
"""How far values may lie outside [0, 1]. Resampling overshoots by up to 0.2; larger values are on another scale."""


def checked(picture: object) -> NDArray[np.float32]:
    """Convert a caller's picture to the internal form; returned itself if it already has that form.

    Args:
        picture: (H, W, 3), floats in [0, 1]; values slightly outside are clipped.

    Raises:
        TypeError: it is not an array.
        InputError: its shape, type or values are wrong.
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
    """Convert an ndarray subclass to a plain array: a `numpy.matrix`, for example, always stays two-dimensional.

    Raises:
        InputError: it is a masked array, whose values under the mask are undefined.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise InputError("a masked array does not say what is under its mask: give `array.filled(...)`")
    return np.asarray(array)


def scaled(array: NDArray[Any]) -> NDArray[np.float32]:
    """Convert floats of any size to float32 in [0, 1]; an array that is already so is returned itself.

    Raises:
        InputError: the values are on another scale, or not finite.
    """
    low, high = float(array.min()), float(array.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise InputError("the array holds values that are not finite")
    if low < -LEEWAY or high > 1 + LEEWAY:
        way = "scale it to 0 to 1" if low < -LEEWAY else "divide it by its white"
        raise InputError(f"float arrays are in [0, 1], this one reaches from {low:g} to {high:g}: {way}")
    values = array.astype(np.float32, copy=False)
    return values if low >= 0 and high <= 1 else values.clip(0, 1)
