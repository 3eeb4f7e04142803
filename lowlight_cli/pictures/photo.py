"""Photo: a picture in memory with everything that its file said about it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lowlight_cli import form
from lowlight_cli.errors import InputError

__all__ = ["Codes", "Jpeg", "Photo", "Pixels"]

Pixels = NDArray[np.float32]
Codes = NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Jpeg:
    """How a JPEG was encoded, so that it can be encoded in the same way again.

    Attributes:
        tables: quantisation tables of luma and (for colour) chroma, 64 numbers each, in natural order.
        subsampling: 0 is 4:4:4, 1 is 4:2:2, 2 is 4:2:0, as Pillow counts.
        progressive: whether it is progressive.
        comment: the comment segment.
        segments: complete segments to copy unchanged (APP13, which holds IPTC).
    """

    tables: tuple[tuple[int, ...], ...]
    subsampling: int = 0
    progressive: bool = False
    comment: bytes = b""
    segments: bytes = b""


@dataclass(frozen=True, eq=False)
class Photo:
    """An upright picture, and everything that must survive until it is written again.

    Attributes:
        pixels: (H, W, 3) float32 RGB, sRGB-encoded, [0, 1]; colours outside sRGB are clipped here and kept in `source`.
        depth: bits per sample of the file, 8 or 16.
        format: a name in `formats.KINDS`; for a read-only kind, the format written in its place.
        name: the file, for messages.
        alpha: (H, W) uint8 or uint16, as in the file; None if it has none.
        grey: whether the file had a single colour channel; `pixels` then holds it three times.
        icc: the profile in which the file is read and written; None is sRGB.
        exif: a TIFF-structured block without the `Exif` prefix, with orientation reset and thumbnail removed.
        xmp: the packet.
        text: keywords and texts of a PNG.
        dpi: dots per inch, across and down.
        jpeg: how the JPEG was encoded; None for other formats.
        compression: `lossless` or `lossy` (WebP), `none` or `deflate` (TIFF), else empty.
        source: (H, W) or (H, W, 3) uint8 or uint16, the file's own colours; only if `pixels` cannot reproduce them:
            a profile was applied, or there is colour under full transparency.
        notes: one line on each item that was found and could not be kept.
        rest: the second and later pages of a TIFF, in order; all other attributes describe the first.
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
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    def with_pixels(self, pixels: NDArray[np.floating]) -> Photo:
        """The same photograph with other pixels of the same shape, float RGB, sRGB-encoded, [0, 1].

        Values slightly outside [0, 1] are clipped.

        Raises:
            TypeError: `pixels` is not an array.
            InputError: the shape differs, so that alpha and the other attributes would not fit; or the values are not
                floats, not finite, or on another scale.
        """
        checked = form.checked(pixels)
        if checked.shape != self.pixels.shape:
            raise InputError(f"pixels of shape {checked.shape} where {self.pixels.shape} was wanted")
        return replace(self, pixels=checked)
