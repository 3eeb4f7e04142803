"""What readers that are not ours say of a file before and after `lowlight enhance`: depth, profile, EXIF, alpha.

By exiftool (Debian: libimage-exiftool-perl), ImageMagick and tifffile; what is not installed is skipped.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import Ran
from pictures_kit import noise, saved, smooth
from PIL import Image
from test_pictures_metadata import XMP, camera_exif

from lowlight_cli.cli import app
from lowlight_cli.pictures import encode, read
from lowlight_cli.pictures.colour import DISPLAY_P3, make_profile

MAGICK = shutil.which("magick") or shutil.which("convert-im6") or shutil.which("convert")
needs_exiftool = pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
needs_magick = pytest.mark.skipif(not MAGICK, reason="ImageMagick is not installed")

P3 = make_profile("Display P3", DISPLAY_P3)
ALPHA = noise(48, 64, 1, np.uint8, 1)[..., 0]
DEPTHS = {
    "photo.jpg": 8, "photo.png": 8, "deep.png": 16, "photo.webp": 8, "photo.tif": 8, "deep.tif": 16,
    "grey_clear.png": 8,
}  # fmt: skip
CLEAR = [name for name in DEPTHS if name != "photo.jpg"]
STORED = ("JFIF", "System", "File", "Composite", "ExifTool", "ICC", "PNG", "RIFF", "XMP-lowlight", "XMP-iptcExt")
"""Groups of exiftool that tell how a file is stored, or what we say about ourselves."""
STORAGE = {
    "IFD0:BitsPerSample", "IFD0:Compression", "IFD0:PhotometricInterpretation", "IFD0:StripOffsets",
    "IFD0:StripByteCounts", "IFD0:RowsPerStrip", "IFD0:SamplesPerPixel", "IFD0:PlanarConfiguration", "IFD0:Predictor",
    "IFD0:ExtraSamples", "IFD0:SampleFormat", "IFD0:ImageWidth", "IFD0:ImageHeight", "XMP-xmp:CreatorTool",
    "XMP-x:XMPToolkit",
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, seeded: Callable[[str], Path]) -> Iterator[tuple[Path, Path]]:
    """A folder of pictures that say all that a picture can, and what the command makes of it."""
    root = tmp_path_factory.mktemp("readers")
    there, lit = root / "in", root / "lit"
    there.mkdir()
    dark = smooth() // 6
    exif, rest = b"Exif\0\0" + camera_exif(), {"icc_profile": P3}
    clear = np.dstack([dark, ALPHA])
    (there / "photo.jpg").write_bytes(saved(dark, "JPEG", exif=exif, xmp=XMP, quality=90, **rest))
    (there / "photo.png").write_bytes(saved(clear, "PNG", exif=exif, **rest))
    (there / "grey_clear.png").write_bytes(saved(Image.fromarray(np.dstack([dark[..., 0], ALPHA]), "LA"), "PNG"))
    (there / "photo.webp").write_bytes(saved(clear, "WEBP", exif=exif[6:], lossless=True, exact=True, **rest))
    (there / "photo.tif").write_bytes(encode(read(there / "photo.png"), format="tiff"))
    for name, kind in (("deep.png", "png"), ("deep.tif", "tiff")):
        photo = read(there / "photo.png")
        (there / name).write_bytes(encode(photo, format=kind, depth=16))
    ran = app.run(["enhance", str(there), "-o", str(lit), "-w", str(seeded("dgaf")), "-q"])
    assert ran == 0
    yield there, lit


def exiftool(folder: Path, *args: str) -> dict[str, dict[str, Any]]:
    """Tags by file."""
    done = subprocess.run(
        ["exiftool", "-j", "-G1", "-n", "-b", *args, str(folder)], capture_output=True, text=True, check=True
    )
    return {Path(each["SourceFile"]).name: each for each in json.loads(done.stdout)}


@needs_exiftool
def test_tags_as_exiftool_sees_them(pair):
    before, after = (exiftool(folder) for folder in pair)
    assert before.keys() == after.keys() == DEPTHS.keys()
    for name, tags in before.items():
        kept = {tag: v for tag, v in tags.items() if ":" in tag and not tag.startswith(STORED) and tag not in STORAGE}
        kept = {tag: v for tag, v in kept.items() if not tag.startswith(("IFD1:", "XMP-xmp:Thumb"))}
        if name != "grey_clear.png":
            assert {"IFD0:Make", "GPS:GPSLatitude", "ExifIFD:ExifImageWidth"} <= kept.keys()
        turned = {"XMP-tiff:Orientation": 1} if "XMP-tiff:Orientation" in kept else {}
        told = {tag: after[name].get(tag) for tag in kept}
        assert told == {**kept, **turned}, name
        assert not [tag for tag in after[name] if tag.startswith("IFD1:") or "Thumbnail" in tag]
        assert "dgaf" in after[name]["XMP-lowlight:Provenance"]
        assert "sha256 " in after[name]["XMP-lowlight:Provenance"]


@needs_exiftool
def test_profiles_are_the_same_bytes(pair):
    for folder in pair:
        for name in DEPTHS:
            icc = subprocess.run(
                ["exiftool", "-b", "-icc_profile", str(folder / name)], capture_output=True, check=True
            ).stdout
            assert icc == (b"" if name == "grey_clear.png" else P3), name


@needs_exiftool
def test_what_is_stripped_is_gone(pair, tmp_path: Path, lowlight: Callable[..., Ran]):
    there, _ = pair
    assert lowlight("enhance", there, "-o", tmp_path / "a", "--strip-gps", "--no-provenance").code == 0
    for name, tags in exiftool(tmp_path / "a").items():
        assert not [tag for tag in tags if "GPS" in tag and tag != "IFD0:GPSInfo"], name
        assert "XMP-lowlight:Provenance" not in tags
        assert name == "grey_clear.png" or tags["IFD0:Make"] == "Camera Co 1"
    assert lowlight("enhance", there, "-o", tmp_path / "b", "--strip-metadata").code == 0
    for name, tags in exiftool(tmp_path / "b").items():
        left = {tag.split(":")[0] for tag in tags if tag.startswith(("ExifIFD", "GPS", "XMP", "InteropIFD", "IFD1"))}
        assert not left, name
        assert "IFD0:Make" not in tags


def magick(*args: str | Path) -> bytes:
    assert MAGICK
    return subprocess.run([MAGICK, *map(str, args)], capture_output=True, check=True).stdout


@needs_magick
@pytest.mark.parametrize("name", DEPTHS)
def test_depth_and_alpha_as_imagemagick_sees_them(pair, name):
    before, after = (folder / name for folder in pair)
    for path in (before, after):
        assert int(magick(path, "-format", "%z", "info:")) == DEPTHS[name]
    if name in CLEAR:
        alphas = [magick(path, "-alpha", "extract", "-depth", "16", "gray:-") for path in (before, after)]
        assert alphas[0] == alphas[1]
        assert np.array_equal(np.frombuffer(alphas[1], np.uint16).reshape(48, 64), ALPHA.astype(np.uint16) * 257)
    means = [float(magick(path, "-alpha", "off", "-format", "%[fx:mean]", "info:")) for path in (before, after)]
    assert means[1] > 1.5 * means[0]


def test_depth_and_alpha_as_tifffile_sees_them(pair):
    for name, dtype in (("photo.tif", np.uint8), ("deep.tif", np.uint16)):
        before, after = (tifffile.imread(folder / name) for folder in pair)
        assert before.dtype == after.dtype == dtype
        assert np.array_equal(before[..., 3], after[..., 3])
        with tifffile.TiffFile(io.BytesIO((pair[1] / name).read_bytes())) as file:
            assert file.pages.first.tags[34675].value == P3
