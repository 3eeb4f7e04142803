"""Cut large pictures into tiles and put the results together. Integers and NumPy only.

Tiles are about equally large and begin on the stride grid, so that padding and pooling fall on the same places as in
the whole picture. Each is cut with an overlap around it and only its own part is kept: if the overlap is at least the
network's radius, the result equals that of the whole picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tile", "plan", "reduced_size", "samples"]

Picture = NDArray[np.float32]

GRID: Final = 64
"""Sides of reduced copies are multiples of this: a 64x64 thumbnail of the copy is then nearly that of the whole picture
(a gain measured on it is off by at most 0.6 %, and by up to 4 % for other sizes)."""


BLOCK: Final = 64
"""Side of a sample block: if smaller, a network sees mostly the seams between blocks; if larger, they are too few."""


@dataclass(frozen=True)
class Tile:
    """One tile: `rows` and `columns` are its own part, `outer_*` the larger part that the network sees."""

    rows: slice
    columns: slice
    outer_rows: slice
    outer_columns: slice

    def cut(self, picture: Picture) -> Picture:
        """The part of (H, W, 3) that the network sees."""
        return picture[self.outer_rows, self.outer_columns]

    def keep(self, output: Picture, picture: Picture) -> None:
        """Put the tile's own part of the network's `output` into `picture`."""
        top, left = self.rows.start - self.outer_rows.start, self.columns.start - self.outer_columns.start
        height, width = self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
        picture[self.rows, self.columns] = output[top : top + height, left : left + width]


def plan(height: int, width: int, side: int, overlap: int, stride: int) -> list[Tile]:
    """Cut (height, width) into tiles whose own parts cover every pixel once.

    Args:
        height: of the picture.
        width: of the picture.
        side: maximum side of a tile, overlap included.
        overlap: pixels around a tile that the network sees too; rounded up to the stride.
        stride: tiles begin at multiples of it.

    Raises:
        ValueError: `side` leaves no room between the overlaps.
    """
    overlap = math.ceil(overlap / stride) * stride
    rows, columns = list(_spans(height, side, overlap, stride)), list(_spans(width, side, overlap, stride))
    return [Tile(row, column, outer_row, outer_column) for row, outer_row in rows for column, outer_column in columns]


def _spans(length: int, side: int, overlap: int, stride: int) -> Iterator[tuple[slice, slice]]:
    """Yield (own, outer) spans along one side, as equal as the stride allows."""
    if length <= side:
        yield slice(0, length), slice(0, length)
        return
    room = (side - 2 * overlap) // stride * stride
    if room < stride:
        raise ValueError(f"a tile of {side} has no room between overlaps of {overlap}")
    count = math.ceil(length / room)
    step = math.ceil(length / count / stride) * stride
    for start in range(0, length, step):
        stop = min(start + step, length)
        yield slice(start, stop), slice(max(0, start - overlap), min(length, stop + overlap))


def reduced_size(height: int, width: int, pixels: int) -> tuple[int, int]:
    """A size of about the same shape with at most `pixels` pixels and sides that are multiples of `GRID`.

    A size that has no more pixels is returned as it is. A side that would be shorter than `GRID` is rounded down to
    whole pixels instead, at least 1.
    """
    scale = math.sqrt(pixels / (height * width))
    if scale >= 1:
        return height, width

    def side(length: int) -> int:
        return math.floor(length * scale / GRID) * GRID or max(1, math.floor(length * scale))

    return side(height), side(width)


def samples(height: int, width: int, pixels: int) -> list[list[tuple[slice, slice]]]:
    """Choose blocks (rows, columns) of a picture with about `pixels` pixels in total at most, as a grid of blocks.

    All have the same size, `BLOCK` or the picture's side if that is shorter. The picture is divided evenly, and one
    block is placed at random in each part, with a fixed seed: equally spaced blocks could all fall between the bars of
    a fence.
    """
    rows, columns = min(BLOCK, height), min(BLOCK, width)
    count = max(1, pixels // (rows * columns))
    down = min(max(1, round(math.sqrt(count * height / width * columns / rows))), count, height // rows)
    across = min(max(1, count // down), width // columns)
    random = np.random.default_rng(0)

    def within(part: int, parts: int, length: int, side: int) -> slice:
        first, last = part * length // parts, (part + 1) * length // parts - side
        start = int(random.integers(first, max(first, last), endpoint=True))
        return slice(start, start + side)

    return [
        [(within(i, down, height, rows), within(j, across, width, columns)) for j in range(across)] for i in range(down)
    ]
