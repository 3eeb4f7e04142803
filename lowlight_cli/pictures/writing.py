"""Encode a Photo as the bytes of a file, and write it."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from PIL import Image, PngImagePlugin

from lowlight_cli.errors import OutputError, ResourceError, UsageError
from lowlight_cli.exposure import bands
from lowlight_cli.pictures import avif, colour, metadata, places, png, tiff, xmp
from lowlight_cli.pictures.formats import FORMATS, KINDS, Kind, format_of
from lowlight_cli.pictures.photo import Codes, Jpeg, Photo, Pixels
from lowlight_cli.pictures.placing import place

__all__ = ["encode", "refuse_unfit", "write"]

Depth = Literal["keep", 8, 16]

_QUALITY: Final = {"jpeg": 95, "webp": 90, "avif": 90}
"""Default quality: its losses are invisible next to those of the network."""

_LONGEST_EXIF: Final = 65_533 - len(b"Exif\0\0")
_LONGEST_XMP: Final = 65_533 - len(b"http://ns.adobe.com/xap/1.0/\0") - 2**10
"""A JPEG segment has 65,533 bytes after its length (ITU-T T.81, B.1.1.4); 1 KiB of XMP is reserved for provenance."""


def encode(
    photo: Photo,
    *,
    format: str = "keep",
    quality: int | None = None,
    depth: Depth = "keep",
    strip_metadata: bool = False,
    strip_gps: bool = False,
    provenance: str | None = None,
    on_note: Callable[[str], None] | None = None,
) -> bytes:
    """Encode a photo as the bytes of a picture file.

    Args:
        photo: the photo to write.
        format: a name in `KINDS` (or `jpg`, `tif`), or `keep`.
        quality: 1 to 100 for JPEG, WebP, AVIF; None keeps the tables of a JPEG and whether a WebP is lossless.
        depth: bits per sample; `keep` is the source's depth, or the most the format holds (10 in AVIF). Reducing 16
            bits to 8 dithers.
        strip_metadata: leave out EXIF, XMP, texts and comments; the profile stays because the colours need it.
        strip_gps: leave out places, in numbers and in words.
        provenance: what the picture was made with; goes into XMP, except in BMP.
        on_note: called with one line on each piece of metadata dropped because the format cannot hold it, or because
            it may name a place.

    Raises:
        TypeError: `photo` is not a Photo.
        OutputError: the format cannot hold the picture.
        UsageError: no such format, or a number out of its range.
        ResourceError: there is not enough memory.
    """
    if not isinstance(photo, Photo):
        raise TypeError(f"wanted what `read` gives, got {type(photo).__module__}.{type(photo).__qualname__}")
    if quality is not None and (isinstance(quality, bool) or quality not in range(1, 101)):  # whole numbers only
        raise UsageError(f"quality {quality!r} is out of range; choose 1 to 100")
    if depth not in ("keep", 8, 16):
        raise UsageError(f"depth {depth!r} is out of range; choose keep, 8 or 16")
    kind = _kind(photo, format)
    refuse_unfit(photo, format=format, depth=depth)
    deep = kind.deep and (photo.depth if depth == "keep" else depth) == 16
    if kind.name in ("webp", "avif") and photo.icc and photo.icc[16:20] == b"GRAY":
        photo = replace(photo, icc=None)  # there grey is read as colour, to which such a profile does not apply
    try:
        photo, gone = places.stripped(photo) if strip_gps and not strip_metadata else (photo, [])
        kept, notes = _held(_kept(photo, strip_metadata, None), kind)
        if on_note:
            for note in (*gone, *notes):
                on_note(note)
        if kind.name == "tiff":
            pages = [photo, *photo.rest]
            order = next((page.exif[:2] for page in pages if page.exif), b"II")
            return tiff.encode(
                (
                    (
                        _samples(page, page.depth if depth == "keep" else depth, with_profile=True),
                        _kept(page, strip_metadata, provenance),
                    )
                    for page in pages
                ),
                order,
            )
        kept = _proven(kept, provenance)
        if kind.name == "avif" and photo.depth == 16 and depth == "keep":
            level = _QUALITY["avif"] if quality is None else quality
            made = avif.encode_deep(_samples(photo, 16, with_profile=True), _for_avif(kept), level)
            if made:
                return made
        samples = _samples(photo, 16 if deep else 8, with_profile=kind.profile)
        if deep:
            return png.encode_deep(samples, kept)
        image = Image.fromarray(samples[..., 0] if samples.shape[-1] == 1 else samples)
        return _by_pillow(image, kind.name, quality, kept)
    except MemoryError as error:
        raise ResourceError(f"{photo.name}: not enough memory to write it as {kind.title}") from error
    except (OSError, ValueError, SyntaxError, RuntimeError, struct.error, OverflowError) as error:
        raise OutputError(f"{photo.name}: cannot be written as {kind.title} ({error}); try the format png") from error


def write(
    target: Path | str,
    photo: Photo,
    *,
    format: str = "keep",
    quality: int | None = None,
    depth: Depth = "keep",
    strip_metadata: bool = False,
    strip_gps: bool = False,
    provenance: str | None = None,
) -> None:
    """Write a picture file atomically; an existing file is replaced.

    Args:
        target: the file; for `format="keep"`, a known suffix decides the format, otherwise the source's format is kept.
        photo: the photo to write.
        format: as in `encode`.
        quality: as in `encode`.
        depth: as in `encode`.
        strip_metadata: as in `encode`.
        strip_gps: as in `encode`.
        provenance: as in `encode`.

    Raises:
        TypeError: `photo` is not a Photo.
        UsageError: no such format, or a number out of its range.
        OutputError: the format cannot hold the picture, or the file cannot be written there.
        ResourceError: the disk is full, or there is not enough memory.
    """
    target = Path(target)
    if format == "keep":
        format = FORMATS.get(target.suffix.lower(), "keep")
    data = encode(
        photo,
        format=format,
        quality=quality,
        depth=depth,
        strip_metadata=strip_metadata,
        strip_gps=strip_gps,
        provenance=provenance,
    )
    place(target, data)


def _kind(photo: Photo, format: str) -> Kind:
    return KINDS[photo.format if format == "keep" else format_of(format)]


def refuse_unfit(photo: Photo, *, format: str = "keep", depth: Depth = "keep") -> None:
    """Raise OutputError if a format cannot hold a picture, so that this is known before any work is done.

    Args:
        photo: the photo to write.
        format: as in `encode`.
        depth: as in `encode`.
    """
    kind = _kind(photo, format)
    if photo.rest and kind.name != "tiff":
        raise OutputError(
            f"{photo.name}: holds {1 + len(photo.rest)} pages and {kind.title} only one; choose the format tiff"
        )
    if photo.alpha is not None and not kind.alpha:
        holds = " or ".join(other.name for other in KINDS.values() if other.alpha)
        raise OutputError(f"{photo.name}: {kind.title} cannot hold its transparency; choose the format {holds}")
    if depth == 16 and not kind.deep:
        holds = " or ".join(other.name for other in KINDS.values() if other.deep)
        raise OutputError(f"{photo.name}: {kind.title} does not hold 16 bits a sample; choose the format {holds}")
    if max(photo.width, photo.height) > kind.longest:
        raise OutputError(
            f"{photo.name}: {photo.width} x {photo.height} is too large for {kind.title} "
            f"(at most {kind.longest} a side); choose the format png"
        )


def _kept(photo: Photo, strip_metadata: bool, provenance: str | None) -> Photo:
    """The photo with only the metadata to write, and with its provenance."""
    if strip_metadata:
        made = photo.jpeg and replace(photo.jpeg, comment=b"", segments=b"")
        photo = replace(photo, exif=None, xmp=None, text=(), jpeg=made)
    return _proven(photo, provenance)


def _proven(photo: Photo, provenance: str | None) -> Photo:
    """The photo with `provenance`, if any, in its XMP."""
    return replace(photo, xmp=xmp.with_provenance(photo.xmp, provenance)) if provenance else photo


def _lost(photo: Photo, kind: Kind) -> list[str]:
    """The names of the metadata that a format cannot hold."""
    made = photo.jpeg or Jpeg(tables=())
    iptc = b"8BIM\x04\x04" in made.segments  # otherwise only Photoshop's own data: guides, a preview
    parts = (
        ("EXIF", photo.exif, kind.name != "bmp"),
        ("XMP", photo.xmp, kind.name != "bmp"),
        ("texts", photo.text, kind.name == "png"),
        ("comment", made.comment, kind.name == "jpeg"),
        ("IPTC", iptc, kind.name == "jpeg"),
    )
    return [name for name, part, held in parts if part and not held]


def _held(photo: Photo, kind: Kind) -> tuple[Photo, list[str]]:
    """The photo with only the metadata that a format can hold, and notes on what it cannot hold."""
    lost = _lost(photo, kind)
    notes = [f"not kept in {kind.title}: {', '.join(lost)}"] if lost else []
    if kind.name == "jpeg" and photo.exif and len(photo.exif) > _LONGEST_EXIF:
        try:
            less = metadata.without_maker_note(photo.exif)
        except ValueError:  # it is damaged
            less = photo.exif
        fits = len(less) <= _LONGEST_EXIF
        notes.append(f"its {'maker note' if fits else 'EXIF'} is too long for JPEG and not kept; PNG holds it")
        photo = replace(photo, exif=less if fits else None)
    if kind.name == "jpeg" and photo.xmp and len(photo.xmp) > _LONGEST_XMP:
        notes.append("its XMP is too long for JPEG and not kept; PNG holds it")
        photo = replace(photo, xmp=None)
    return photo, notes


def _samples(photo: Photo, depth: int, *, with_profile: bool) -> Codes:
    """(H, W, C) uint8 or uint16 in the file's own encoding: grey or RGB, with alpha if the photo has any."""
    kind, largest = (np.uint16, 65_535) if depth == 16 else (np.uint8, 255)
    colours = 1 if photo.grey else 3
    result = np.empty((photo.height, photo.width, colours + (photo.alpha is not None)), kind)
    profile = colour.profile_of(photo.icc, grey=photo.grey) if photo.icc and with_profile else None
    for rows in bands(photo.height, photo.width):
        values = _values(photo, rows, profile)
        values *= np.float32(largest)
        if photo.depth > depth:
            result[rows, :, :colours] = np.minimum(np.floor(values + _dither(rows, photo.width)), largest)
        else:
            result[rows, :, :colours] = np.rint(values)
    if photo.alpha is not None:
        alpha = photo.alpha
        if alpha.dtype != kind:
            alpha = alpha.astype(np.uint16) * 257 if depth == 16 else (alpha.astype(np.uint32) + 128) // 257
        result[..., -1] = alpha
    return result


def _values(photo: Photo, rows: slice, profile: colour.Profile | None) -> Pixels:
    """Some rows in the encoding of the file, (h, w, 1) or (h, w, 3), [0, 1]."""
    values: Pixels = np.clip(photo.pixels[rows], 0, 1)
    if photo.grey:
        values = colour.luma(values)
    source = None
    if photo.source is not None:
        source = photo.source[rows] if photo.source.ndim == 3 else photo.source[rows, :, None]
    if profile is not None and source is not None:
        shape = (*source.shape[:2], 3)
        values = profile.backward(np.broadcast_to(values, shape), np.broadcast_to(source, shape))
        values = values[..., 1:2] if photo.grey else values
    if source is not None and photo.alpha is not None:
        # colours under full transparency were filled in for the network: restore the file's own
        hidden = photo.alpha[rows, :, None] == 0
        values = np.where(hidden, colour.scaled(source), values)
    return values


def _dither(rows: slice, width: int) -> Pixels:
    """Thresholds in (0, 1), (h, w, 1): interleaved gradient noise (Jimenez, SIGGRAPH 2014), uniform and seedless."""
    y, x = np.mgrid[rows, :width]
    noise = np.modf(52.9829189 * np.modf(0.06711056 * x + 0.00583715 * y)[0])[0]
    # away from 0 and 1, so that a whole value that float32 holds slightly low or high is not changed
    result: Pixels = np.clip(noise, 1 / 512, 1 - 1 / 512).astype(np.float32)[..., None]
    return result


def _for_avif(kept: Photo) -> Photo:
    """The photo with the orientation removed from its EXIF: AVIF stores it outside of EXIF."""
    return replace(kept, exif=metadata.without(kept.exif, frozenset({metadata.ORIENTATION}))) if kept.exif else kept


def _by_pillow(image: Image.Image, name: str, quality: int | None, kept: Photo) -> bytes:
    """Encode eight bits per sample as JPEG, PNG, WebP, BMP or AVIF; `kept` holds the metadata to write."""
    icc, exif, xmp = kept.icc or b"", kept.exif or b"", kept.xmp or b""
    level = _QUALITY.get(name, 0) if quality is None else quality
    options: dict[str, Any] = {}
    if name == "jpeg":
        options = {"exif": b"Exif\0\0" + exif if exif else b"", "xmp": xmp, "icc_profile": icc}
        made = kept.jpeg or Jpeg(tables=())
        options |= {"progressive": made.progressive, "comment": made.comment, "extra": made.segments}
        if quality is None and made.tables:
            options |= {"qtables": [list(table) for table in made.tables], "subsampling": made.subsampling}
        else:
            options |= {"quality": level, "subsampling": made.subsampling if made.tables else 0 if level >= 90 else 2}
    elif name == "png":
        chunks = PngImagePlugin.PngInfo()
        for keyword, body in kept.text:
            chunks.add_itxt(keyword, body)
        if xmp:
            chunks.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
        # Pillow's 6 takes 2.5 times as long on photographs, for one per cent fewer bytes
        options = {"exif": exif, "icc_profile": icc, "pnginfo": chunks, "compress_level": 4}
    elif name == "webp":
        lossless = quality is None and kept.compression == "lossless"
        options = {"exif": exif, "xmp": xmp, "icc_profile": icc}
        options |= {"lossless": lossless, "quality": level, "exact": True}  # exact: keep colours under transparency
    elif name == "avif":
        exif = _for_avif(kept).exif or b""
        options = {"exif": exif, "xmp": xmp, "icc_profile": icc, "quality": level, "subsampling": "4:4:4"}
    if kept.dpi and name in ("jpeg", "png", "bmp"):
        options["dpi"] = kept.dpi
    buffer = io.BytesIO()
    image.save(buffer, name.upper(), **options)
    return buffer.getvalue()
