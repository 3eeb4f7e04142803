"""Found: what a decoder extracts from a file; and the check of a picture's size before it is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lowlight_cli.errors import InputError
from lowlight_cli.pictures.photo import Codes, Jpeg

__all__ = ["MOTION", "Found", "check", "widened"]

MOTION: Final = "it is a motion photo; only the picture is kept, not its clip"


@dataclass
class Found:
    """What a decoder extracted from a file, before rotation and colour conversion.

    Attributes:
        colours: (H, W) or (H, W, 3) uint8 or uint16.
        alpha: (H, W) of the same type, or None.
        icc: the profile; None if there is none, empty if it has been applied already (CMYK, Lab).
        exif: a TIFF-structured block.
        xmp: the packet.
        turn: orientation 1 to 8; None if `exif` gives it.
        text: keywords and texts.
        dpi: dots per inch.
        jpeg: how a JPEG was encoded.
        compression: as in `Photo`.
        cicp: primaries and transfer by code (ITU-T H.273).
        notes: as in `Photo`.
        rest: the second and later pages of a TIFF.
    """

    colours: Codes
    alpha: Codes | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    turn: int | None = None
    text: tuple[tuple[str, str], ...] = ()
    dpi: tuple[float, float] | None = None
    jpeg: Jpeg | None = None
    compression: str = ""
    cicp: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    rest: tuple[Found, ...] = ()


def widened(codes: Codes, bits: int) -> Codes:
    """Scale codes of `bits` bits to 16 bits (uint16), the largest to 65535, so that white stays white."""
    white = 2**bits - 1
    result: Codes = (np.minimum(codes, white).astype(np.uint32) * 65_535 + white // 2) // white
    return result.astype(np.uint16)


def check(width: int, height: int, max_pixels: int) -> None:
    """Raise InputError if a header announces no pixels, or more than `max_pixels`."""
    if width < 1 or height < 1:
        raise InputError(f"has no pixels ({width} x {height})")
    if width * height > max_pixels:
        millions, most = width * height / 1e6, max_pixels / 1e6
        raise InputError(
            f"its header says {width} x {height} ({millions:,.0f} megapixels, at most {most:,.0f} are read); "
            "raise --max-pixels if it is genuine"
        )
