"""Small files that unfold: each is read in time and memory that its size bounds, or refused in one line."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from pictures_kit import opened, photo_of, png, saved, smooth
from test_pictures_metadata import XMP

from lowlight_cli.errors import InputError
from lowlight_cli.pictures import encode, metadata, read

PATIENCE = 20.0
"""Seconds for what takes about one, and took minutes."""

SOME = 2**17
KNOWN = b'<x:a xmlns:x="urn:x" x:City="Atown"/>'


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < PATIENCE


def with_text(kind: bytes, head: bytes, body: bytes, times: int = 1) -> bytes:
    """A PNG with a compressed text, so many times."""
    return png(smooth(), *[(kind, head + zlib.compress(body))] * times)


@pytest.mark.parametrize(
    "packet",
    [
        b"<xmp:Thumbnails " * SOME,
        b"</xmp:Thumbnails>" + b"<xmp:Thumbnails>" * SOME,
        b"<xmp:Thumbnails><xap:Thumbnails>" * SOME + b"</xmp:Thumbnails",
        b"<Container:Directory " * SOME,
        b"<GContainer:Directory>" * SOME + b"</Container:Directory>",
        b"<a:MotionPhoto " * SOME,
        b"<a:MotionPhoto>" * SOME,
        b"<rdf:Description " * SOME + b"</rdf:RDF>",
        b"<rdf:Description " + b"lowlight:Provenance= " * SOME + b"</rdf:RDF>",
        KNOWN + b"<a:City " * SOME,
        KNOWN + b"<a:City>" * SOME,
        b"<x:a>" + b"<a:City x='>'/>" * SOME + b"</x:a>",
        b"<x:a>" + b"<?a <a:City " * SOME + b"</x:a>",
    ],
    ids=lambda packet: packet[:24].decode(),
)
def test_xmp_that_opens_what_it_never_closes(packet: bytes) -> None:
    photo = read(with_text(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0", packet))
    assert photo.xmp == packet
    encode(photo, provenance="us", strip_gps=True)
    assert opened(encode(photo, provenance="us")).size == (64, 48)


def test_what_is_closed_is_cut_wherever_the_unclosed_is() -> None:
    thumbnail, folder = b"<xmp:Thumbnails>A</xmp:Thumbnails>", b"<Container:Directory>B</Container:Directory >"
    packet = XMP.replace(b"</rdf:RDF>", b"<xap:Thumbnails>" + thumbnail + folder * 2 + b"</rdf:RDF>")
    left = read(saved(smooth(), "JPEG", xmp=packet)).xmp
    assert left is not None and b">A<" not in left and b">B<" not in left and b"Directory" not in left
    assert left.count(b"Thumbnails") == 1 and b"Rating" in left and left.endswith(b'<?xpacket end="w"?>')


@pytest.mark.parametrize(("size", "kept"), [(2**24, True), (2**24 + 1, False)])
def test_xmp_of_more_than_any_program_writes_is_dropped_and_that_is_said(size: int, kept: bool) -> None:
    head, tail = XMP.replace(b"</rdf:RDF>", b"").split(b"</x:xmpmeta>")[0], b"</rdf:RDF></x:xmpmeta>"
    photo = read(saved(smooth(), "WEBP", xmp=head + b" " * (size - len(head + tail)) + tail))
    assert (photo.xmp is not None) == kept
    assert photo.notes == (() if kept else ("its XMP is longer than 16 MiB and not kept",))


def test_the_texts_of_a_png_inflate_to_64_mebibytes_together() -> None:
    tracemalloc.start()
    photo = read(with_text(b"zTXt", b"c\0\0", b"A" * (2**24 - 10), times=40))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [len(body) for _, body in photo.text] == [2**24 - 10] * 4
    assert peak < 2**28


def tagged(*values: tuple[int, int], pages: int = 1, side: int = 16) -> bytes:
    """A grey TIFF with so many private tags of so many bytes; those of one length share one value, as do pages."""
    body = bytearray(b"II*\0\0\0\0\0" + bytes(side * side))
    tags = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, side), (279, side**2)]
    entries = [struct.pack("<HHII", tag, 4, 1, number) for tag, number in tags]
    for count, size in values:
        entries += [struct.pack("<HHII", 40_000 + len(entries) + i, 7, size, len(body)) for i in range(count)]
        body += b"V" * size
    link = 4
    for _ in range(pages):
        struct.pack_into("<I", body, link, len(body))
        body += struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
        link = len(body) - 4
    return bytes(body)


@pytest.mark.filterwarnings("ignore:Tag data larger than file")  # Pillow's own bound, which is ours too
@pytest.mark.parametrize("count", [300, 3000])
def test_tags_of_a_tiff_that_share_a_long_value(count: int) -> None:
    tracemalloc.start()
    photo = read(tagged((count, 1_000_000)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert photo.exif is None and photo.notes == ("its EXIF is damaged and not kept",)
    assert peak < 2**26
    assert opened(encode(photo)).size == (16, 16)


def test_tags_of_a_tiff_that_share_a_short_value() -> None:
    """As some programs write both resolutions."""
    exif = read(tagged((2, 8))).exif
    assert exif is not None and (metadata.value(exif, 40_009), metadata.value(exif, 40_010)) == (b"V" * 8,) * 2
    assert read(tagged((1, 300), (1, 500))).notes == ()


def test_pages_of_a_tiff_that_share_a_long_value() -> None:
    with pytest.raises(InputError, match="metadata that its pages share are too long; split it first"):
        read(tagged((1, 1_000_000), pages=200))
    assert len(read(tagged((1, 1000), pages=200)).rest) == 199


@pytest.mark.parametrize("pages", [2001, 60_000])
def test_a_tiff_of_too_many_pages_is_refused(pages: int) -> None:
    with pytest.raises(InputError, match="has more than 2,000 pages; split it first"):
        read(tagged(pages=pages, side=1))


def test_a_tiff_of_many_pages_is_read() -> None:
    assert len(read(tagged(pages=2000, side=1)).rest) == 1999


def test_directories_of_a_tiff_that_overlap_are_no_pages() -> None:
    """Each begins before the one ahead of it, and covers it."""
    data, at = bytearray(tagged() + bytes(30_000)), 400
    first = struct.unpack_from("<I", data, 4)[0]
    struct.pack_into("<I", data, first + 2 + 9 * 12, at + 20)
    for start in (at + 20, at):
        struct.pack_into("<H", data, start, 100)
        struct.pack_into("<I", data, start + 2 + 1200, at)
    assert metadata.pages(bytes(data)) == ([first, at + 20], True)


@pytest.mark.parametrize("tag", [0x8825, 0x8769, 0x0111])
def test_exif_that_points_to_itself_again_and_again(tag: int) -> None:
    """Twenty thousand pointers, and as many values of a megabyte."""
    size = 1_000_000
    rows = struct.pack("<HHII", tag, 4, size // 4, 8 + 2 + 12 * 20_000) * 20_000
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", 20_000) + rows + b"\x09\0\0\0" * (size // 4) + bytes(4)
    photo = replace(photo_of(np.zeros((16, 16, 3), np.uint8)), exif=block, format="png")
    made = encode(photo, strip_gps=True)
    assert opened(made).size == (16, 16)
    assert read(saved(smooth(), "PNG", exif=block)).width == 64


def test_exif_that_is_too_long_and_shares_values_goes_with_a_note() -> None:
    notes: list[str] = []
    photo = replace(photo_of(smooth()), exif=tagged((3, 70_000)))
    assert read(encode(photo, format="jpeg", on_note=notes.append)).exif is None
    assert notes == ["its EXIF is too long for JPEG and not kept; PNG holds it"]
