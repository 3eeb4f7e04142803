"""Find bars and frames of one colour around a picture, which are no part of it.

A picture between black bars, or in a white frame, is measured and brightened as if it were alone; the border is kept
as it is. Dark or bright content must not be mistaken for a border: a sky above roofs, the moon, an object on white. So
a border lies on two opposite sides, is more uniform in colour than any real light, and ends in a straight line: within
a few rows, half of the pixels differ from its colour by far more than nearly all pixels did before. A little may be
written in it: what lies inside is then the longest run of lines of other colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Borders", "Where", "content", "framed", "inner"]

Picture = NDArray[np.float32]
Plane = NDArray[np.float32]
Where = tuple[slice, slice]
"""Rows and columns of a picture."""

SAME: Final = 2.5 / 255
"""Largest difference between a border's pixels and its colour: the noise that codecs leave."""

KINDS: Final = (SAME, 4, 0.25), (SAME, 2, 0.5), (SAME / 2, 2, 0.5)
"""Tuples of the largest difference from the border's colour, the rows over which its edge may be blurred, and the
largest difference before the edge as a share of that after it. Four rows are those of chroma subsampling; the content
may be hardly brighter than a border's noise."""

FEW: Final = 0.1
"""Share of a row's pixels that may be ignored."""

WRITTEN: Final = (SAME, 2, 0.5, FEW)
"""The kind of a border with writing in it, and how much of the whole that may be, or of a line that counts as clean."""

LEVELS: Final = 2 / 255
"""Smallest height of an edge: gradients in the dark rise by single levels."""

EXACT: Final = 0.75 / 255, 0.9
"""A border has at least this share (second) of values that differ by at most this (first): real light is noisier."""

THIN: Final = 0.01, 4
"""Thinnest border, as a fraction of the side and in pixels: a thinner one does not change the exposure."""

LEAST: Final = 0.25
"""Smallest fraction of each side that must remain inside the borders."""

FULL: Final = 0.5
"""Smallest share of the inside with another colour than the border's: pictures have that, lines of text do not."""

FLAT: Final = 0.9
"""Share of the inside with a single colour above which it is a lit window or a screen, and no picture."""

SAMPLE: Final = 2**16
"""Number of evenly spread pixels for the tests by `FULL` and `FLAT`."""

BLUR: Final = 16
"""Rows of a border that a codec's blocks may blur with the content."""

SOFT: Final = 1 / 64
"""Largest fraction of a side that an edge may take: in a small picture, gradients are steep."""

CORNER: Final = 1 / 16
"""Size of the inside's corners, as a fraction of the side; one of them must show something. Round things have none."""

NEAR: Final = 3
"""Rows checked on either side of an edge whose place is inferred from the opposite edge."""

STEP: Final = 32
"""Rows processed at a time."""

CLEAN, HALF = 0.99, 0.5
"""Smallest share of a bar that still has its colour: without subtitles, and with them."""


def content(picture: Picture, *, writing: bool = True) -> Where | None:
    """The rows and columns inside a picture's borders; None if it has none.

    Args:
        picture: (H, W, 3) RGB, [0, 1].
        writing: whether something may be written in the borders.
    """
    colour = _corner(picture)
    if colour is None:
        return None
    kinds = (*KINDS, WRITTEN) if writing else KINDS
    return next((where for kind in kinds if (where := _within(picture, _Paint(colour, *kind)))), None)


def inner(picture: Picture, where: Where | None) -> Picture:
    """A view of what lies within the borders; without borders the picture itself."""
    return picture if where is None else picture[where]


def framed(picture: Picture, where: Where | None, made: Picture) -> Picture:
    """Put `made`, the result for `inner`, back into the unchanged borders of the picture."""
    if where is None:
        return made
    whole = np.array(picture, np.float32, order="C")
    whole[where] = made
    return whole


class Borders:
    """The borders of a clip, frame by frame: once found, they stay until a frame lacks them, so that nothing flickers.

    An all-black frame has no borders of its own and leaves those found before in place. Borders that were not found
    before are not found by a frame with writing in them either: they could be lost again as soon as it gets dark.
    """

    def __init__(self) -> None:
        self._where: Where | None = None
        self._shape: tuple[int, ...] = ()
        self._paint = _Paint(np.zeros(3, np.float32))

    def frame(self, picture: Picture, cut: Callable[[Picture], bool]) -> Where | None:
        """The rows and columns inside the frame's borders; None if it has none.

        Args:
            picture: (H, W, 3) RGB, [0, 1].
            cut: returns whether the given part of the frame begins a new shot, whose borders may be wider.
        """
        if self._where is None or picture.shape != self._shape or not self._there(picture, self._where):
            self._where, self._shape = content(picture, writing=False), picture.shape
            self._paint = _Paint(np.median(picture[:2, :2], axis=(0, 1)))
        else:
            inside = picture[self._where]
            within = content(inside, writing=False) if self._paint.most_off(inside[:1, :1]) <= SAME else None
            if within and cut(inside):
                rows, columns = self._where
                self._where = _moved(within[0], rows.start), _moved(within[1], columns.start)
        return self._where

    def _there(self, picture: Picture, where: Where) -> bool:
        """Whether the bars are unchanged, except for subtitles in one of each pair."""
        height, width, _ = picture.shape
        sure = _widened(where[0], height), _widened(where[1], width)  # near the picture, codecs blur
        for pair in _bars(picture, sure):
            shares = [self._paint.count(bar, SAME) / bar.size for bar in pair if bar.size]
            if shares and (max(shares) < CLEAN or min(shares) < HALF):
                return False
        return True

    def state(self) -> dict[str, Any]:
        """The state that the next frame needs."""
        where = self._where and [[part.start, part.stop] for part in self._where]
        return {"borders": [where, list(self._shape), self._paint.colour]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; its arrays may have been converted to lists."""
        where, shape, colour = state["borders"]
        self._where = where and (slice(*where[0]), slice(*where[1]))
        self._shape, self._paint = tuple(shape), _Paint(np.array(colour, np.float32))


@dataclass(frozen=True, eq=False)
class _Paint:
    """The look of a border: a colour (3,), and a kind as in `KINDS` or `WRITTEN`."""

    colour: NDArray[np.float32]
    same: float = SAME
    soft: int = 0
    before: float = 0.0
    written: float = 0.0

    def off(self, lines: Picture) -> Plane:
        """Difference of each value from the colour: (h, w, 3) to (h, 3w), as whole lines are far faster."""
        apart = lines.reshape(len(lines), -1) - np.tile(self.colour, lines.shape[1])
        return np.asarray(np.abs(apart, out=apart), np.float32)

    def most_off(self, pixels: Picture) -> Plane:
        """Largest difference of each pixel from the colour, over the channels: (h, w, 3) to (h, w)."""
        apart = np.abs(pixels - self.colour)
        return np.asarray(np.maximum(np.maximum(apart[..., 0], apart[..., 1]), apart[..., 2]), np.float32)

    def count(self, pixels: Picture, limit: float) -> int:
        """Number of values that differ from the colour by at most `limit`."""
        tops = range(0, len(pixels) if pixels.size else 0, STEP)
        return sum(int(np.count_nonzero(self.off(pixels[top : top + STEP]) <= limit)) for top in tops)


def _corner(picture: Picture) -> NDArray[np.float32] | None:
    """The common colour of the four corners; None if they differ."""
    if min(picture.shape[:2]) < 2 * THIN[1]:
        return None
    ends = np.r_[0:2, -2:0]
    corners = picture[ends][:, ends]
    colour = np.asarray(np.median(corners, axis=(0, 1)), np.float32)
    return colour if np.abs(corners - colour).max() <= SAME else None


def _within(picture: Picture, paint: _Paint) -> Where | None:
    """Like `content`, for one kind of border."""
    height, width, _ = picture.shape
    top, bottom = _margins(picture, paint, 0)
    left, right = (0, 0) if top == height else _margins(picture[top : height - bottom], paint, 1)
    if top in (0, height) and not left:
        return None
    rows = _between(picture[:, left : width - right], top, bottom, paint)
    columns = _between(picture[top : height - bottom].swapaxes(0, 1), left, right, paint)
    if rows is None or columns is None or not _filled(picture[rows, columns], paint):
        return None
    bars = [bar for pair in _bars(picture, (rows, columns)) for bar in pair]
    limit, share = EXACT
    size, even = sum(bar.size for bar in bars), sum(paint.count(bar, limit) for bar in bars)
    plain = sum(paint.count(bar, SAME) for bar in bars) if paint.written else size
    return (rows, columns) if plain >= (1 - paint.written) * size and even >= share * plain else None


def _margins(picture: Picture, paint: _Paint, axis: int) -> tuple[int, int]:
    """Number of lines of the colour at each end: (0, 0) if either is too thin, (length, 0) if all lines are.

    With writing in them, the ends are all but the longest run of lines that have another colour.
    """
    share, pixels = THIN
    length = picture.shape[axis]
    least = max(math.ceil(share * length), pixels)
    first = _even(picture, paint, axis, last=False)
    if first < least or first == length:
        return (0, 0) if first < least else (first, 0)
    last = _even(picture, paint, axis, last=True)
    if last < least or not paint.written:
        return (first, last) if last >= least else (0, 0)
    odd = np.concatenate([_odd(picture, paint, axis, slice(at, at + STEP)) for at in range(0, length, STEP)])
    ends = np.flatnonzero(np.diff(odd, prepend=False, append=False))
    longest = 2 * int(np.argmax(ends[1::2] - ends[::2]))
    return int(ends[longest]), length - int(ends[longest + 1])


def _even(picture: Picture, paint: _Paint, axis: int, *, last: bool) -> int:
    """Number of rows (axis 0) or columns (axis 1) in the border's colour, from the first on or back from the last."""
    length = int(picture.shape[axis])
    start, stop = 0, 1  # usually the first line already differs
    while start < length:
        part = slice(max(length - stop, 0), length - start) if last else slice(start, stop)
        odd = _odd(picture, paint, axis, part)
        if odd.any():
            return start + int(np.argmax(odd[::-1] if last else odd))
        start, stop = stop, stop + STEP
    return length


def _odd(picture: Picture, paint: _Paint, axis: int, part: slice) -> NDArray[np.bool_]:
    """Which rows (axis 0) or columns (axis 1) of `part` have another colour than the border's."""
    if axis == 0:
        share = np.count_nonzero(paint.off(picture[part]) > paint.same, axis=1) / (3 * picture.shape[1])
    else:
        counts = np.count_nonzero(paint.off(picture[:, part]) > paint.same, axis=0)
        share = counts.reshape(-1, 3).max(axis=1) / len(picture)
    return np.asarray(share > paint.written, np.bool_)


def _between(lines: Picture, first: int, last: int, paint: _Paint) -> slice | None:
    """The lines between borders of `first` and `last` lines, all if both are 0; None if the edges are not abrupt."""
    if not first:
        return slice(0, len(lines))
    start, stop = _edge(lines, first, paint), _edge(lines[::-1], last, paint)
    if start is None and stop is not None and _answers(lines, stop, first, paint):
        start = stop
    elif stop is None and start is not None and _answers(lines[::-1], start, last, paint):
        stop = start
    if start is None or stop is None or len(lines) - start - stop < LEAST * len(lines):
        return None
    return slice(start, len(lines) - stop)


def _edge(lines: Picture, first: int, paint: _Paint) -> int | None:
    """The line at which a border ends that is uniform up to `first`; None if it does not end abruptly."""
    soft = min(paint.soft, max(1, int(SOFT * len(lines))))
    apart = paint.most_off(lines[first - soft : first + BLUR])
    for number, half in enumerate(np.median(apart, axis=1)):
        most = min(paint.before * half, half - LEVELS)
        if number >= soft and half > paint.same and np.mean(apart[number - soft] > most) <= FEW:
            return first - soft + number
    return None


def _answers(lines: Picture, at: int, first: int, paint: _Paint) -> bool:
    """Whether a border ends at line `at`, inferred from the opposite edge, though the content is nearly black there."""
    if not at - BLUR <= first or at + NEAR > len(lines):
        return False
    before, after = paint.most_off(lines[at - NEAR : at - 1]), paint.most_off(lines[at + 1 : at + NEAR])
    return bool(np.median(before) <= EXACT[0] and np.median(after) >= 2 * EXACT[0])


def _filled(inside: Picture, paint: _Paint) -> bool:
    """Whether the inside is filled as by a picture, rather than by text, a lit window or a round object."""
    height, width, _ = inside.shape
    step = max(1, round(math.sqrt(height * width / SAMPLE)))
    sample = inside[::step, ::step]
    lamp = _Paint(np.median(sample, axis=(0, 1)))
    if np.mean(paint.most_off(sample) > paint.same) < FULL or np.mean(lamp.most_off(sample) <= EXACT[0]) > FLAT:
        return False
    rows, columns = max(1, round(height * CORNER)), max(1, round(width * CORNER))
    corners = (inside[part][:, side] for part in _ends(rows) for side in _ends(columns))
    return any(paint.off(corner).max() > paint.same for corner in corners)


def _ends(length: int) -> tuple[slice, slice]:
    return slice(0, length), slice(-length, None)


def _bars(picture: Picture, where: Where) -> tuple[tuple[Picture, Picture], tuple[Picture, Picture]]:
    """The bars above and below `where`, and those to its left and right."""
    rows, columns = where
    inside = picture[rows]
    return (picture[: rows.start], picture[rows.stop :]), (inside[:, : columns.start], inside[:, columns.stop :])


def _widened(part: slice, side: int) -> slice:
    """`part` plus the rows of each bar that a codec blurs, at most half of the bar."""
    before, after = part.start, side - part.stop
    return slice(before - min(BLUR, before // 2), part.stop + min(BLUR, after // 2))


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
