"""What holds for every size from 1x1 to 300x300, every depth and layout in memory, every tile: by hypothesis.

A few examples each here; `pytest -m slow tests/test_properties.py` takes many.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures_kit import noise, photo_of, samples, seen

from lowlight_cli import Enhancer, tiles
from lowlight_cli.pictures import encode, read

sizes = st.integers(1, 300)
few = settings(max_examples=15, deadline=None)
many = settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])

DTYPES = (np.uint8, np.uint16, np.float16, np.float32, np.float64)
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda array: array,
    "columns first": np.asfortranarray,
    "backwards": lambda array: array[::-1, ::-1],
    "every second": lambda array: np.repeat(np.repeat(array, 2, 0), 2, 1)[::2, ::2],
    "planes": lambda array: np.moveaxis(np.ascontiguousarray(np.moveaxis(array, -1, 0)), 0, -1),
    "swapped bytes": lambda array: array.astype(array.dtype.newbyteorder()),
}


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of any kind that the API takes, in any layout; read-only."""
    height, width, channels = draw(sizes), draw(sizes), draw(st.sampled_from([1, 3, 4]))
    dark = noise(height, width, channels, np.uint16, draw(st.integers(0, 2**32))) // draw(st.integers(1, 20))
    dtype = draw(st.sampled_from(DTYPES))
    if np.issubdtype(dtype, np.floating):
        array = (dark / 65_535).astype(dtype)
    else:
        array = dark.astype(dtype) if dtype == np.uint16 else (dark // 257).astype(dtype)
    array = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](array)
    array.flags.writeable = False
    return array[..., 0] if channels == 1 and draw(st.booleans()) else array


def assert_keeps_what_it_gets(enhancer: Enhancer, array: np.ndarray) -> None:
    before = array.copy()
    lit = enhancer.enhance(array)
    assert (lit.shape, lit.dtype) == (array.shape, array.dtype)
    assert np.array_equal(array, before)
    if array.ndim == 3 and array.shape[2] == 4:
        assert np.array_equal(lit[..., 3], array[..., 3])
    assert np.isfinite(lit).all() and lit.min() >= 0
    if np.issubdtype(array.dtype, np.floating):
        assert lit.max() <= 1
    again = enhancer.enhance(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))))
    assert np.array_equal(lit, again), "the layout in memory does not matter"


@pytest.fixture(scope="module")
def enhancer(seeded: Callable[[str], Path]) -> Enhancer:
    return Enhancer(weights=seeded("dgaf"), device="cpu", precision="fp32")


@few
@given(array=arrays())
def test_arrays(enhancer, array):
    assert_keeps_what_it_gets(enhancer, array)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@many
@given(array=arrays())
def test_many_arrays(enhancer, array):
    assert_keeps_what_it_gets(enhancer, array)


def assert_cuts_and_stitches(height: int, width: int, side: int, radius: int, stride: int, seed: int) -> None:
    """A neighbourhood's largest value: it needs all of `radius` pixels around, and comes out exactly or wrongly."""
    around = -(-radius // stride) * stride
    side = max(side, 2 * around + stride)
    picture = np.random.default_rng(seed).random((height, width, 3), np.float32)
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    stitched = np.full_like(picture, np.nan)
    for tile in tiles.plan(height, width, side, radius, stride):
        part = tile.cut(picture)
        assert part.shape[0] <= max(side, 1) and part.shape[1] <= max(side, 1)
        tile.keep(cv2.dilate(np.ascontiguousarray(part), kernel), stitched)
    assert np.array_equal(stitched, cv2.dilate(picture, kernel))


cutting = given(
    height=sizes, width=sizes, side=st.integers(1, 160), radius=st.integers(0, 12),
    stride=st.sampled_from([1, 4, 8, 16]), seed=st.integers(0, 2**32),
)  # fmt: skip


@few
@cutting
def test_tiles(height, width, side, radius, stride, seed):
    assert_cuts_and_stitches(height, width, side, radius, stride, seed)


@pytest.mark.slow
@many
@cutting
def test_many_tiles(height, width, side, radius, stride, seed):
    assert_cuts_and_stitches(height, width, side, radius, stride, seed)


def assert_comes_back(array: np.ndarray, kind: str) -> None:
    """Written and read by us, and read by others, a picture is what it was."""
    photo = photo_of(array)
    data = encode(photo, format=kind)
    assert encode(read(data)) == data
    theirs = seen(data)
    if array.shape[-1] == 2 and kind == "png":  # OpenCV knows no grey with alpha
        theirs = theirs[..., [0, 3]]
    assert theirs.dtype == array.dtype
    assert np.array_equal(theirs, array)


@few
@given(array=samples(300), kind=st.sampled_from(["png", "tiff"]))
def test_files(array, kind):
    assert_comes_back(array, kind)


@pytest.mark.slow
@settings(many, max_examples=300)
@given(array=samples(300), kind=st.sampled_from(["png", "tiff"]))
def test_many_files(array, kind):
    assert_comes_back(array, kind)
