"""Edit EXIF and TIFF directories where necessary, and leave all else byte for byte as the camera wrote it.

EXIF is edited in place, because maker notes hold offsets that break if the block is rebuilt. Blocks are rebuilt only
from the scattered tags of a TIFF, for the later pages of a TIFF, and to drop the maker note itself.

TIFF 6.0 (Adobe 1992) section 2, Exif 2.32 (CIPA DC-008) 4.6.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

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
_ON_EARTH: Final = frozenset({33_550, 33_922, 34_264, 34_735, 34_736, 34_737})
"""Tags that place a map on the earth: scale, tie points, transformation, keys (OGC GeoTIFF 1.1, annex B)."""

# Tags that describe how a TIFF stores its pixels; Photoshop's layers and previews; the tags of DNG.
_STORAGE: Final = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291}
    | {292, 293, 297, 301, 317, 320, 321, 322, 323, 324, 325, 330, 332, 333, 334, 336, 338, 339, 340, 341, 342, 343}
    | {347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, XMP, ICC, PHOTOSHOP, 37724}
    | set(range(50706, 50780))
)

_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


@dataclass(frozen=True)
class _Entry:
    at: int  # offset of the entry itself
    tag: int
    type: int
    count: int
    start: int  # offset of its value, inside the entry or elsewhere
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class _Directory:
    at: int
    entries: tuple[_Entry, ...]
    next_at: int  # where the offset of the next directory is stored
    outside: frozenset[int]  # tags whose value lies outside the block, or has no size that is known

    def find(self, tag: int) -> _Entry | None:
        return next((entry for entry in self.entries if entry.tag == tag), None)


class _Block:
    """A TIFF structure: byte order, and its directories on demand."""

    def __init__(self, data: bytes | bytearray) -> None:
        if data[:2] not in (b"II", b"MM"):
            raise ValueError("no TIFF header")
        self.data = data
        self.order = "<" if data[:2] == b"II" else ">"
        version = self.number("H", 2)
        if version not in (42, 43):
            raise ValueError("no TIFF header")
        self.big = version == 43

    def number(self, code: str, at: int) -> int:
        try:
            return int(struct.unpack_from(self.order + code, self.data, at)[0])
        except struct.error as error:
            raise ValueError("a directory lies outside the block") from error

    def first(self) -> _Directory:
        return self.directory(self.number("Q", 8) if self.big else self.number("I", 4))

    def directory(self, at: int) -> _Directory:
        """The directory at an offset, without entries whose value lies outside the block."""
        head, step, inline, word = (8, 20, 8, "Q") if self.big else (2, 12, 4, "I")
        count = self.number("Q" if self.big else "H", at)
        if at < 8 or at + head + count * step > len(self.data):
            raise ValueError("a directory lies outside the block")
        entries, outside = [], set()
        for entry_at in range(at + head, at + head + count * step, step):
            tag, kind = self.number("H", entry_at), self.number("H", entry_at + 2)
            number = self.number(word, entry_at + 4)
            size = _SIZES.get(kind, 0) * number
            value_at = entry_at + step - inline
            start = value_at if size <= inline else self.number(word, value_at)
            if size and start + size <= len(self.data):
                entries.append(_Entry(entry_at, tag, kind, number, start, size))
            else:
                outside.add(tag)
        return _Directory(at, tuple(entries), at + head + count * step, frozenset(outside))

    def integer(self, entry: _Entry | None) -> int | None:
        """The first number of an entry of unsigned integers; None for other entries."""
        codes = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
        return None if entry is None or entry.type not in codes else self.number(codes[entry.type], entry.start)

    def below(self, directory: _Directory, tag: int) -> _Directory | None:
        """The directory that a tag points to; None if there is none or it is damaged."""
        offset = self.integer(directory.find(tag))
        try:
            return None if offset is None else self.directory(offset)
        except ValueError:
            return None

    def all(self) -> list[_Directory]:
        """The first directory and the EXIF, GPS and interoperability directories below it."""
        top = self.first()
        exif = self.below(top, EXIF_IFD)
        below = [exif, self.below(top, GPS_IFD), self.below(exif, INTEROP_IFD) if exif else None]
        return [top, *(directory for directory in below if directory)]

    def write(self, entry: _Entry, number: int) -> None:
        """Replace the number of a SHORT or LONG entry; a SHORT becomes a LONG if the number does not fit."""
        assert isinstance(self.data, bytearray)
        if entry.type == 3 and number > 0xFFFF:
            code = self.order + ("HQI" if self.big else "HII")  # a LONG is stored inside its entry
            struct.pack_into(code, self.data, entry.at + 2, 4, 1, number)
        elif entry.type in (3, 4):
            struct.pack_into(self.order + ("H" if entry.type == 3 else "I"), self.data, entry.start, number)

    def wipe(self, directory: _Directory) -> None:
        """Overwrite a directory and its values with zeros."""
        assert isinstance(self.data, bytearray)
        for entry in directory.entries:
            self.data[entry.start : entry.end] = bytes(entry.size)
        end = min(directory.next_at + 4, len(self.data))
        self.data[directory.at : end] = bytes(end - directory.at)

    def remove(self, directory: _Directory, tag: int) -> None:
        """Remove an entry from a directory; the entries after it move up."""
        assert isinstance(self.data, bytearray)
        entry = directory.find(tag)
        if entry is None:
            return
        if self.big:
            raise ValueError("a directory is that of a BigTIFF")
        end = min(directory.next_at + 4, len(self.data))
        self.data[entry.at : end] = self.data[entry.at + 12 : end] + bytes(12)
        struct.pack_into(self.order + "H", self.data, directory.at, self.number("H", directory.at) - 1)


def value(data: bytes, tag: int) -> bytes | None:
    """The bytes of a tag in the first directory of a TIFF, or None. Raises ValueError if `data` is not a TIFF."""
    block = _Block(data)
    entry = block.first().find(tag)
    return data[entry.start : entry.end] if entry else None


def is_cut(data: bytes, tag: int) -> bool:
    """Whether the first directory of a TIFF has a tag whose value lies outside the file. Raises as `value`."""
    return tag in _Block(data).first().outside


def first(data: bytes) -> int:
    """The offset of a TIFF's first directory. Raises ValueError if `data` is not a TIFF."""
    block = _Block(data)
    return block.number("Q", 8) if block.big else block.number("I", 4)


def pages(data: bytes) -> tuple[list[int], bool]:
    """The offsets of a TIFF's pages, without previews and masks; and whether the chain of directories is broken.

    Raises:
        ValueError: `data` is not a TIFF.
    """
    block, found, spans = _Block(data), list[int](), list[range]()
    word, at = "Q" if block.big else "I", first(data)
    while at:
        if any(at in span for span in spans):  # a loop, or a directory inside another
            return found, True
        try:
            directory = block.directory(at)
        except ValueError:
            if not spans:
                raise
            return found, True
        end = directory.next_at + struct.calcsize("=" + word)
        spans.append(range(at, end))
        # NewSubfileType: 1 is a reduced copy, 4 a mask (TIFF 6.0, section 8)
        if not (block.integer(directory.find(_SUBFILE)) or 0) & 5:
            found.append(at)
        at = block.number(word, directory.next_at) if end <= len(data) else 0  # some writers omit the last offset
    return found, False


def alone(data: bytes, at: int) -> bytes:
    """A TIFF of the one page whose directory lies at `at`; other pages stay in the file, but nothing points to them."""
    block = _Block(bytearray(data))
    assert isinstance(block.data, bytearray)
    word, first = ("Q", 8) if block.big else ("I", 4)
    struct.pack_into(block.order + word, block.data, first, at)
    end = block.directory(at).next_at
    if end + struct.calcsize("=" + word) <= len(data):  # some writers omit the last offset
        struct.pack_into(block.order + word, block.data, end, 0)
    return bytes(block.data)


def orientation(data: bytes) -> int:
    """The orientation tag: 1 (upright) to 8; 1 if it is missing. Raises ValueError if the block is damaged."""
    block = _Block(data)
    found = block.integer(block.first().find(ORIENTATION))
    return found if found is not None and 1 <= found <= 8 else 1


def reset_orientation(data: bytes) -> bytes:
    """The same TIFF or EXIF block with its orientation, if it has one, set to 1."""
    block = _Block(bytearray(data))
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
    block = _Block(data)
    if block.big:
        raise ValueError("EXIF is no BigTIFF")
    for directory in block.all():
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
        try:
            thumbnail = block.directory(second)
            start, length = (block.integer(thumbnail.find(tag)) for tag in (0x0201, 0x0202))
            if start and length and start + length <= len(data):
                data[start : start + length] = bytes(length)
            block.wipe(thumbnail)
        except ValueError:
            pass  # nothing points to it any more, which suffices for a thumbnail that cannot be read
        used = max(max((entry.end for entry in d.entries), default=0) for d in block.all())
        used = max(used, *(d.next_at + 4 for d in block.all()))
        del data[max(used, len(data.rstrip(b"\0"))) :]
    return bytes(data)


def without_gps(exif: bytes) -> bytes:
    """EXIF without places: the GPS directory and the map tags are overwritten, and their entries removed.

    Raises:
        ValueError: the block is damaged.
    """
    block = _Block(bytearray(exif))
    top = block.first()
    places = block.below(top, GPS_IFD)
    if places is not None and places.at == top.at:
        raise ValueError("a directory lies within itself")
    if places is not None:
        block.wipe(places)
    return without(bytes(block.data), _ON_EARTH | {GPS_IFD})


def without(exif: bytes, tags: frozenset[int]) -> bytes:
    """EXIF without the given tags in its first directory; their values are overwritten.

    Raises:
        ValueError: the block is damaged.
    """
    block = _Block(bytearray(exif))
    assert isinstance(block.data, bytearray)
    for tag in tags:
        while entry := block.first().find(tag):
            block.data[entry.start : entry.end] = bytes(entry.size)
            block.remove(block.first(), tag)
    return bytes(block.data)


def with_value(exif: bytes, tag: int, raw: bytes, fill: bytes) -> bytes:
    """EXIF with a value of its first directory replaced by `raw`, which must not be longer and is padded with `fill`.

    Raises:
        ValueError: the block is damaged.
    """
    block = _Block(bytearray(exif))
    if entry := block.first().find(tag):
        assert isinstance(block.data, bytearray)
        block.data[entry.start : entry.end] = raw.ljust(entry.size, fill)[: entry.size]
    return bytes(block.data)


def without_maker_note(exif: bytes) -> bytes:
    """EXIF rebuilt without the maker note, which only the camera's maker can read."""
    block = _Block(bytearray(exif))
    if below := block.below(block.first(), EXIF_IFD):
        block.remove(below, _MAKER_NOTE)
    return exif[:2] + struct.pack(block.order + "HI", 42, 8) + _pack(block, block.first(), 8)


def adobe_rgb(exif: bytes) -> bool:
    """Whether EXIF declares Adobe RGB as cameras do that embed no profile (DCF 2.0: option file, R03)."""
    return _adobe_mark(_Block(exif)) is not None


def _adobe_mark(block: _Block) -> _Entry | None:
    exif_ifd = block.below(block.first(), EXIF_IFD)
    interop = block.below(exif_ifd, INTEROP_IFD) if exif_ifd else None
    index = interop.find(1) if interop else None
    return index if index and block.data[index.start : index.end][:3] == b"R03" else None


def from_tiff(data: bytes) -> bytes | None:
    """The tags that describe a TIFF's picture rather than its storage, as an EXIF block; None if there are none.

    Raises:
        ValueError: `data` is not a TIFF.
    """
    block = _Block(data)
    top = block.first()
    if not any(entry.tag not in _STORAGE | {ORIENTATION} for entry in top.entries):
        return None
    head = data[:2] + struct.pack(block.order + "HI", 42, 8)
    return head + _pack(block, top, 8, _STORAGE)


def entries_for_tiff(exif: bytes) -> dict[int, bytes]:
    """The raw entries of a block's first directory, by tag, that may be copied into the directory of a TIFF page."""
    block = _Block(exif)
    kept = (entry for entry in block.first().entries if entry.tag not in _STORAGE | {ORIENTATION})
    return {entry.tag: bytes(exif[entry.at : entry.at + 12]) for entry in kept}


def moved_entries(exif: bytes, at: int) -> tuple[dict[int, bytes], bytes]:
    """As `entries_for_tiff`, for a block that is not at offset 0: the entries, and the bytes that must lie at `at`."""
    block = _Block(exif)
    packed = _pack(block, block.first(), at, _STORAGE | {ORIENTATION})
    count = int(struct.unpack_from(block.order + "H", packed)[0])
    rows = (packed[2 + 12 * i : 14 + 12 * i] for i in range(count))
    return {int(struct.unpack_from(block.order + "H", row)[0]): row for row in rows}, packed


def _pack(block: _Block, directory: _Directory, at: int, leave: frozenset[int] = frozenset()) -> bytes:
    """A directory and all below it, without the tags `leave`, packed for the offset `at`."""
    entries = [entry for entry in directory.entries if entry.tag not in leave and entry.type < 16]
    behind = at + 2 + 12 * len(entries) + 4
    table, values = struct.pack(block.order + "H", len(entries)), b""
    for entry in entries:
        here = behind + len(values)
        below = block.below(directory, entry.tag) if entry.tag in _POINTERS else None
        if below is not None:
            table += struct.pack(block.order + "HHII", entry.tag, 4, 1, here)
            # pointers are followed once: Exif to Interop, never back
            values += _pack(block, below, here, _POINTERS - ({INTEROP_IFD} if entry.tag == EXIF_IFD else set()))
        else:
            raw = bytes(block.data[entry.start : entry.end])
            table += struct.pack(block.order + "HHI", entry.tag, entry.type, entry.count)
            table += raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(block.order + "I", here)
            values += raw if len(raw) > 4 else b""
        values += b"\0" * (len(values) % 2)
    return table + bytes(4) + values
