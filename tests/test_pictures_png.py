"""PNG beside the round trips: colours told by gAMA and cHRM alone, transparent greys of few bits."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from pictures_kit import noise, opened, png, saved, seen, smooth
from PIL import Image, ImageCms

from lowlight_cli.exposure import to_linear, to_srgb
from lowlight_cli.pictures import encode, read
from lowlight_cli.pictures.colour import ADOBE_RGB, DISPLAY_P3, make_profile

SRGB = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
ADOBE = (31_270, 32_900, *(round(100_000 * value) for point in ADOBE_RGB for value in point))
P3 = make_profile("P3", DISPLAY_P3)


def gama(value: int) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", value)


def chrm(points: tuple[int, ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *points)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_linear_light_is_seen_as_such_and_stays(channels, dtype):
    array = noise(20, 20, channels, dtype)
    array[..., channels - 1 if channels in (2, 4) else 0] |= 1  # nothing is wholly transparent
    photo = read(png(array, gama(100_000)))
    colours = array[..., : 1 if channels < 3 else 3] / np.iinfo(dtype).max
    assert np.abs(photo.pixels - to_srgb(colours.astype(np.float32))).max() < 1e-3
    again = encode(photo)
    assert np.array_equal(seen(again)[..., [0, -1] if channels == 2 else slice(None)], array)
    space = ImageCms.ImageCmsProfile(io.BytesIO(opened(again).info["icc_profile"])).profile.xcolor_space
    assert space.strip() == ("GRAY" if channels < 3 else "RGB")  # readers leave out a profile for other channels
    assert np.array_equal(read(again).pixels, photo.pixels)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "bmp", "avif"])
def test_linear_grey_looks_the_same_in_every_kind(kind):
    photo = read(png(np.full((16, 16, 1), 90, np.uint8), gama(100_000)))
    again = read(encode(photo, format=kind, quality=100))
    assert again.notes == ()
    assert np.abs(again.pixels - photo.pixels).max() < 0.01


def test_a_lifted_picture_keeps_its_power():
    array = np.full((4, 4, 3), 20_000, np.uint16)
    photo = read(png(array, gama(100_000)))
    lifted = seen(encode(photo.with_pixels(to_srgb(to_linear(photo.pixels) * 2))))
    assert np.abs(lifted.astype(int) - 40_000).max() < 20


def test_primaries_and_power_are_those_of_the_profile_that_says_the_same():
    array = noise(30, 30, 3, np.uint8)
    named = read(png(array, gama(45_455), chrm(ADOBE))).pixels
    embedded = read(saved(array, "PNG", icc_profile=make_profile("Adobe", ADOBE_RGB, 2.2))).pixels
    assert np.abs(named - embedded).max() < 1e-3


def test_primaries_with_another_white():
    """White stays white, whatever it is."""
    warm = (34_567, 35_850, *SRGB[2:])
    photo = read(png(np.full((4, 4, 3), 255, np.uint8), chrm(warm)))
    assert photo.icc
    assert photo.pixels.min() > 0.999


@pytest.mark.parametrize(
    "chunks",
    [
        [gama(45_455)], [gama(45_455), chrm(SRGB)], [chrm(SRGB)], [gama(46_500)],
        [chrm((31_269, 32_899, 63_999, 33_001, 30_000, 60_000, 15_000, 5_999))],  # of old editors
        [gama(0)], [gama(1)], [gama(2**32 - 1)], [chrm((0,) * 8)], [chrm((2**32 - 1,) * 8)], [(b"gAMA", b"\1")],
        [(b"sRGB", b"\0"), gama(100_000), chrm(ADOBE)], [(b"cICP", bytes([1, 13, 0, 1])), gama(100_000)],
    ],
)  # fmt: skip
def test_srgb_and_nonsense_change_nothing(chunks):
    array = noise(8, 8, 3, np.uint8)
    photo = read(png(array, *chunks))
    assert (photo.icc, photo.source, photo.notes) == (None, None, ())
    assert np.array_equal(np.rint(photo.pixels * 255), array)


def test_points_without_sense_leave_the_power():
    photo = read(png(np.full((2, 2, 3), 128, np.uint8), gama(100_000), chrm((0,) * 8)))
    assert np.abs(photo.pixels - to_srgb(np.float32([128 / 255]))).max() < 1e-3


def test_an_embedded_profile_goes_first():
    photo = read(png(smooth(), (b"iCCP", b"x\0\0" + zlib.compress(P3)), gama(100_000)))
    assert photo.icc == P3


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_grey_of_few_bits(depth):
    levels = 2**depth
    row = np.arange(16) % levels
    bits = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - depth :].ravel()
    rows = (b"\0" + np.packbits(bits).tobytes()) * 4
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 16, 4, depth, 0, 0, 0, 0)), (b"tRNS", struct.pack(">H", levels - 1))]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    photo = read(data)
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha[0] == 0, row == levels - 1)
    again = np.asarray(Image.open(io.BytesIO(encode(photo))).convert("LA"))
    assert np.array_equal(again[0, :, 0], row * 255 // (levels - 1))
