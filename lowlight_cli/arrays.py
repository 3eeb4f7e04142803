"""What users hand to the API, as the one picture form and back: arrays of any depth, PIL images.

(H, W, 3) float32 RGB, sRGB-encoded, in [0, 1] is what the rest of the program sees; what comes back has the type, the
size, the depth and the channels of what went in.
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

__all__ = ["AnyArray", "opened"]

Picture = NDArray[np.float32]
AnyArray = NDArray[Any]

KEPT_MODES: Final = {"1": "L", "L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "RGBX": "RGB"}
"""PIL mode to the one that is worked in and given back; 1 bit cannot hold what comes out."""


def opened(image: AnyArray | Image.Image) -> tuple[Picture, Callable[[Picture], AnyArray | Image.Image]]:
    """Take a picture out of what the user has.

    Args:
        image: uint8, uint16 or float in [0, 1]; (H, W) or (H, W, 1) grey, (H, W, 3) RGB, (H, W, 4) RGBA. Or a PIL
            image; palettes, CMYK and the like become RGB or RGBA, as they could not hold the result. Colour under
            full transparency is not seen, and comes back as it was.

    Returns:
        The picture, and a function that makes of an enhanced one what the user gave: alpha as it was, grey stays grey.
        Of the picture itself it makes a copy of what was given, to the bit.

    Raises:
        TypeError: it is neither.
        InputError: it has another shape, numbers of another kind, no pixels, values that are no light, or is an image
            that is damaged or closed.
    """
    if isinstance(image, Image.Image):
        return _from_pil(image)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    raise TypeError(f"wanted a NumPy array or a PIL image, got {type(image).__module__}.{type(image).__qualname__}")


def _from_array(image: AnyArray, alpha: AnyArray | None = None) -> tuple[Picture, Callable[[Picture], AnyArray]]:
    """As `opened`; `alpha`, (H, W), is that of an array which has none itself."""
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
            return np.array(image, order="C")  # it was left alone: what float32 in [0, 1] cannot hold stays too
        numbers = _numbers((bright @ LUMA)[..., None] if colours == 1 else bright, kind)
        if hidden is not None:
            numbers[hidden] = given[..., :colours][hidden]
        if channels == 4:
            numbers = np.concatenate((numbers, given[..., 3:]), axis=2, dtype=kind)  # else in the machine's byte order
        return numbers.reshape(shape)

    return picture, back


def _scaled(image: AnyArray) -> Picture:
    """Any numbers as float32 in [0, 1]."""
    if image.dtype.kind == "u" and image.dtype.itemsize <= 2:
        return image.astype(np.float32) / _white(image.dtype)
    if not np.issubdtype(image.dtype, np.floating):
        raise InputError(f"wanted uint8, uint16 or float numbers, got {image.dtype}")
    return form.scaled(image)


def _numbers(picture: Picture, kind: np.dtype[Any]) -> AnyArray:
    """[0, 1] as numbers of a kind."""
    if np.issubdtype(kind, np.floating):
        return picture.astype(kind)
    numbers: AnyArray = np.rint(picture * _white(kind)).astype(kind)
    return numbers


def _white(kind: np.dtype[Any]) -> np.float32:
    """The largest number of an unsigned kind."""
    return np.float32(256**kind.itemsize - 1)


def _from_pil(image: Image.Image) -> tuple[Picture, Callable[[Picture], Image.Image]]:
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error) as error:
        raise InputError(f"the PIL image cannot be read, it is damaged or closed ({error})") from error
    dropped = {"transparency"} | ({"icc_profile"} if image.mode == "CMYK" else set())  # it says nothing of RGB
    if image.mode.startswith("I;16"):
        numbers = np.asarray(image).astype(np.uint16)
    elif image.mode in ("I", "F"):
        raise InputError(f"a PIL image of mode {image.mode} does not say what its white is: give an array")
    else:
        image = image.convert("LA") if image.mode == "La" else image  # the only one that Pillow makes of it
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
