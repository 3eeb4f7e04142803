"""HEIC and RAW: read by packages of their own, written as JPEG and TIFF.

The files in tests/heic/ are `pictures_kit.smooth()`, encoded by pillow-heif: turned by 90 degrees with EXIF that says
the same, with transparency, and with 10 bits a sample; and a slope of 1200x800, red downwards, green to the right.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pictures_kit import opened, seen, smooth, tiff

from lowlight_cli.errors import InputError
from lowlight_cli.exposure import to_srgb
from lowlight_cli.pictures import encode, read

HEIC = Path(__file__).with_name("heic")


@pytest.fixture
def heic() -> None:
    pytest.importorskip("pi_heif")


@pytest.fixture
def raw() -> None:
    pytest.importorskip("rawpy")


def test_a_phones_photograph_is_upright_once(heic):
    photo = read(HEIC / "turned.heic")
    assert (photo.depth, photo.format, photo.notes) == (8, "jpeg", ())
    upright = np.rot90(smooth(), -1)
    assert photo.pixels.shape == upright.shape
    assert np.abs(photo.pixels * 255 - upright).mean() < 2
    again = opened(encode(photo))
    assert again.format == "JPEG"
    assert again.getexif()[0x010F] == "Camera Co"
    assert again.getexif()[0x0112] == 1


def test_a_photograph_of_a_phones_size_outlives_its_decoder(heic):
    """Memory of that size goes back to the system when the decoder lets go of it: what looks at it then crashes."""
    code = "import sys; from lowlight_cli import read; print(*read(sys.argv[1]).pixels[[0, 0, -1, -1], [0, -1, 0, -1]])"
    ran = subprocess.run([sys.executable, "-c", code, HEIC / "large.heic"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    corners = np.array(ran.stdout.replace("[", " ").replace("]", " ").split(), float).reshape(4, 3)
    assert np.abs(corners - [[0, 0, 0.5], [0, 1, 0.5], [1, 0, 0.5], [1, 1, 0.5]]).max() < 0.05


def test_transparency_and_depth_of_heic(heic):
    photo = read(HEIC / "clear.heic")
    assert photo.alpha is not None
    assert np.abs(photo.alpha.astype(int) - smooth()[..., 0]).mean() < 2
    assert opened(encode(photo, format="png")).mode == "RGBA"
    photo = read(HEIC / "deep.heic")
    assert photo.depth == 16
    assert photo.pixels.max() == 1  # ten bits reach white
    assert np.abs(photo.pixels * 255 - smooth()).mean() < 2
    assert seen(encode(photo, format="tiff")).dtype == np.uint16


def test_damaged_heic(heic):
    whole = (HEIC / "turned.heic").read_bytes()
    for cut in (40, 300, len(whole) - 100):
        with pytest.raises(InputError, match="damaged or incomplete"):
            read(whole[:cut])
    with pytest.raises(InputError, match="megapixels"):
        read(whole, max_pixels=64 * 48 - 1)


def test_an_item_whose_type_is_no_text_is_an_error_and_no_crash(heic):
    whole = (HEIC / "turned.heic").read_bytes()
    at = whole.index(b"Exif", whole.index(b"infe"))
    with pytest.raises(InputError, match="damaged or incomplete"):
        read(whole[: at + 1] + b"\xff\0\0" + whole[at + 4 :])


BLACK, WHITE = 512, 16383
TAGS = [
    (33421, "H", 2, (2, 2), True),  # CFARepeatPatternDim
    (33422, "B", 4, bytes([0, 1, 1, 2]), True),  # CFAPattern: red, green, green, blue
    (50706, "B", 4, bytes([1, 4, 0, 0]), True),  # DNGVersion
    (50708, "s", 0, "Camera Co One", True),  # UniqueCameraModel
    (50714, "H", 1, BLACK, True),
    (50717, "H", 1, WHITE, True),
    # ColorMatrix1: XYZ to the camera's colours, which are linear sRGB's here
    (50721, "2i", 9, sum(((round(v * 10_000), 10_000) for v in (
        3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570)), ()), True),
    (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),  # AsShotNeutral
    (50778, "H", 1, 21, True),  # CalibrationIlluminant1: D65
    (271, "s", 0, "Camera Co", True),
    (272, "s", 0, "One", True),
]  # fmt: skip


def dng(light: np.ndarray, turn: int = 1) -> bytes:
    """Linear light (H, W) in [0, 1], the same in all colours, as a camera without a lens would have it."""
    mosaic = np.rint(BLACK + light * (WHITE - BLACK)).astype(np.uint16)
    buffer = io.BytesIO()
    tags = [*TAGS, (274, "H", 1, turn, True)]
    tifffile.imwrite(buffer, mosaic, photometric=32803, subfiletype=0, metadata=None, extratags=tags)
    return buffer.getvalue()


def test_raw_is_developed_in_linear_light_at_16_bits(raw):
    light = np.broadcast_to(np.linspace(0.001, 0.05, 96), (64, 96))
    photo = read(dng(light), name="a.dng")
    assert (photo.depth, photo.format, photo.pixels.shape) == (16, "tiff", (64, 96, 3))
    inner = photo.pixels[8:-8, 8:-8]
    assert np.abs(inner - to_srgb(light)[8:-8, 8:-8, None]).max() < 0.01  # neither brightened nor bent
    assert len(np.unique(inner)) > 100  # 8 bits have 60 codes there
    again = encode(photo)
    assert seen(again).dtype == np.uint16
    exif = opened(encode(photo, format="jpeg")).getexif()
    assert (exif[271], exif[272]) == ("Camera Co", "One")


def test_raw_is_upright_once(raw):
    light = np.broadcast_to(np.linspace(0.01, 0.5, 96), (64, 96))
    photo = read(dng(light, turn=6), name="a.dng")
    assert (photo.width, photo.height) == (64, 96)
    assert photo.pixels[10].mean() < photo.pixels[80].mean()
    with tifffile.TiffFile(io.BytesIO(encode(photo))) as file:
        assert file.pages.first.tags[274].value == 1


def test_damaged_raw(raw):
    whole = dng(np.full((64, 96), 0.2))
    for data in (whole[:600], b"FUJIFILMCCD-RAW 0201" + bytes(200), tiff(smooth(), photometric="rgb")):
        with pytest.raises(InputError, match=r"^a.nef: damaged or incomplete"):
            read(data, name="a.nef")
    with pytest.raises(InputError, match="is text, not a picture"):
        read(b"no camera wrote this", name="a.nef")
    with pytest.raises(InputError, match="megapixels"):
        read(whole, name="a.dng", max_pixels=64 * 96 - 1)


def test_targets_of_what_is_only_read(heic, raw, folder: Path, lowlight):
    Path("in").mkdir()
    Path("in/IMG_1.HEIC").write_bytes((HEIC / "turned.heic").read_bytes())
    Path("in/IMG_2.DNG").write_bytes(dng(np.full((64, 96), 0.02)))
    ran = lowlight("enhance", "in")
    assert ran.code == 0, ran.err
    assert ran.out.split() == ["in_lit/IMG_1.jpg", "in_lit/IMG_2.tif"]
    assert lowlight("batch", "in", "-o", "b", "--format", "png").out.split() == ["b/IMG_1.png", "b/IMG_2.png"]
    assert lowlight("enhance", "in/IMG_1.HEIC").out.split() == ["in/IMG_1_lit.jpg"]
    ran = lowlight("enhance", "in/IMG_2.DNG", "-o", "out.dng")
    assert (ran.code, "no format has the suffix '.dng'" in ran.err) == (2, True)
