"""One gain for the whole picture: reaches its target, loses nothing, leaves bright pictures alone."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lowlight_cli.exposure import LARGEST_GAIN, TARGET, apply_gain, auto_gain, thumbnail, to_linear, to_srgb

pictures = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 90), st.integers(1, 90), st.just(3)),
    elements=st.floats(0, 1, width=32),
)


@given(hnp.arrays(np.float32, 50, elements=st.floats(0, 1, width=32)))
def test_linear_light_and_back(values: np.ndarray) -> None:
    assert np.abs(to_srgb(to_linear(values)) - values).max() < 1e-5


def test_middle_grey_is_a_fifth_of_the_light() -> None:
    assert to_linear(np.array([0.5], np.float32))[0] == pytest.approx(0.21404, abs=1e-5)


@pytest.mark.parametrize("level", [0.02, 0.05, 0.2, 0.4])
def test_a_dark_picture_reaches_the_target(level: float) -> None:
    random = np.random.default_rng(0)
    picture = (level * random.uniform(0.5, 1.5, (80, 100, 3))).astype(np.float32)
    exposed = apply_gain(picture, auto_gain(picture))
    # The gain is found on averages of cells, which the curve bends a little.
    assert exposed.mean() == pytest.approx(0.44, abs=0.02) and TARGET == 0.44


def test_a_bright_picture_is_left_alone() -> None:
    picture = np.full((20, 30, 3), 0.6, np.float32)
    assert auto_gain(picture) == 1.0
    assert apply_gain(picture, 1.0) is picture


def test_a_black_picture_gets_the_largest_gain() -> None:
    assert auto_gain(np.zeros((20, 20, 3), np.float32)) == pytest.approx(LARGEST_GAIN, rel=1e-4)


@given(pictures)
def test_the_gain_is_within_its_range(picture: np.ndarray) -> None:
    assert 1 <= auto_gain(picture) <= LARGEST_GAIN * 1.0001


@given(st.floats(1, LARGEST_GAIN))
def test_the_curve_keeps_order_black_and_white(gain: float) -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[:, None, None].repeat(3, 2)
    curve = apply_gain(ramp, gain)[:, 0, 0]
    assert curve[0] == 0 and curve[-1] == pytest.approx(1, abs=1e-5)
    assert (np.diff(curve) > -1e-6).all()
    assert (curve >= ramp[:, 0, 0] - 1e-5).all()


@pytest.mark.parametrize("gain", [1 / 400, 0.5, 1.01, 7.0, LARGEST_GAIN])
@pytest.mark.parametrize("levels", [255, 65_535, None])
def test_a_large_picture_is_exposed_by_the_same_curve(gain: float, levels: int | None) -> None:
    """Large ones go by a table, which is exact for what files of 8 and 16 bits can hold."""
    random = np.random.default_rng(0)
    picture = random.random((300, 400, 3), np.float32) ** 3
    if levels:
        picture = (np.rint(picture * levels) / levels).astype(np.float32)
    curve = to_srgb((1 - (1 - np.minimum(to_linear(picture), 1)) ** np.float32(gain)).astype(np.float32))
    off = np.abs(apply_gain(picture, gain) - curve).max()
    assert off <= (1e-6 if levels else gain * 1e-6 + 1e-6)


@pytest.mark.parametrize("size", [(4, 5), (300, 400)])
def test_a_hair_above_white_is_white(size: tuple[int, int]) -> None:
    """As a resampling may leave it; large pictures go another way."""
    picture = np.full((*size, 3), np.nextafter(np.float32(1), np.float32(2)))
    assert apply_gain(picture, 7.3) == pytest.approx(1, abs=1e-6)


@given(pictures)
def test_the_thumbnail_counts_every_pixel(picture: np.ndarray) -> None:
    small = thumbnail(picture, 8)
    height, width = picture.shape[:2]
    assert small.shape == (min(8, height), min(8, width), 3)
    if height % 8 == 0 and width % 8 == 0:
        assert small.mean() == pytest.approx(float(picture.mean(dtype=np.float64)), abs=1e-5)
    assert picture.min() - 1e-6 <= small.min() <= small.max() <= picture.max() + 1e-6


def test_no_copy_of_a_large_picture_is_made() -> None:
    """100 megapixels would be 2.4 GB in double precision."""
    picture = np.full((2000, 3000, 3), 0.1, np.float32)
    tracemalloc.start()
    auto_gain(picture)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 0.2 * picture.nbytes
