"""Edit EXIF and TIFF directories where necessary, and leave all else byte for byte as the camera wrote it.

EXIF is edited in place, because maker notes hold offsets that break if the block is rebuilt. Blocks are rebuilt only
from the scattered tags of a TIFF, for the later pages of a TIFF, and to drop the maker note itself.

TIFF 6.0 (Adobe 1992) section 2, Exif 2.32 (CIPA DC-008) 4.6.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from lowlight_cli.errors import InputError
from lowlight_cli.pictures.directories import Block, Directory, Entry

__all__ = [
    "adobe_rgb",
    "alone",
    "entries_for_tiff",
    "first",
    "from_tiff",
    "moved_entries",
    "orientation",
    "pages",
    "reset_orientation",
    "tidy_exif",
    "value",
    "with_value",
    "without",
    "without_gps",
    "without_maker_note",
]

ORIENTATION: Final = 0x0112
_SUBFILE: Final = 0x00FE
XMP: Final = 0x02BC
IPTC: Final = 0x83BB
PHOTOSHOP: Final = 0x8649
ICC: Final = 0x8773
EXIF_IFD: Final = 0x8769
GPS_IFD: Final = 0x8825
INTEROP_IFD: Final = 0xA005
_COLOUR_SPACE: Final = 0xA001
_MAKER_NOTE: Final = 0x927C
_WIDTHS: Final = frozenset({0x0100, 0xA002})
_HEIGHTS: Final = frozenset({0x0101, 0xA003})
_POINTERS: Final = frozenset({EXIF_IFD, GPS_IFD, INTEROP_IFD})
_THUMBNAILS: Final = ((0x0201, 0x0202), (0x0111, 0x0117))
"""Tags with the offsets and the lengths of a thumbnail: as JPEG, and in strips."""
_ON_EARTH: Final = frozenset({33_550, 33_922, 34_264, 34_735, 34_736, 34_737})
"""Tags that place a map on the earth: scale, tie points, transformation, keys (OGC GeoTIFF 1.1, annex B)."""

# Tags that describe how a TIFF stores its pixels; Photoshop's layers and previews; the tags of DNG.
_STORAGE: Final = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291}
    | {292, 293, 297, 301, 317, 320, 321, 322, 323, 324, 325, 330, 332, 333, 334, 336, 338, 339, 340, 341, 342, 343}
    | {347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, XMP, ICC, PHOTOSHOP, 37724}
    | set(range(50706, 50780))
)

_PAGES: Final = 2000
"""Each costs its own decoding, however small; a scanned document has a few hundred."""
_SHARED: Final = 2**16
"""Bytes of values that several tags of a directory may share, and of what pads them."""


def value(data: bytes, tag: int) -> bytes | None:
    """The bytes of a tag in the first directory of a TIFF, or None. Raises ValueError if `data` is not a TIFF."""
    block = Block(data)
    entry = block.first().find(tag)
    return data[entry.start : entry.end] if entry else None


def is_cut(data: bytes, tag: int) -> bool:
    """Whether the first directory of a TIFF has a tag whose value lies outside the file. Raises as `value`."""
    return tag in Block(data).first().outside


def first(data: bytes) -> int:
    """The offset of a TIFF's first directory. Raises ValueError if `data` is not a TIFF."""
    block = Block(data)
    return block.number("Q", 8) if block.big else block.number("I", 4)


def pages(data: bytes) -> tuple[list[int], bool]:
    """The offsets of a TIFF's pages, without previews and masks; and whether the chain of directories is broken.

    Raises:
        ValueError: `data` is not a TIFF.
        InputError: there are more than `_PAGES`, previews and masks included.
    """
    block, found, spans = Block(data), list[int](), list[tuple[int, int]]()
    word, at = "Q" if block.big else "I", first(data)
    while at:
        try:
            directory = block.directory(at)
        except ValueError:
            if not spans:
                raise
            return found, True
        end = directory.next_at + struct.calcsize("=" + word)
        if any(at < stop and start < end for start, stop in spans):  # a loop, or directories that share bytes
            return found, True
        if len(spans) == _PAGES:
            raise InputError(f"has more than {_PAGES:,} pages; split it first")
        spans.append((at, end))
        # NewSubfileType: 1 is a reduced copy, 4 a mask (TIFF 6.0, section 8)
        if not (block.integer(directory.find(_SUBFILE)) or 0) & 5:
            found.append(at)
        at = block.number(word, directory.next_at) if end <= len(data) else 0  # some writers omit the last offset
    return found, False


def alone(data: bytes, at: int) -> bytes:
    """A TIFF of the one page whose directory lies at `at`; other pages stay in the file, but nothing points to them."""
    block = Block(bytearray(data))
    assert isinstance(block.data, bytearray)
    word, first = ("Q", 8) if block.big else ("I", 4)
    struct.pack_into(block.order + word, block.data, first, at)
    end = block.directory(at).next_at
    if end + struct.calcsize("=" + word) <= len(data):  # some writers omit the last offset
        struct.pack_into(block.order + word, block.data, end, 0)
    return bytes(block.data)


def orientation(data: bytes) -> int:
    """The orientation tag: 1 (upright) to 8; 1 if it is missing. Raises ValueError if the block is damaged."""
    block = Block(data)
    found = block.integer(block.first().find(ORIENTATION))
    return found if found is not None and 1 <= found <= 8 else 1


def reset_orientation(data: bytes) -> bytes:
    """The same TIFF or EXIF block with its orientation, if it has one, set to 1."""
    block = Block(bytearray(data))
    entry = block.first().find(ORIENTATION)
    if entry is not None:
        block.write(entry, 1)
    return bytes(block.data)


def tidy_exif(exif: bytes, height: int, width: int, *, srgb: bool = False) -> bytes:
    """EXIF for an upright picture: orientation reset, size corrected, thumbnail removed; marked as sRGB if `srgb`.

    Raises:
        ValueError: the block is damaged.
    """
    data = bytearray(reset_orientation(exif))
    block = Block(data)
    if block.big:
        raise ValueError("EXIF is no BigTIFF")
    for directory in _reached(block):
        for entry in directory.entries:
            if entry.tag in _WIDTHS:
                block.write(entry, width)
            elif entry.tag in _HEIGHTS:
                block.write(entry, height)
            elif entry.tag == _COLOUR_SPACE and srgb:
                block.write(entry, 1)
    if srgb and (mark := _adobe_mark(block)):  # DCF 2.0: R98 means sRGB
        data[mark.start : mark.start + 3] = b"R98"
    top = block.first()
    # some writers omit the offset if there is no second directory
    second = block.number("I", top.next_at) if top.next_at + 4 <= len(data) else 0
    if second:
        struct.pack_into("=I", data, top.next_at, 0)
        kept = _reached(block)
        try:
            thumbnail = block.directory(second)
        except ValueError:
            pass  # nothing points to it any more, which suffices for a thumbnail that cannot be read
        else:
            block.clear(_thumbnail(block, thumbnail), [(0, 8), *(span for each in kept for span in each.spans)])
        used = max(end for each in kept for _, end in each.spans)
        del data[max(used, len(data.rstrip(b"\0"))) :]
    return bytes(data)


def _reached(block: Block) -> list[Directory]:
    """The first directory and the EXIF, GPS and interoperability directories below it."""
    top = block.first()
    exif = block.below(top, EXIF_IFD)
    below = [exif, block.below(top, GPS_IFD), block.below(exif, INTEROP_IFD) if exif else None]
    return [top, *(directory for directory in below if directory)]


def _thumbnail(block: Block, second: Directory) -> Iterator[tuple[int, int]]:
    """The parts of a block that the second directory takes, with its picture and the directories below it."""
    yield from second.spans
    for starts, lengths in _THUMBNAILS:
        places = zip(block.numbers(second.find(starts)), block.numbers(second.find(lengths)), strict=False)
        yield from ((start, start + length) for start, length in places)
    for tag in _POINTERS:
        for below in block.all_below(second, tag):
            yield from below.spans


def without_gps(exif: bytes) -> bytes:
    """EXIF without places: the GPS directory and the map tags are overwritten, and their entries removed.

    Raises:
        ValueError: the block is damaged.
    """
    block = Block(bytearray(exif))
    top = block.first()
    holders = [*block.all_below(top, EXIF_IFD), top]
    places = [place for holder in holders for place in block.all_below(holder, GPS_IFD)]
    if {place.at for place in places} & {holder.at for holder in holders}:
        raise ValueError("a directory lies within itself")
    block.clear(span for place in places for span in place.spans)
    for holder in holders:
        block.remove(block.directory(holder.at), _ON_EARTH | {GPS_IFD})
    return bytes(block.data)


def without(exif: bytes, tags: frozenset[int]) -> bytes:
    """EXIF without the given tags in its first directory; their values are overwritten.

    Raises:
        ValueError: the block is damaged.
    """
    block = Block(bytearray(exif))
    block.remove(block.first(), tags)
    return bytes(block.data)


def with_value(exif: bytes, tag: int, raw: bytes, fill: bytes) -> bytes:
    """EXIF with a value of its first directory replaced by `raw`, which must not be longer and is padded with `fill`.

    Raises:
        ValueError: the block is damaged.
    """
    block = Block(bytearray(exif))
    if entry := block.first().find(tag):
        assert isinstance(block.data, bytearray)
        block.data[entry.start : entry.end] = raw.ljust(entry.size, fill)[: entry.size]
    return bytes(block.data)


def without_maker_note(exif: bytes) -> bytes:
    """EXIF rebuilt without the maker note, which only the camera's maker can read. Raises ValueError as `from_tiff`."""
    block = Block(bytearray(exif))
    if below := block.below(block.first(), EXIF_IFD):
        block.remove(below, frozenset({_MAKER_NOTE}))
    return exif[:2] + struct.pack(block.order + "HI", 42, 8) + _pack(block, block.first(), 8)


def adobe_rgb(exif: bytes) -> bool:
    """Whether EXIF declares Adobe RGB as cameras do that embed no profile (DCF 2.0: option file, R03)."""
    return _adobe_mark(Block(exif)) is not None


def _adobe_mark(block: Block) -> Entry | None:
    exif_ifd = block.below(block.first(), EXIF_IFD)
    interop = block.below(exif_ifd, INTEROP_IFD) if exif_ifd else None
    index = interop.find(1) if interop else None
    return index if index and block.data[index.start : index.end][:3] == b"R03" else None


def from_tiff(data: bytes) -> bytes | None:
    """The tags that describe a TIFF's picture rather than its storage, as an EXIF block; None if there are none.

    Raises:
        ValueError: `data` is not a TIFF, or tags share so much that the block would be longer than the file.
    """
    block = Block(data)
    top = block.first()
    if not any(entry.tag not in _STORAGE | {ORIENTATION} for entry in top.entries):
        return None
    head = data[:2] + struct.pack(block.order + "HI", 42, 8)
    return head + _pack(block, top, 8, _STORAGE)


def entries_for_tiff(exif: bytes) -> dict[int, bytes]:
    """The raw entries of a block's first directory, by tag, that may be copied into the directory of a TIFF page."""
    block = Block(exif)
    kept = (entry for entry in block.first().entries if entry.tag not in _STORAGE | {ORIENTATION})
    return {entry.tag: bytes(exif[entry.at : entry.at + 12]) for entry in kept}


def moved_entries(exif: bytes, at: int) -> tuple[dict[int, bytes], bytes]:
    """Rebuild an EXIF block for offset `at`; return its entries by tag, as `entries_for_tiff` does, and its bytes."""
    block = Block(exif)
    packed = _pack(block, block.first(), at, _STORAGE | {ORIENTATION})
    count = int(struct.unpack_from(block.order + "H", packed)[0])
    rows = (packed[2 + 12 * i : 14 + 12 * i] for i in range(count))
    return {int(struct.unpack_from(block.order + "H", row)[0]): row for row in rows}, packed


def _pack(block: Block, directory: Directory, at: int, leave: frozenset[int] = frozenset()) -> bytes:
    """A directory and all below it, without the tags `leave` and repeated ones, packed for the offset `at`.

    Raises:
        ValueError: its values are longer than the block, because they share bytes.
    """
    entries = dict[int, Entry]()
    for entry in directory.entries:
        if entry.tag not in leave and entry.type < 16:
            entries.setdefault(entry.tag, entry)
    here = at + 2 + 12 * len(entries) + 4
    table, values, size = [struct.pack(block.order + "H", len(entries))], list[bytes](), 0
    for entry in entries.values():
        below = block.below(directory, entry.tag) if entry.tag in _POINTERS else None
        if below is not None:
            # pointers are followed once: Exif to Interop, never back
            raw = _pack(block, below, here, _POINTERS - ({INTEROP_IFD} if entry.tag == EXIF_IFD else set()))
            table.append(struct.pack(block.order + "HHII", entry.tag, 4, 1, here))
        else:
            raw = bytes(block.data[entry.start : entry.end])
            place = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(block.order + "I", here)
            table.append(struct.pack(block.order + "HHI", entry.tag, entry.type, entry.count) + place)
            raw = raw if len(raw) > 4 else b""
        size += len(raw)
        if size > len(block.data) + _SHARED:
            raise ValueError("values of a directory share bytes")
        values.append(raw + b"\0" * (len(raw) % 2))
        here += len(values[-1])
    return b"".join([*table, bytes(4), *values])
