"""HEIC, the photographs of phones: decoded by pi-heif (extra `heic`), which cannot write them.

ISO/IEC 23008-12: rotation and mirroring are properties of the picture, which the decoder applies; the orientation in
EXIF only repeats them.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from lowlight_cli.errors import InputError
from lowlight_cli.pictures import xmp
from lowlight_cli.pictures.found import MOTION, Found, check, widened

__all__ = ["decode"]

_MODES = {"L", "LA", "RGB", "RGBA", "RGBa", "L;16", "I;16", "RGB;16", "RGBA;16"}


def _refuse_garbled(data: bytes) -> None:
    """Raise ValueError if an item in the list has a name that is not text: pi-heif (1.4) aborts the process on it.

    ISO/IEC 14496-12, 8.11.6: the entries of `iinf` are boxes `infe`, which end with their type and names.
    """
    start = data.find(b"iinf")
    end = start - 4 + int.from_bytes(data[start - 4 : start], "big") if start >= 4 else 0
    at = data.find(b"infe", start, end)
    while at >= 0:
        following = data.find(b"infe", at + 4, end)
        text = at + (14 if data[at + 4 : at + 5] == b"\3" else 12)  # item numbers have four bytes in version 3
        data[text : following - 4 if following >= 0 else end].decode("utf-8")
        at = following


def decode(data: bytes, max_pixels: int) -> Found:
    """Decode the primary picture of a HEIC file: 8 bits stay 8, 10 and 12 become 16. Raises pi-heif's own errors."""
    import pi_heif

    _refuse_garbled(data)
    file = pi_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    image = file[file.primary_index]
    width, height = image.size
    check(width, height, max_pixels)
    if image.mode not in _MODES:
        raise InputError(f"its pixels are of a kind that is not read ({image.mode}); export it as JPEG or TIFF")
    samples = np.array(image).reshape(height, width, -1)  # a view would outlive the decoder's memory
    if image.mode == "RGBa":  # premultiplied by alpha
        samples = np.asarray(Image.fromarray(np.ascontiguousarray(samples), "RGBa").convert("RGBA"))
    info = image.info
    if samples.dtype == np.uint16:  # codes are shifted to the upper bits; the largest is to be white
        bits = min(max(int(info["bit_depth"]), 8), 16)
        samples = widened(np.right_shift(samples, 16 - bits, dtype=np.uint16), bits)
    clear = samples.shape[-1] in (2, 4)
    colours = samples[..., :-1] if clear else samples
    notes = []
    if len(file) > 1:
        notes.append("it holds further pictures; only the first is kept")
    if info.get("depth_images"):
        notes.append("it holds a map of depth; only the picture is kept")
    if info.get("xmp") and xmp.names_clip(info["xmp"]):
        notes.append(MOTION)
    coded = info.get("nclx_profile") or {}
    return Found(
        np.ascontiguousarray(colours[..., 0] if colours.shape[-1] == 1 else colours),
        np.ascontiguousarray(samples[..., -1]) if clear else None,
        icc=info.get("icc_profile") or None,
        exif=(info.get("exif") or b"").removeprefix(b"Exif\0\0") or None,
        xmp=info.get("xmp") or None,
        turn=1,
        cicp=(int(coded["color_primaries"]), int(coded["transfer_characteristics"])) if coded else None,
        notes=tuple(notes),
    )
