"""Profiles: colours seen by the network as LittleCMS sees them, and back without a loss."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pictures_kit import noise, opened, png, samples, saved, seen, smooth, srgb_by_littlecms, tiff
from PIL import Image, ImageCms

from lowlight_cli.errors import InputError
from lowlight_cli.exposure import to_linear, to_srgb
from lowlight_cli.pictures import encode, read
from lowlight_cli.pictures.colour import ADOBE_RGB, DISPLAY_P3, REC_2020, luma, make_profile, profile_of

few = settings(max_examples=25, deadline=None)

WIDE = {
    "Display P3": make_profile("Display P3", DISPLAY_P3),
    "Adobe RGB": make_profile("Adobe RGB", ADOBE_RGB, 563 / 256),
    "Rec. 2020": make_profile("Rec. 2020", REC_2020, 2.4),
}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
icc = pytest.mark.parametrize("icc", WIDE.values(), ids=list(WIDE))


def built(space: bytes, connection: bytes, elements: dict[bytes, bytes]) -> bytes:
    """An ICC profile of given elements."""
    table, body, start = b"", b"", 132 + 12 * len(elements)
    for tag, element in elements.items():
        table += tag + struct.pack(">II", start + len(body), len(element))
        body += element + bytes(-len(element) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s", start + len(body), 0x02400000, b"mntr", space, connection, b"acsp")
    head += bytes(28) + struct.pack(">3i", 63_190, 65_536, 54_061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(elements)) + table + body


def words(values: np.ndarray) -> bytes:
    return np.clip(np.rint(values), 0, 65_535).astype(">u2").tobytes()


def text(name: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + bytes(79)


GREY_18 = built(
    b"GRAY",
    b"XYZ ",
    {
        b"desc": text(b"grey"),
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63_190, 65_536, 54_061),
        b"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, round(1.8 * 256)),
    },
)


def table_profile() -> bytes:
    """Linear sRGB as tables (mft2): what a profile without matrix and curves looks like."""
    columns = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
    corners = np.array(list(np.ndindex(2, 2, 2)))

    def mft2(matrix: np.ndarray, nodes: np.ndarray, out: list[float]) -> bytes:
        head = b"mft2\0\0\0\0\3\3\2\0" + struct.pack(">9i", *(np.rint(matrix.ravel() * 65_536).astype(int)))
        head += struct.pack(">HH", 2, len(out)) + words(np.array([0, 65_535] * 3))
        return head + words(nodes) + words(np.array(out * 3) * 65_535)

    there = mft2(np.eye(3), corners @ columns.T * 32_768, [0, 1])
    back = mft2(np.linalg.inv(columns), corners * 65_535, [0, 1, 1])
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63_190, 65_536, 54_061)
    return built(b"RGB ", b"XYZ ", {b"desc": text(b"tables"), b"wtpt": white, b"A2B0": there, b"B2A0": back})


def test_made_profiles_are_real_ones():
    for name, profile in WIDE.items():
        assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip() == name


def test_srgb_needs_no_conversion():
    assert profile_of(SRGB) is None
    assert profile_of(make_profile("sRGB again", ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)))) is None
    photo = read(saved(smooth(), "PNG", icc_profile=SRGB))
    assert photo.source is None
    assert opened(encode(photo)).info["icc_profile"] == SRGB


@icc
def test_what_the_network_sees_is_what_littlecms_says(icc):
    array = noise(60, 70, 3, np.uint8)
    ours = read(saved(array, "PNG", icc_profile=icc)).pixels * 255
    difference = np.abs(ours - srgb_by_littlecms(array, icc))
    assert difference.max() < 1.5
    assert difference.mean() < 0.3


@few
@given(samples(), st.sampled_from([*WIDE.values(), SRGB, table_profile()]), st.sampled_from(["png", "tiff"]))
def test_untouched_files_come_back_identical_with_their_profile(array, profile, kind):
    assume(array.shape[-1] > 2 or profile != table_profile())
    if kind == "png":
        data = png(array, (b"iCCP", b"x\0\0" + zlib.compress(profile)))
    else:
        photometric = "rgb" if array.shape[-1] > 2 else "minisblack"
        alpha = ["unassalpha"] if array.shape[-1] in (2, 4) else None
        plain = array[..., 0] if array.shape[-1] == 1 else array
        data = tiff(plain, photometric=photometric, extrasamples=alpha, iccprofile=profile, planarconfig="contig")
    photo = read(data)
    assert photo.icc == profile
    again = encode(photo)
    back = seen(again)
    if array.shape[-1] == 2 and kind == "png":
        back = back[..., [0, 3]]
    assert np.array_equal(back, array)
    # Pillow opens no TIFF of grey with alpha of 16 bits
    assert profile in again if kind == "tiff" else opened(again).info["icc_profile"] == profile


@icc
@pytest.mark.parametrize("kind", ["jpeg", "webp", "avif", "png", "tiff"])
def test_the_profile_travels_between_formats(icc, kind):
    data = encode(read(saved(smooth(), "TIFF", icc_profile=icc)), format=kind)
    assert opened(data).info["icc_profile"] == icc


def test_bmp_holds_no_profile_so_its_pixels_are_srgb():
    array = noise(30, 30, 3, np.uint8)
    data = encode(read(saved(array, "PNG", icc_profile=WIDE["Display P3"])), format="bmp")
    wanted = srgb_by_littlecms(array, WIDE["Display P3"]).astype(int)
    assert np.abs(np.asarray(opened(data), int) - wanted).max() <= 1


@icc
def test_changed_pixels_inside_srgb_are_those_of_littlecms(icc):
    array = (smooth() // 6 + 90).astype(np.uint8)  # muted: inside every gamut
    photo = read(saved(array, "PNG", icc_profile=icc))
    lifted = to_srgb(to_linear(photo.pixels) * np.float32(1.5))
    again = encode(photo.with_pixels(lifted))
    back = srgb_by_littlecms(np.asarray(opened(again)), icc)
    difference = np.abs(back - lifted * 255)  # steps of eight bits in a wide space are large ones in sRGB
    assert difference.max() < 5
    assert difference.mean() < 0.7


def test_a_vivid_picture_stays_vivid():
    icc = WIDE["Display P3"]
    array = np.zeros((8, 8, 3), np.uint8) + np.array([30, 120, 30], np.uint8)  # greener than sRGB can be
    photo = read(saved(array, "PNG", icc_profile=icc))
    assert photo.pixels[0, 0, 0] == 0
    lifted = encode(photo.with_pixels(to_srgb(to_linear(photo.pixels) * np.float32(3))))
    light = to_linear(seen(lifted) / np.float32(255))[0, 0]
    wanted = to_linear(array / np.float32(255))[0, 0] * 3
    assert np.abs(light - wanted).max() < 0.01


def test_colours_taken_away_do_not_come_back():
    array = np.zeros((8, 8, 3), np.uint8) + np.array([30, 120, 30], np.uint8)
    photo = read(saved(array, "PNG", icc_profile=WIDE["Display P3"]))
    grey = seen(encode(photo.with_pixels(np.full_like(photo.pixels, 0.5))))[0, 0].astype(int)
    assert np.ptp(grey) <= 1


def test_noise_of_black_pixels_is_not_amplified_into_colour():
    rng = np.random.default_rng(0)
    array = np.clip(rng.normal(2, 1.5, (64, 64, 3)), 0, 8).astype(np.uint8)
    photo = read(saved(array, "PNG", icc_profile=WIDE["Display P3"]))
    wanted = np.zeros_like(photo.pixels) + np.float32([0.3, 0.4, 0.2])  # what a denoiser made of it
    made = seen(encode(photo.with_pixels(wanted))).astype(float)
    assert made.std((0, 1)).max() < 3


@pytest.mark.parametrize("gradient", [np.uint8, np.uint16])
def test_a_gradient_under_a_profile_has_no_bands(gradient):
    top = np.iinfo(gradient).max
    array = np.zeros((4, 1024, 3), gradient) + np.linspace(0, top, 1024).astype(gradient)[None, :, None]
    data = tiff(array, photometric="rgb", iccprofile=WIDE["Adobe RGB"])
    photo = read(data)
    lifted = photo.with_pixels(np.minimum(photo.pixels * np.float32(1.05), 1))
    slope = np.diff(seen(encode(lifted, depth=16))[0, :900, 1].astype(int))
    assert slope.min() >= 0
    if gradient == np.uint16:
        assert slope[20:].max() < 90  # 65535 / 1024 * 1.05 is 67


def test_grey_profiles():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(GREY_18))
    wanted = ImageCms.profileToProfile(
        Image.fromarray(ramp), profile, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB"
    )
    photo = read(saved(ramp, "PNG", icc_profile=GREY_18))
    assert photo.grey
    assert np.abs(photo.pixels * 255 - np.asarray(wanted)).max() < 1.5
    again = encode(photo)
    assert np.array_equal(seen(again)[..., 0], ramp)
    assert opened(again).info["icc_profile"] == GREY_18
    assert np.abs(read(encode(photo.with_pixels(photo.pixels * 0.5))).pixels - photo.pixels * 0.5).max() < 0.02


FLAT = (1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""sRGB's own numbers, but for the exponent: a, b, c, d."""


@pytest.mark.parametrize(
    "numbers",
    [(1.8,), (2.0, 1.1, -0.1), (2.0, 1.1, -0.1, 0.05), (2.0, *FLAT), (2.4, *FLAT, 0.03, 0.01)],
    ids=["0", "1", "2", "3", "4"],
)
def test_curves_by_formula_are_those_of_littlecms(numbers: tuple[float, ...]) -> None:
    """ICC.1, 10.18: what is added above `d` and below it are two numbers in form 4, and one in form 2."""
    form = {1: 0, 3: 1, 4: 2, 5: 3, 7: 4}[len(numbers)]
    formula = struct.pack(">4s4xHxx", b"para", form) + struct.pack(f">{len(numbers)}i", *words_of(numbers))
    columns = {b"rXYZ": (0.4361, 0.2225, 0.0139), b"gXYZ": (0.3851, 0.7169, 0.0971), b"bXYZ": (0.1431, 0.0606, 0.7141)}
    elements = {b"desc": text(b"formula"), b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63_190, 65_536, 54_061)}
    elements |= {name: b"XYZ \0\0\0\0" + struct.pack(">3i", *words_of(column)) for name, column in columns.items()}
    icc = built(b"RGB ", b"XYZ ", elements | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), formula))
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, 2)
    photo = read(saved(ramp, "PNG", icc_profile=icc))
    assert photo.icc == icc
    assert np.abs(photo.pixels * 255 - srgb_by_littlecms(ramp, icc)).max() < 1.5


def words_of(numbers: tuple[float, ...]) -> list[int]:
    """As s15Fixed16."""
    return [round(number * 65_536) for number in numbers]


def test_an_exponent_is_in_256ths() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    icc = GREY_18.replace(struct.pack(">IH", 1, round(1.8 * 256)), struct.pack(">IH", 1, 512))
    wanted = to_srgb((ramp / np.float32(255)) ** 2)
    assert np.abs(read(saved(ramp, "PNG", icc_profile=icc)).pixels[..., 0] - wanted).max() < 2e-4


def test_profiles_made_of_tables_go_through_littlecms():
    icc = table_profile()
    array = noise(40, 40, 3, np.uint8)
    photo = read(saved(array, "PNG", icc_profile=icc))
    difference = np.abs(photo.pixels * 255 - srgb_by_littlecms(array, icc))
    assert np.percentile(difference, 90) < 2
    lifted = np.clip(photo.pixels * 0.7 + 0.1, 0, 1)
    back = srgb_by_littlecms(np.asarray(opened(encode(photo.with_pixels(lifted)))), icc)
    assert np.abs(back - lifted * 255).mean() < 3


@pytest.mark.parametrize(
    "damaged", [b"", b"nonsense", SRGB[:200], WIDE["Display P3"][:300], SRGB[:16] + b"CMYK" + SRGB[20:]]
)
def test_a_profile_that_cannot_be_used_is_said_and_dropped(damaged):
    with pytest.raises(ValueError):
        profile_of(damaged)
    if damaged:
        photo = read(saved(smooth(), "TIFF", icc_profile=damaged))
        assert photo.icc is None
        assert "cannot be used" in photo.notes[0]


def test_a_grey_profile_on_colours_is_dropped():
    photo = read(saved(smooth(), "TIFF", icc_profile=GREY_18))
    assert photo.icc is None
    assert "a profile for grey" in photo.notes[0]
    photo = read(saved(smooth()[..., 0], "TIFF", icc_profile=table_profile()))
    assert photo.icc is None
    assert "tables for colours" in photo.notes[0]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_srgb(kind):
    image = Image.fromarray(smooth()).convert("CMYK")
    photo = read(saved(image, kind, **({"quality": 95} if kind == "JPEG" else {})))
    assert photo.icc is None
    assert not photo.grey
    assert np.abs(photo.pixels * 255 - np.asarray(image.convert("RGB"))).mean() < 3
    assert "from CMYK" in photo.notes[0]
    assert opened(encode(photo)).mode == "RGB"


def test_cicp_of_a_png_is_honoured():
    array = noise(10, 10, 3, np.uint8)
    photo = read(png(array, (b"cICP", bytes([12, 13, 0, 1]))))
    assert np.abs(photo.pixels * 255 - srgb_by_littlecms(array, WIDE["Display P3"])).max() < 1.5
    assert b"P\0" in photo.icc
    with pytest.raises(InputError, match="HDR picture \\(PQ\\)"):
        read(png(array, (b"cICP", bytes([9, 16, 0, 1]))))


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_a_profile_that_says_hdr_is_refused(transfer: int, name: str) -> None:
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63_190, 65_536, 54_061)
    hdr = built(b"RGB ", b"XYZ ", {b"wtpt": white, b"cicp": b"cicp\0\0\0\0" + bytes([9, transfer, 0, 1])})
    with pytest.raises(InputError, match=f"HDR picture \\({name}\\)"):
        read(saved(smooth(), "PNG", icc_profile=hdr))


def test_adobe_rgb_by_exif_alone_is_honoured():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    array = np.zeros((16, 16, 3), np.uint8) + np.array([100, 150, 120], np.uint8)
    photo = read(saved(array, "JPEG", exif=exif, quality=100, subsampling=0))
    wanted = srgb_by_littlecms(array, WIDE["Adobe RGB"])
    assert np.abs(photo.pixels * 255 - wanted).max() < 3
    assert profile_of(opened(encode(photo)).info["icc_profile"]) is not None


@given(st.floats(0, 1, width=32))
def test_luma_of_grey_is_itself(level):
    assert luma(np.full((1, 1, 3), level, np.float32))[0, 0, 0] == np.float32(level)


@pytest.mark.parametrize(("channel", "share"), [(0, 0.2126), (1, 0.7152), (2, 0.0722)])
def test_luma_of_a_colour_is_its_part_of_the_light(channel: int, share: float) -> None:
    assert luma(np.eye(3, dtype=np.float32)[None, channel : channel + 1])[0, 0, 0] == pytest.approx(
        1.055 * share ** (1 / 2.4) - 0.055, abs=1e-4
    )
