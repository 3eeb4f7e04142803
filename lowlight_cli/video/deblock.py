"""Blocks of the codec in the dark, evened out before the network makes them visible.

Where hardly any light is, a codec spends no bits: what was a slope comes back in flat blocks that differ by one code or
two, and twenty times the exposure makes patches of colour of them. What a code stands for is open to about as much;
within that, each pixel of such a flat place goes to the mean of the flat places around it; where steps are many, bits
were spent on texture, and it stays. All that is dark goes to what it was in the frame before, since a codec's pictures
of one thing differ from frame to frame. What differs by more is light, and stays: lamps get no halo, and what moves no
trail.

Whether a clip has blocks is seen by where its steps lie: a codec's lie on its grid, those of light and noise anywhere.
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
"""Luma in levels of 255 up to which all is done, and from which nothing: above, the network changes little."""

OPEN: Final = np.array([1.0, 1.5, 1.5], np.float32)
"""Codes of luma and chroma, of 8 bits, that are open; a difference of so many goes altogether."""

SURE: Final = np.array([2.5, 3.0, 3.0], np.float32)
"""From so many codes on, a difference is light."""

WIDE: Final = (16, 8)
"""Pixels over which the surroundings reach: the blocks of H.264, and two of most others."""

FLAT: Final = (0.05, 0.15)
"""Codes from pixel to pixel, on average, up to which a place is flat, and from which it is not: there is texture."""

NEAR: Final = 9
"""Pixels of the square over which that average is taken: a block of 8 and one of its edges."""

KEPT: Final = 0.5
"""Of what is open, how much is as in the frame before, flat or not: about two frames' mean."""

GRID: Final = 8
"""Pixels between the lines on which codecs put their blocks' edges, at least."""

SHOWN: Final = (1.05, 1.15)
"""How many times as large the steps on the grid are as those off it, for blocks to show a little, and to show."""

NONE: Final = 0.01
"""Mean step in codes, over the whole frame, that tells nothing."""

LONG: Final = 25
"""Frames over which that is measured, and in which all of it comes or goes at the soonest: nothing flickers."""

STRIP: Final = 32
"""Rows that are worked on at a time: they stay in the processor's cache."""

_FORTH: Final = np.array(
    [[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]], np.float32
)  # fmt: skip
"""RGB to luma and chroma (ITU-R BT.709)."""

_BACK: Final = np.linalg.inv(_FORTH).astype(np.float32)


class Deblock:
    """One clip's frames, in order.

    Args:
        wanted: True does all of it, False nothing; None as far as the frames show blocks.
    """

    def __init__(self, wanted: bool | None = None) -> None:
        self.wanted = wanted
        self._sum, self._frames = 0.0, 0
        self._steps = Steady()
        self._seen, self._share = 0, 0.0
        self._last = 0.0
        self._before: Picture | None = None

    def frame(self, picture: Picture) -> Picture:
        """The frame with its dark parts evened out.

        Args:
            picture: (H, W, 3) float32 RGB in [0, 1]; it is not changed.
        """
        share = self._shown(picture) if self.wanted is None else float(self.wanted)
        self._sum, self._frames, self._last = self._sum + share, self._frames + 1, share
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

    def discount(self) -> None:
        """The last frame's result was not taken: `share` counts nothing for it."""
        self._sum, self._last = self._sum - self._last, 0.0

    @property
    def share(self) -> float:
        """How much of it was done, 0 to 1: the mean over the frames so far."""
        return self._sum / max(1, self._frames)

    def state(self) -> dict[str, Any]:
        """What tells whether the clip has blocks, for a run that goes on after this frame."""
        return {"blocks": [self._steps.state(), self._seen, self._share]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; its arrays may have become lists."""
        steps, self._seen, self._share = state["blocks"]
        self._steps.restore(steps)

    def _shown(self, picture: Picture) -> float:
        """How much the clip shows blocks by now, 0 to 1."""
        self._seen = min(self._seen + 1, LONG)
        most = 1 / self._seen  # a plain mean to begin with, later a slow one
        self._steps.begin(most)
        on, off = self._steps.settle("steps", _steps(picture)) + NONE
        low, high = SHOWN
        wanted = float(np.clip((on / off - low) / (high - low), 0, 1))
        self._share = min(max(wanted, self._share - most), self._share + most)
        return self._share


def _steps(picture: Picture) -> NDArray[np.float32]:
    """Mean of the small steps from pixel to pixel in the dark, in codes: on the grid, as far as is sure, and off it."""
    lines = []
    for part in (picture[::4], picture[:, ::4].swapaxes(0, 1)):  # as good as all of it
        height, width, _ = part.shape
        luma = np.asarray(cv2.transform(np.ascontiguousarray(part), _FORTH[:1] * 255)).reshape(height, width)
        length = (width - 1) // GRID * GRID
        step = np.abs(np.diff(luma[:, : length + 1]))
        step[(step >= SURE[0]) | (luma[:, :length] >= DARK[0])] = 0
        lines.append(step.mean(0).reshape(-1, GRID))
    each = np.concatenate(lines)
    if not len(each):
        return np.zeros(2, np.float32)
    on, off = each[:, -1], np.delete(each, (GRID // 2 - 1, GRID - 1), 1).mean(1)  # halves of blocks are neither
    # a few edges that happen to lie on the grid are no grid
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
    """(H, W) for each channel."""
    return np.asarray(cv2.merge([plane] * 3), np.float32)


def _nearer(codes: Picture, other: Picture, much: Picture) -> Picture:
    """`codes` moved to `other` by what is open."""
    height, width, _ = codes.shape
    slope = np.tile(-1 / (SURE - OPEN), width)  # whole rows: far faster than by threes
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
    """Means over about `reach` pixels around each, of what is `flat`; where nothing is, nobody looks."""
    height, width, _ = codes.shape
    step = reach / 4
    size = max(1, round(width / step)), max(1, round(height / step))
    total, count = (
        cv2.GaussianBlur(cv2.resize(each, size, interpolation=cv2.INTER_AREA), (0, 0), 1.5) for each in (codes, flat)
    )
    mean = total / np.maximum(count, 1e-6)[..., None]
    return np.asarray(cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
