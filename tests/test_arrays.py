"""What is handed to the API: damaged and closed images, profiles, pictures that are none, and what is left alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import dark_array
from PIL import Image

from lowlight_cli import Enhancer, read
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
    (np.where(PICTURE > 0.1, 1e300, PICTURE.astype(np.float64)), r"to 1e\+300"),
    (PICTURE * 255, "divide it by its white"),
    (PICTURE * 2 - 1, "reaches from -1 to .*: scale it to 0 to 1"),
    (np.ma.masked_invalid(holding(np.nan)), "filled"),
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
    same = LEFT.enhance_picture(large)
    assert same.dtype == np.float32 and np.array_equal(same, large)
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


# ------------------------------------------------------------------------------------------------------------- scales


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_arrays_on_another_scale(kind: Any) -> None:
    for array, told in (
        (PICTURE * 2 - 1, "from -1 to"),
        ((PICTURE - 0.485) / 0.229, "from -2"),
        (PICTURE * 9, "to 1.94"),
    ):
        with pytest.raises(InputError, match=told):
            LEFT.enhance(array.astype(kind))


def test_what_resampling_overshoots_by_is_allowed() -> None:
    edges = np.zeros((32, 32), np.float32)
    edges[8:24, 8:24] = 1
    sharp = np.asarray(Image.fromarray(edges).resize((75, 75), Image.Resampling.LANCZOS))
    assert sharp.min() < -0.05 and sharp.max() > 1.05
    assert np.array_equal(LEFT.enhance(sharp), sharp)
    clipped = LEFT.enhance_picture(np.dstack([sharp] * 3))
    assert clipped.min() == 0 and clipped.max() == 1


@pytest.mark.parametrize("picture", [PICTURE.tolist(), Image.fromarray(dark_array()), None, "a.jpg"])
def test_what_is_no_array(picture: Any) -> None:
    with pytest.raises(TypeError, match="wanted a NumPy array, got"):
        LEFT.enhance_picture(picture)
    with pytest.raises(TypeError, match="wanted a NumPy array, got"):
        Photo(PICTURE).with_pixels(picture)


def test_masked_arrays_and_matrices(dgaf_weights: Path) -> None:
    with pytest.raises(InputError, match="filled"):
        LEFT.enhance(np.ma.masked_less(dark_array(), 5))
    enhancer = Enhancer(weights=dgaf_weights)
    grey = dark_array()[..., 0]
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(grey)
    lit = enhancer.enhance(matrix)
    assert type(lit) is np.ndarray and np.array_equal(lit, enhancer.enhance(grey))


# ------------------------------------------------------------------------------------------------------------ cut-outs


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_colour_that_nobody_sees_is_not_measured(dgaf_weights: Path, mode: str) -> None:
    """A dark disc on nothing: lit as its file is, whatever lies hidden, and that comes back to the bit."""
    enhancer = Enhancer(weights=dgaf_weights, precision="fp32")
    dark = dark_array(96, 120) if mode == "RGBA" else dark_array(96, 120)[..., :1]
    y, x = np.mgrid[:96, :120]
    disc = (y - 48) ** 2 + (x - 60) ** 2 < 30**2
    seen = []
    for hidden in (0, 255):
        colours = np.where(disc[..., None], dark, np.uint8(hidden))
        array = np.dstack((colours, disc.astype(np.uint8) * 255))
        image = Image.fromarray(array)
        file = io.BytesIO()
        image.save(file, "PNG")
        results = [np.asarray(enhancer.enhance(image))]
        if mode == "RGBA":
            results += [enhancer.enhance(array), np.rint(enhancer.enhance(array / 255) * 255).astype(np.uint8)]
        wanted = enhancer.enhance_photo(read(file.getvalue())).pixels[disc] * 255
        for result in results:
            assert np.array_equal(result[~disc], array[~disc])
            assert np.array_equal(result[..., -1], array[..., -1])
            assert np.abs(result[disc][:, :-1] - wanted).max() <= 1
        seen.append(np.array([result[disc] for result in results]))
    assert seen[0][0].mean() > 1.5 * dark[disc].mean()
    assert np.array_equal(*seen)
