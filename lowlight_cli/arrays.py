"""Convert what users pass to the API (arrays of any depth, PIL images) to the internal picture form and back.

The rest of the program sees (H, W, 3) float32 RGB, sRGB-encoded, in [0, 1]; the result has the type, size, depth and
channels of the input.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lowlight_cli import form
from lowlight_cli.errors import InputError
from lowlight_cli.exposure import LUMA
from lowlight_cli.unseen import filled

__all__ = ["AnyArray", "eight_bits", "opened"]

Picture = NDArray[np.float32]
AnyArray = NDArray[Any]

KEPT_MODES: Final = {"1": "L", "L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "RGBX": "RGB"}
"""PIL modes, and the mode that each is processed and returned in; 1 bit could not hold the result."""


def opened(image: AnyArray | Image.Image) -> tuple[Picture, Callable[[Picture], AnyArray | Image.Image]]:
    """Convert a user's array or image to the internal form.

    Args:
        image: uint8, uint16 or float in [0, 1]; (H, W) or (H, W, 1) grey, (H, W, 3) RGB, (H, W, 4) RGBA. Or a PIL
            image; palettes, CMYK and the like become RGB or RGBA, as they could not hold the result. Colours of fully
            transparent pixels are hidden from the network and returned unchanged.

    Returns:
        The picture, and a function that converts an enhanced picture back to the user's type: alpha is unchanged, grey
        stays grey. Given the picture itself, it returns a bit-exact copy of the input.

    Raises:
        TypeError: it is neither an array nor a PIL image.
        InputError: its shape, type or values are wrong, it has no pixels, or it is an image that is damaged or closed.
    """
    if isinstance(image, Image.Image):
        return _from_pil(image)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    raise TypeError(f"wanted a NumPy array or a PIL image, got {type(image).__module__}.{type(image).__qualname__}")


def eight_bits(image: object) -> bool:
    """Whether the values of a user's array or image, as in `opened`, have 8 bits."""
    if isinstance(image, Image.Image):
        return not image.mode.startswith("I;16")
    return isinstance(image, np.ndarray) and image.dtype == np.uint8


def _from_array(image: AnyArray, alpha: AnyArray | None = None) -> tuple[Picture, Callable[[Picture], AnyArray]]:
    """Like `opened`, for an array; `alpha`, (H, W), is the alpha of an array without a channel for it."""
    image = form.plain(image)
    shape, kind = image.shape, image.dtype
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        raise InputError(f"wanted an array (H, W), (H, W, 3) or (H, W, 4), got {shape}: one picture, channels last")
    if image.size == 0:
        raise InputError(f"an array of shape {shape} has no pixels")
    given = image.reshape(*shape[:2], -1)
    values = _scaled(given)
    channels = values.shape[2]
    colours = min(channels, 3)
    picture = values.repeat(3, axis=2) if colours == 1 else np.ascontiguousarray(values[..., :3])
    alpha = given[..., 3] if channels == 4 else alpha
    hidden = None if alpha is None or alpha.min() > 0 else alpha <= 0
    if hidden is not None:
        picture = filled(picture, ~hidden)

    def back(bright: Picture) -> AnyArray:
        if bright is picture:
            return np.array(image, order="C")  # not enhanced: keep even values that float32 in [0, 1] cannot hold
        numbers = _numbers((bright @ LUMA)[..., None] if colours == 1 else bright, kind)
        if hidden is not None:
            numbers[hidden] = given[..., :colours][hidden]
        if channels == 4:
            numbers = np.concatenate((numbers, given[..., 3:]), axis=2, dtype=kind)  # `dtype` keeps the byte order
        return numbers.reshape(shape)

    return picture, back


def _scaled(image: AnyArray) -> Picture:
    """Convert any supported numbers to float32 in [0, 1]."""
    if image.dtype.kind == "u" and image.dtype.itemsize <= 2:
        return image.astype(np.float32) / _white(image.dtype)
    if not np.issubdtype(image.dtype, np.floating):
        raise InputError(f"wanted uint8, uint16 or float numbers, got {image.dtype}")
    return form.scaled(image)


def _numbers(picture: Picture, kind: np.dtype[Any]) -> AnyArray:
    """Convert values in [0, 1] to numbers of type `kind`."""
    if np.issubdtype(kind, np.floating):
        return picture.astype(kind)
    numbers: AnyArray = np.rint(picture * _white(kind)).astype(kind)
    return numbers


def _white(kind: np.dtype[Any]) -> np.float32:
    """The largest number of an unsigned integer type."""
    return np.float32(256**kind.itemsize - 1)


def _from_pil(image: Image.Image) -> tuple[Picture, Callable[[Picture], Image.Image]]:
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error) as error:
        raise InputError(f"the PIL image cannot be read, it is damaged or closed ({error})") from error
    # A CMYK profile does not describe the RGB result.
    dropped = {"transparency"} | ({"icc_profile"} if image.mode == "CMYK" else set())
    if image.mode.startswith("I;16"):
        numbers = np.asarray(image).astype(np.uint16)
    elif image.mode in ("I", "F"):
        raise InputError(f"a PIL image of mode {image.mode} does not say what its white is: give an array")
    else:
        image = image.convert("LA") if image.mode == "La" else image  # Pillow converts `La` to no other mode
        clear = image.mode in ("PA", "RGBa") or "transparency" in image.info
        mode = ("RGBA" if clear else "RGB") if clear or image.mode not in KEPT_MODES else KEPT_MODES[image.mode]
        image = image.convert(mode)
        numbers = np.asarray(image)
    alpha = numbers[..., 1] if image.mode == "LA" else None
    picture, inner = _from_array(numbers if alpha is None else numbers[..., 0], alpha)

    def back(bright: Picture) -> Image.Image:
        values = inner(bright)
        if alpha is not None:
            values = np.stack((values, alpha), axis=2)
        result = Image.fromarray(values)
        result.info = {key: value for key, value in image.info.items() if key not in dropped}
        return result

    return picture, back
