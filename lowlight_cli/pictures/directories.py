"""The directories of a TIFF structure, which EXIF has too: read them, and edit them in place.

TIFF 6.0 (Adobe 1992) section 2, BigTIFF (version 43).
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Block", "Directory", "Entry", "Spans"]

_MOST: Final = 8
"""Directories that one tag may point to; where it makes sense there is one, and each costs its reading."""

Spans = Iterable[tuple[int, int]]
"""Parts of a block: where each starts and ends."""

_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS: Final = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
"""Types to codes of `struct`."""


@dataclass(frozen=True)
class Entry:
    """One tag of a directory."""

    at: int  # offset of the entry itself
    tag: int
    type: int
    count: int
    start: int  # offset of its value, inside the entry or elsewhere
    size: int

    @property
    def end(self) -> int:
        """Where its value ends."""
        return self.start + self.size


@dataclass(frozen=True)
class Directory:
    """The tags of a picture, or of a part of its metadata."""

    at: int
    entries: tuple[Entry, ...]
    next_at: int  # where the offset of the next directory is stored
    outside: frozenset[int]  # tags whose value lies outside the block, or has no size that is known

    def find(self, tag: int) -> Entry | None:
        """The first entry of a tag."""
        return next((entry for entry in self.entries if entry.tag == tag), None)

    @property
    def spans(self) -> Spans:
        """The parts of the block that it takes: its own, and its values."""
        return [(self.at, self.next_at + 4), *((entry.start, entry.end) for entry in self.entries)]


class Block:
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
        """A number by its code of `struct`. Raises ValueError if it lies outside the block."""
        try:
            return int(struct.unpack_from(self.order + code, self.data, at)[0])
        except struct.error as error:
            raise ValueError("a directory lies outside the block") from error

    def first(self) -> Directory:
        """The directory to which the header points. Raises as `directory`."""
        return self.directory(self.number("Q", 8) if self.big else self.number("I", 4))

    def directory(self, at: int) -> Directory:
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
                entries.append(Entry(entry_at, tag, kind, number, start, size))
            else:
                outside.add(tag)
        return Directory(at, tuple(entries), at + head + count * step, frozenset(outside))

    def integer(self, entry: Entry | None) -> int | None:
        """The first number of an entry of integers; None for other entries."""
        return None if entry is None or entry.type not in _INTEGERS else self.number(_INTEGERS[entry.type], entry.start)

    def numbers(self, entry: Entry | None) -> tuple[int, ...]:
        """All numbers of an entry of integers; none for other entries."""
        if entry is None or entry.type not in _INTEGERS:
            return ()
        return struct.unpack_from(f"{self.order}{entry.count}{_INTEGERS[entry.type]}", self.data, entry.start)

    def below(self, directory: Directory, tag: int) -> Directory | None:
        """The directory that a tag points to; None if there is none or it is damaged."""
        offset = self.integer(directory.find(tag))
        try:
            return None if offset is None else self.directory(offset)
        except ValueError:
            return None

    def all_below(self, directory: Directory, tag: int) -> list[Directory]:
        """The directories to which any entry of a tag points, without damaged ones.

        Raises:
            ValueError: there are more than can make sense.
        """
        pointers = [entry for entry in directory.entries if entry.tag == tag]
        if sum(entry.count for entry in pointers) > _MOST:
            raise ValueError("a directory points to too many others")
        found = []
        for offset in {offset for entry in pointers for offset in self.numbers(entry)}:
            with contextlib.suppress(ValueError):
                found.append(self.directory(offset))
        return found

    def write(self, entry: Entry, number: int) -> None:
        """Replace the number of a SHORT or LONG entry; a SHORT becomes a LONG if the number does not fit."""
        assert isinstance(self.data, bytearray)
        if entry.type == 3 and number > 0xFFFF:
            code = self.order + ("HQI" if self.big else "HII")  # a LONG is stored inside its entry
            struct.pack_into(code, self.data, entry.at + 2, 4, 1, number)
        elif entry.type in (3, 4):
            struct.pack_into(self.order + ("H" if entry.type == 3 else "I"), self.data, entry.start, number)

    def clear(self, spans: Spans, kept: Spans = ()) -> None:
        """Overwrite parts with zeros, but not what lies within those `kept`; in linear time, however they overlap."""
        assert isinstance(self.data, bytearray)
        before = bytes(self.data)
        for start, end in _merged(spans, len(before)):
            self.data[start:end] = bytes(end - start)
        for start, end in _merged(kept, len(before)):
            self.data[start:end] = before[start:end]

    def remove(self, directory: Directory, tags: frozenset[int]) -> None:
        """Remove the entries of some tags from a directory, and overwrite their values; other entries move up."""
        assert isinstance(self.data, bytearray)
        if not tags & (directory.outside | {entry.tag for entry in directory.entries}):
            return
        if self.big:
            raise ValueError("a directory is that of a BigTIFF")
        table, end = directory.at + 2, min(directory.next_at + 4, len(self.data))
        starts = [start for start in range(table, directory.next_at, 12) if self.number("H", start) not in tags]
        left = b"".join([*(self.data[start : start + 12] for start in starts), self.data[directory.next_at : end]])
        self.clear((entry.start, entry.end) for entry in directory.entries if entry.tag in tags)
        struct.pack_into(self.order + "H", self.data, directory.at, len(starts))
        self.data[table:end] = left.ljust(end - table, b"\0")


def _merged(spans: Spans, size: int) -> Iterator[tuple[int, int]]:
    """The same bytes below `size` as parts that do not overlap, in order."""
    done = 0
    for start, end in sorted(spans):
        start, end = max(start, done), min(end, size)
        if start < end:
            yield start, end
            done = end
