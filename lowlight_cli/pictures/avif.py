"""AVIF of 10 and 12 bits per sample, read and written with OpenCV because Pillow handles only 8.

AV1 in ISOBMFF 1.2, 2.3.3 (the box `av1C`). OpenCV's wheels support AVIF since 4.11 and its metadata since 4.12;
without that support, callers fall back to Pillow.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL.AvifImagePlugin import AvifImageFile

from lowlight_cli.pictures import opencv
from lowlight_cli.pictures.found import widened
from lowlight_cli.pictures.photo import Codes, Photo

__all__ = ["bits", "decode_deep", "encode_deep", "exif_of"]

_WRITTEN: Final = 10
"""Bits per sample of the files we write: browsers and phones show 10, few show 12."""


def bits(data: bytes) -> int:
    """The bits per sample of a file: 8, 10 or 12."""
    at = data.find(b"av1C", 0, 2**16)
    flags = data[at + 6] if 0 <= at < len(data) - 6 else 0  # high_bitdepth, twelve_bit
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


def exif_of(image: AvifImageFile) -> tuple[bytes | None, int | None]:
    """EXIF as stored in the file, and the orientation stored beside it; None if only EXIF gives the orientation.

    If the two disagree, Pillow returns EXIF rebuilt with the orientation beside it, which spoils texts and tag types.
    """
    exif, turn = image.info.get("exif"), None
    decoder = getattr(image, "_decoder", None)
    if decoder is not None:
        *_, exif, turn, _ = decoder.get_info()
    return (exif or b"").removeprefix(b"Exif\0\0") or None, turn


def decode_deep(data: bytes, bits: int) -> tuple[Codes, Codes | None] | None:
    """Colours (H, W) or (H, W, 3) uint16, and alpha (H, W) uint16 or None; None if OpenCV cannot read the file."""
    decoded = opencv.decode(data)
    if decoded is None:
        return None
    samples = widened(decoded, bits)
    if samples.ndim == 2:
        return samples, None
    alpha = np.ascontiguousarray(samples[..., 3]) if samples.shape[-1] == 4 else None
    return np.ascontiguousarray(samples[..., 2::-1]), alpha


def encode_deep(samples: Codes, kept: Photo, quality: int) -> bytes | None:
    """Encode a file of 10 bits per sample; None if OpenCV cannot write it.

    Args:
        samples: (H, W, C) uint16: grey or RGB, with or without alpha.
        kept: the photo with the metadata to write.
        quality: 1 to 100.
    """
    import cv2

    if not hasattr(cv2, "imencodeWithMetadata"):
        return None
    most = 2**_WRITTEN - 1
    codes = ((samples.astype(np.uint32) * most + 32_767) // 65_535).astype(np.uint16)
    if codes.shape[-1] == 2:  # OpenCV does not support grey with alpha
        codes = codes[..., [0, 0, 0, 1]]
    elif codes.shape[-1] >= 3:
        codes = codes[..., [2, 1, 0, 3][: codes.shape[-1]]]
    parts = {
        cv2.IMAGE_METADATA_EXIF: kept.exif,
        cv2.IMAGE_METADATA_XMP: kept.xmp,
        cv2.IMAGE_METADATA_ICCP: kept.icc,
    }
    there = {kind: np.frombuffer(part, np.uint8) for kind, part in parts.items() if part}
    options = [cv2.IMWRITE_AVIF_DEPTH, _WRITTEN, cv2.IMWRITE_AVIF_QUALITY, quality]
    try:
        done, data = cv2.imencodeWithMetadata(
            ".avif", np.ascontiguousarray(codes), list(there), list(there.values()), options
        )
    except cv2.error:
        return None
    return data.tobytes() if done else None
