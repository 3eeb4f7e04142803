"""Arrange labelled pictures side by side: an input and its result, or one picture through every model."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lowlight_cli.enhancer import Enhancer
from lowlight_cli.networks import NETWORKS
from lowlight_cli.pictures import Photo
from lowlight_cli.pictures.metadata import tidy_exif
from lowlight_cli.weights.catalog import Checkpoint, catalog

__all__ = ["Shown", "beside", "each_model", "labelled", "on_paper", "opacity", "reduced", "shipped"]

Picture = NDArray[np.float32]

PAPER: Final = np.float32(0.1)
"""Grey behind labels and between pictures: dark enough not to change how the pictures look."""
INK: Final = np.float32(0.9)


@dataclass(frozen=True)
class Shown:
    """One model's result: (H, W, 3) float32 RGB in [0, 1], and the seconds that it took."""

    name: str
    picture: Picture
    seconds: float


def labelled(pictures: Sequence[tuple[str, Picture]], columns: int) -> Picture:
    """Arrange (label, picture) pairs on a sheet, row by row.

    Args:
        pictures: all of one shape (H, W, 3), float32 RGB in [0, 1].
        columns: pictures per row.

    Returns:
        (H', W', 3) float32 RGB in [0, 1]; each picture unchanged, under its label.
    """
    height, width, _ = pictures[0][1].shape
    size = max(10, round(math.sqrt(height * width) / 28))
    gap, band = max(1, size // 3), math.ceil(size * 1.5)
    rows = math.ceil(len(pictures) / columns)
    sheet = np.full((rows * (height + band + gap) + gap, columns * (width + gap) + gap, 3), PAPER, np.float32)
    for number, (label, picture) in enumerate(pictures):
        row, column = divmod(number, columns)
        top, left = gap + row * (height + band + gap), gap + column * (width + gap)
        sheet[top : top + band, left : left + width] += (INK - PAPER) * _written(label, width, band, size)[..., None]
        sheet[top + band : top + band + height, left : left + width] = picture
    return sheet


def beside(before: Photo, after: Photo) -> Photo:
    """A photograph and its result as one picture, sRGB without a profile, without alpha or further pages.

    The paper shows through where they are transparent.
    """
    shown = (("before", before), ("after", after))
    pixels = labelled([(name, on_paper(each.pixels, opacity(each))) for name, each in shown], 2)
    try:
        exif = after.exif and tidy_exif(after.exif, *pixels.shape[:2], srgb=True)
    except ValueError:  # overlapping directories: writing into one has corrupted another
        exif = None
    return replace(after, pixels=pixels, alpha=None, icc=None, exif=exif, source=None, rest=())


def opacity(photo: Photo) -> Picture | None:
    """A photograph's alpha as (H, W, 1) in [0, 1]; None if it has none."""
    if photo.alpha is None:
        return None
    return photo.alpha[..., None].astype(np.float32) / np.float32(np.iinfo(photo.alpha.dtype).max)


def on_paper(picture: Picture, opacity: Picture | None) -> Picture:
    """Blend (H, W, 3) with the paper by its opacity; None leaves it as it is."""
    return picture if opacity is None else PAPER + opacity * (picture - PAPER)


def shipped() -> tuple[list[Checkpoint], list[str]]:
    """The first shipped checkpoint of each model, and the names of models without one."""
    there = [checkpoint for checkpoint in catalog() if checkpoint.file]
    first = {name: next((each for each in there if each.network == name), None) for name in NETWORKS}
    return [each for each in first.values() if each], [name for name, each in first.items() if not each]


def each_model(
    picture: Picture, checkpoints: Sequence[Checkpoint], *, device: str = "auto", precision: str = "auto"
) -> Iterator[Shown]:
    """Brighten one picture, (H, W, 3) float32 RGB in [0, 1], with each checkpoint in turn.

    Raises:
        WeightsError: the weights are damaged or missing.
        DeviceError: the device is not available.
        ResourceError: there is not enough memory.
    """
    for checkpoint in checkpoints:
        enhancer = Enhancer(checkpoint.network, checkpoint.tag, device=device, precision=precision, offline=True)
        enhancer.load()
        start = time.perf_counter()
        lit = enhancer.enhance_picture(picture)
        yield Shown(checkpoint.name, lit, time.perf_counter() - start)


def reduced(picture: Picture, side: int) -> Picture:
    """Shrink (H, W, 3) or (H, W, 1) so that the longer side is at most `side`."""
    height, width, channels = picture.shape
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)
    return small.reshape(*small.shape[:2], channels)  # OpenCV drops a single channel


def _written(label: str, width: int, height: int, size: int) -> Picture:
    """Coverage of a label's ink, (height, width) in [0, 1]; a label that is too long ends in an ellipsis."""
    font, text = _font(size), label
    while label and font.getlength(text) > width - size // 2:
        label = label[:-1]
        text = f"{label.rstrip()}..."
    strip = Image.new("L", (width, height))
    ImageDraw.Draw(strip).text((size // 4, height // 2), text, fill=255, font=font, anchor="lm")
    return np.asarray(strip, np.float32) / np.float32(255)


@functools.lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's built-in font, so that every machine draws the same text."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # `load_default` returns this type if a size is given
    return font
