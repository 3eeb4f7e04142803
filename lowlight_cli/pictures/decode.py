"""Decoders, one function per format: from bytes to samples as stored, with their metadata.

Pillow's classes are called directly, because `Image.open` would try fifty formats, and its guard against decompression
bombs is a global that other users of Pillow share. The guard here is `max_pixels`, checked before decoding.
A refused file raises InputError without its name, which `read` puts in front.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from lowlight_cli.errors import DeviceError, InputError
from lowlight_cli.pictures import avif, colour, heic, jpeg, metadata, png, raw, tiff, xmp
from lowlight_cli.pictures.found import MOTION, Found, check
from lowlight_cli.pictures.photo import Jpeg

__all__ = ["DECODERS"]

_EXTENDED_XMP: Final = b"http://ns.adobe.com/xmp/extension/\0"
"""XMP part 3 (Adobe), 1.1.3.1: XMP too long for one segment, mostly depth maps and additional pictures."""

_SHARED: Final = 2**26
"""Bytes of metadata of all pages of a TIFF that is shorter itself: its pages may share a profile."""


def _refuse_animation(frames: int, clip: bool = False) -> None:
    """Refuse more than one frame; `clip` says whether FFmpeg reads such animations."""
    if frames > 1:
        numbered = "take single pictures out of it, numbered, and name their folder to `lowlight video`"
        way = "`lowlight video` makes a clip of it, with -o night.mp4; or take single pictures out of it"
        raise InputError(f"is an animation of {frames} frames; {way if clip else numbered}")


def _jpeg(data: bytes, max_pixels: int) -> Found:
    jpeg.refuse_endless(data)
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    check(*image.size, max_pixels)
    info = image.info
    found = _from_pillow(image)
    wanted = [image.layer[i][3] for i in range(min(2, len(image.layer)))]
    tables = tuple(tuple(image.quantization[i]) for i in wanted if i in image.quantization)
    segments = b"".join(
        b"\xff\xed" + (len(body) + 2).to_bytes(2, "big") + body for marker, body in image.applist if marker == "APP13"
    )
    sampling = JpegImagePlugin.get_sampling(image)
    found.jpeg = Jpeg(
        tables if len(tables) == len(wanted) else (),
        sampling if sampling >= 0 else 0,  # Pillow cannot write the others: 4:4:4 loses nothing
        bool(info.get("progressive")),
        info.get("comment", b""),
        segments,
    )
    if any(marker == "APP1" and body.startswith(_EXTENDED_XMP) for marker, body in image.applist):
        found.notes += ("it holds more XMP than one segment takes (extended XMP); only the first packet is kept",)
    if info.get("mp"):
        found.notes += ("it holds further pictures (MPO); only the first is kept",)
    if jpeg.has_clip(data) or (found.xmp and xmp.names_clip(found.xmp)):
        found.notes += (MOTION,)
    return found


def _png(data: bytes, max_pixels: int) -> Found:
    if len(data) < 33:
        raise ValueError("it ends early")
    check(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"), max_pixels)
    header = png.scan(data)
    _refuse_animation(header.frames, clip=True)
    if header.depth == 16:
        colours, alpha = png.decode_deep(header)
        found = Found(colours, alpha)
    else:
        image = PngImagePlugin.PngImageFile(io.BytesIO(header.bare))
        if header.colour == 0 and header.depth < 8 and header.transparent:
            most = 2**header.depth - 1  # Pillow scales such greys to eight bits, but not the transparent one
            image.info["transparency"] = (header.transparent[0] & most) * 255 // most
        found = _from_pillow(image)
    found.icc, found.exif, found.xmp = png.profile(header), header.exif, header.xmp
    found.text, found.dpi, found.cicp = tuple(header.text), header.dpi, header.cicp
    if header.left_out:
        found.notes += (f"it holds raw profiles that are not kept: {', '.join(header.left_out)}",)
    return found


def _webp(data: bytes, max_pixels: int) -> Found:
    # Pillow allocates the canvas when it opens the file, so the size is checked first
    kind, head = data[12:16], data[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        width, height = 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    elif kind == b"VP8L":
        packed = int.from_bytes(head[1:5], "little")
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        width, height = (int.from_bytes(head[i : i + 2], "little") & 0x3FFF for i in (6, 8))
    check(width, height, max_pixels)
    image = WebPImagePlugin.WebPImageFile(io.BytesIO(data))
    _refuse_animation(image.n_frames)
    found = _from_pillow(image)
    found.compression = "lossless" if kind == b"VP8L" or (kind == b"VP8X" and _has_chunk(data, b"VP8L")) else "lossy"
    return found


def _has_chunk(data: bytes, wanted: bytes) -> bool:
    """Whether a RIFF file has a chunk at its top level."""
    at = 12
    while at + 8 <= len(data):
        if data[at : at + 4] == wanted:
            return True
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return False


def _tiff(data: bytes, max_pixels: int) -> Found:
    offsets, cut = metadata.pages(data)
    if not cut and len(offsets) < 2 and metadata.first(data) in offsets:
        return _page(data, max_pixels)
    found, left, room = [], max_pixels, max(len(data), _SHARED)
    for number, at in enumerate(offsets or [metadata.first(data)], 1):
        page = _page(metadata.alone(data, at), left)  # the limit is for all pages together
        left -= page.colours.shape[0] * page.colours.shape[1]
        room -= sum(len(part or b"") for part in (page.icc, page.exif, page.xmp))
        if room < 0:
            raise InputError("the metadata that its pages share are too long; split it first")
        if number > 1:
            page.notes = tuple(f"page {number}: {note}" for note in page.notes)
        found.append(page)
    found[0].rest = tuple(found[1:])
    if cut:
        found[0].notes += ("it is damaged behind its last page; there may have been more",)
    return found[0]


def _page(data: bytes, max_pixels: int) -> Found:
    """Decode the first page of a TIFF."""
    about = tiff.layout(data)
    check(about.width, about.height, max_pixels)
    turn = metadata.orientation(data)
    # Pillow rotates a TIFF by itself, OpenCV only some, tifffile none: with the tag reset, none of them does
    upright = metadata.reset_orientation(data) if turn != 1 else data
    if about.bits > 8 or data.startswith(b"MM\0+"):  # big-endian BigTIFF, which Pillow does not open
        found = Found(*tiff.decode(upright))
    else:
        try:
            image = TiffImagePlugin.TiffImageFile(io.BytesIO(upright))
        except SyntaxError:  # samples unknown to Pillow: `tiff` reads them or says what they are
            found = Found(*tiff.decode(upright))
        else:
            found = _from_pillow(image)
    if about.left_out:
        found.notes += ("it holds channels that are neither colour nor transparency; they are not kept",)
    found.icc = found.icc if found.icc == b"" else metadata.value(data, metadata.ICC)
    if metadata.is_cut(data, metadata.ICC):
        found.icc = b""
        found.notes += ("its colour profile is cut: read as sRGB, not kept",)
    found.xmp = metadata.value(data, metadata.XMP)
    try:
        found.exif = metadata.from_tiff(data)
    except ValueError:
        found.notes += ("its EXIF is damaged and not kept",)
    found.turn, found.compression, found.dpi = turn, about.compression, about.dpi
    resources = metadata.value(data, metadata.PHOTOSHOP) or b""
    if b"8BIM\x04\x04" in resources and metadata.value(data, metadata.IPTC) is None:
        found.notes += ("its IPTC lies among Photoshop's resources alone; it is not kept",)
    return found


def _bmp(data: bytes, max_pixels: int) -> Found:
    image = BmpImagePlugin.BmpImageFile(io.BytesIO(data))
    check(*image.size, max_pixels)
    return _from_pillow(image)


def _avif(data: bytes, max_pixels: int) -> Found:
    if not AvifImagePlugin.SUPPORTED:
        raise DeviceError("this Pillow was built without AVIF: pip install --upgrade pillow, or convert it to PNG")
    image = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    check(*image.size, max_pixels)
    _refuse_animation(image.n_frames)
    bits = avif.bits(data)
    deep = avif.decode_deep(data, bits) if bits > 8 else None
    if deep:
        found = Found(*deep, image.info.get("icc_profile"), xmp=image.info.get("xmp"))
    else:
        found = _from_pillow(image)
        if bits > 8:
            found.notes += ("it has more than 8 bits a sample; 8 of them are read",)
    found.exif, found.turn = avif.exif_of(image)
    box = data.find(b"colrnclx", 0, 2**16)  # ISO/IEC 14496-12, 12.1.5: primaries, transfer, matrix
    if box >= 0 and box + 12 <= len(data):
        found.cicp = (int.from_bytes(data[box + 8 : box + 10], "big"), int.from_bytes(data[box + 10 : box + 12], "big"))
    return found


DECODERS: Final[dict[str, Callable[[bytes, int], Found]]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "tiff": _tiff,
    "bmp": _bmp,
    "avif": _avif,
    "heic": heic.decode,
    "raw": raw.decode,
}


def _from_pillow(image: Image.Image) -> Found:
    """Pixels of eight bits per sample, and the metadata that Pillow reports."""
    image.load()
    info = image.info
    notes: tuple[str, ...] = ()
    icc, exif, xmp = (info.get(key) or None for key in ("icc_profile", "exif", "xmp"))
    clear = "transparency" in info
    if image.mode in ("CMYK", "LAB"):
        notes = (f"converted from {image.mode} to sRGB",)
        image, icc = colour.to_srgb_image(image, icc), b""  # empty: applied already, not missing
    elif image.mode in ("P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "YCbCr", "HSV"):
        image = image.convert("RGBA" if clear or image.mode in ("PA", "RGBA", "RGBa") else "RGB")
    elif image.mode in ("1", "L", "LA", "La"):
        image = image.convert("LA" if clear or image.mode in ("LA", "La") else "L")
    else:
        raise InputError(f"its pixels are of a kind that is not read ({image.mode}); save it with 8 or 16 bits")
    samples = np.asarray(image)
    alpha = np.ascontiguousarray(samples[..., -1]) if image.mode in ("LA", "RGBA") else None
    colours = samples if alpha is None else samples[..., :-1]
    if image.mode in ("L", "LA"):
        colours = colours.reshape(colours.shape[:2])
    if isinstance(exif, bytes):
        exif = exif.removeprefix(b"Exif\0\0")
    dpi = info.get("dpi")
    if not (isinstance(dpi, tuple) and len(dpi) == 2 and all(1 < d < 65_536 for d in dpi)):  # 1 means a ratio
        dpi = None
    return Found(colours, alpha, icc, exif, xmp, dpi=dpi and (float(dpi[0]), float(dpi[1])), notes=notes)
