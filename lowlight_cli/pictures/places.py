"""Remove from a photo where it was taken and which place it shows, in numbers and in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lowlight_cli.pictures import iptc, metadata, xmp
from lowlight_cli.pictures.photo import Jpeg, Photo

__all__ = ["stripped"]

_INSIDE: Final = (
    (metadata.IPTC, "IPTC", iptc.without_places, b"\0"),
    (metadata.PHOTOSHOP, "IPTC", iptc.resources_without_places, b"\0"),
    (metadata.XMP, "XMP", xmp.without_places, b" "),
)
"""Metadata inside a tag of EXIF or TIFF: the tag, its name in messages, what removes its places, the padding byte."""


def stripped(photo: Photo) -> tuple[Photo, list[str]]:
    """The photo, with all its pages, without places; and a line on each part that was dropped as a whole.

    A part that cannot be read is dropped, because it may name a place.
    """
    notes: list[str] = []
    rest = []
    for number, page in enumerate(photo.rest, 2):
        other, told = stripped(page)
        rest.append(other)
        notes += [f"page {number}: {note}" for note in told]
    lost: list[str] = []
    bare = replace(
        photo,
        exif=_exif(photo.exif, lost) if photo.exif else None,
        xmp=_xmp(photo.xmp, lost) if photo.xmp else None,
        text=tuple((keyword, body) for keyword, body in photo.text if not xmp.tells_place(keyword)),
        jpeg=_jpeg(photo.jpeg, lost) if photo.jpeg else None,
        rest=tuple(rest),
    )
    own = [f"its {part} cannot be read, may tell the place, and is not kept" for part in dict.fromkeys(lost)]
    return bare, own + notes


def _exif(exif: bytes, lost: list[str]) -> bytes | None:
    """EXIF without places, or None if it is damaged; the names of dropped parts are appended to `lost`."""
    try:
        exif = metadata.without_gps(exif)
        for tag, name, clean, fill in _INSIDE:
            inside = metadata.value(exif, tag)
            if inside is None:
                continue
            try:
                less = clean(inside)
            except ValueError:
                less = b""
                lost.append(name)
            exif = metadata.with_value(exif, tag, less, fill) if less else metadata.without(exif, frozenset({tag}))
    except ValueError:
        lost.append("EXIF")
        return None
    return exif


def _xmp(packet: bytes, lost: list[str]) -> bytes | None:
    try:
        return xmp.without_places(packet)
    except ValueError:
        lost.append("XMP")
        return None


def _jpeg(made: Jpeg, lost: list[str]) -> Jpeg:
    try:
        return replace(made, segments=iptc.segments_without_places(made.segments))
    except ValueError:
        lost.append("IPTC")
        return replace(made, segments=b"")
