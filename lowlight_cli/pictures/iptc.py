"""Remove places from IPTC's older metadata (IIM) and from the Photoshop resources in which a JPEG carries it.

IPTC-NAA Information Interchange Model 4.2, 1.6 (records) and 6 (datasets of record 2); Adobe Photoshop File Formats
Specification 2019, "Image Resource Blocks".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

__all__ = ["resources_without_places", "segments_without_places", "without_places"]

_PLACES: Final = frozenset({26, 27, 90, 92, 95, 100, 101})
"""In record 2: content location (code, name), city, sublocation, province or state, country (code, name)."""

_SIGNATURES: Final = frozenset({b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR"})
_RECORDS: Final = 0x0404
_DIGEST: Final = 0x0425
_COPIES: Final = frozenset({0x0422, 0x0423, 0x0424})
"""Second copies of EXIF and XMP, which Photoshop writes into its own files only."""

_HEADER: Final = b"Photoshop 3.0\0"
_LONGEST: Final = 65_533 - len(_HEADER)


@dataclass(frozen=True)
class _Resource:
    head: bytes  # signature, number, name
    kind: int
    body: bytes


def without_places(records: bytes) -> bytes:
    """IIM without the datasets that name a place; the others stay byte for byte, padding is dropped.

    Raises:
        ValueError: `records` is not valid IIM.
    """
    kept, at = bytearray(), 0
    while at < len(records):
        if records[at] != 0x1C:
            if records[at:].strip(b"\0"):
                raise ValueError("no IPTC record where one must be")
            break  # padding, to whole words in a TIFF
        start, size = at + 5, int.from_bytes(records[at + 3 : at + 5], "big")
        if size & 0x8000:  # extended dataset: this is the length of the length
            start, size = start + size - 0x8000, int.from_bytes(records[start : start + size - 0x8000], "big")
        end = start + size
        if end > len(records):
            raise ValueError("an IPTC record ends early")
        if not (records[at + 1] == 2 and records[at + 2] in _PLACES):
            kept += records[at:end]
        at = end
    return bytes(kept)


def resources_without_places(resources: bytes) -> bytes:
    """Photoshop's resources with places removed from their IIM; the others stay byte for byte.

    Copies of EXIF and XMP are dropped.

    Raises:
        ValueError: `resources` is not valid, or its IIM cannot be read.
    """
    found = _resources(resources)
    bare = {each: without_places(each.body) for each in found if each.kind == _RECORDS}
    # Photoshop uses this digest to detect changes of the IIM by other programs: a correct one stays correct
    sums = {_sum(each.body): _sum(records) for each, records in bare.items()}
    kept = bytearray()
    for each in found:
        body = bare.get(each, sums.get(each.body, each.body) if each.kind == _DIGEST else each.body)
        if body or not each.body:
            kept += b"" if each.kind in _COPIES else _packed(each.head, body)
    return bytes(kept)


def segments_without_places(segments: bytes) -> bytes:
    """Complete APP13 segments of a JPEG, without places.

    Raises:
        ValueError: the segments cannot be read.
    """
    others, resources, at = b"", b"", 0
    while at < len(segments):
        end = at + 2 + int.from_bytes(segments[at + 2 : at + 4], "big")
        body = segments[at + 4 : end]
        if body.startswith(_HEADER):
            resources += body.removeprefix(_HEADER)  # long resources continue in the next segment
        elif b"8BIM" in body:
            raise ValueError("resources of a kind that is not known")
        else:
            others += segments[at:end]
        at = end
    kept = resources_without_places(resources)
    parts = (_HEADER + kept[start : start + _LONGEST] for start in range(0, len(kept), _LONGEST))
    return b"".join(b"\xff\xed" + (len(part) + 2).to_bytes(2, "big") + part for part in parts) + others


def _resources(data: bytes) -> list[_Resource]:
    found, at = list[_Resource](), 0
    while at < len(data):
        if data[at : at + 4] not in _SIGNATURES:
            if data[at:].strip(b"\0"):
                raise ValueError("no resource where one must be")
            break
        name = data[at + 6 : at + 7]
        start = at + 6 + (1 + int.from_bytes(name, "big") + 1) // 2 * 2  # length byte and name, padded to even
        size = int.from_bytes(data[start : start + 4], "big")
        end = start + 4 + size
        if not name or start + 4 > len(data) or end > len(data):
            raise ValueError("a resource ends early")
        kind = int.from_bytes(data[at + 4 : at + 6], "big")
        found.append(_Resource(data[at:start], kind, data[start + 4 : end]))
        at = end + size % 2
    return found


def _packed(head: bytes, body: bytes) -> bytes:
    return head + len(body).to_bytes(4, "big") + body + bytes(len(body) % 2)


def _sum(records: bytes) -> bytes:
    return hashlib.md5(records, usedforsecurity=False).digest()
