"""Read a picture's size from its header, without decoding it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Final

from PIL import Image

from lowlight_cli.pictures.formats import HEIC_SUFFIXES, RAW_SUFFIXES, sniff

__all__ = ["pixel_count"]

_PILLOW: Final = {"jpeg": "JPEG", "png": "PNG", "tiff": "TIFF", "webp": "WEBP", "bmp": "BMP", "avif": "AVIF"}
"""Formats whose header gives the size, and Pillow's names for them."""


def pixel_count(path: Path) -> int | None:
    """Width times height, of a TIFF those of its first page; None for HEIC and RAW, which Pillow does not read.

    0 if the file is damaged or no picture: `read` tells how.
    """
    try:
        with path.open("rb") as file:
            kind = sniff(file.read(512)) or ""
        if path.suffix.lower() in RAW_SUFFIXES | HEIC_SUFFIXES or kind in ("raw", "heic"):
            return None
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=(_PILLOW[kind],)) as image:
            return image.width * image.height
    except Exception:  # a damaged file can cause anything
        return 0
