"""Round trips: what goes in comes out, at its depth, in its kind, checked by readers that are not ours."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures_kit import CHANNELS, noise, opened, photo_of, png, samples, saved, seen, smooth, tiff
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin
from test_pictures_metadata import XMP

from lowlight_cli.errors import InputError, OutputError, UsageError
from lowlight_cli.pictures import FORMATS, READ_ONLY, encode, format_of, read, suffix_of, suffixes, write
from lowlight_cli.pictures.colour import scaled

few = settings(max_examples=40, deadline=None)


def test_the_table_of_formats():
    assert FORMATS[".jpg"] == FORMATS[".jpeg"] == "jpeg"
    assert suffixes() == {*FORMATS, *READ_ONLY}
    assert not FORMATS.keys() & READ_ONLY.keys()
    assert {READ_ONLY[each] for each in (".heic", ".nef")} == {".jpg", ".tif"}
    assert {suffix_of(name) for name in set(FORMATS.values())} == {".jpg", ".png", ".webp", ".tif", ".bmp", ".avif"}
    assert [format_of(name) for name in ("jpg", "JPEG", ".tif")] == ["jpeg", "jpeg", "tiff"]
    with pytest.raises(UsageError, match="'gif' is not known"):
        format_of("gif")


@few
@given(samples(), st.sampled_from(["png", "tiff"]))
def test_what_is_written_is_read_back_by_others_and_by_us(array, kind):
    data = encode(photo_of(array), format=kind)
    theirs = seen(data)
    if array.shape[-1] == 2 and kind == "png":  # OpenCV knows no grey with alpha
        theirs = theirs[..., [0, 3]]
    assert theirs.dtype == array.dtype
    assert np.array_equal(theirs, array)
    ours = read(data)
    assert (ours.depth, ours.grey, ours.format) == (array.dtype.itemsize * 8, array.shape[-1] < 3, kind)
    if ours.alpha is not None:
        assert np.array_equal(ours.alpha, array[..., -1])
    assert encode(ours) == data


def test_planes_are_not_said_to_be_there_where_they_are_not():
    """tifffile describes the shape of its arrays in its files, and believes that of a single pixel."""
    planes = np.array([95, 130, 194], np.uint8).reshape(3, 1, 1)
    again = encode(read(tiff(planes, photometric="rgb", planarconfig="separate")))
    assert np.array_equal(seen(again), planes.reshape(1, 1, 3))
    with tifffile.TiffFile(io.BytesIO(again)) as file:
        assert "ImageDescription" not in file.pages.first.tags


@few
@given(samples(), st.sampled_from(["by hand", "none", "zlib", "predictor", "big endian", "tiles", "planes"]))
def test_untouched_files_of_others_come_back_identical(array, how):
    channels = array.shape[-1]
    if how == "by hand":
        data = png(array)
    else:
        plain = array[..., 0] if channels == 1 else array
        options = {"photometric": "rgb" if channels > 2 else "minisblack"}
        if channels in (2, 4):
            options["extrasamples"] = ["unassalpha"]
        options["planarconfig"] = "contig"
        if how == "planes" and channels > 2:
            plain, options["planarconfig"] = np.moveaxis(plain, -1, 0), "separate"
        options |= {"zlib": {"compression": "zlib"}, "predictor": {"compression": "zlib", "predictor": True},
                    "big endian": {"byteorder": ">"}, "tiles": {"tile": (16, 16)}}.get(how, {})  # fmt: skip
        data = tiff(plain, **options)
    photo = read(data)
    again = seen(encode(photo))
    if channels == 2 and how == "by hand":
        again = again[..., [0, 3]]
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_bmp_is_identical(mode):
    image = Image.fromarray(smooth()).convert(mode)
    data = saved(image, "BMP")
    photo = read(data)
    again = opened(encode(photo))
    assert np.array_equal(np.asarray(again.convert("RGB")), np.asarray(image.convert("RGB")))
    assert photo.grey == (mode in ("1", "L"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_without_loss_stays_so(mode):
    array = noise(20, 30, CHANNELS[mode], np.uint8)
    data = saved(array, "WEBP", lossless=True, exact=True)
    photo = read(data)
    assert photo.compression == "lossless"
    assert np.array_equal(np.asarray(opened(encode(photo))), array)


def test_webp_with_loss_stays_so():
    photo = read(saved(smooth(), "WEBP", quality=80, exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0"))
    assert photo.compression == "lossy"
    assert b"VP8L" not in encode(photo)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [40, 92])
def test_jpeg_keeps_tables_subsampling_and_scans(quality, subsampling):
    data = saved(smooth(), "JPEG", quality=quality, subsampling=subsampling, progressive=quality == 40, comment=b"hi")
    before, after = opened(data), opened(encode(read(data)))
    assert after.quantization == before.quantization
    assert JpegImagePlugin.get_sampling(after) == subsampling
    assert ("progressive" in after.info) == (quality == 40)
    assert after.info["comment"] == b"hi"
    assert np.abs(np.asarray(before, int) - np.asarray(after, int)).max() <= 8
    assert opened(encode(read(data), quality=75)).quantization != before.quantization


def test_jpeg_keeps_grey_and_iptc():
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x02hi"
    data = saved(smooth()[..., 0], "JPEG", quality=88, extra=b"\xff\xed\0" + bytes([len(iptc) + 2]) + iptc)
    photo = read(data)
    assert photo.grey
    again = opened(encode(photo))
    assert again.mode == "L"
    assert again.quantization == opened(data).quantization
    assert ("APP13", iptc) in again.applist
    assert not [a for a in opened(encode(photo, strip_metadata=True)).applist if a[0] == "APP13"]


def test_a_picture_from_elsewhere_is_a_good_jpeg():
    again = opened(encode(read(saved(smooth(), "PNG")), format="jpg"))
    assert np.abs(np.asarray(again, int) - smooth()).mean() < 1.5
    assert JpegImagePlugin.get_sampling(again) == 0


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_avif(mode):
    image = Image.fromarray(smooth()).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(smooth()[..., 0]))
    photo = read(saved(image, "AVIF", quality=95))
    again = read(encode(photo, quality=95))
    assert again.format == "avif"
    seen_only = 1 if photo.alpha is None else (photo.alpha > 0)[..., None]
    assert np.abs((again.pixels - photo.pixels) * seen_only).mean() < 0.01
    assert (again.alpha is not None) == (mode == "RGBA")


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_compressions_of_tiff_are_read(compression, dtype):
    array = noise(33, 21, 3, dtype)
    made, data = cv2.imencode(".tiff", array[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    assert made
    photo = read(data.tobytes())
    assert np.array_equal(photo.pixels, scaled(array))
    again = encode(photo)
    assert np.array_equal(seen(again), array)
    with tifffile.TiffFile(io.BytesIO(again)) as file:
        assert file.pages.first.compression == (1 if compression == 1 else 8)


def test_tiff_white_is_zero_and_premultiplied_alpha():
    array = noise(9, 7, 1, np.uint16)
    assert np.array_equal(
        read(tiff(array[..., 0], photometric="miniswhite")).pixels[..., 0], scaled(65535 - array[..., 0])
    )
    straight = np.array([[[40_000, 20_000, 10_000, 32_768], [1, 2, 3, 65_535]]], np.uint16)
    given_ = straight.copy()
    given_[..., :3] = np.rint(straight[..., :3] * (straight[..., 3:] / 65_535))
    photo = read(tiff(given_, photometric="rgb", extrasamples=["assocalpha"]))
    assert np.abs(np.rint(photo.pixels * 65_535) - straight[..., :3]).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_16_bits(channels):
    array = noise(6, 5, channels, np.uint16)
    key = array[2, 3]
    photo = read(png(array, (b"tRNS", key.astype(">u2").tobytes())))
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha == 0, (array == key).all(-1))
    again = read(encode(photo))
    assert np.array_equal(again.alpha, photo.alpha)


def test_palettes_become_colours():
    image = Image.fromarray(smooth()).quantize(20)
    assert np.array_equal(seen(encode(read(saved(image, "PNG")))), np.asarray(image.convert("RGB")))
    image.info["transparency"] = 3
    photo = read(saved(image, "PNG", transparency=3))
    assert photo.alpha is not None
    assert np.array_equal(seen(encode(photo)), np.asarray(image.convert("RGBA")))


def test_depth_is_that_of_the_type_not_of_the_values():
    dark = np.full((4, 4, 3), 200, np.uint16)  # a dark picture: all codes below 256
    for data in (png(dark), tiff(dark, photometric="rgb")):
        photo = read(data)
        assert photo.depth == 16
        assert photo.pixels.max() == np.float32(200) / np.float32(65_535)
        assert np.array_equal(seen(encode(photo)), dark)


@few
@given(samples(20))
def test_from_16_to_8_bits_is_dithered_without_a_seed_and_without_a_shift(array):
    array = array[..., :1].astype(np.uint16)
    photo = photo_of(array)
    data = encode(photo, format="png", depth=8)
    assert data == encode(photo, format="png", depth=8)
    error = seen(data).astype(float) - array / 257
    assert np.abs(error).max() < 1


def test_dither_keeps_the_mean_and_whole_codes():
    slope = np.repeat(np.linspace(10_000, 10_400, 256).astype(np.uint16)[None], 128, 0)[..., None]
    eight = seen(encode(photo_of(slope), format="png", depth=8)).astype(float)
    columns = eight.mean(0)[:, 0] - (slope[0, :, 0] / 257)
    assert np.abs(np.convolve(columns, np.ones(16) / 16, "valid")).max() < 0.05
    whole = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16, 1)
    assert np.array_equal(seen(encode(photo_of(whole), format="png", depth=8))[..., 0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("kind", ["jpeg", "webp", "bmp", "avif"])
def test_formats_of_8_or_10_bits_take_16(kind):
    photo = photo_of(noise(16, 16, 3, np.uint16))
    assert read(encode(photo, format=kind)).depth == (16 if kind == "avif" else 8)
    with pytest.raises(OutputError, match="does not hold 16 bits a sample; choose the format png or tiff"):
        encode(photo, format=kind, depth=16)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_8_bits_as_16_are_the_same_values(kind):
    array = noise(8, 9, 4, np.uint8)
    array[..., 3] |= 1
    assert np.array_equal(seen(encode(photo_of(array), format=kind, depth=16)), array.astype(np.uint16) * 257)


@pytest.mark.parametrize("kind", ["jpg", "bmp"])
def test_transparency_is_not_dropped_in_silence(kind):
    with pytest.raises(
        OutputError, match=r"cannot hold its transparency; choose the format png or webp or tiff or avif"
    ):
        encode(read(saved(noise(4, 4, 4, np.uint8), "PNG")), format=kind)


def test_a_picture_too_large_for_the_format():
    wide = photo_of(np.zeros((1, 16_384, 3), np.uint8), name="wide.png")
    with pytest.raises(OutputError, match=r"wide.png: 16384 x 1 is too large for WebP .*; choose the format png"):
        encode(wide, format="webp")


def test_colour_under_full_transparency_is_filled_for_the_network_and_kept_in_the_file():
    array = np.zeros((16, 16, 4), np.uint8)
    array[..., :3] = (250, 0, 250)  # leftovers of an editor
    array[4:12, 4:12] = (60, 70, 80, 255)
    photo = read(saved(array, "PNG"))
    assert np.allclose(photo.pixels * 255, (60, 70, 80), atol=0.01)
    assert np.array_equal(seen(encode(photo)), array)
    lifted = seen(encode(photo.with_pixels(np.minimum(photo.pixels * 2, 1))))
    assert np.array_equal(lifted[4:12, 4:12], np.broadcast_to((120, 140, 160, 255), (8, 8, 4)))
    assert np.array_equal(lifted[0], array[0])


def test_grey_comes_back_grey_by_luma():
    photo = read(saved(smooth()[..., 0], "PNG"))
    assert np.array_equal(photo.pixels[..., 0], photo.pixels[..., 2])
    tinted = photo.pixels * np.float32([1.0, 0.5, 0.5])
    again = seen(encode(photo.with_pixels(tinted)))
    assert again.shape[-1] == 1
    assert again.mean() < smooth()[..., 0].mean()


def test_pixels_beyond_the_range_are_clipped():
    photo = photo_of(noise(3, 3, 3, np.uint8))
    again = seen(encode(photo.with_pixels(np.where(photo.pixels > 0.5, 1.2, -0.2))))
    assert set(np.unique(again)) <= {0, 255}


def test_with_pixels_wants_the_same_shape():
    with pytest.raises(InputError, match="was wanted"):
        photo_of(noise(3, 3, 3, np.uint8)).with_pixels(np.zeros((4, 3, 3), np.float32))


def test_the_suffix_of_the_target_decides(tmp_path: Path):
    photo = read(saved(smooth(), "PNG"))
    for name, kind in (("a.JPG", "JPEG"), ("b.tif", "TIFF"), ("c.webp", "WEBP"), ("d", "PNG"), ("e.png", "PNG")):
        write(tmp_path / name, photo)
        assert opened((tmp_path / name).read_bytes()).format == kind
    write(tmp_path / "f.png", photo, format="jpeg")
    assert opened((tmp_path / "f.png").read_bytes()).format == "JPEG"


def test_content_decides_the_format(tmp_path: Path):
    path = tmp_path / "really.jpg"
    path.write_bytes(saved(smooth(), "PNG"))
    assert read(path).format == "png"


def test_resolution_is_kept():
    for kind in ("JPEG", "PNG", "TIFF", "BMP"):
        photo = read(saved(smooth(), kind, dpi=(300, 300)))
        for out in ("jpeg", "png", "tiff", "bmp"):
            assert opened(encode(photo, format=out)).info["dpi"] == pytest.approx((300, 300), abs=0.1), (kind, out)
    assert opened(encode(replace(photo, depth=16), format="png")).info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_ratio_of_pixels_is_no_resolution() -> None:
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = 1.0, 1.0, 1  # one by one, without a unit
    photo = read(saved(smooth(), "JPEG", exif=exif))
    assert photo.dpi is None
    assert opened(encode(photo)).info.get("jfif_unit") == 0


def test_texts_of_a_png_are_kept():
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("Title", "Nacht", zip=True)
    texts.add_itxt("Comment", "Über der Stadt")
    photo = read(saved(smooth(), "PNG", pnginfo=texts))
    for made in (photo, replace(photo, depth=16)):
        again = opened(encode(made))
        assert again.text == {"Title": "Nacht", "Comment": "Über der Stadt"}
        assert not opened(encode(made, strip_metadata=True)).text


def test_what_cannot_be_kept_is_said():
    frames = [Image.fromarray(smooth()), Image.fromarray(smooth())]
    photo = read(saved(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert (photo.format, photo.width) == ("jpeg", 64)
    assert "further pictures (MPO)" in photo.notes[0]
    assert b"MPF" not in encode(photo)


def test_further_packets_of_xmp_are_said() -> None:
    packet = XMP.replace(b' xmp:Rating="4"', b' xmp:Rating="4" xmlns:xmpNote="urn:n" xmpNote:HasExtendedXMP="0123"')
    body = b"http://ns.adobe.com/xmp/extension/\0" + b"0123" * 8 + struct.pack(">II", 3, 0) + b"map"
    extra = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    photo = read(saved(smooth(), "JPEG", xmp=packet, extra=extra))
    assert photo.notes == ("it holds more XMP than one segment takes (extended XMP); only the first packet is kept",)
    again = encode(photo)
    assert b'xmp:Rating="4"' in opened(again).info["xmp"]
    assert b"ExtendedXMP" not in again
    assert read(again).notes == ()


def raw_profile(words: PngImagePlugin.PngInfo, kind: str, body: bytes) -> None:
    """A profile as ImageMagick writes it into a text."""
    digits = body.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    words.add_text(f"Raw profile type {kind}", "\n".join(["", kind, f"{len(body):8}", *lines, ""]), zip=True)


@pytest.mark.parametrize("kinds", [("exif", "xmp"), ("APP1", "xmp"), ("exif", "APP1")])
def test_exif_and_xmp_of_an_older_png(kinds: tuple[str, str]) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera", 6
    words = PngImagePlugin.PngInfo()
    raw_profile(words, kinds[0], exif.tobytes())
    raw_profile(words, kinds[1], (b"http://ns.adobe.com/xap/1.0/\0" if kinds[1] == "APP1" else b"") + XMP)
    words.add_text("Title", "Night")
    data = saved(smooth(), "PNG", pnginfo=words)
    photo = read(data)
    assert photo.notes == ()
    again = opened(encode(photo))
    assert (again.getexif()[0x010F], again.getexif()[0x0112]) == ("Camera", 1)
    assert b'xmp:Rating="4"' in again.info["xmp"]
    assert again.text.keys() == {"Title", "XML:com.adobe.xmp"}
    if kinds[0] == "exif":  # Pillow knows no other
        assert again.size == ImageOps.exif_transpose(opened(data)).size


def test_raw_profiles_that_are_not_kept_are_said() -> None:
    words = PngImagePlugin.PngInfo()
    for kind in ("iptc", "8bim", "icc", "exif"):
        raw_profile(words, kind, b"something")
    photo = read(saved(smooth(), "PNG", pnginfo=words))
    assert photo.notes == ("it holds raw profiles that are not kept: IPTC, ICC, EXIF",)
    assert "Raw profile" not in str(opened(encode(photo)).text)


def test_iptc_of_a_tiff_that_is_not_kept_is_said() -> None:
    block = b"8BIM\x04\x04\0\0\0\0\0\x0c\x1c\x02\x50\0\x07Someone"
    photo = read(tiff(smooth(), photometric="rgb", extratags=[(34_377, 7, len(block), block, True)]))
    assert photo.notes == ("its IPTC lies among Photoshop's resources alone; it is not kept",)


@pytest.mark.parametrize("dots", [(2**32 - 1, 2**32 - 1), (0, 0), (2835, 0)])
def test_a_resolution_without_sense_is_none(dots: tuple[int, int]) -> None:
    photo = read(png(noise(4, 4, 3, np.uint8), (b"pHYs", struct.pack(">IIB", *dots, 1))))
    for kind in ("png", "jpeg", "tiff", "bmp", "webp", "avif"):
        assert opened(encode(photo, format=kind)).size == (4, 4)
    assert photo.dpi is None
