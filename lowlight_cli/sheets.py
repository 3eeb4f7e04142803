"""Pictures side by side under labels: an input and its result, or one picture through every model."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

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
"""Grey behind labels and between pictures: dark enough to leave the pictures their look."""
INK: Final = np.float32(0.9)


@dataclass(frozen=True)
class Shown:
    """One model's result: (H, W, 3) float32 RGB in [0, 1], and the seconds that the picture took."""

    name: str
    picture: Picture
    seconds: float


def labelled(pictures: Sequence[tuple[str, Picture]], columns: int) -> Picture:
    """A sheet of (label, picture), row by row.

    Args:
        pictures: all of one shape (H, W, 3), float32 RGB in [0, 1].
        columns: how many stand side by side.

    Returns:
        (H', W', 3) float32 RGB in [0, 1]; each picture as it is, under its label.
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
    """A photograph and its result as one picture, sRGB without a profile; no transparency, no further pages.

    Where they are transparent, the paper shows.
    """
    shown = (("before", before), ("after", after))
    pixels = labelled([(name, on_paper(each.pixels, opacity(each))) for name, each in shown], 2)
    try:
        exif = after.exif and tidy_exif(after.exif, *pixels.shape[:2], srgb=True)
    except ValueError:  # its directories overlap, and what was written into one has broken another
        exif = None
    return replace(after, pixels=pixels, alpha=None, icc=None, exif=exif, source=None, rest=())


def opacity(photo: Photo) -> Picture | None:
    """How much of a photograph covers what lies under it, (H, W, 1) in [0, 1]; None where all of it does."""
    if photo.alpha is None:
        return None
    return photo.alpha[..., None].astype(np.float32) / np.float32(np.iinfo(photo.alpha.dtype).max)


def on_paper(picture: Picture, opacity: Picture | None) -> Picture:
    """(H, W, 3) as it is seen on a sheet; what it has where nobody sees it is made up."""
    return picture if opacity is None else PAPER + opacity * (picture - PAPER)


def shipped() -> tuple[list[Checkpoint], list[str]]:
    """The first checkpoint of each model that comes with the program, and the models of which none does."""
    there = [checkpoint for checkpoint in catalog() if checkpoint.file]
    first = {name: next((each for each in there if each.network == name), None) for name in NETWORKS}
    return [each for each in first.values() if each], [name for name, each in first.items() if not each]


def each_model(
    picture: Picture, checkpoints: Sequence[Checkpoint], *, device: str = "auto", precision: str = "auto"
) -> Iterator[Shown]:
    """Brighten one picture, (H, W, 3) float32 RGB in [0, 1], by one checkpoint after the other.

    Raises:
        WeightsError: weights that are damaged or missing.
        DeviceError: a device that is not available.
        ResourceError: the memory does not suffice.
    """
    for checkpoint in checkpoints:
        enhancer = Enhancer(checkpoint.network, checkpoint.tag, device=device, precision=precision, offline=True)
        enhancer.load()
        start = time.perf_counter()
        lit = enhancer.enhance_picture(picture)
        yield Shown(checkpoint.name, lit, time.perf_counter() - start)


def reduced(picture: Picture, side: int) -> Picture:
    """(H, W, 3) or (H, W, 1) with the longer side at most `side`."""
    height, width, channels = picture.shape
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    import cv2  # a tenth of a second that --compare need not spend

    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)
    return small.reshape(*small.shape[:2], channels)  # OpenCV drops a single one


def _written(label: str, width: int, height: int, size: int) -> Picture:
    """How much ink is where, (height, width) in [0, 1]; a label that is too long ends in an ellipsis."""
    font, text = _font(size), label
    while label and font.getlength(text) > width - size // 2:
        label = label[:-1]
        text = f"{label.rstrip()}..."
    strip = Image.new("L", (width, height))
    ImageDraw.Draw(strip).text((size // 4, height // 2), text, fill=255, font=font, anchor="lm")
    return np.asarray(strip, np.float32) / np.float32(255)


@functools.lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own, so that every machine writes the same."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # what `load_default` gives where a size is asked for
    return font
