"""Motion photos: a clip behind the picture is not kept, which is said, and XMP speaks of it no more."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from pictures_kit import opened, saved, smooth
from test_pictures_metadata import XMP

from lowlight_cli.pictures import encode, read

MOTION = "it is a motion photo; only the picture is kept, not its clip"
CLIP = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(200)
SPACES = (
    b' xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" xmlns:Item="http://ns.google.com/photos/1.0/container/item/"'
    b' xmlns:Container="http://ns.google.com/photos/1.0/container/"'
)
ATTRIBUTES = (
    b' GCamera:MicroVideo=\'1\' GCamera:MicroVideoVersion="1" GCamera:MicroVideoOffset="228"'
    b' GCamera:MicroVideoPresentationTimestampUs="5"'
)
ELEMENTS = (
    b"<GCamera:MotionPhoto>1</GCamera:MotionPhoto><GCamera:MotionPhotoVersion>1</GCamera:MotionPhotoVersion>"
    b"<GCamera:MotionPhotoPresentationTimestampUs>5</GCamera:MotionPhotoPresentationTimestampUs>\n<Container:Directory>\n"
    b'<rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="video/mp4" Item:Semantic="MotionPhoto"'
    b' Item:Length="228"/></rdf:li></rdf:Seq></Container:Directory>'
)


def packet(attributes: bytes = b"", elements: bytes = b"") -> bytes:
    """What cameras write, beside what is to stay."""
    told = XMP.replace(b' xmp:Rating="4">', SPACES + attributes + b' GCamera:Portrait="2" xmp:Rating="4">' + elements)
    assert told != XMP
    return told


@pytest.mark.parametrize("xmp", [packet(ATTRIBUTES), packet(b"", ELEMENTS), packet(ATTRIBUTES, ELEMENTS)])
def test_a_motion_photo_becomes_a_picture_and_says_so(xmp: bytes) -> None:
    photo = read(saved(smooth(), "JPEG", xmp=xmp) + CLIP)
    assert photo.notes == (MOTION,)
    for kind in ("jpeg", "png", "tiff"):
        again = read(encode(photo, format=kind))
        assert again.notes == ()
        for word in (b"MicroVideo", b"MotionPhoto", b"Container:Directory", b"video/mp4"):
            assert word not in (again.xmp or b"")
        assert b'GCamera:Portrait="2"' in (again.xmp or b"") and b'xmp:Rating="4"' in (again.xmp or b"")
    made = opened(encode(photo)).info["xmp"]
    ET.fromstring(made[made.find(b"<x:") : made.rfind(b">") + 1].partition(b"<?xpacket end")[0])


@pytest.mark.parametrize("between", [b"", b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data", bytes(256)])
def test_a_clip_that_no_xmp_tells_of_is_said(between: bytes) -> None:
    assert read(saved(smooth(), "JPEG") + between + CLIP).notes == (MOTION,)


def test_a_packet_alone_tells_of_one() -> None:
    assert read(saved(smooth(), "JPEG", xmp=packet(ATTRIBUTES))).notes == (MOTION,)


def test_a_picture_without_a_clip_has_nothing_to_say() -> None:
    off = packet(ATTRIBUTES.replace(b"MicroVideo='1'", b"MicroVideo='0'"))
    plain = saved(smooth(), "JPEG")
    for data in (
        plain,
        plain + bytes(257) + CLIP,
        plain + bytes(300),
        plain + CLIP[:3] + CLIP[4:],
        saved(smooth(), "JPEG", xmp=off),
        saved(smooth(), "JPEG", xmp=XMP),
    ):
        assert read(data).notes == ()


def test_a_motion_photo_of_heic_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pi_heif = pytest.importorskip("pi_heif")
    opened_so = pi_heif.open_heif

    def with_xmp(*args: object, **options: object) -> object:
        file = opened_so(*args, **options)
        file[file.primary_index].info["xmp"] = packet(b"", ELEMENTS)
        return file

    monkeypatch.setattr(pi_heif, "open_heif", with_xmp)
    photo = read(Path(__file__).with_name("heic") / "turned.heic")
    assert photo.notes == (MOTION,)
    assert b"MotionPhoto" not in (photo.xmp or b"")
