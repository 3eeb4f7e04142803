"""Read a picture's size from its header, without decoding it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from lowlight_cli.errors import InputError
from lowlight_cli.pictures.formats import HEIC_SUFFIXES, RAW_SUFFIXES, sniff

__all__ = ["Header", "header"]

_PILLOW: Final = {"jpeg": "JPEG", "png": "PNG", "tiff": "TIFF", "webp": "WEBP", "bmp": "BMP", "avif": "AVIF"}
"""Formats whose header gives the size, and Pillow's names for them."""


@dataclass(frozen=True)
class Header:
    """Width and height in pixels as stored, before any rotation by EXIF.

    For a TIFF, those of its first page, already upright: Pillow swaps the sides by its orientation tag.
    """

    width: int
    height: int


def header(path: Path) -> Header | None:
    """The header of a file; None for HEIC and RAW, which Pillow does not read.

    Raises:
        InputError: the first bytes are not those of a picture, or Pillow cannot interpret them; `read` tells whether
            the file is damaged, and how.
    """
    try:
        with path.open("rb") as file:
            kind = sniff(file.read(512)) or ""
        if path.suffix.lower() in RAW_SUFFIXES | HEIC_SUFFIXES or kind in ("raw", "heic"):
            return None
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=(_PILLOW[kind],)) as image:
            return Header(image.width, image.height)
    except Exception as error:  # a damaged file can cause anything
        raise InputError(f"{path}: its first bytes tell nothing of a picture") from error
