"""Even out the codec's blocks in dark areas before the network makes them visible.

In near darkness a codec spends no bits: a gradient comes back as flat blocks that differ by one code or two, and twenty
times the exposure turns them into patches of colour. The true value behind a code is uncertain by about as much. Within
this uncertainty, each pixel of a flat area moves to the mean of the flat areas around it; an area with many steps is
texture, on which bits were spent, and stays. All dark pixels also move towards the frame before, since a codec renders
the same thing differently from frame to frame. Larger differences are light and stay, so that lamps get no halo and
moving things leave no trail.

Whether a clip has blocks shows in where its steps lie: a codec's lie on its grid, those of light and noise anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.steady import Steady

__all__ = ["Deblock"]

Picture = NDArray[np.float32]

DARK: Final = (40.0, 60.0)
"""Luma in levels of 255: full effect up to the first, none from the second on, where the network changes little."""

OPEN: Final = np.array([1.0, 1.5, 1.5], np.float32)
"""Uncertainty of luma and chroma, in 8-bit codes; a difference up to this size is removed altogether."""

SURE: Final = np.array([2.5, 3.0, 3.0], np.float32)
"""A difference of at least this many codes is light, and stays."""

WIDE: Final = (16, 8)
"""Pixels over which the surroundings reach, in turn; 16 is a macroblock of H.264, or two blocks of most others."""

FLAT: Final = (0.05, 0.15)
"""Mean step from pixel to pixel, in codes: an area is flat up to the first, and texture from the second on."""

NEAR: Final = 9
"""Side in pixels of the square over which that mean is taken: a block of 8 pixels and one of its edges."""

KEPT: Final = 0.5
"""Share of a small difference from the frame before that is removed, in flat areas or not: about a two-frame mean."""

GRID: Final = 8
"""Least distance in pixels between the lines on which codecs place block edges."""

SHOWN: Final = (1.05, 1.15)
"""Ratio of the steps on the grid to those off it: above the first, blocks begin to show; at the second, they do."""

NONE: Final = 0.01
"""In codes. Added to both means, so that in a frame with almost no steps their ratio stays near 1."""

LONG: Final = 25
"""Frames over which the steps are averaged; later, the effect takes as many to come or go, so that nothing flickers."""

STRIP: Final = 32
"""Rows that are processed at a time, so that they stay in the CPU cache."""

_FORTH: Final = np.array(
    [[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]], np.float32
)  # fmt: skip
"""RGB to luma and chroma (ITU-R BT.709)."""

_BACK: Final = np.linalg.inv(_FORTH).astype(np.float32)


class Deblock:
    """Deblocks one clip's frames, which must come in order.

    Args:
        wanted: True for full effect, False for none; None for as much as the frames show blocks.
    """

    def __init__(self, wanted: bool | None = None) -> None:
        self.wanted = wanted
        self._sum, self._frames = 0.0, 0
        self._steps = Steady()
        self._seen, self._share = 0, 0.0
        self._unused = 0.0
        self.last = 0.0
        self._before: Picture | None = None

    def frame(self, picture: Picture) -> Picture:
        """Return the frame with its dark parts evened out.

        Args:
            picture: (H, W, 3) float32 RGB in [0, 1]; it is not changed.
        """
        share = self._shown(picture) if self.wanted is None else float(self.wanted)
        self._sum, self._frames, self.last = self._sum + share, self._frames + 1, share
        before, self._before = self._before, None
        if not share:
            return picture
        codes = np.asarray(cv2.transform(picture, _FORTH * 255), np.float32)
        luma = np.ascontiguousarray(codes[..., 0])
        low, high = DARK
        dark = np.asarray(np.clip((high - luma) / (high - low), 0, 1), np.float32) * np.float32(share)
        if not dark.any():
            return picture
        flat = dark * _flat(luma)
        even, much = codes, _thrice(flat)
        for reach in WIDE:
            even = _nearer(even, _surroundings(even * much, flat, reach), much)
        if before is not None and before.shape == even.shape:
            even = _nearer(even, before, _thrice(dark * np.float32(KEPT)))
        self._before = even
        made = np.asarray(cv2.transform(even, _BACK / 255), np.float32)
        np.clip(made, 0, 1, out=made)
        np.copyto(made, picture, where=_thrice(dark) == 0)
        return made

    def discount(self, share: float) -> None:
        """Count a frame as 0 in `share` whose result was not used; another thread may be at a later frame.

        Args:
            share: `last`, as it was after that frame.
        """
        self._unused += share

    @property
    def share(self) -> float:
        """Mean strength of the effect over the frames so far, 0 to 1."""
        return (self._sum - self._unused) / max(1, self._frames)

    def state(self) -> dict[str, Any]:
        """What a run that resumes after this frame needs to judge whether the clip has blocks.

        The frame before, towards which the next one moves, is left out: it is far larger than all else, and its share
        halves with each frame.
        """
        return {"blocks": [self._steps.state(), self._seen, self._share]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, whose arrays may have become lists."""
        steps, self._seen, self._share = state["blocks"]
        self._steps.restore(steps)

    def _shown(self, picture: Picture) -> float:
        """How much the clip shows blocks so far, 0 to 1."""
        self._seen = min(self._seen + 1, LONG)
        most = 1 / self._seen  # a plain mean to begin with, later a slow one
        self._steps.begin(most)
        on, off = self._steps.settle("steps", _steps(picture)) + NONE
        low, high = SHOWN
        wanted = float(np.clip((on / off - low) / (high - low), 0, 1))
        self._share = min(max(wanted, self._share - most), self._share + most)
        return self._share


def _steps(picture: Picture) -> NDArray[np.float32]:
    """Mean of the small steps between dark neighbours, in codes: on the grid, less two standard errors, and off it."""
    lines = []
    for part in (picture[::4], picture[:, ::4].swapaxes(0, 1)):  # every fourth row or column is enough
        height, width, _ = part.shape
        luma = np.asarray(cv2.transform(np.ascontiguousarray(part), _FORTH[:1] * 255)).reshape(height, width)
        length = (width - 1) // GRID * GRID
        step = np.abs(np.diff(luma[:, : length + 1]))
        step[(step >= SURE[0]) | (luma[:, :length] >= DARK[0])] = 0
        lines.append(step.mean(0).reshape(-1, GRID))
    each = np.concatenate(lines)
    if not len(each):
        return np.zeros(2, np.float32)
    on, off = each[:, -1], np.delete(each, (GRID // 2 - 1, GRID - 1), 1).mean(1)  # mid-block lines may be edges
    # a few edges that happen to lie on the grid do not make a grid
    doubt = 2 * (on - off).std() / np.sqrt(len(each))
    return np.array((on.mean() - doubt, off.mean()), np.float32)


def _flat(luma: Picture) -> Picture:
    """How flat the surroundings of each pixel are, 0 to 1; luma in codes, (H, W)."""
    step = np.zeros_like(luma)
    step[:, 1:] = np.minimum(cv2.absdiff(luma[:, 1:], luma[:, :-1]), SURE[0])
    step[1:] += np.minimum(cv2.absdiff(luma[1:], luma[:-1]), SURE[0])
    low, high = FLAT
    return np.asarray(np.clip((2 * high - cv2.blur(step, (NEAR, NEAR))) / (2 * (high - low)), 0, 1), np.float32)


def _thrice(plane: Picture) -> Picture:
    """Repeat an (H, W) plane for each channel."""
    return np.asarray(cv2.merge([plane] * 3), np.float32)


def _nearer(codes: Picture, other: Picture, much: Picture) -> Picture:
    """Move `codes` to `other` by the share `much`: fully for differences up to `OPEN`, not at all from `SURE` on."""
    height, width, _ = codes.shape
    slope = np.tile(-1 / (SURE - OPEN), width)  # whole rows: far faster than broadcasting over 3 channels
    full = np.tile(SURE / (SURE - OPEN), width)
    one, two, share = (each.reshape(height, -1) for each in (codes, other, much))
    made = np.empty_like(one)
    for top in range(0, height, STRIP):
        rows = slice(top, top + STRIP)
        apart, moved = two[rows] - one[rows], made[rows]
        np.abs(apart, out=moved)
        moved *= slope
        moved += full
        np.clip(moved, 0, 1, out=moved)
        moved *= share[rows]
        moved *= apart
        moved += one[rows]
    return np.asarray(made.reshape(codes.shape), np.float32)


def _surroundings(codes: Picture, flat: Picture, reach: int) -> Picture:
    """Means of `flat` pixels within about `reach`, unused where there are none; `codes` come multiplied by `flat`."""
    height, width, _ = codes.shape
    step = reach / 4
    size = max(1, round(width / step)), max(1, round(height / step))
    total, count = (
        cv2.GaussianBlur(cv2.resize(each, size, interpolation=cv2.INTER_AREA), (0, 0), 1.5) for each in (codes, flat)
    )
    mean = total / np.maximum(count, 1e-6)[..., None]
    return np.asarray(cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
