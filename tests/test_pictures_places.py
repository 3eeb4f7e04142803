"""--strip-gps: no place is left, neither in numbers nor in words, wherever a file keeps it; all else stays."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures_kit import opened, saved, smooth, tiff
from PIL import Image, IptcImagePlugin, PngImagePlugin
from test_pictures_metadata import XMP, camera_exif
from test_pictures_readers import exiftool, needs_exiftool

from lowlight_cli.pictures import Photo, encode, iptc, metadata, read, xmp

PLACES = {
    "XMP-photoshop:City": "Atown", "XMP-photoshop:State": "Astate", "XMP-photoshop:Country": "Aland",
    "XMP-iptcCore:Location": "Asub", "XMP-iptcCore:CountryCode": "AUT", "XMP-iptcExt:LocationCreatedCity": "Atown",
    "XMP-iptcExt:LocationCreatedSublocation": "Asub", "XMP-iptcExt:LocationShownCity": "Atown",
    "XMP-xmpDM:ShotLocation": "Asub", "XMP-exif:GPSLatitude": "48.2", "IPTC:City": "Atown", "IPTC:Sub-location": "Asub",
    "IPTC:Province-State": "Astate", "IPTC:Country-PrimaryLocationName": "Aland",
    "IPTC:Country-PrimaryLocationCode": "AUT", "IPTC:ContentLocationName": "Asub", "IPTC:ContentLocationCode": "AUT",
    "GPS:GPSLatitude": "48.2", "GPS:GPSLatitudeRef": "N",
}  # fmt: skip
OTHERS = {
    "IFD0:Make": "Camera", "XMP-dc:Title": "A title", "XMP-photoshop:Headline": "A headline", "IPTC:Keywords": "A word",
    "IPTC:By-line": "Someone", "XMP-iptcCore:CreatorCity": "Bureau",
}  # fmt: skip

WORDS = {90: b"Atown", 92: b"Asub", 95: b"Astate", 100: b"AUT", 101: b"Aland", 26: b"AUT", 27: b"Asub"}
GONE = "its IPTC cannot be read, may tell the place, and is not kept"


def records(words: dict[int, bytes]) -> bytes:
    """IIM of record 2."""
    return b"".join(struct.pack(">BBBH", 0x1C, 2, kind, len(body)) + body for kind, body in words.items())


def resource(kind: int, body: bytes, name: bytes = b"") -> bytes:
    """A resource of Photoshop."""
    head = b"8BIM" + struct.pack(">H", kind) + bytes([len(name)]) + name
    return head + bytes(len(head) % 2) + struct.pack(">I", len(body)) + body + bytes(len(body) % 2)


def app13(resources: bytes) -> bytes:
    """Segments of a JPEG, as many as it takes."""
    parts = [b"Photoshop 3.0\0" + resources[at : at + 65_000] for at in range(0, len(resources), 65_000)]
    return b"".join(b"\xff\xed" + struct.pack(">H", len(part) + 2) + part for part in parts)


def placeless(photo: Photo, **options: object) -> tuple[bytes, list[str]]:
    """The file without places, and what was said."""
    notes: list[str] = []
    return encode(photo, strip_gps=True, on_note=notes.append, **options), notes


@needs_exiftool
def test_no_place_is_left_as_exiftool_sees_it(tmp_path: Path, lowlight: Callable[..., Ran]) -> None:
    there = tmp_path / "in"
    there.mkdir()
    for kind in ("jpg", "png", "tif", "webp"):
        Image.fromarray(smooth() // 6).save(there / f"a.{kind}")
    tags = [f"-{tag}={value}" for tag, value in (PLACES | OTHERS).items()]
    subprocess.run(["exiftool", "-q", "-m", "-overwrite_original", *tags, str(there)], check=True)
    assert lowlight("enhance", there, "-o", tmp_path / "kept").code == 0
    assert lowlight("enhance", there, "-o", tmp_path / "bare", "--strip-gps").code == 0
    before, kept, bare = (exiftool(tmp_path / name) for name in ("in", "kept", "bare"))
    for name, tags_before in before.items():
        held = {tag for tag in tags_before if tag.split(":")[0].startswith(("XMP", "IPTC", "GPS", "IFD0"))}
        if not name.endswith(("jpg", "tif")):
            held = {tag for tag in held if not tag.startswith("IPTC")}
        assert PLACES.keys() & held <= kept[name].keys(), name
        assert not PLACES.keys() & bare[name].keys(), name
        assert OTHERS.keys() & held <= bare[name].keys(), name
        whole = (tmp_path / "bare" / name).read_bytes()
        assert not [word for word in (b"Atown", b"Asub", b"Astate", b"Aland", b"AUT") if word in whole], name


@pytest.mark.parametrize(
    "words",
    [
        'photoshop:City="Atown"',
        "photoshop:City='Atown'",
        '\n photoshop:State = "Atown"',
        "><photoshop:Country>Atown</photoshop:Country",
        '><photoshop:City xml:lang="de">Atown</photoshop:City><photoshop:City/',
        "><photoshop:City/><dc:title>Kept</dc:title><photoshop:City>Atown</photoshop:City",
        '><ps:City xmlns:ps="http://ns.adobe.com/photoshop/1.0/">Atown</ps:City',
        '><City xmlns="http://ns.adobe.com/photoshop/1.0/">Atown</City',
        'Iptc4xmpCore:Location="Atown"',
        'Iptc4xmpCore:CountryCode="Atown"',
        "><Iptc4xmpExt:LocationCreated rdf:parseType='Resource'><Iptc4xmpExt:City>Atown</Iptc4xmpExt:City>"
        "</Iptc4xmpExt:LocationCreated",
        "><Iptc4xmpExt:LocationShown><rdf:Bag><rdf:li Iptc4xmpExt:City='Atown'/></rdf:Bag></Iptc4xmpExt:LocationShown",
        'drone-dji:Latitude="Atown"',
        'drone-dji:GpsLongtitude="Atown"',
        'photomech:CountryCode="Atown"',
        "><geo:lat xmlns:geo='http://www.w3.org/2003/01/geo/wgs84_pos#'>Atown</geo:lat",
        "xmlns:geo='http://www.w3.org/2003/01/geo/wgs84_pos#' geo:lat='1' geo:long='Atown'",
        "><dc:coverage>Atown</dc:coverage",
        "><photoshop:City xml:lang='>'>Atown</photoshop:City><photoshop:State xml:lang='/>'/",
        'xmlns:gps="urn:somewhere" gps:Rating="4" photoshop:City="Atown"',
    ],
)
def test_places_leave_xmp_in_every_form(words: str) -> None:
    packet = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        ' xmlns:Iptc4xmpCore="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/" xmlns:photomech="urn:p"'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:drone-dji="urn:d"'
        f' photoshop:Headline="Kept" {words}><dc:subject>Kept too</dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>\0\0'
    ).encode()
    data, notes = placeless(replace(read(saved(smooth(), "JPEG")), xmp=packet))
    left = opened(data).info["xmp"]
    root = ET.fromstring(left.rstrip(b"\0"))
    assert notes == []
    assert b"Atown" not in left
    names = [name.rpartition("}")[2] for node in root.iter() for name in (node.tag, *node.attrib)]
    assert "Headline" in names and "subject" in names
    assert ("title" in names) == ("dc:title" in words)
    assert ("Rating" in names) == ("gps:Rating" in words)


@pytest.mark.parametrize(
    "packet",
    [
        XMP.decode().replace("\ufeff", "").encode("utf-16"),
        XMP.decode().replace("\ufeff", "").encode("utf-16-be"),
        XMP.replace(b"</rdf:RDF>", b""),
        XMP.replace(b"</rdf:RDF>", b'<rdf:li City="48.2 N"/></rdf:RDF>'),
        XMP.replace(b"</rdf:RDF>", b"<!-- GPS 48.2 N --></rdf:RDF>"),
        XMP.replace(b"</rdf:RDF>", b"<?gps 48.2 N?></rdf:RDF>"),
        b"48.2 N",
    ],
)
def test_xmp_that_cannot_be_read_goes_and_that_is_said(packet: bytes) -> None:
    photo = replace(read(saved(smooth(), "JPEG")), xmp=packet)
    data, notes = placeless(photo, provenance="us")
    assert notes == ["its XMP cannot be read, may tell the place, and is not kept"]
    left = opened(data).info["xmp"]
    assert b"lowlight:Provenance" in left and b"GPS" not in left and b"G\0P\0S" not in left and b"48" not in left
    ET.fromstring(left)


@pytest.mark.parametrize("head", [b"", b'<?xml version="1.0"?>', b"<?adobe-xap-filters esc='CRLF'?>"])
def test_text_around_xmp_goes_and_its_own_instructions_stay(head: bytes) -> None:
    xml = head + XMP.removeprefix('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'.encode())
    data, notes = placeless(replace(read(saved(smooth(), "JPEG")), xmp=b"48.2 N " + xml + b" 16.4 E"))
    left = opened(data).info["xmp"]
    assert notes == []
    assert left.startswith(head + b"<x:xmpmeta") and left.endswith(b'<?xpacket end="w"?>') and b"Rating" in left


@pytest.mark.parametrize(
    ("name", "tells"),
    [("geo:lat", True), ("Coverage", True), ("geo:lat_long", True), ("dc:format", False), ("a:Lateral", False),
     ("a:LongExposure", False), ("a:CoverageType", False)],
)  # fmt: skip
def test_names_of_places(name: str, tells: bool) -> None:
    assert xmp.tells_place(name) == tells


def test_iptc_of_a_jpeg_loses_its_places_and_nothing_else() -> None:
    """Over two segments, with what surrounds it."""
    extended = struct.pack(">BBBHI", 0x1C, 2, 120, 0x8004, 9) + b"A caption"
    body = records({80: b"Someone", **WORDS}) + extended + records({25: b"A word"})
    around = resource(0x03ED, bytes(16), b"resolution") + resource(0x040C, b"preview" * 10_000)
    resources = around + resource(0x0404, body) + resource(0x0425, hashlib.md5(body).digest())
    adobe = b"\xff\xed\0\x0cAdobe_CM\0\1"
    data, notes = placeless(read(saved(smooth(), "JPEG", extra=app13(resources) + adobe)))
    *segments, last = [body for marker, body in opened(data).applist if marker == "APP13"]
    left = records({80: b"Someone"}) + extended + records({25: b"A word"})
    assert notes == []
    assert len(segments) == 2 and last == adobe[4:]
    assert b"".join(each.removeprefix(b"Photoshop 3.0\0") for each in segments) == (
        around + resource(0x0404, left) + resource(0x0425, hashlib.md5(left).digest())
    )


def test_iptc_as_pillow_reads_it() -> None:
    source = saved(smooth(), "JPEG", extra=app13(resource(0x0404, records({80: b"Someone", **WORDS, 25: b"A word"}))))
    assert len(IptcImagePlugin.getiptcinfo(opened(source)) or {}) == 9
    data, _ = placeless(read(source))
    assert IptcImagePlugin.getiptcinfo(opened(data)) == {(2, 80): b"Someone", (2, 25): b"A word"}


def test_iptc_that_tells_nothing_but_places_is_gone() -> None:
    data, notes = placeless(read(saved(smooth(), "JPEG", extra=app13(resource(0x0404, records(WORDS))))))
    assert notes == []
    assert not [body for marker, body in opened(data).applist if marker == "APP13"]


@pytest.mark.parametrize(
    "resources",
    [
        resource(0x0404, b"Atown"),
        resource(0x0404, records(WORDS)[:-3]),
        resource(0x0404, records(WORDS))[:-9],
        b"8BIM",
        b"Atown" + resource(0x0404, records(WORDS)),
    ],
    ids=["no record", "record cut", "resource cut", "header cut", "no resource"],
)
def test_iptc_that_cannot_be_read_goes_and_that_is_said(resources: bytes) -> None:
    data, notes = placeless(read(saved(smooth(), "JPEG", extra=app13(resources))))
    assert notes == [GONE]
    assert b"Atown" not in data and b"8BIM" not in data


def test_iptc_under_another_header_goes_and_that_is_said() -> None:
    segments = app13(resource(0x0404, records(WORDS))).replace(b"Photoshop 3.0", b"Photoshop 2.5")
    data, notes = placeless(read(saved(smooth(), "JPEG", extra=segments)))
    assert notes == [GONE]
    assert b"Atown" not in data and b"8BIM" not in data


@pytest.mark.parametrize(
    "other",
    [resource(0x040A, b"\1"), resource(0x07D0, bytes(26), b"Edges")],
    ids=["odd length", "odd name"],
)
def test_iptc_behind_resources_with_padding(other: bytes) -> None:
    body = records({80: b"Someone", **WORDS})
    data, notes = placeless(read(saved(smooth(), "JPEG", extra=app13(other + resource(0x0404, body)))))
    [segment] = [body for marker, body in opened(data).applist if marker == "APP13"]
    assert notes == []
    assert segment == b"Photoshop 3.0\0" + other + resource(0x0404, records({80: b"Someone"}))


@pytest.mark.parametrize("kind", [0x0422, 0x0423, 0x0424], ids=["EXIF", "EXIF 3", "XMP"])
def test_second_copies_of_exif_and_xmp_go(kind: int) -> None:
    """They can tell the place, and no program reads them from a JPEG."""
    resources = resource(kind, b"Atown") + resource(0x0404, records({80: b"Someone"}))
    data, notes = placeless(read(saved(smooth(), "JPEG", extra=app13(resources))))
    assert notes == []
    assert b"Someone" in data and b"Atown" not in data


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_iptc_makes_us_stumble(data: st.DataObject) -> None:
    segments = bytearray(app13(resource(0x03ED, bytes(16)) + resource(0x0404, records({80: b"Someone", **WORDS}))))
    for _ in range(data.draw(st.integers(1, 6))):
        segments[data.draw(st.integers(0, len(segments) - 1))] = data.draw(st.integers(0, 255))
    try:
        bare = iptc.segments_without_places(bytes(segments[: data.draw(st.integers(0, len(segments)))]))
    except ValueError:
        return
    assert iptc.segments_without_places(bare) == bare  # whole, and nothing is left to take out


def test_iptc_maps_and_pages_of_a_tiff() -> None:
    words = records({80: b"Someone", **WORDS})
    extra = [
        (33_723, 7, len(words), words, True),
        (33_550, 12, 3, (1.0, 2.0, 3.0), True),
        (33_922, 12, 6, (0.0, 0.0, 0.0, 16.25, 48.5, 0.0), True),
    ]
    data = tiff(smooth(), photometric="rgb", extratags=extra)
    assert b"Atown" in encode(read(data))
    bare, notes = placeless(read(data))
    tags = opened(bare).tag_v2
    assert notes == []
    assert tags[33_723].rstrip(b"\0") == records({80: b"Someone"})
    assert 33_550 not in tags and 33_922 not in tags
    assert not [word for word in (*WORDS.values(), struct.pack("<d", 16.25)) if word in bare]

    damaged = read(tiff(smooth(), photometric="rgb", extratags=[(33_723, 7, 8, b"\x1c\x02\x5a\x10Wien", True)]))
    bare, notes = placeless(replace(read(data), rest=(damaged,)))
    assert notes == [f"page 2: {GONE}"]
    assert b"Wien" not in bare and b"Atown" not in bare


def test_iptc_and_xmp_within_exif() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x02BC] = "Camera", XMP
    words = records({80: b"Someone", **WORDS})
    exif[0x83BB], exif[0x8649] = words, resource(0x0404, words)
    data, notes = placeless(read(saved(smooth(), "JPEG", exif=exif)))
    left = opened(data).getexif()
    assert notes == []
    assert left[0x010F] == "Camera"
    assert left[0x83BB].rstrip(b"\0") == records({80: b"Someone"})
    assert left[0x8649].rstrip(b"\0") == resource(0x0404, records({80: b"Someone"})).rstrip(b"\0")
    assert b"Rating" in left[0x02BC] and b"GPS" not in left[0x02BC]
    assert not [word for word in WORDS.values() if word in data]


def test_texts_of_a_png() -> None:
    """As ImageMagick writes them."""
    words = PngImagePlugin.PngInfo()
    told = {"exif:GPSLatitude": "48/1", "photoshop:City": "Atown", "Iptc4xmpCore:Location": "Asub", "Country": "A"}
    for keyword, body in {**told, "exif:Make": "Camera", "Title": "Night"}.items():
        words.add_text(keyword, body)
    words.add_text("XML:com.adobe.xmp", XMP.decode().replace("\ufeff", ""))
    data, _ = placeless(read(saved(smooth(), "PNG", pnginfo=words)))
    left = opened(data).text
    assert {key: left[key] for key in left if key != "XML:com.adobe.xmp"} == {"exif:Make": "Camera", "Title": "Night"}
    assert "GPS" not in left["XML:com.adobe.xmp"] and "Rating" in left["XML:com.adobe.xmp"]


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_directory_of_places_that_is_another_one(order: str) -> None:
    """Its pointer leads back to the start: nothing of such EXIF can be trusted, and the picture is written."""
    exif = bytearray(camera_exif(1, order))
    at = exif.index(struct.pack(order + "HHI", 0x8825, 4, 1))
    struct.pack_into(order + "I", exif, at + 8, 8)
    data, notes = placeless(read(saved(smooth(), "JPEG", exif=b"Exif\0\0" + bytes(exif))))
    assert notes == ["its EXIF cannot be read, may tell the place, and is not kept"]
    assert not opened(data).getexif()


MAKE = (0x010F, 2, 4, b"Me!\0")
EXIF = (0x8769, 4, 1, 100)


def exif_of(
    top: list[tuple], exif: Sequence[tuple] = (), second: Sequence[tuple] = (), places: tuple[int, ...] = (200,)
) -> bytes:
    """A block with directories at 8, at 100 (Exif), at 400 (the second) and `places`; offsets 200 and 300 at 80."""
    data = bytearray(b"II*\0\x08\0\0\0" + bytes(500))
    struct.pack_into("<II", data, 80, 200, 300)
    here = [(at, [(1, 2, 2, b"N\0"), (2, 7, 11, at + 50)], 0) for at in places]
    for at, entries, then in [(8, top, 400 * bool(second)), (100, exif, 0), (400, second, 0), *here]:
        rows = [
            struct.pack("<HHI", *row[:3])
            + (row[3] if isinstance(row[3], bytes) else struct.pack("<i", row[3])).ljust(4, b"\0")
            for row in entries
        ]
        raw = struct.pack("<H", len(rows)) + b"".join(rows) + struct.pack("<I", then)
        data[at : at + len(raw)] = raw
    for at in places:
        data[at + 50 : at + 61] = b"48.2N 16.4E"
    return bytes(data)


@pytest.mark.parametrize(
    "exif",
    [
        exif_of([MAKE, (0x8825, 4, 1, 200)]),
        exif_of([MAKE, (0x8825, 9, 1, 200)]),
        exif_of([MAKE, (0x8825, 13, 1, 200)]),
        exif_of([MAKE, (0x8825, 8, 1, 200)]),
        exif_of([MAKE, (0x8825, 1, 4, 200)]),
        exif_of([MAKE, (0x8825, 4, 1, 200), (0x8825, 4, 1, 300)], places=(200, 300)),
        exif_of([MAKE, (0x8825, 4, 2, 80)], places=(200, 300)),
        exif_of([MAKE, EXIF], [(0x9000, 7, 4, b"0232"), (0x8825, 4, 1, 200)]),
        exif_of([MAKE, EXIF, (0x8825, 4, 1, 300)], [(0x8825, 9, 1, 200)], places=(200, 300)),
        exif_of([MAKE], second=[(0x0103, 3, 1, 6), (0x8825, 4, 1, 200)]),
        exif_of([MAKE, EXIF], [(0x9000, 7, 4, b"0232")], [(0x8825, 9, 1, 200), (0x8825, 4, 1, 300)], (200, 300)),
    ],
    ids=[
        "plain",
        "SLONG",
        "IFD",
        "SSHORT",
        "BYTE",
        "twice",
        "two offsets",
        "in Exif",
        "in both",
        "second",
        "second twice",
    ],
)
@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_no_place_is_left_in_exif_wherever_its_pointer_is(exif: bytes, kind: str) -> None:
    source = saved(smooth(), "JPEG", exif=b"Exif\0\0" + exif)
    assert b"48.2N" in source
    data, notes = placeless(read(source), format=kind)
    left = opened(data).getexif()
    assert notes == []
    assert b"48.2N" not in data and b"16.4E" not in data
    assert left[0x010F] == "Me!" and 0x8825 not in left and 0x8825 not in left.get_ifd(0x8769)
    assert left.get_ifd(0x8769).get(0x9000) == (b"0232" if b"0232" in exif else None)


def test_places_of_exif_stay_where_nobody_asks() -> None:
    """Also those to which the second directory, which goes, points as the first does."""
    exif = exif_of([MAKE, (0x8825, 4, 1, 200)], second=[(0x8825, 4, 1, 200)])
    left = opened(encode(read(saved(smooth(), "JPEG", exif=b"Exif\0\0" + exif)))).getexif()
    assert left.get_ifd(0x8825)[2] == b"48.2N 16.4E"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_exif_makes_us_stumble_over_its_places(data: st.DataObject) -> None:
    exif = bytearray(camera_exif(1, data.draw(st.sampled_from("<>"))))
    places = [*range(0, 70), *range(100, 160), *range(240, 280)]
    for _ in range(data.draw(st.integers(1, 4))):
        exif[data.draw(st.sampled_from(places))] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from([8, 100])))
    photo = Photo(pixels=np.zeros((4, 4, 3), np.float32))
    try:
        photo = replace(photo, exif=metadata.tidy_exif(bytes(exif), 4, 4))
    except ValueError:
        return
    for kind in ("png", "tiff"):
        made, _ = placeless(photo, format=kind)
        with warnings.catch_warnings(action="ignore"):  # Pillow says what is odd, and opens it
            assert read(made).pixels.shape == (4, 4, 3)
