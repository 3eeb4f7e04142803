"""TIFF of several pages: page by page in and out, each with its own size, depth and metadata."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures_kit import samples, smooth
from PIL import Image

from lowlight_cli import Enhancer
from lowlight_cli.errors import InputError, OutputError
from lowlight_cli.files import Work, brightened
from lowlight_cli.pictures import encode, read
from lowlight_cli.targets import Job


def booklet(*pages: np.ndarray, byteorder: str = "<", bigtiff: bool = False, **options: object) -> bytes:
    """A TIFF of pages (H, W, C), each with a description of its own."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, byteorder=byteorder, bigtiff=bigtiff) as writer:
        for number, page in enumerate(pages):
            channels = page.shape[-1]
            extra = {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
            writer.write(
                page[..., 0] if channels == 1 else page,
                photometric="rgb" if channels > 2 else "minisblack", planarconfig="contig" if channels > 1 else None,
                description=f"page {number}", metadata=None, **extra, **options,
            )  # fmt: skip
    return buffer.getvalue()


def told(data: bytes) -> list[tuple[np.ndarray, str]]:
    """Samples and description of each page, by tifffile."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return [(page.asarray().reshape(*page.shape[:2], -1), page.description) for page in file.pages]


@settings(max_examples=25, deadline=None)
@given(st.lists(samples(20), min_size=2, max_size=4), st.sampled_from("<>"), st.booleans())
def test_pages_come_back_identical(pages, byteorder, bigtiff):
    data = booklet(*pages, byteorder=byteorder, bigtiff=bigtiff)
    photo = read(data)
    assert [page.depth for page in (photo, *photo.rest)] == [page.dtype.itemsize * 8 for page in pages]
    again = encode(photo)
    for number, (array, (theirs, description)) in enumerate(zip(pages, told(again), strict=True)):
        assert theirs.dtype == array.dtype
        assert np.array_equal(theirs, array)
        assert description == f"page {number}"
    twice = encode(read(again))
    assert encode(read(twice)) == twice


def test_each_page_is_enhanced(dgaf_weights: Path):
    pages = [smooth(40, 60) // 8, smooth(33, 21) // 8]
    photo = read(booklet(*pages, compression="zlib"))
    enhancer = Enhancer(weights=dgaf_weights, device="cpu")
    lit = told(encode(enhancer.enhance_photo(photo)))
    for page, (theirs, _) in zip(pages, lit, strict=True):
        assert np.array_equal(theirs, enhancer.enhance(page))
        assert theirs.mean() > 2 * page.mean()


def test_what_one_page_lacks_the_others_keep():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, byteorder=">") as writer:
        writer.write(smooth(), photometric="rgb", metadata=None, software=False)
        writer.write(smooth(), photometric="rgb", metadata=None, description="night", resolution=(300, 300))
    again = encode(read(buffer.getvalue()))
    with Image.open(io.BytesIO(again)) as image:
        image.seek(1)
        assert (image.n_frames, image.tag_v2[270], image.info["dpi"]) == (2, "night", (300, 300))
    stripped = encode(read(buffer.getvalue()), strip_metadata=True)
    assert b"night" not in stripped


def test_other_formats_hold_one_page():
    photo = read(booklet(smooth(), smooth()))
    with pytest.raises(OutputError, match="holds 2 pages and PNG only one; choose the format tiff"):
        encode(photo, format="png")


def test_pages_together_are_held_to_max_pixels():
    data = booklet(smooth(), smooth())
    assert len(read(data, max_pixels=2 * 48 * 64).rest) == 1
    with pytest.raises(InputError, match="megapixels"):
        read(data, max_pixels=2 * 48 * 64 - 1)


def test_a_preview_is_no_page():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(smooth(12, 16), photometric="rgb", subfiletype=1)
        writer.write(smooth(), photometric="rgb")
    photo = read(buffer.getvalue())
    assert (photo.width, photo.rest) == (64, ())


def test_the_command(folder: Path, lowlight):
    Path("scan.tif").write_bytes(booklet(smooth() // 8, smooth(20, 30)))
    ran = lowlight("enhance", "scan.tif", "--gate", "0.4")
    assert (ran.code, ran.lines) == (0, [line for line in ran.lines if line.startswith("1 lit")])
    first, second = told(Path("scan_lit.tif").read_bytes())
    assert first[0].mean() > 30
    assert np.array_equal(second[0], smooth(20, 30))  # bright already
    ran = lowlight("enhance", "scan.tif", "--format", "jpg")
    assert ran.code == 4
    assert "scan.tif: holds 2 pages and JPEG only one" in ran.err
    ran = lowlight("enhance", "scan.tif", "--compare", "-o", "both.png")
    assert "only its first page is shown" in ran.err


def test_a_page_that_is_not_shown_is_not_enhanced(dgaf_weights: Path):
    enhancer = Enhancer(weights=dgaf_weights, device="cpu")
    work = Work(Job(Path("scan.tif"), Path("both.png")), photo=read(booklet(smooth() // 8, smooth(20, 30))))
    assert brightened(work, enhancer, compare=True).photo.rest == ()


def test_a_chain_of_pages_that_ends_nowhere_or_bites_its_tail():
    data = booklet(smooth(), smooth())
    first = struct.unpack_from("<I", data, 4)[0]
    link = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    second = struct.unpack_from("<I", data, link)[0]
    last = second + 2 + 12 * struct.unpack_from("<H", data, second)[0]
    for wrong in (first, second, first + 12, len(data) - 3, 2**32 - 1):
        mended = bytearray(data)
        mended[last : last + 4] = struct.pack("<I", wrong)
        photo = read(bytes(mended))
        assert len(photo.rest) == 1
        assert "there may have been more" in photo.notes[0]


@pytest.mark.parametrize("kind", [1, 4, 5])
def test_previews_and_masks_are_no_pages(kind: int) -> None:
    """NewSubfileType (TIFF 6.0, section 8): 1 is a reduced copy, 4 a mask."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(smooth(), photometric="rgb", metadata=None)
        writer.write(smooth()[..., 0] > 99, photometric="minisblack", metadata=None, subfiletype=kind)
        writer.write(smooth(24, 32), photometric="rgb", metadata=None)
    assert [(page.height, page.width) for page in read(buffer.getvalue()).rest] == [(24, 32)]
