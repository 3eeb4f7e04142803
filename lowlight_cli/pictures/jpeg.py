"""Scan the markers of a JPEG before decoding: would decoding take for ever, and does a video clip follow the picture?

A marker is 0xFF and a code. Most are followed by a segment that begins with its length; the segment of a scan is
followed by coded data, in which 0xFF never starts one of these markers (ITU-T T.81, B.1.1).
"""

from __future__ import annotations

import re
from typing import Final

from lowlight_cli.errors import InputError

__all__ = ["has_clip", "refuse_endless"]

_MARKER: Final = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xd9-\xef\xfe]")
"""The end of a picture (D9) and the markers with a segment; other codes stand alone or are not markers."""

_SCANS: Final = 500
"""Encoders write about ten; each scan, however short, costs a pass over the whole picture."""
_SEGMENTS: Final = 20_000
"""Extended XMP of a gigabyte has 16,000."""
_FILLING: Final = 2**18
"""Bytes outside of segments ahead of the first scan. Pillow reads them one by one: about a second for this many."""


def refuse_endless(data: bytes) -> None:
    """Raise InputError for a file made to stall the decoder: too many scans or segments, or too much filling.

    Args:
        data: the file; read to the end of the picture, in linear time.
    """
    at, filling, scans, segments = 2, 0, 0, 0
    while found := _MARKER.search(data, at):
        code, begin, at = data[found.end() - 1], at, found.end()
        if code == 0xD9:
            if scans:
                return
            filling += at - begin
        else:
            filling += 0 if scans else found.start() - begin
            segments += 1
            scans += code == 0xDA
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
        if filling > _FILLING:
            break
        if scans > _SCANS:
            raise InputError(f"has more than {_SCANS} scans, which no camera or program makes; export it anew")
        if segments > _SEGMENTS:
            raise InputError(f"has more than {_SEGMENTS:,} segments, which no camera or program makes; export it anew")
    if not scans and filling + (0 if found else len(data) - at) > _FILLING:
        raise InputError("has more filling ahead of its picture than any camera or program makes; export it anew")


def has_clip(data: bytes) -> bool:
    """Whether a video clip follows the end of a JPEG, as phones write it: directly, or after at most 256 bytes."""
    at = data.find(b"ftyp")
    while at >= 0:
        box = at - 4  # the length of the box: three zero bytes, then 8 to 64
        is_box = box >= 0 and data.startswith(b"\0\0\0", box) and 8 <= data[at - 1] <= 64
        if is_box and data.rfind(b"\xff\xd9", max(0, box - 258), box) >= 0:
            return True
        at = data.find(b"ftyp", at + 1)
    return False
