"""TIFF beside the round trips: planes that OpenCV has to read, channels that are no colours, resolution."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
import tifffile
from pictures_kit import noise, opened, saved, seen, smooth, tiff
from PIL import ImageCms

from lowlight_cli.errors import InputError
from lowlight_cli.pictures import encode, read
from lowlight_cli.pictures.colour import scaled

NEITHER = "it holds channels that are neither colour nor transparency; they are not kept"


def planes_in_lzw(array: np.ndarray, *, extra: tuple[int, ...] = (), tiled: bool = False) -> bytes:
    """A TIFF of (H, W, C) uint16 in planes, each by LZW with a predictor in strips, or tiles of 16 x 16, by OpenCV."""
    height, width, channels = array.shape
    cells = [(y, x) for y in range(0, height, 16) for x in range(0, width, 16)] if tiled else [(0, 0)]
    side = (16, 16) if tiled else (height, width)
    pieces: list[bytes] = []
    for channel in range(channels):
        for y, x in cells:
            cell = array[y : y + side[0], x : x + side[1], channel]
            cell = np.pad(cell, [(0, side[0] - cell.shape[0]), (0, side[1] - cell.shape[1])], mode="edge")
            options = [cv2.IMWRITE_TIFF_COMPRESSION, 5, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 16 if tiled else 7]
            made = cv2.imencode(".tiff", np.ascontiguousarray(cell), options)[1].tobytes()
            with tifffile.TiffFile(io.BytesIO(made)) as file:
                page = file.pages.first
                assert (page.compression, page.predictor) == (5, 2)
                spans = zip(page.dataoffsets, page.databytecounts, strict=True)
                pieces += [made[start : start + size] for start, size in spans]
    body, starts = b"", []
    for piece in pieces:
        starts.append(8 + len(body))
        body += piece
    sizes = [len(piece) for piece in pieces]
    tags = {256: [width], 257: [height], 258: [16] * channels, 259: [5], 262: [2 if channels > 2 else 1]}
    tags |= {277: [channels], 284: [2], 317: [2]} | ({338: list(extra)} if extra else {})
    tags |= {322: [16], 323: [16], 324: starts, 325: sizes} if tiled else {273: starts, 278: [7], 279: sizes}
    table = struct.pack("<H", len(tags))
    behind = 8 + len(body) + 2 + 12 * len(tags) + 4
    long = b""
    for tag, values in sorted(tags.items()):
        raw = struct.pack(f"<{len(values)}I", *values)
        table += struct.pack("<HHI", tag, 4, len(values))
        table += raw if len(values) == 1 else struct.pack("<I", behind + len(long))
        long += raw if len(values) > 1 else b""
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + table + bytes(4) + long


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize(("channels", "extra"), [(3, ()), (4, (2,)), (2, (2,))])
def test_planes_of_16_bits_that_tifffile_does_not_unpack(channels, extra, tiled):
    """OpenCV takes them for pixels side by side, and what it does not fill holds what the memory held."""
    array = noise(37, 43, channels, np.uint16)
    data = planes_in_lzw(array, extra=extra, tiled=tiled)
    photo = read(data)
    if channels == 3:
        assert np.array_equal(photo.pixels, scaled(array))
    assert np.array_equal(seen(encode(photo)), array)


def test_a_damaged_plane_is_no_picture():
    data = planes_in_lzw(noise(37, 43, 3, np.uint16))
    with pytest.raises(InputError):
        read(data.replace(data[2000:2600], bytes(600)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("extra", [(0,), (2, 0), (0, 0)])
def test_channels_that_are_left_out_are_said(extra, dtype):
    array = noise(12, 9, 3 + len(extra), dtype)
    photo = read(tiff(array, photometric="rgb", extrasamples=extra, planarconfig="contig"))
    assert photo.notes == (NEITHER,)
    assert np.array_equal(seen(encode(photo)), array[..., : 4 if extra[0] else 3])


@pytest.mark.parametrize("alpha", [[], ["unassalpha"]])
def test_all_channels_kept_is_nothing_to_say(alpha):
    assert read(tiff(noise(12, 9, 3 + len(alpha), np.uint8), photometric="rgb", extrasamples=alpha)).notes == ()


def test_eight_bits_that_pillow_does_not_know_are_read_or_refused_for_what_they_are():
    grey = noise(12, 9, 3, np.uint8)
    photo = read(tiff(grey, photometric="minisblack", extrasamples=[2, 0], planarconfig="contig"))
    assert (photo.grey, photo.notes) == (True, (NEITHER,))
    assert np.array_equal(seen(encode(photo)), grey[..., :2])
    inks = tiff(noise(12, 9, 5, np.uint8), photometric="separated", extrasamples=["unassalpha"], planarconfig="contig")
    with pytest.raises(InputError, match="its colours are SEPARATED with 8 bits; save it as RGB"):
        read(inks)
    four = saved(smooth(16, 16), "TIFF").replace(struct.pack("<3H", 8, 8, 8), struct.pack("<3H", 4, 4, 4))
    with pytest.raises(InputError, match="its samples are 4-bit uint8; save it with 8 or 16 bits"):
        read(four)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("unit", "dots"), [("inch", 300), ("centimeter", 118.11)])
def test_the_resolution_of_a_tiff_goes_to_other_kinds(unit, dots, dtype):
    photo = read(tiff(noise(6, 5, 3, dtype), photometric="rgb", resolution=(dots, dots), resolutionunit=unit))
    for kind in ("png", "jpeg", "bmp"):
        assert opened(encode(photo, format=kind)).info["dpi"] == pytest.approx((300, 300), abs=0.1), kind
    with tifffile.TiffFile(io.BytesIO(encode(photo))) as file:
        assert file.pages.first.get_resolution("inch") == pytest.approx((300, 300), abs=0.1)
        assert file.pages.first.resolution == pytest.approx((dots, dots))  # in its own unit


@pytest.mark.parametrize("options", [{}, {"resolution": (1, 1)}, {"resolution": (3, 2), "resolutionunit": "none"}])
def test_a_tiff_without_a_resolution_has_none(options):
    assert read(tiff(noise(6, 5, 3, np.uint8), photometric="rgb", **options)).dpi is None


def taller(data: bytes) -> bytes:
    """A little-endian TIFF whose height is said to be twice what its strips or tiles hold."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tag = file.pages.first.tags[257]
    return data[: tag.valueoffset] + struct.pack("<H", 2 * tag.value) + data[tag.valueoffset + 2 :]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, 8])
@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 16}, {"tile": (16, 16)}])
def test_fewer_strips_than_rows_are_no_picture(options, compression, dtype):
    whole = tiff(smooth().astype(dtype), photometric="rgb", byteorder="<", compression=compression, **options)
    assert read(whole).pixels.shape == (48, 64, 3)
    with pytest.raises(InputError, match="ends early"):
        read(taller(whole))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_profile_that_is_cut_is_said():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    made = saved(smooth(), "TIFF", compression="tiff_adobe_deflate", icc_profile=profile)
    assert read(made).icc == profile and read(made).notes == ()
    cut = read(made[:-100])
    assert cut.icc is None and cut.notes == ("its colour profile is cut: read as sRGB, not kept",)
    assert np.array_equal(cut.pixels, scaled(smooth()))
