"""What is handed to the API: damaged and closed images, profiles, pictures that are none, and what is left alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import dark_array
from PIL import Image

from lowlight_cli import Enhancer
from lowlight_cli.errors import InputError
from lowlight_cli.pictures import Photo

PICTURE = dark_array().astype(np.float32) / 255
LEFT = Enhancer(weights="nowhere.safetensors", strength=0)


def holding(value: float) -> np.ndarray[Any, Any]:
    picture = PICTURE.copy()
    picture[3, 4, 1] = value
    return picture


SLIPS = [
    (dark_array(), "uint8"),
    (PICTURE[..., 0], r"\(40, 56\)"),
    (np.concatenate((PICTURE, PICTURE[..., :1]), axis=2), r"\(40, 56, 4\)"),
    (PICTURE[None], r"\(1, 40, 56, 3\)"),
    (PICTURE[:0], r"\(0, 56, 3\)"),
    (holding(np.nan), "not finite"),
    (holding(np.inf), "not finite"),
    (holding(np.nan).astype(np.float16), "not finite"),
]


@pytest.mark.parametrize(("picture", "told"), SLIPS)
def test_pictures_that_are_none(picture: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        LEFT.enhance_picture(picture)
    with pytest.raises(InputError, match=told):
        Photo(PICTURE).with_pixels(picture)


def test_infinities_of_both_signs() -> None:
    picture = holding(np.inf)
    picture[0, 0, 0] = -np.inf
    with pytest.raises(InputError, match="not finite"):
        LEFT.enhance_picture(picture)


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_other_floats_are_pictures(kind: Any) -> None:
    large = np.full((300, 300, 3), 0.5, kind)  # their sum is beyond float16
    assert LEFT.enhance_picture(large) is large
    assert Photo(large.astype(np.float32)).with_pixels(large).pixels.dtype == np.float32


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "GIF", "WEBP"])
def test_a_damaged_image(tmp_path: Path, format: str) -> None:
    path = tmp_path / "cut"
    noise = np.random.default_rng(0).integers(0, 50, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path, format)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try:
        image = Image.open(path)
    except OSError:
        pytest.skip("found when it is opened")
    with image, pytest.raises(InputError, match="damaged or closed"):
        LEFT.enhance(image)


def test_a_closed_image() -> None:
    image = Image.new("RGB", (4, 4))
    image.close()
    with pytest.raises(InputError, match="damaged or closed"):
        LEFT.enhance(image)


@pytest.mark.parametrize(("mode", "kept"), [("CMYK", False), ("P", True), ("YCbCr", True)])
def test_a_profile_comes_back_where_it_fits(mode: str, *, kept: bool) -> None:
    image = Image.new(mode, (4, 4))
    image.info.update(icc_profile=b"profile", comment=b"kept")
    lit = LEFT.enhance(image)
    assert lit.mode == "RGB" and lit.info["comment"] == b"kept"
    assert ("icc_profile" in lit.info) == kept
    lit.save(io.BytesIO(), "PNG")


def test_lab_comes_back_with_the_profile_of_what_it_becomes() -> None:
    image = Image.new("LAB", (4, 4))
    image.info["icc_profile"] = bytes(16) + b"Lab " + bytes(108)
    lit = LEFT.enhance(image)
    assert lit.mode == "RGB" and lit.info["icc_profile"][16:20] == b"RGB "


@pytest.mark.parametrize("options", [{"strength": 0}, {"gate": 0.01}])
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float16, np.float32, np.float64, ">f8"])
def test_what_is_left_alone_comes_back_to_the_bit(kind: Any, channels: int | None, options: dict[str, Any]) -> None:
    image: Any = np.random.default_rng(0).random((9, 8, channels or 1))
    if np.dtype(kind).kind == "u":
        image = (image * np.iinfo(kind).max).astype(kind)
    else:
        image[0, 0], image[1, 1] = -0.1, 1.1
        image = image.astype(kind)
    image = image if channels else image[..., 0]
    same = Enhancer(weights="nowhere.safetensors", **options).enhance(image)
    assert same.dtype == image.dtype and np.array_equal(same, image)
    assert not np.shares_memory(same, image)
