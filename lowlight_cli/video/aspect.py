"""Write the pixel aspect ratio into Matroska and WebM files, which PyAV cannot do.

PyAV can mark a stream as a stereo pair, and FFmpeg then writes the display size of one view. So the video is muxed as a
stereo pair; afterwards the mark is removed from the file and the display size overwritten with numbers of equal length.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Final

__all__ = ["PAIR", "say_aspect", "shown_as"]

PAIR: Final = {"stereo_mode": "left_right"}
"""Stream metadata that makes FFmpeg write a display size, which can then be overwritten."""

_HEAD: Final = 2**20
"""Bytes at the beginning of the file in which the tracks are described."""

_PLACE: Final = re.compile(rb"\x53\xb8\x81\x01\x54\xb0([\x81-\x84])(.+?)\x54\xba([\x81-\x84])", re.DOTALL)
"""Matches StereoMode 1, DisplayWidth and DisplayHeight, each with its length (RFC 9559, 5.1.4.1.28)."""


def say_aspect(path: Path, width: int, height: int, aspect: Fraction) -> None:
    """Remove the stereo mark from a file that was written with `PAIR`, and set the aspect ratio of its pixels.

    Args:
        path: the file.
        width: of its frames.
        height: of its frames.
        aspect: width over height of a pixel.
    """
    with path.open("r+b") as file:
        found = _PLACE.search(file.read(_HEAD))
        if not found or found[1][0] - 0x80 != len(found[2]):
            return
        sizes = len(found[2]), found[3][0] - 0x80
        across, down = shown_as(width, height, aspect, sizes)
        file.seek(found.start())  # a Void element replaces StereoMode
        file.write(b"\xec\x82\x00\x00\x54\xb0" + found[1] + across.to_bytes(sizes[0], "big"))
        file.write(b"\x54\xba" + found[3] + down.to_bytes(sizes[1], "big"))


def shown_as(width: int, height: int, aspect: Fraction, sizes: tuple[int, int]) -> tuple[int, int]:
    """Display width and height that fit in the given numbers of bytes; only their ratio matters.

    >>> shown_as(720, 576, Fraction(16, 15), (2, 2))
    (768, 576)
    >>> shown_as(64, 36, Fraction(400, 3), (1, 1))
    (237, 1)
    >>> shown_as(640, 360, Fraction(4, 3), (1, 1))
    (192, 81)
    """
    most = tuple(256**size - 1 for size in sizes)
    shape = aspect * width / height
    if (across := width * aspect).denominator == 1 and across <= most[0] and height <= most[1]:
        return int(across), height
    shape = shape.limit_denominator(max(1, min(most[1], int(most[0] / shape))))
    times = max(1, min(most[0] // shape.numerator, most[1] // shape.denominator))
    return shape.numerator * times, shape.denominator * times
