"""RAW files from cameras: developed by LibRaw through rawpy (extra `raw`), in linear light at 16 bits.

The development is neutral: the camera's white balance, no automatic brightness, no tone curve. The network sees the
recorded light, encoded as sRGB, and decides how bright it becomes.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from lowlight_cli.exposure import bands, to_srgb
from lowlight_cli.pictures import metadata
from lowlight_cli.pictures.found import Found, check

__all__ = ["decode"]


def decode(data: bytes, max_pixels: int) -> Found:
    """Develop a RAW file to upright 16-bit sRGB. Raises LibRaw's own errors on damage."""
    import rawpy

    with rawpy.imread(io.BytesIO(data)) as raw:
        check(raw.sizes.width, raw.sizes.height, max_pixels)
        linear = raw.postprocess(
            gamma=(1, 1), no_auto_bright=True, output_bps=16, use_camera_wb=True, output_color=rawpy.ColorSpace.sRGB
        )
        exif = _exif(data) or _exif_of_preview(raw)
    # a lookup table over all codes
    encoded = np.rint(to_srgb(np.arange(65_536, dtype=np.float32) / 65_535) * 65_535).astype(np.uint16)
    colours = np.empty((*linear.shape[:2], 3), np.uint16)
    for rows in bands(*linear.shape[:2]):
        colours[rows] = encoded[linear[rows]]
    return Found(colours, exif=exif, turn=1, compression="deflate")


def _exif(data: bytes) -> bytes | None:
    """EXIF of a RAW file that has the structure of a TIFF, as most have; None for others."""
    try:
        return metadata.from_tiff(data)
    except ValueError:
        return None


def _exif_of_preview(raw: object) -> bytes | None:
    """EXIF of the other RAW files, from their JPEG preview; None if there is no such preview or it has no EXIF."""
    import rawpy

    assert isinstance(raw, rawpy.RawPy)
    try:
        thumbnail = raw.extract_thumb()
    except rawpy.LibRawError:
        return None
    if thumbnail.format != rawpy.ThumbFormat.JPEG or not isinstance(thumbnail.data, bytes):
        return None
    try:
        with Image.open(io.BytesIO(thumbnail.data), formats=["JPEG"]) as preview:
            exif = preview.info.get("exif")
    except (OSError, ValueError, SyntaxError):
        return None
    return exif.removeprefix(b"Exif\0\0") if isinstance(exif, bytes) else None
