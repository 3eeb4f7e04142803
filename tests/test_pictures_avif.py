"""AVIF of more than 8 bits a sample: in and out by OpenCV, with all that belongs to it."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from pictures_kit import opened, photo_of, saved, seen, smooth, srgb_by_littlecms
from PIL import Image
from test_pictures_metadata import XMP, camera_exif

from lowlight_cli.errors import InputError
from lowlight_cli.pictures import avif, encode, read
from lowlight_cli.pictures.colour import DISPLAY_P3, make_profile


def slope(bits: int, channels: int = 3) -> np.ndarray:
    """(48, 256, C) uint16: a slope finer than eight bits, from black to white."""
    row = np.linspace(0, 2**bits - 1, 256 * 4).reshape(4, 256).repeat(12, 0)
    return np.rint(np.stack([row] * channels, -1)).astype(np.uint16)


def made(array: np.ndarray, bits: int) -> bytes:
    done, data = cv2.imencode(".avif", array, [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100])
    assert done
    return data.tobytes()


@pytest.mark.parametrize("bits", [10, 12])
def test_ten_and_twelve_bits_are_read(bits):
    photo = read(made(slope(bits), bits))
    assert (photo.depth, photo.format, photo.notes) == (16, "avif", ())
    assert (photo.pixels.min(), photo.pixels.max()) == (0, 1)
    assert np.abs(photo.pixels * (2**bits - 1) - slope(bits)).max() < 2
    assert len(np.unique(photo.pixels)) > 600  # eight bits have 256


def test_ten_bits_come_out_as_ten_and_as_sixteen_in_png():
    photo = read(made(slope(10), 10))
    data = encode(photo)
    assert avif.bits(data) == 10
    assert np.abs(read(data).pixels - photo.pixels).mean() < 0.002
    assert seen(encode(photo, format="png")).dtype == np.uint16
    assert avif.bits(encode(photo, depth=8)) == 8


def test_sixteen_bits_become_ten():
    photo = photo_of(slope(16, 1))
    again = read(encode(photo, format="avif", quality=100))
    assert (again.depth, again.grey) == (16, True)
    assert np.abs(again.pixels - photo.pixels).max() < 0.002


@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_of_ten_bits(channels):
    photo = photo_of(slope(16, channels))
    again = read(encode(photo, format="avif", quality=100))
    assert again.alpha is not None
    assert np.abs(again.alpha.astype(int) - photo.alpha).max() < 200
    assert np.abs(again.pixels - photo.pixels)[:, 20:].mean() < 0.005


def test_what_belongs_to_it_is_kept():
    icc = make_profile("P3", DISPLAY_P3)
    photo = photo_of(slope(16), icc=icc, exif=camera_exif(), xmp=XMP)
    data = encode(photo, format="avif", provenance="us")
    assert avif.bits(data) == 10
    info = opened(data).info
    assert info["icc_profile"] == icc
    assert b"lowlight:Provenance" in info["xmp"]
    assert opened(data).getexif()[0x010F] == "Camera Co 1"
    again = read(data)
    assert again.icc == icc and read(encode(again)).icc == icc


def test_where_opencv_has_no_avif_eight_bits_are_read_which_is_said(monkeypatch):
    data = made(slope(10), 10)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    photo = read(data)
    assert photo.depth == 8
    assert photo.notes == ("it has more than 8 bits a sample; 8 of them are read",)
    monkeypatch.delattr(cv2, "imencodeWithMetadata")
    assert avif.bits(encode(photo_of(smooth().astype(np.uint16) * 257), format="avif")) == 8


def said(primaries: int, transfer: int) -> tuple[np.ndarray, bytes]:
    """A file that says this of its colours, in the numbers of H.273, and its codes by Pillow."""
    data = saved(smooth(), "AVIF", quality=100, subsampling="4:4:4")
    at = data.index(b"colrnclx") + 8
    return np.asarray(opened(data)), data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def test_what_it_says_of_its_colours_is_heeded() -> None:
    """Primaries come before the transfer (ISO/IEC 14496-12, 12.1.5)."""
    codes, data = said(12, 13)
    photo = read(data)
    assert photo.icc is not None and b"P\0" in photo.icc
    assert np.abs(photo.pixels * 255 - srgb_by_littlecms(codes, make_profile("P3", DISPLAY_P3))).max() < 1.5
    with pytest.raises(InputError, match=r"HDR picture \(PQ\)"):
        read(said(9, 16)[1])


def test_colours_stay_as_fine_as_the_picture() -> None:
    """Columns of red and blue by turns are none any more where colour is kept at half the resolution."""
    stripes = np.zeros((48, 64, 3), np.uint8)
    stripes[:, ::2, 0], stripes[:, 1::2, 2] = 200, 200
    again = np.asarray(opened(encode(photo_of(stripes), format="avif")).convert("RGB"), int)
    assert np.abs(again - stripes).mean() < 8


def test_damage_is_an_error_or_a_picture():
    whole = made(slope(10), 10)
    for cut in range(20, len(whole) - 1, 97):
        with pytest.raises(InputError, match=r"damaged or incomplete|not a picture"):
            read(whole[:cut])


def turned(bits: int) -> bytes:
    """A file with a turn beside EXIF that tells of none, as phones write it; its EXIF has a text that is not ASCII."""
    exif = camera_exif(6).replace(b"Camera Co 1\0", "Müller\0\0\0\0\0".encode())
    array = smooth().astype(np.uint16) * 4 if bits == 10 else smooth()
    options = [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100]
    done, data = cv2.imencodeWithMetadata(
        ".avif", np.ascontiguousarray(array), [cv2.IMAGE_METADATA_EXIF], [np.frombuffer(exif, np.uint8)], options
    )
    file = data.tobytes()
    tag = struct.pack("<HHIH", 0x0112, 3, 1, 6)
    assert done and b"irot" in file and file.count(tag) == 1
    return file.replace(tag, struct.pack("<HHIH", 0x0112, 3, 1, 1))


@pytest.mark.parametrize("bits", [8, 10])
def test_a_turn_beside_exif(bits: int) -> None:
    data = turned(bits)
    photo = read(data)
    assert (photo.depth, photo.height, photo.width, photo.notes) == (16 if bits == 10 else 8, 64, 48, ())
    upright = np.rot90(smooth()[..., ::-1], -1)
    assert np.abs(photo.pixels * 255 - upright).mean() < 3
    assert photo.exif is not None
    assert photo.exif[300:312] == "Müller\0\0\0\0\0".encode()  # where it was, as it was
    again = read(encode(photo))
    assert (again.height, again.width) == (64, 48)
    assert "Müller".encode() in (again.exif or b"")


def test_a_turn_beside_no_exif_at_all() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = read(saved(smooth(), "AVIF", exif=exif))
    assert (photo.height, photo.width, photo.exif) == (64, 48, None)


def test_where_pillow_does_not_give_its_decoder_its_exif_is_read() -> None:
    image = SimpleNamespace(info={"exif": b"Exif\0\0" + camera_exif(6)})
    assert avif.exif_of(image) == (camera_exif(6), None)  # type: ignore[arg-type]
