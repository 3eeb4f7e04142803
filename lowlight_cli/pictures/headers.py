"""What a file tells of its picture before anything is decoded."""

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
"""Formats that tell their size at once, and what Pillow calls them."""


@dataclass(frozen=True)
class Header:
    """Width and height in pixels, as they are stored: one that is to be turned is not yet; and whether there is alpha.

    Of a TIFF, those of its first page.
    """

    width: int
    height: int
    alpha: bool


def header(path: Path) -> Header | None:
    """What the first bytes tell; None for HEIC and RAW, which hide it.

    Raises:
        InputError: these bytes are of no picture, or Pillow cannot make sense of them; `read` says what is wrong, if
            it is.
    """
    try:
        with path.open("rb") as file:
            kind = sniff(file.read(512)) or ""
        if path.suffix.lower() in RAW_SUFFIXES | HEIC_SUFFIXES or kind in ("raw", "heic"):
            return None
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=(_PILLOW[kind],)) as image:
            return Header(image.width, image.height, image.has_transparency_data)
    except Exception as error:  # whatever a damaged file may cause
        raise InputError(f"{path}: its first bytes tell nothing of a picture") from error
