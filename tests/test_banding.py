"""Dark gradients of eight bits come out without contours, and what is no contour stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Ran
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from lowlight_cli import Enhancer, banding, read, sheets, write
from lowlight_cli.banding import debanded
from lowlight_cli.exposure import apply_gain
from lowlight_cli.pictures import Photo
from lowlight_cli.weights.catalog import named

Picture = NDArray[np.float32]


def sky(height: int = 300, width: int = 400) -> Picture:
    """A gradient from 2 to 9 of 255, in float32."""
    down, across = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]
    colour = np.array([1.0, 0.9, 1.3])
    return np.asarray((2 + 5 * down * (0.6 + 0.4 * across))[..., None] * colour / 255, np.float32)


def rounded(picture: Picture) -> Picture:
    return np.asarray(np.rint(picture * 255) / np.float32(255), np.float32)


def steepest(picture: Picture) -> float:
    """The largest step between neighbours, in grey levels."""
    return float(max(np.abs(np.diff(picture, axis=axis)).max() for axis in (0, 1))) * 255


def test_a_sky_is_nearer_to_what_it_was_and_has_no_contour() -> None:
    smooth = debanded(rounded(sky()))
    errors = [np.abs(each - sky()).mean() for each in (rounded(sky()), smooth)]
    assert errors[1] < 0.5 * errors[0]
    assert steepest(apply_gain(rounded(sky()), 20)) > 7  # seen as a line
    assert steepest(apply_gain(smooth, 20)[16:-16, 16:-16]) < 2.5


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)), elements=st.integers(0, 70)))
def test_it_still_rounds_to_the_codes_of_the_file(codes: NDArray[np.uint8]) -> None:
    picture = codes / np.float32(255)
    assert np.array_equal(np.rint(debanded(picture) * 255), codes)


def test_noise_texture_edges_and_what_is_bright_stay() -> None:
    random = np.random.default_rng(0)
    noise = rounded(np.clip(sky() + random.normal(0, 2 / 255, (300, 400, 1)), 0, 1).astype(np.float32))
    edge = np.full((64, 64, 3), 4 / 255, np.float32)
    edge[:, 32:] = 8 / 255
    star = np.zeros((64, 64, 3), np.float32)
    star[32, 32] = 2 / 255
    bright = rounded(sky() + np.float32(0.5))
    for each in (noise, edge, star, bright):
        assert np.abs(debanded(each) - each).mean() * 255 < 0.01
    assert debanded(bright) is bright


def test_what_is_rare_around_it_stays() -> None:
    """Letters one code above their ground, and the sparse first codes beside pure black."""
    page = np.full((80, 300, 3), 4, np.uint8)
    cv2.putText(page, "one code", (10, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (5, 5, 5), 2)
    letters = page[..., 0] > 4
    smooth = debanded(page / np.float32(255)) * 255
    assert smooth[letters].mean() - smooth[~letters].mean() > 0.7
    sparse = np.random.default_rng(0).random((80, 300, 1)).repeat(3, 2) < 0.3
    assert np.array_equal(debanded(sparse / np.float32(255)), sparse / np.float32(255))


def test_wide_gamut_steps_are_smoothed() -> None:
    """A code of Display P3 is up to 1.22 of sRGB."""
    steps = rounded(sky()) * np.float32(1.22)
    assert steepest(apply_gain(debanded(steps), 20)[16:-16, 16:-16]) < 0.5 * steepest(apply_gain(steps, 20))


def test_grey_stays_grey_and_the_input_as_it_was() -> None:
    grey = rounded(sky()[..., :1].repeat(3, 2))
    given = grey.copy()
    smooth = debanded(grey)
    assert np.array_equal(given, grey)
    assert np.array_equal(smooth[..., 0], smooth[..., 1]) and np.array_equal(smooth[..., 0], smooth[..., 2])


def test_tiles_show_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = debanded(rounded(sky()))
    monkeypatch.setattr(banding, "SIDE", 50)
    assert np.abs(debanded(rounded(sky())) - whole).max() < 1e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 5)])
def test_tiny_pictures(size: tuple[int, int]) -> None:
    picture = np.full((*size, 3), 3 / 255, np.float32)
    assert np.abs(debanded(picture) - picture).max() < 1e-6


@pytest.fixture(scope="module")
def enhancer() -> Enhancer:
    return Enhancer("dgaf", device="cpu", engine="torch", precision="fp32")


def test_only_eight_bits_are_smoothed(enhancer: Enhancer, tmp_path: Path) -> None:
    """Floats and 16 bits say exactly what they mean; and researchers get the network alone."""
    codes = np.rint(sky() * 255).astype(np.uint8)
    alone = enhancer.enhance_picture(codes / np.float32(255))
    Image.fromarray(codes).save(tmp_path / "sky.png")
    photo = read(tmp_path / "sky.png")
    deep = enhancer.enhance(codes.astype(np.uint16) * 257) / np.float32(65535)
    assert np.abs(deep - alone).max() < 1e-4
    for lit in (enhancer.enhance_photo(photo).pixels, enhancer.enhance(codes) / np.float32(255)):
        assert steepest(lit[16:-16, 16:-16]) < 0.5 * steepest(alone[16:-16, 16:-16])
    for image in (codes, codes[..., 0].astype(np.uint16) * 257):
        assert np.array_equal(np.asarray(enhancer.enhance(Image.fromarray(image))), enhancer.enhance(image))


@pytest.mark.parametrize(("depth", "side"), [(8, 400), (8, 160), (16, 400)])
def test_a_comparison_shows_what_enhance_makes(
    enhancer: Enhancer,
    folder: Path,
    lowlight: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
    depth: int,
    side: int,
) -> None:
    """Also where the picture is reduced first, which leaves contours as they are."""
    monkeypatch.setattr(sheets, "shipped", lambda: ([named("dgaf")], []))
    write("sky.png", Photo(rounded(sky()), depth=depth))  # type: ignore[arg-type]
    words = ("--side", side, "--device", "cpu", "--precision", "fp32", "-o", "sheet.png")
    assert lowlight("compare", "sky.png", *words).code == 0
    height, width = 3 * side // 4, side
    gap = max(10, round((height * width) ** 0.5 / 28)) // 3
    shown = read("sheet.png").pixels[-gap - height : -gap, gap : gap + width]
    lit = enhancer.enhance_photo(read("sky.png")).pixels
    if side == 400:
        assert np.abs(shown - lit).max() * 255 < 1
    else:
        banded = enhancer.enhance_picture(sheets.reduced(rounded(sky()), side))
        assert steepest(shown[8:-8, 8:-8]) < 0.7 * steepest(banded[8:-8, 8:-8])


def test_tiles_are_the_whole(enhancer: Enhancer) -> None:
    codes = np.rint(sky(500, 700) * 255).astype(np.uint8)
    tiled = Enhancer("dgaf", device="cpu", engine="torch", precision="fp32", tile=384)
    assert np.abs(tiled.enhance(codes).astype(float) - enhancer.enhance(codes)).max() <= 2
