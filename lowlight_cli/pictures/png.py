"""PNG chunk by chunk: read what Pillow omits (depth, damage, metadata after the pixels), write 16 bits per sample.

PNG specification, third edition (W3C 2025): 5 datastream structure, 9 filtering, 11 chunks.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from lowlight_cli.pictures import colour, opencv
from lowlight_cli.pictures.photo import Codes, Photo

__all__ = ["SIGNATURE", "Header", "decode_deep", "encode_deep", "profile", "scan"]

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_LARGEST_TEXT: Final = 2**26
"""Metadata that inflates beyond 64 MiB, all of a file together, is a decompression bomb."""

_XMP: Final = b"XML:com.adobe.xmp"
_XMP_IN_JPEG: Final = b"http://ns.adobe.com/xap/1.0/\0"
_RAW: Final = "Raw profile type "
_NAME: Final = "gAMA and cHRM of a PNG"
_POWERS: Final = (10_000, 1_000_000)  # plausible values of gAMA
_USUAL: Final = 45_455  # gAMA that stands for the sRGB curve, which is not a power
_SRGB: Final = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
_POWER_OFF, _POINT_OFF = 0.05, 100  # libpng's tolerances: relative, and in units of cHRM
_NEEDED: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT"})


@dataclass
class Header:
    """The contents of a PNG's chunks, apart from its pixels.

    Attributes:
        width: width in pixels.
        height: height in pixels.
        depth: bits per sample, 1 to 16.
        colour: colour type: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
        frames: more than 1 for an animation.
        transparent: the transparent colour (tRNS) of grey or RGB, one or three 16-bit numbers; None if there is none.
        icc: the embedded profile.
        cicp: primaries and transfer by code (ITU-T H.273).
        srgb: whether it declares itself as sRGB.
        gamma: the encoding exponent times 100,000 (gAMA).
        primaries: x and y of white, red, green and blue, times 100,000 (cHRM).
        exif: a TIFF-structured block.
        xmp: the packet.
        dpi: dots per inch.
        text: keywords and texts, without raw profiles, which become `exif` and `xmp`.
        left_out: the types of raw profiles that are not kept.
        room: bytes to which further metadata may inflate.
        bare: the file reduced to the chunks that a pixel decoder needs, so that it has nothing to warn about.
    """

    width: int
    height: int
    depth: int
    colour: int
    frames: int = 1
    transparent: tuple[int, ...] | None = None
    icc: bytes | None = None
    cicp: tuple[int, int] | None = None
    srgb: bool = False
    gamma: int | None = None
    primaries: tuple[int, ...] | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: list[tuple[str, str]] = field(default_factory=list)
    left_out: tuple[str, ...] = ()
    room: int = _LARGEST_TEXT
    bare: bytes = b""


def scan(data: bytes) -> Header:
    """Walk through the chunks of a PNG.

    Raises:
        ValueError: a chunk is damaged or the file ends early.
    """
    if data[12:16] != b"IHDR":
        raise ValueError("it does not begin with a PNG header")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    header = Header(width, height, depth, colour)
    view, at = memoryview(data), 8
    needed: list[bytes | memoryview] = [SIGNATURE]
    while data[at + 4 : at + 8] != b"IEND":
        if at + 12 > len(data):
            raise ValueError("it ends early")
        length, kind = int.from_bytes(view[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            raise ValueError("it ends early")
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ValueError(f"its chunk {kind.decode('latin-1')!r} is damaged")
        if kind in _NEEDED:
            needed.append(view[at:end])
        if kind != b"IDAT":
            _note(header, kind, bytes(view[at + 8 : end - 4]))
        at = end
    header.bare = b"".join([*needed, _chunk(b"IEND", b"")])
    _unwrap(header)
    return header


def _note(header: Header, kind: bytes, payload: bytes) -> None:
    """Store the useful content of one chunk in `header`; a malformed chunk is ignored."""
    try:
        if kind == b"iCCP":
            header.icc = _inflate(header, payload.split(b"\0", 1)[1][1:])
        elif kind == b"cICP":
            header.cicp = (payload[0], payload[1])
        elif kind == b"sRGB":
            header.srgb = True
        elif kind == b"gAMA":
            (header.gamma,) = struct.unpack(">I", payload)
        elif kind == b"cHRM":
            header.primaries = struct.unpack(">8I", payload)
        elif kind == b"eXIf":
            header.exif = payload.removeprefix(b"Exif\0\0")
        elif kind == b"acTL":
            header.frames = int.from_bytes(payload[:4], "big")
        elif kind == b"tRNS" and header.colour in (0, 2):
            header.transparent = struct.unpack(">H" if header.colour == 0 else ">HHH", payload)
        elif kind == b"pHYs":
            across, down, unit = struct.unpack(">IIB", payload)
            sensible = unit == 1 and all(1 <= dots * 0.0254 < 65_536 for dots in (across, down))
            header.dpi = (across * 0.0254, down * 0.0254) if sensible else None
        elif kind == b"iTXt":
            keyword, rest = payload.split(b"\0", 1)
            packed, _, body = rest[:1], rest[1:2], rest[2:].split(b"\0", 2)[2]
            body = _inflate(header, body) if packed == b"\1" else body
            if keyword == _XMP:
                header.xmp = body
            else:
                header.text.append((keyword.decode("latin-1"), body.decode("utf-8")))
        elif kind in (b"tEXt", b"zTXt"):
            keyword, body = payload.split(b"\0", 1)
            body = _inflate(header, body[1:]) if kind == b"zTXt" else body
            if keyword == _XMP:  # from writers without iTXt
                header.xmp = header.xmp or body
                return
            header.text.append((keyword.decode("latin-1"), body.decode("latin-1")))
    except (ValueError, IndexError, struct.error, zlib.error):
        return


def _unwrap(header: Header) -> None:
    """Move raw profiles out of the texts: before PNG had eXIf, ImageMagick wrote them as hexadecimal digits.

    Such a text consists of a line feed, the type, the number of bytes, and lines of digits.
    """
    texts, header.text = header.text, []
    lost: list[str] = []
    for keyword, body in texts:
        if not keyword.startswith(_RAW):
            header.text.append((keyword, body))
            continue
        kind = keyword.removeprefix(_RAW).strip().lower()
        try:
            raw = bytes.fromhex("".join(body.split(maxsplit=2)[2:]))
        except ValueError:
            raw = b""
        if kind in ("exif", "app1") and raw.startswith((b"Exif\0\0", b"II*\0", b"MM\0*")):
            header.exif = header.exif or raw.removeprefix(b"Exif\0\0")
        elif kind in ("xmp", "app1") and raw.removeprefix(_XMP_IN_JPEG).lstrip(b"\xef\xbb\xbf").startswith(b"<"):
            header.xmp = header.xmp or raw.removeprefix(_XMP_IN_JPEG)
        elif not (kind in ("icc", "icm") and header.icc):  # a copy of the embedded profile
            lost.append({"8bim": "IPTC", "iptc": "IPTC", "icm": "ICC"}.get(kind, kind.upper()))
    header.left_out = tuple(dict.fromkeys(lost))


def profile(header: Header) -> bytes | None:
    """The profile of a PNG: the embedded one, or one made from gAMA and cHRM if no other chunk defines colours (4.3).

    Also None if gAMA and cHRM describe sRGB within libpng's tolerances.
    """
    if header.icc or header.cicp or header.srgb:
        return header.icc
    power = 100_000 / header.gamma if header.gamma and _POWERS[0] <= header.gamma <= _POWERS[1] else None
    usual = power is None or abs(_USUAL * power / 100_000 - 1) <= _POWER_OFF
    if header.colour in (0, 4):
        return None if usual else colour.make_profile(_NAME, None, power)
    points = header.primaries or _SRGB
    if usual and max(abs(a - b) for a, b in zip(points, _SRGB, strict=True)) <= _POINT_OFF:
        return None
    white, red, green, blue = ((x / 100_000, y / 100_000) for x, y in zip(points[::2], points[1::2], strict=True))
    try:
        return colour.make_profile(_NAME, (red, green, blue), power, white)
    except (ValueError, ArithmeticError, struct.error):  # impossible points are ignored
        return None if usual else colour.make_profile(_NAME, colour.SRGB, power)


def _inflate(header: Header, data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    result = inflater.decompress(data, max(header.room, 1))  # 0 would mean without limit
    header.room -= len(result)
    if not inflater.eof:
        raise ValueError("metadata that does not end")
    return result


def decode_deep(header: Header) -> tuple[Codes, Codes | None]:
    """Colours (H, W) or (H, W, 3) uint16, and alpha (H, W) uint16 or None, of a PNG with 16 bits per sample.

    OpenCV decodes it, because Pillow reduces 16-bit RGB to 8 bits. OpenCV expands grey with alpha to four channels and
    ignores a transparent colour in grey.
    """
    decoded = opencv.decode(header.bare)
    if decoded is None:
        raise ValueError("its pixels are damaged")
    samples: Codes = decoded.reshape(header.height, header.width, -1)
    grey = header.colour in (0, 4)
    colours: Codes = np.ascontiguousarray(samples[..., 0] if grey else samples[..., 2::-1])
    if header.colour in (4, 6):
        return colours, np.ascontiguousarray(samples[..., 3])
    if header.transparent is None:
        return colours, None
    hit = colours == np.array(header.transparent, np.uint16)
    return colours, np.where(hit if grey else hit.all(-1), 0, 65_535).astype(np.uint16)


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def encode_deep(samples: Codes, kept: Photo) -> bytes:
    """A PNG of (H, W, C) uint16, grey, grey with alpha, RGB or RGBA for C of 1 to 4, with the metadata of `kept`."""
    height, width, channels = samples.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    parts = [SIGNATURE, _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))]
    if kept.icc:
        parts.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(kept.icc)))
    if kept.dpi:
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", *(round(d / 0.0254) for d in kept.dpi), 1)))
    if kept.exif:
        parts.append(_chunk(b"eXIf", kept.exif))
    texts = list(kept.text)
    if kept.xmp:
        texts.append((_XMP.decode(), kept.xmp.decode("utf-8", "replace")))
    for keyword, body in texts:
        parts.append(_chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + body.encode("utf-8")))
    deflater = zlib.compressobj(1)  # more takes longer and gains nothing on photographs: their low bits are noise
    step, stride = 2 * channels, 2 * channels * width
    rows = max(1, 2**20 // stride)
    for start in range(0, height, rows):
        band = samples[start : start + rows].astype(">u2").view(np.uint8).reshape(-1, stride)
        filtered = np.empty((len(band), 1 + stride), np.uint8)  # each row by Sub: its differences from the left (9.2)
        filtered[:, 0], filtered[:, 1 : 1 + step] = 1, band[:, :step]
        np.subtract(band[:, step:], band[:, :-step], out=filtered[:, 1 + step :])
        if packed := deflater.compress(filtered.data):
            parts.append(_chunk(b"IDAT", packed))
    parts += [_chunk(b"IDAT", deflater.flush()), _chunk(b"IEND", b"")]
    return b"".join(parts)
