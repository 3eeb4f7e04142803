"""EXIF, XMP, orientation, places, provenance."""

from __future__ import annotations

import contextlib
import struct
import xml.etree.ElementTree as ET
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures_kit import opened, photo_of, saved, seen, smooth
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from lowlight_cli.pictures import encode, metadata, read, xmp

MAKER = bytes(range(256)) * 3
KINDS = ["jpeg", "png", "webp", "tiff", "avif"]
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="uuid:1" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"'
    ' xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="48,12.5N" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    ' xmp:Rating="4"><exif:GPSLongitude>16,22E</exif:GPSLongitude>'
    "<xmp:Thumbnails><rdf:Alt><rdf:li>AAAA</rdf:li></rdf:Alt></xmp:Thumbnails></rdf:Description></rdf:RDF>"
    '</x:xmpmeta><?xpacket end="w"?>'
).encode()


def camera_exif(turn: int = 1, order: str = "<") -> bytes:
    """A block as cameras write it: five directories, a maker note, a thumbnail."""

    def entry(tag: int, kind: int, count: int, value: int | bytes) -> bytes:
        if isinstance(value, bytes):
            return struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")
        word = struct.pack(order + ("HH" if kind == 3 else "I"), *((value, 0) if kind == 3 else (value,)))
        return struct.pack(order + "HHI", tag, kind, count) + word

    def directory(*entries: bytes, then: int = 0) -> bytes:
        return struct.pack(order + "H", len(entries)) + b"".join(entries) + struct.pack(order + "I", then)

    thumbnail = saved(smooth(12, 16), "JPEG")
    ifd0, exif, interop, gps, ifd1 = 8, 100, 200, 240, 400
    make, maker, place = 300, 500, 330
    data = bytearray(maker + len(MAKER) + len(thumbnail))
    data[:8] = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", ifd0)

    def put(at: int, raw: bytes) -> None:
        data[at : at + len(raw)] = raw

    put(
        ifd0,
        directory(
            entry(0x010F, 2, 12, make),
            entry(0x0112, 3, 1, turn),
            entry(0x8769, 4, 1, exif),
            entry(0x8825, 4, 1, gps),
            then=ifd1,
        ),
    )
    put(
        exif,
        directory(
            entry(0x927C, 7, len(MAKER), maker),
            entry(0xA002, 4, 1, 64),
            entry(0xA003, 3, 1, 48),
            entry(0xA005, 4, 1, interop),
        ),
    )
    put(interop, directory(entry(1, 2, 4, b"R98\0")))
    put(gps, directory(entry(1, 2, 2, b"N\0"), entry(2, 5, 3, place)))
    put(make, b"Camera Co 1\0")
    put(place, struct.pack(order + "6I", 48, 1, 12, 1, 1234, 100))
    put(ifd1, directory(entry(0x0201, 4, 1, maker + len(MAKER)), entry(0x0202, 4, 1, len(thumbnail))))
    put(maker, MAKER)
    put(maker + len(MAKER), thumbnail)
    return bytes(data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", KINDS)
def test_exif_survives_from_kind_to_kind(kind, order):
    source = saved(smooth(), "JPEG", exif=b"Exif\0\0" + camera_exif(1, order))
    data = encode(read(source), format=kind)
    for made in (data, encode(read(data))):  # there, and once more in the same kind
        exif = opened(made).getexif()
        assert exif[0x010F] == "Camera Co 1"
        assert exif.get(0x0112, 1) == 1
        assert exif.get_ifd(0x8769)[0x927C] == MAKER
        assert exif.get_ifd(0x8825)[2] == (48.0, 12.0, 12.34)
        assert exif.get_ifd(0x8769)[0xA002] == 64
        assert not exif.get_ifd(ExifTags.IFD.IFD1)
        assert b"\xff\xd8\xff" not in made[10:] or kind == "avif"  # no thumbnail's bytes


def test_no_byte_of_an_uncompressed_thumbnail_stays():
    """Nor where what is kept lies behind it, or within the strips that it claims."""
    exif = bytearray(camera_exif())
    rows = [(0x0111, 4, 2, 460), (0x0117, 3, 2, 30 | 600 << 16)]
    exif[400:454] = struct.pack("<H", 2) + b"".join(struct.pack("<HHII", *row) for row in rows) + bytes(28)
    struct.pack_into("<II", exif, 460, 470, len(exif))
    exif[470:500] = b"Thumbnail of thirty bytes     "
    tidied = metadata.tidy_exif(bytes(exif) + b"Second strip" * 50, 48, 64)
    assert b"Thumbnail" not in tidied and b"strip" not in tidied
    assert tidied[500 : 500 + len(MAKER)] == MAKER
    struct.pack_into("<II", exif, 460, 0, 200)  # strips that make no sense
    tidied = metadata.tidy_exif(bytes(exif), 48, 64)
    assert tidied[300:312] == b"Camera Co 1\0" and tidied[500 : 500 + len(MAKER)] == MAKER


@pytest.mark.parametrize("order", ["<", ">"])
def test_maker_notes_stay_where_they_are(order):
    exif = camera_exif(6, order)
    for kind in ("jpeg", "png", "tiff"):
        photo = read(encode(read(saved(smooth(), "JPEG", exif=b"Exif\0\0" + exif)), format=kind))
        if kind != "tiff":  # read back from a TIFF, it is packed anew
            assert photo.exif[500 : 500 + len(MAKER)] == MAKER
    assert encode(photo, format="tiff").find(MAKER) > 0


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_orientation_is_applied_once_and_reset(kind, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"quality": 100} if kind in ("jpeg", "avif") else {"lossless": True} if kind == "webp" else {}
    data = saved(smooth(40, 56), kind.upper(), exif=exif, **options)
    upright = ImageOps.exif_transpose(opened(data))
    photo = read(data)
    assert (photo.width, photo.height) == upright.size
    assert np.abs(photo.pixels * 255 - np.asarray(upright)).max() < 1.1
    again = opened(encode(photo))
    assert again.size == upright.size
    assert again.getexif().get(0x0112, 1) == 1
    assert np.abs(np.asarray(ImageOps.exif_transpose(again), int) - np.asarray(upright)).mean() < 3


@pytest.mark.parametrize(("turn", "wanted"), [(1, (72, 300)), (3, (72, 300)), (6, (300, 72)), (8, (300, 72))])
def test_the_resolution_turns_with_the_picture(turn: int, wanted: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    photo = read(saved(smooth(), "JPEG", exif=exif, dpi=(72, 300)))
    assert photo.dpi == wanted and opened(encode(photo)).info["dpi"] == wanted


def with_orientation(tiff: bytes, turn: int) -> bytes:
    """A little-endian TIFF with the tag added, in a directory at its end."""
    at = struct.unpack_from("<I", tiff, 4)[0]
    count = struct.unpack_from("<H", tiff, at)[0]
    entries = [tiff[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count)]
    entries = [entry for entry in entries if entry[:2] != struct.pack("<H", 0x0112)]
    entries.append(struct.pack("<HHIHH", 0x0112, 3, 1, turn, 0))
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    tiff += bytes(len(tiff) % 2)
    return (
        tiff[:4]
        + struct.pack("<I", len(tiff))
        + tiff[8:]
        + struct.pack("<H", len(entries))
        + b"".join(entries)
        + bytes(4)
    )


@pytest.mark.parametrize("compression", [1, 5, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_orientation_of_a_tiff_whoever_decodes_it(compression, dtype):
    array = smooth(10, 14).astype(dtype) * (257 if dtype == np.uint16 else 1)
    made = cv2.imencode(".tiff", array[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, compression])[1].tobytes()
    photo = read(with_orientation(made, 8))
    assert np.array_equal(np.rint(photo.pixels * np.iinfo(dtype).max), np.rot90(array))
    assert np.array_equal(seen(encode(photo)), np.rot90(array))


def test_sizes_in_exif_follow_the_turn():
    photo = read(saved(smooth(48, 64), "JPEG", exif=b"Exif\0\0" + camera_exif(6)))
    below = opened(encode(photo)).getexif().get_ifd(0x8769)
    assert (below[0xA002], below[0xA003]) == (48, 64)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_side_that_is_too_long_for_a_short_number_in_exif(order):
    """EXIF's height is a SHORT here, and a LONG after the turn; it holds 65,535 at most."""
    exif = b"Exif\0\0" + camera_exif(6, order)
    photo = read(saved(np.zeros((2, 70_000, 3), np.uint8), "PNG", exif=exif))
    assert (photo.width, photo.height, photo.notes) == (2, 70_000, ())
    for kind in ("png", "tiff"):
        below = opened(encode(photo, format=kind)).getexif().get_ifd(0x8769)
        assert (below[0xA002], below[0xA003]) == (2, 70_000)
        assert below[0x927C] == MAKER


@pytest.mark.parametrize("kind", KINDS)
def test_places_can_be_stripped(kind):
    exif = camera_exif()
    photo = replace(read(saved(smooth(), "JPEG", exif=b"Exif\0\0" + exif)), xmp=XMP)
    assert struct.pack("<II", 1234, 100) in encode(photo, format=kind)
    data = encode(photo, format=kind, strip_gps=True)
    assert struct.pack("<II", 1234, 100) not in data
    again = opened(data)
    assert not again.getexif().get_ifd(0x8825)
    assert again.getexif()[0x010F] == "Camera Co 1"
    assert again.getexif().get_ifd(0x8769)[0x927C] == MAKER
    packet = xmp.without_places(XMP)
    assert b"GPS" not in packet
    assert b'xmp:Rating="4"' in packet
    ET.fromstring(packet)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_can_be_stripped_but_the_profile(kind):
    from lowlight_cli.pictures.colour import DISPLAY_P3, make_profile

    icc = make_profile("P3", DISPLAY_P3)
    source = saved(smooth(), "JPEG", exif=b"Exif\0\0" + camera_exif(), xmp=XMP, icc_profile=icc, comment=b"secret")
    data = encode(read(source), format=kind, strip_metadata=True)
    again = opened(data)
    assert again.info["icc_profile"] == icc
    assert b"Camera Co" not in data
    assert b"secret" not in data
    assert b"xmpmeta" not in data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [8, 16])
def test_xmp_travels_and_is_upright(kind, depth):
    photo = read(saved(smooth(), "JPEG", xmp=XMP))
    data = encode(photo, format=kind, depth=16 if depth == 16 and kind in ("png", "tiff") else "keep")
    again = read(data).xmp
    assert b'tiff:Orientation="1"' in again
    assert b"Thumbnails" not in again
    assert again == photo.xmp
    theirs = opened(data).info
    assert (theirs.get("xmp") or theirs.get("XML:com.adobe.xmp").encode()) == photo.xmp


@pytest.mark.parametrize("packet", [None, XMP])
@pytest.mark.parametrize("kind", KINDS)
def test_provenance(kind, packet):
    photo = replace(read(saved(smooth(), "PNG")), xmp=packet)
    told = 'lowlight-cli 0.1.0 model=dgaf weights="sha256:<12>" & more'
    once = read(encode(photo, format=kind, provenance=told))
    twice = read(encode(once, format=kind, provenance=told + " again"))
    root = ET.fromstring(twice.xmp)
    found = [node.attrib for node in root.iter() if "{urn:lowlight-cli:1}Provenance" in node.attrib]
    assert [a["{urn:lowlight-cli:1}Provenance"] for a in found] == [told + " again"]
    assert b"algorithmicallyEnhanced" in twice.xmp
    assert (b'xmp:Rating="4"' in twice.xmp) == (packet is not None)
    abouts = {node.attrib[a] for node in root.iter() for a in node.attrib if a.endswith("}about")}
    assert len(abouts) == 1
    assert b"Provenance" not in encode(photo, format=kind)


def test_bmp_takes_no_metadata():
    photo = replace(read(saved(smooth(), "JPEG", exif=b"Exif\0\0" + camera_exif())), xmp=XMP)
    notes: list[str] = []
    data = encode(photo, format="bmp", provenance="us", on_note=notes.append)
    assert notes == ["not kept in BMP: EXIF, XMP"]
    assert b"Camera" not in data
    assert np.array_equal(seen(data), np.asarray(opened(data)))


def test_words_that_only_some_formats_hold_are_told() -> None:
    """Texts of a PNG, a JPEG's comment and IPTC: kept in their own kind, elsewhere left out with a word."""
    iptc = b"Photoshop 3.0\x00" + b"8BIM\x04\x04\0\0\0\0\0\x0c" + b"\x1c\x02\x50\0\x07Someone"
    segment = b"\xff\xed" + (len(iptc) + 2).to_bytes(2, "big") + iptc
    photo = read(saved(smooth(), "JPEG", comment=b"by hand", extra=segment))
    words = PngImagePlugin.PngInfo()
    words.add_text("Title", "Night")
    other = read(saved(smooth(), "PNG", pnginfo=words))
    for kind in KINDS:
        for each, own, lost in ((photo, "jpeg", "comment, IPTC"), (other, "png", "texts")):
            notes: list[str] = []
            data = encode(each, format=kind, on_note=notes.append)
            if kind == own:
                assert notes == []
                back = read(data)
                assert (back.text, back.jpeg) == (each.text, each.jpeg)
            else:
                assert [note.partition(": ")[2] for note in notes] == [lost]
            stripped: list[str] = []
            encode(each, format=kind, strip_metadata=True, on_note=stripped.append)
            assert stripped == []


def long_exif(maker: int, text: int = 10) -> bytes:
    """EXIF with a maker note and a text of so many bytes."""
    exif = Image.Exif()
    exif[0x010F] = "Camera Co 1"
    exif.get_ifd(0x8769).update({0x927C: bytes(maker), 0x9286: b"ASCII\0\0\0" + b"x" * text})
    exif.get_ifd(0x8825)[2] = (48.0, 12.0, 12.34)
    return exif.tobytes().removeprefix(b"Exif\0\0")


def told(photo, kind):
    notes: list[str] = []
    return opened(encode(photo, format=kind, provenance="us", on_note=notes.append)), notes


def test_exif_too_long_for_a_jpeg_loses_its_maker_note_and_says_so():
    photo = read(saved(smooth(), "PNG", exif=long_exif(70_000)))
    again, notes = told(photo, "jpeg")
    assert notes == ["its maker note is too long for JPEG and not kept; PNG holds it"]
    exif = again.getexif()
    assert exif[0x010F] == "Camera Co 1"
    assert exif.get_ifd(0x8769)[0x9286].endswith(b"xxx")
    assert 0x927C not in exif.get_ifd(0x8769)
    assert exif.get_ifd(0x8825)[2] == (48.0, 12.0, 12.34)
    again, notes = told(photo, "png")
    assert notes == [] and len(again.getexif().get_ifd(0x8769)[0x927C]) == 70_000


def test_metadata_too_long_for_a_jpeg_are_told():
    again, notes = told(read(saved(smooth(), "PNG", exif=long_exif(10, 70_000))), "jpeg")
    assert notes == ["its EXIF is too long for JPEG and not kept; PNG holds it"]
    assert not again.getexif()
    photo = replace(read(saved(smooth(), "PNG")), xmp=XMP.replace(b"AAAA", b"A" * 70_000))
    again, notes = told(photo, "jpeg")
    assert notes == ["its XMP is too long for JPEG and not kept; PNG holds it"]
    assert b"lowlight:Provenance" in again.info["xmp"]


def test_the_longest_that_a_jpeg_holds():
    longest = long_exif(70_000 - (len(long_exif(70_000)) - 65_526))
    assert len(longest) in (65_526, 65_527)
    again, notes = told(read(saved(smooth(), "PNG", exif=longest)), "jpeg")
    assert notes == [] and again.getexif().get_ifd(0x8769)[0x927C]
    photo = replace(read(saved(smooth(), "PNG")), xmp=XMP.replace(b"AAAA", b"A" * (64_480 - len(XMP) + 4)))
    again, notes = told(photo, "jpeg")
    assert notes == [] and b"lowlight:Provenance" in again.info["xmp"]


@pytest.mark.parametrize("exif", [b"nonsense", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"MM\0*"])
def test_damaged_exif_is_said_and_dropped(exif):
    photo = read(saved(smooth(), "WEBP", exif=exif))
    assert photo.exif is None
    assert "EXIF is damaged" in photo.notes[0]


@pytest.mark.parametrize("order", "<>")
def test_no_orientation_stays_in_avif_which_keeps_it_elsewhere(order):
    """Not even where EXIF has it twice."""
    exif = camera_exif(6, order)
    twice = exif.replace(struct.pack(order + "HHI", 0x010F, 2, 12), struct.pack(order + "HHI", 0x0112, 3, 2), 1)
    kept = opened(encode(photo_of(smooth(), exif=twice), format="avif")).info["exif"].removeprefix(b"Exif\0\0")
    assert metadata.value(kept, metadata.ORIENTATION) is None
    assert metadata.value(kept, metadata.EXIF_IFD)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_exif_makes_us_stumble(data):
    exif = bytearray(camera_exif(data.draw(st.integers(0, 9)), data.draw(st.sampled_from("<>"))))
    for _ in range(data.draw(st.integers(1, 6))):
        exif[data.draw(st.integers(0, 450))] = data.draw(st.integers(0, 255))
    exif = bytes(exif[: data.draw(st.integers(0, len(exif)))])
    turned, adobe, block, tidied, nowhere = 1, False, None, None, None
    with contextlib.suppress(ValueError):
        turned = metadata.orientation(exif)
    with contextlib.suppress(ValueError):
        adobe = metadata.adobe_rgb(exif)
    with contextlib.suppress(ValueError):
        block = metadata.from_tiff(exif)
    with contextlib.suppress(ValueError):
        tidied = metadata.tidy_exif(exif, 5, 6)
        nowhere = metadata.without_gps(metadata.without(tidied, frozenset({metadata.ORIENTATION})))
    assert 1 <= turned <= 8
    assert adobe in (True, False)
    assert block is None or 1 <= metadata.orientation(block) <= 8
    assert tidied is None or metadata.orientation(tidied) == 1
    assert nowhere is None or metadata.value(nowhere, 0x8825) is None
    assert nowhere is None or metadata.value(nowhere, metadata.ORIENTATION) is None


def test_a_big_tiff_is_read(tmp_path):
    from pictures_kit import tiff

    data = tiff(smooth(), photometric="rgb", bigtiff=True, description="night", metadata=None)
    photo = read(data)
    assert np.array_equal(np.rint(photo.pixels * 255), smooth())
    assert opened(encode(photo)).tag_v2[270] == "night"


def test_geography_and_iptc_of_a_tiff_are_kept_but_not_how_it_was_stored():
    from pictures_kit import tiff

    extra = [(33_550, 12, 3, (1.0, 2.0, 3.0), True), (33_723, 7, 6, b"\x1c\x02\x05iptc"[:6], True)]
    data = tiff(smooth(), photometric="rgb", tile=(16, 16), extratags=extra)
    again = opened(encode(read(data)))
    assert again.tag_v2[33_550] == (1.0, 2.0, 3.0)
    assert 322 not in again.tag_v2
    assert np.array_equal(np.asarray(again), smooth())
