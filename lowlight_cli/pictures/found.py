"""Found: what a decoder took out of a file, and the look at its size before anything is decoded."""

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
    """What a decoder took out of a file, before anything is turned or converted.

    Attributes:
        colours: (H, W) or (H, W, 3) uint8 or uint16.
        alpha: (H, W) of the same type, or None.
        icc: the profile; None where there is none, empty where it is used up (CMYK).
        exif: a TIFF-structured block.
        xmp: the packet.
        turn: orientation 1 to 8 where it is not in `exif`.
        text: keywords and texts.
        dpi: dots an inch.
        jpeg: how a JPEG was made.
        compression: as in `Photo`.
        cicp: primaries and transfer by code (ITU-T H.273).
        notes: as in `Photo`.
        rest: the further pages of a TIFF.
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
    """Codes of 10 or 12 bits as uint16 of 16 bits, the largest as 65535: white is to stay white."""
    white = 2**bits - 1
    result: Codes = (np.minimum(codes, white).astype(np.uint32) * 65_535 + white // 2) // white
    return result.astype(np.uint16)


def check(width: int, height: int, max_pixels: int) -> None:
    """Raise InputError where a header promises no pixels, or more than are wanted."""
    if width < 1 or height < 1:
        raise InputError(f"has no pixels ({width} x {height})")
    if width * height > max_pixels:
        millions, most = width * height / 1e6, max_pixels / 1e6
        raise InputError(
            f"its header says {width} x {height} ({millions:,.0f} megapixels, at most {most:,.0f} are read); "
            "raise --max-pixels if it is genuine"
        )
