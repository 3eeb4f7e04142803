"""TIFF: read samples of more than 8 bits, and write 8 or 16.

A TIFF is written around its EXIF block: the unchanged block comes first, at offset 0, so that all its offsets, those in
maker notes too, stay valid; the directory of the picture comes last and repeats the block's entries. Later pages
follow, with their EXIF rebuilt.

TIFF 6.0 (Adobe 1992) sections 2, 3, 8, 14 (predictor); Adobe Photoshop TIFF technical notes 2002 (Deflate).
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from lowlight_cli.errors import InputError
from lowlight_cli.pictures import metadata, opencv
from lowlight_cli.pictures.photo import Codes, Photo

if TYPE_CHECKING:
    import tifffile

__all__ = ["Layout", "decode", "encode", "layout"]

_Order = Literal["<", ">"]
_Tags = dict[int, tuple[int, tuple[int, ...] | bytes]]
"""Tag to its type and its numbers, or to its type and the bytes of its value."""

_DEFLATE: Final = 8
_STRIP: Final = 2**18  # bytes before compression
_SHAPE: Final = b'{"shape":'  # start of tifffile's descriptions, whose layout (planes, say) ours does not have
_EMPTY: Final = {b"II": b"II*\0\x08\0\0\0" + bytes(6), b"MM": b"MM\0*\0\0\0\x08" + bytes(6)}


@dataclass(frozen=True)
class Layout:
    """How the first page of a TIFF is stored.

    Attributes:
        width: width in pixels.
        height: height in pixels.
        bits: bits per sample.
        compression: `none`, or `deflate` for any compression.
        left_out: whether there are channels that are neither colour nor the first alpha channel.
        dpi: dots per inch, across and down; None if the file does not state them.
    """

    width: int
    height: int
    bits: int
    compression: str
    left_out: bool
    dpi: tuple[float, float] | None


def _open(data: bytes) -> tifffile.TiffFile:
    import tifffile

    return tifffile.TiffFile(io.BytesIO(data))


def layout(data: bytes) -> Layout:
    """Read the layout of the first page. Raises ValueError if samples are missing, and tifffile's own errors."""
    with _open(data) as file:
        page = file.pages.first
        if len(page.dataoffsets) < math.prod(page.chunked):
            raise ValueError("it ends early")
        for start, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            if size == 0 or start + size > len(data):
                raise ValueError("it ends early")
        compression = "none" if page.compression == 1 else "deflate"
        left_out = len(page.extrasamples) > 1 or page.extrasamples == (0,)
        return Layout(page.imagewidth, page.imagelength, int(page.bitspersample), compression, left_out, _dpi(page))


def _dpi(page: tifffile.TiffPage) -> tuple[float, float] | None:
    unit = {2: 1.0, 3: 2.54}.get(page.resolutionunit)  # inches, centimetres; 1 means a ratio
    if unit is None or not (282 in page.tags and 283 in page.tags):
        return None
    across, down = (dots * unit for dots in page.resolution)
    return (across, down) if all(1 < dots < 65_536 for dots in (across, down)) else None


def decode(data: bytes) -> tuple[Codes, Codes | None]:
    """Decode the first page of a TIFF with 16 or 8 bits per sample.

    Returns:
        Colours (H, W) or (H, W, 3) uint16 or uint8; alpha (H, W) of the same type, or None.

    Raises:
        InputError: the samples are of an unsupported kind. Damage raises tifffile's own errors.
    """
    import tifffile

    with _open(data) as file:
        page = file.pages.first
        photometric = tifffile.PHOTOMETRIC(page.photometric).name
        if f"{page.bitspersample}-bit {page.dtype}" not in ("16-bit uint16", "8-bit uint8"):
            raise InputError(f"its samples are {page.bitspersample}-bit {page.dtype}; save it with 8 or 16 bits")
        if photometric not in ("MINISWHITE", "MINISBLACK", "RGB"):
            raise InputError(f"its colours are {photometric} with {page.bitspersample} bits; save it as RGB")
        extra = [int(kind) for kind in page.extrasamples]
        try:
            samples = page.asarray()
        except (ValueError, KeyError, ModuleNotFoundError) as error:
            if "imagecodecs" not in str(error) and not isinstance(error, ModuleNotFoundError):
                raise
            samples = _by_opencv(data, page)
        else:
            if page.planarconfig == 2 and samples.ndim == 3:
                samples = np.moveaxis(samples, 0, -1)
    if samples.shape[:2] != (page.imagelength, page.imagewidth):
        raise InputError("it holds more than one picture a page; split it first")
    if samples.ndim == 2:
        samples = samples[..., None]
    colours = samples.shape[-1] - len(extra)
    if colours not in (1, 3):
        raise InputError(f"it has {samples.shape[-1]} channels; save it as grey or RGB")
    white = int(np.iinfo(samples.dtype).max)
    base = samples[..., :3] if colours == 3 else samples[..., 0]
    if photometric == "MINISWHITE":
        base = white - base
    if not extra or extra[0] == 0:
        return np.ascontiguousarray(base), None
    alpha = np.ascontiguousarray(samples[..., colours])
    if extra[0] == 1:  # premultiplied by alpha
        share = np.maximum(alpha, 1) / np.float64(white)
        base = np.minimum(np.rint(base / (share[..., None] if colours == 3 else share)), white).astype(base.dtype)
    return np.ascontiguousarray(base), alpha


def _by_opencv(data: bytes, page: tifffile.TiffPage) -> Codes:
    """Decode RGB(A) or grey in LZW and other compressions for which tifffile needs imagecodecs."""
    if page.planarconfig == 2 and page.samplesperpixel > 1:  # OpenCV silently misreads planes as pixels
        return np.stack([_by_opencv_alone(_plane(data, page, i)) for i in range(page.samplesperpixel)], -1)
    decoded = _by_opencv_alone(data)
    if decoded.ndim == 3:
        decoded = np.take(decoded, [2, 1, 0, 3][: decoded.shape[-1]], axis=-1)
    return decoded


def _by_opencv_alone(data: bytes) -> Codes:
    decoded = opencv.decode(data)
    if decoded is None:
        raise InputError(
            "its compression cannot be read, or it is damaged; save it anew, uncompressed or with Deflate (ZIP)"
        )
    return decoded


def _plane(data: bytes, page: tifffile.TiffPage, number: int) -> bytes:
    """A grey TIFF of one plane of a page, its strips or tiles copied unchanged."""
    order: _Order = "<" if page.parent.byteorder == "<" else ">"
    body = bytearray(_EMPTY[b"II" if order == "<" else b"MM"])
    count = len(page.dataoffsets) // page.samplesperpixel
    own = slice(number * count, (number + 1) * count)
    offsets, sizes = [], tuple(page.databytecounts[own])
    for start, size in zip(page.dataoffsets[own], sizes, strict=True):
        offsets.append(len(body))
        body += data[start : start + size]
    tags: _Tags = {
        256: (4, (page.imagewidth,)),
        257: (4, (page.imagelength,)),
        258: (3, (page.bitspersample,)),
        259: (3, (page.compression,)),
        262: (3, (1,)),
        266: (3, (page.fillorder,)),
        317: (3, (page.predictor,)),
    }
    if page.is_tiled:
        tags |= {322: (4, (page.tilewidth,)), 323: (4, (page.tilelength,)), 324: (4, tuple(offsets)), 325: (4, sizes)}
    else:
        tags |= {273: (4, tuple(offsets)), 278: (4, (page.rowsperstrip,)), 279: (4, sizes)}
    directory = _directory(body, tags, {}, order)
    struct.pack_into(order + "I", body, 4, len(body))
    return bytes(body + directory)


def encode(pages: Iterable[tuple[Codes, Photo]], order: bytes = b"II") -> bytes:
    """Encode a TIFF from pages of (H, W, C) uint8 or uint16: grey, grey with alpha, RGB or RGBA for C of 1 to 4.

    Args:
        pages: samples and metadata of each page; a page from an uncompressed TIFF stays uncompressed, others use
            Deflate. The file is built around the `exif` of the first page, whose byte order becomes the file's.
        order: `II` or `MM`, the byte order if the first page has no `exif`. The `exif` of a later page is left out if
            its byte order is not the file's.
    """
    body, link = bytearray(), 4
    sign: _Order = "<"
    for samples, kept in pages:
        if not body:
            body += kept.exif or _EMPTY[order]
            order, sign = bytes(body[:2]), "<" if body[:2] == b"II" else ">"
            entries = metadata.entries_for_tiff(bytes(body))
        elif kept.exif and kept.exif[:2] == order:
            body += bytes(len(body) % 2)
            entries, block = metadata.moved_entries(kept.exif, len(body))
            body += block
        else:
            entries = {}
        directory = _append(body, samples, kept, entries, sign)
        if len(body) + len(directory) >= 2**32:
            raise ValueError("TIFF holds 4 GiB at most")
        struct.pack_into(sign + "I", body, link, len(body))
        body += directory
        link = len(body) - 4
    return bytes(body)


def _append(body: bytearray, samples: Codes, kept: Photo, entries: dict[int, bytes], order: _Order) -> bytes:
    """Append a page's samples and long values to a file; return its directory, which the caller appends.

    Args:
        body: the file so far.
        samples: as in `encode`.
        kept: the metadata, of which `exif` is not used.
        entries: raw entries from the page's EXIF, by tag.
        order: `<` or `>`.
    """
    if description := entries.get(270):
        (start,) = struct.unpack(order + "I", description[8:])
        if body[start : start + len(_SHAPE)] == _SHAPE:
            del entries[270]
    packed = kept.format != "tiff" or kept.compression != "none"
    tags = _tags(samples, kept, entries, order, packed)
    offsets, sizes, rows = _put_strips(body, samples, order, packed)
    tags |= {273: (4, tuple(offsets)), 278: (4, (rows,)), 279: (4, tuple(sizes))}
    return _directory(body, tags, entries, order)


def _directory(body: bytearray, tags: _Tags, entries: dict[int, bytes], order: _Order) -> bytes:
    """Encode a directory of `tags` and raw `entries`, for the end of `body`, to which long values are appended."""
    for tag, (kind, value) in tags.items():
        raw = value if isinstance(value, bytes) else struct.pack(f"{order}{len(value)}{'HI'[kind == 4]}", *value)
        count = len(raw) // {1: 1, 3: 2, 4: 4, 5: 8, 7: 1}[kind]
        body += bytes(len(body) % 2)
        place = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(order + "I", len(body))
        body += raw if len(raw) > 4 else b""
        entries[tag] = struct.pack(order + "HHI", tag, kind, count) + place
    body += bytes(len(body) % 2)
    return struct.pack(order + "H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)


def _tags(samples: Codes, kept: Photo, entries: dict[int, bytes], order: _Order, packed: bool) -> _Tags:
    """The tags of a page for its samples, except their offsets, and its metadata; arguments as in `_append`."""
    height, width, channels = samples.shape
    tags: _Tags = {
        256: (4, (width,)),
        257: (4, (height,)),
        258: (3, (samples.dtype.itemsize * 8,) * channels),
        259: (3, (_DEFLATE if packed else 1,)),
        262: (3, (2 if channels > 2 else 1,)),
        274: (3, (1,)),
        277: (3, (channels,)),
        284: (3, (1,)),
        339: (3, (1,) * channels),
    }
    if packed:
        tags[317] = (3, (2,))
    if channels in (2, 4):
        tags[338] = (3, (2,))
    if kept.xmp:
        tags[metadata.XMP] = (1, kept.xmp)
    if kept.icc:
        tags[metadata.ICC] = (7, kept.icc)
    if kept.dpi and 282 not in entries:
        for tag, inches in zip((282, 283), kept.dpi, strict=True):
            tags[tag] = (5, struct.pack(order + "II", round(inches * 1000), 1000))
        tags[296] = (3, (2,))
    return tags


def _put_strips(body: bytearray, samples: Codes, order: _Order, packed: bool) -> tuple[list[int], list[int], int]:
    """Append a page's samples to a file; return the offset and the size in bytes of each strip, and rows per strip."""
    height, width, channels = samples.shape
    rows = max(1, _STRIP // (width * channels * samples.dtype.itemsize))
    offsets, sizes = [], []
    for start in range(0, height, rows):
        strip = samples[start : start + rows]
        if packed:
            strip = np.concatenate([strip[:, :1], np.diff(strip, axis=1)], axis=1)
        raw = strip.astype(strip.dtype.newbyteorder(order)).tobytes()
        raw = zlib.compress(raw, 4) if packed else raw
        body += bytes(len(body) % 2)
        if len(body) + len(raw) >= 2**32:
            raise ValueError("TIFF holds 4 GiB at most")
        offsets.append(len(body))
        sizes.append(len(raw))
        body += raw
    return offsets, sizes, rows
