"""Tiles cover a picture once and see what they must; a network in tiles is the network on the whole picture."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowlight_cli import tiles
from lowlight_cli.networks import NETWORKS, build
from lowlight_cli.networks.statistics import recording, replaying

sizes = st.integers(1, 300)


@given(sizes, sizes, st.integers(48, 160), st.integers(0, 20), st.sampled_from([1, 4, 16]))
def test_tiles_cover_a_picture_once(height: int, width: int, side: int, overlap: int, stride: int) -> None:
    if side - 2 * -(-overlap // stride) * stride < stride:
        return
    count = np.zeros((height, width), int)
    for tile in tiles.plan(height, width, side, overlap, stride):
        count[tile.rows, tile.columns] += 1
        for own, outer, length in (
            (tile.rows, tile.outer_rows, height),
            (tile.columns, tile.outer_columns, width),
        ):
            assert outer.start % stride == 0
            assert outer.stop - outer.start <= side
            assert outer.start == 0 or own.start - outer.start >= overlap
            assert outer.stop == length or outer.stop - own.stop >= overlap
    assert (count == 1).all()


def test_tiles_are_even() -> None:
    heights = {tile.rows.stop - tile.rows.start for tile in tiles.plan(1200, 10, 1024 + 64, 32, 4)}
    assert heights == {600}


def test_a_side_without_room() -> None:
    with pytest.raises(ValueError, match="no room"):
        tiles.plan(300, 300, 100, 50, 4)


@given(sizes, sizes, st.integers(1, 200_000))
def test_reduced_sizes(height: int, width: int, pixels: int) -> None:
    small = tiles.reduced_size(height, width, pixels)
    assert 1 <= small[0] <= height and 1 <= small[1] <= width
    if height * width <= pixels:
        assert small == (height, width)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 2_000_000))
def test_samples_lie_apart_and_inside(height: int, width: int, pixels: int) -> None:
    rows = tiles.samples(height, width, pixels)
    blocks = [block for row in rows for block in row]
    assert len({(y.stop - y.start, x.stop - x.start) for y, x in blocks}) == 1
    assert all(0 <= y.start < y.stop <= height and 0 <= x.start < x.stop <= width for y, x in blocks)
    block = tiles.BLOCK**2
    assert sum((y.stop - y.start) * (x.stop - x.start) for y, x in blocks) <= max(pixels, block)
    for row in rows:
        assert all(left.stop <= right.start for (_, left), (_, right) in pairwise(row))
    for column in zip(*rows, strict=True):
        assert all(upper.stop <= lower.start for (upper, _), (lower, _) in pairwise(column))


def test_samples_come_from_everywhere() -> None:
    """A megapixel of 24: some hundred blocks, in each sixth of both sides."""
    blocks = [block for row in tiles.samples(4000, 6000, 2**20) for block in row]
    assert len(blocks) > 200
    sixths = {(y.start * 6 // 4000, x.start * 6 // 6000) for y, x in blocks}
    assert len(sixths) == 36


@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_with_the_wholes_statistics_are_the_whole(name: str) -> None:
    torch.manual_seed(0)
    network = build(name).eval()
    stride = NETWORKS[name].stride
    random = np.random.default_rng(0)
    picture = np.kron(random.uniform(0, 0.6, (4, 7, 3)), np.ones((32, 32, 1))).astype(np.float32)
    picture += random.normal(0, 0.02, picture.shape).astype(np.float32)

    def run(part: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            return network(x)[0].permute(1, 2, 0).numpy()

    plain = run(picture)
    with recording() as statistics:
        whole = run(picture)
    assert np.abs(plain - whole).max() < 1e-4, "measuring changes nothing"
    stitched = np.empty_like(picture)
    for tile in tiles.plan(*picture.shape[:2], 128, 32, stride):
        with replaying(statistics):
            tile.keep(run(tile.cut(picture)), stitched)
    assert -10 * np.log10(((stitched - whole) ** 2).mean() + 1e-12) > 45


@pytest.mark.parametrize("size", [(3000, 4000), (725, 966), (100, 5000)])
def test_reduced_copies_keep_to_a_grid(size: tuple[int, int]) -> None:
    small = tiles.reduced_size(*size, 300_000)
    assert all(side % tiles.GRID == 0 or side == whole for side, whole in zip(small, size, strict=True))
    assert small[0] * small[1] > 150_000
