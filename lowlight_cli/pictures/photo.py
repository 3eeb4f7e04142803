"""Photo: a picture in memory with everything that its file said about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lowlight_cli import form
from lowlight_cli.errors import InputError

__all__ = ["Codes", "Jpeg", "Photo", "Pixels", "bands"]

Pixels = NDArray[np.float32]
Codes = NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Jpeg:
    """How a JPEG was made, so that it can be made so again.

    Attributes:
        tables: quantisation tables of luma and (where there is colour) chroma, 64 numbers each, in natural order.
        subsampling: 0 is 4:4:4, 1 is 4:2:2, 2 is 4:2:0, as Pillow counts.
        progressive: whether it comes in scans.
        comment: the comment segment.
        segments: whole segments to carry along as they are (IPTC lives in APP13).
    """

    tables: tuple[tuple[int, ...], ...]
    subsampling: int = 0
    progressive: bool = False
    comment: bytes = b""
    segments: bytes = b""


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture, upright, and what must not get lost on its way to the next file.

    Attributes:
        pixels: (H, W, 3) float32 RGB, sRGB-encoded, [0, 1]; what lies outside sRGB is clipped here, kept in `source`.
        depth: bits a sample of the file, 8 or 16.
        format: a name in `formats.KINDS`; of a kind that is only read, what is written in its place.
        name: the file, for messages.
        alpha: (H, W) uint8 or uint16, as in the file; None where it has none.
        grey: whether the file had one channel of colour; `pixels` then holds it three times.
        icc: the profile in which the file is read and written; None is sRGB.
        exif: a TIFF-structured block without the `Exif` prefix; orientation is reset and the thumbnail gone.
        xmp: the packet.
        text: keywords and texts of a PNG.
        dpi: dots an inch, across and down.
        jpeg: how the JPEG was made; None for other formats.
        compression: `lossless` or `lossy` (WebP), `none` or `deflate` (TIFF), else empty.
        source: (H, W) or (H, W, 3) uint8 or uint16, the file's own colours; only where `pixels` cannot give them back:
            a profile was applied, or there is colour under full transparency.
        notes: one line each on what was found and could not be kept.
        rest: the further pages of a TIFF, in order; all else here is of the first.
    """

    pixels: Pixels
    depth: int = 8
    format: str = "png"
    name: str = "picture"
    alpha: Codes | None = None
    grey: bool = False
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    text: tuple[tuple[str, str], ...] = ()
    dpi: tuple[float, float] | None = None
    jpeg: Jpeg | None = None
    compression: str = ""
    source: Codes | None = None
    notes: tuple[str, ...] = ()
    rest: tuple[Photo, ...] = ()

    @property
    def height(self) -> int:
        """Pixels down."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Pixels across."""
        return int(self.pixels.shape[1])

    def with_pixels(self, pixels: NDArray[np.floating]) -> Photo:
        """The same photograph with other pixels of the same shape, float RGB, sRGB-encoded, [0, 1].

        What lies a little outside of [0, 1] is clipped.

        Raises:
            TypeError: it is no array.
            InputError: where the shape differs, as everything else here belongs to the old one; or the numbers are not
                floats, not finite, or on another scale.
        """
        checked = form.checked(pixels)
        if checked.shape != self.pixels.shape:
            raise InputError(f"pixels of shape {checked.shape} where {self.pixels.shape} was wanted")
        return replace(self, pixels=checked)


def bands(height: int, width: int) -> Iterator[slice]:
    """Slices of rows, some hundred thousand pixels each: work in float stays in the processor's cache."""
    rows = max(1, 2**17 // max(width, 1))
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))
