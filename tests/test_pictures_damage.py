"""Bad input: one line that names the file and says what to do, nothing else."""

from __future__ import annotations

import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures_kit import noise, photo_of, png, saved, smooth, tiff
from PIL import Image

from lowlight_cli.errors import DeviceError, InputError, LowlightError, ResourceError
from lowlight_cli.pictures import encode, read

WHOLE = {
    "jpeg": saved(smooth(), "JPEG", quality=90),
    "progressive": saved(smooth(), "JPEG", progressive=True),
    "png": saved(smooth(), "PNG"),
    "png16": encode(photo_of(noise(20, 30, 3, np.uint16)), format="png"),
    "webp": saved(smooth(), "WEBP"),
    "tiff": saved(smooth(), "TIFF"),
    "tiff lzw": saved(smooth(), "TIFF", compression="tiff_lzw"),
    "tiff16": tiff(noise(20, 30, 3, np.uint16), photometric="rgb"),
    "bmp": saved(smooth(), "BMP"),
    "avif": saved(smooth(), "AVIF"),
}


def refused(source: Path | bytes, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("share", [0.03, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_an_error_not_half_a_picture(kind, share, tmp_path):
    path = tmp_path / "cut.jpg"
    whole = WHOLE[kind]  # a PNG that lacks but its last chunk is whole
    path.write_bytes(whole[: min(int(len(whole) * share), len(whole) - 16)])
    assert refused(path).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_mutations_end_in_a_picture_or_in_one_line(kind, data):
    mutated = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(mutated), max_pixels=1_000_000)
    except LowlightError as error:
        assert "\n" not in str(error)
        assert str(error).startswith("picture: ")


def test_files_that_are_no_pictures(tmp_path):
    cases = {
        "empty.jpg": (b"", "is empty"),
        "notes.jpg": (b"Dear diary, it was dark.\n", "is text, not a picture; wanted JPEG, PNG"),
        "page.png": (b"<!DOCTYPE html><html></html>", "is text, not a picture"),
        "bytes.png": (bytes(range(256)) * 4, "is not a picture that can be read"),
        "short.png": (b"\x89PNG\r\n\x1a\n", "damaged or incomplete"),
        "still.gif": (saved(smooth(), "GIF"), "is a GIF; convert it to PNG first"),
        "none.png": (png(np.zeros((0, 5, 3), np.uint8)), "has no pixels (5 x 0)"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        message = refused(tmp_path / name)
        assert message.startswith(f"{tmp_path / name}: ")
        assert reason in message


def test_missing_files_folders_and_devices(tmp_path):
    assert "no such file" in refused(tmp_path / "gone.jpg")
    assert "is a folder" in refused(tmp_path)
    assert "is not a file" in refused(Path(os.devnull))
    assert "cannot be read" in refused(tmp_path / ("x" * 300 + ".jpg"))
    assert "cannot be read" in refused(Path("nul\0byte.jpg"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    path = tmp_path / "locked.png"
    path.write_bytes(WHOLE["png"])
    path.chmod(0)
    assert "check its permissions" in refused(path)


def test_a_name_can_be_given():
    assert refused(b"", name="upload 7").startswith("upload 7: is empty")
    assert read(WHOLE["png"], name="upload 7").name == "upload 7"
    assert read(WHOLE["png"]).name == "picture"


def bomb(kind: str, side: int = 60_000) -> bytes:
    """A file whose header promises side x side pixels."""
    if kind == "png":
        head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        return WHOLE["png"][:12] + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + WHOLE["png"][33:]
    data = bytearray(WHOLE[kind])
    if kind == "jpeg":
        at = data.find(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", side, side)
    elif kind == "bmp":
        data[18:26] = struct.pack("<ii", side, side)
    return bytes(data)


@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp"])
def test_a_header_of_60000_x_60000_is_refused_before_decoding(kind):
    before = Image.MAX_IMAGE_PIXELS
    message = refused(bomb(kind))
    assert "60000 x 60000 (3,600 megapixels, at most 500 are read); raise --max-pixels" in message
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", WHOLE)
def test_max_pixels_holds_for_every_format(kind):
    assert "megapixels" in refused(WHOLE[kind], max_pixels=100)
    read(WHOLE[kind], max_pixels=64 * 48)


def test_a_large_picture_is_read_without_pillows_warning():
    # 95 megapixels: beyond what Pillow warns of, and warnings are errors here
    data = saved(Image.new("1", (9_800, 9_700)), "PNG")
    assert "megapixels" in refused(data, max_pixels=90_000_000)
    from lowlight_cli.pictures.decode import DECODERS

    assert DECODERS["png"](data, 100_000_000).colours.shape == (9_700, 9_800)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_animations_are_refused_with_a_way_out(kind):
    frames = [Image.fromarray(np.roll(smooth(), 9 * i, 1)) for i in range(3)]
    for options in ({"duration": 50}, {}):  # a GIF may say nothing of time
        message = refused(saved(frames[0], kind, save_all=True, append_images=frames[1:], **options))
        assert "animat" in message
        assert "single pictures" in message


@pytest.mark.parametrize(
    ("array", "options", "reason"),
    [
        (np.zeros((4, 4, 3), np.float32), {"photometric": "rgb"}, "32-bit float32; save it with 8 or 16 bits"),
        (np.zeros((4, 4), np.int16), {"photometric": "minisblack"}, "16-bit int16"),
        (np.zeros((4, 4, 4), np.uint16), {"photometric": "separated"}, "SEPARATED with 16 bits; save it as RGB"),
        (np.zeros((4, 4, 5), np.uint16), {"photometric": "minisblack", "planarconfig": "contig"}, None),
    ],
)
def test_kinds_of_tiff_that_are_not_read(array, options, reason):
    data = tiff(array, **options)
    if reason is None:
        assert "not kept" in read(data).notes[0]
    else:
        assert reason in refused(data)


def heic() -> bytes:
    return struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(100)


@pytest.mark.parametrize(
    ("name", "content", "extra"),
    [
        ("a.heic", heic(), "heic"),
        ("a.jpg", heic(), "heic"),
        ("a.nef", tiff(smooth(), photometric="rgb"), "raw"),
        ("a.cr3", struct.pack(">I", 24) + b"ftypcrx \0\0\0\1crx isom" + bytes(50), "raw"),
        ("a.raf", b"FUJIFILMCCD-RAW 0201" + bytes(50), "raw"),
        ("b.tif", tiff(smooth(), photometric="rgb", extratags=[(50_706, 1, 4, (1, 4, 0, 0), True)]), "raw"),
    ],
)
def test_heic_and_raw_name_their_extra(name, content, extra, tmp_path, monkeypatch):
    monkeypatch.setattr("lowlight_cli.pictures.reading.find_spec", lambda name: None)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DeviceError, match=rf"{name}: .*pip install 'lowlight-cli\[{extra}\]'"):
        read(tmp_path / name)


def test_out_of_memory_is_said(monkeypatch):
    def none_left(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("lowlight_cli.pictures.reading._pixels", none_left)
    with pytest.raises(ResourceError, match="not enough memory"):
        read(WHOLE["png"])
    photo = photo_of(noise(3, 3, 3, np.uint8))
    monkeypatch.setattr("lowlight_cli.pictures.writing._samples", none_left)
    with pytest.raises(ResourceError, match="not enough memory"):
        encode(photo)


def test_names_in_any_script(tmp_path):
    path = tmp_path / "Фото 夜景 ñ.png"
    path.write_bytes(WHOLE["png"])
    assert read(path).width == 64


PATIENCE = 20.0
"""Seconds for what takes less than one, and took minutes."""


def jpeg(inserted: bytes = b"", *, side: int = 64, scans: int = 0, **options: object) -> bytes:
    """A JPEG with something after its first marker, and its last scan so many times more."""
    data = saved(np.zeros((side, side, 3), np.uint8), "JPEG", **options)
    last = data[data.rfind(b"\xff\xda") : -2]
    return data[:2] + inserted + data[2:-2] + scans * last + data[-2:]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (jpeg(side=2000, progressive=True, scans=20_000), "more than 500 scans"),
        (jpeg(b"\xff" * 10_000_000), "more filling"),
        (b"\xff\xd8\xff" + b"\xff" * 10_000_000, "more filling"),
        (jpeg(b"\xff\xd9" * 5_000_000), "more filling"),
        (jpeg(b"\xff\xd0" * 5_000_000), "more filling"),
        (jpeg(b"\xff\xe0\0\2" + bytes(10_000_000)), "more filling"),
        (jpeg(b"\xff\xfe\0\2" * 5_000_000), "more than 20,000 segments"),
    ],
    ids=["scans", "ff", "ff alone", "ends", "restarts", "zeros", "comments"],
)
def test_a_jpeg_made_to_take_for_ever_is_refused(data: bytes, reason: str) -> None:
    begun = time.monotonic()
    with pytest.raises(InputError, match=reason) as caught:
        read(data)
    assert time.monotonic() - begun < PATIENCE and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tail",
    [b"\xff\xd9" * 3_000_000, b"\xff\xda\0\2" * 1_000, b"ftyp" * 250_000, b"\0\0\0\x20ftyp" * 125_000],
    ids=["ends", "scans", "clips", "boxes"],
)
def test_what_is_behind_a_jpeg_is_looked_at_quickly(tail: bytes) -> None:
    begun = time.monotonic()
    assert read(jpeg() + bytes(300) + tail).width == 64
    assert time.monotonic() - begun < PATIENCE


@pytest.mark.parametrize(
    "data",
    [
        jpeg(b"\xff" * 10_000),
        jpeg(b"\xff\xe5\0\2" + bytes(10_000)),
        jpeg(progressive=True, scans=400),
        jpeg(b"\xff\xe5\0\x40" + b"\xff\xda" * 31),
        jpeg(b"\xff\xe5\xff\xff" + b"\xff\xda" * 32_766 + b"\0"),
        jpeg() + b"\xff\xda" * 10_000,
    ],
    ids=["filled", "zeros", "scans", "a preview", "a large one", "another picture"],
)
def test_an_odd_jpeg_is_read(data: bytes) -> None:
    assert read(data).pixels.shape == (64, 64, 3)
