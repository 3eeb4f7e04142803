"""Temporal smoothing against flicker: the global properties of a frame change only as fast as the scene does.

A network that sees one frame estimates its brightness anew each time, and noise makes the estimates differ. Four
properties are global: the exposure gain, what the network measures of the whole frame, whether the frame is grey, and
the level of the result. Each goes through a causal low-pass filter (the first three through `steady.Steady`), whose
share, the weight of the new frame, is set once per frame from the input alone:

- while the distribution of light stays the same, the share is that of a time constant of `SLOW` seconds;
- the more the distribution differs, the more the share grows, up to 1: a lamp switched on is followed at once. Two of
  ten quantiles must differ: what lights less than about a tenth of the frame moves one, and is followed slowly, since
  it may be the headlights of a car that passes, with which the rest must not darken;
- at a cut the past is forgotten.

The level of the result: how much brighter each frame is than the last, measured along the optical flow of a small copy,
adds up to a curve over time, and its deviation from its low pass is removed. Blocks that disagree with the rest are
ignored. Local detail is left alone: a frame is changed by one tone curve per channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.errors import UsageError
from lowlight_cli.exposure import LUMA
from lowlight_cli.metrics.steadiness import warped
from lowlight_cli.sheets import reduced
from lowlight_cli.steady import Steady

__all__ = ["MODES", "SLOW", "Begin", "Smoothing"]

Picture = NDArray[np.float32]
Begin = Callable[[Picture, Steady], Callable[[], Picture] | None]
"""Begins the enhancement of a frame; gives what finishes it, or None if it stays as it is."""

SLOW: Final = {"on": 1.0, "strong": 3.0}
"""Time constant of the low pass in seconds, while the light stays the same."""

MODES: Final = ("off", *SLOW)

GRID: Final = 64
SMALL: Final = 128
"""Longer side in pixels of the copy on which the optical flow is computed."""

FLOOR: Final = 0.01
"""Added to sRGB-encoded brightness before its logarithm: below it there is only noise."""

STILL, OTHER = 0.04, 0.3
"""Distances of distributions, in natural logarithms: nothing has changed up to the first, all has from the second."""

CUT: Final = (0.25, 0.6)
"""At a cut, cells differ by at least the first on average, in logarithms, and correlate by less than the second."""

LARGEST: Final = 0.1
"""Largest correction of the level, in logarithms; anything beyond is not flicker."""

SAMPLE: Final = 160
"""Pixels sampled along the longer side to compute a tone curve."""

BLOCKS: Final = (16, 9)
"""Columns and rows of blocks: large enough to average noise out, small enough to keep the flow's errors apart."""

AGREE: Final = 6.0
"""Median deviations within which a block agrees with the rest: four sigmas, so that noise agrees and things do not."""

DOUBT: Final = 0.03
"""Median deviation of the blocks, relative to the mean, at which the measured change counts half."""

_QUANTILES: Final = np.linspace(0.05, 0.95, 10)


@dataclass
class _Seen:
    """Light of the current shot: cells of its last frame, smoothed distribution, time, effective number of frames."""

    cells: NDArray[np.float32]
    light: NDArray[np.float32]
    seconds: float
    frames: int = 1


class Smoothing:
    """Smooths one clip's frames, which must come in order.

    Args:
        mode: one of `MODES`.

    Raises:
        UsageError: unknown mode.
    """

    def __init__(self, mode: str = "on") -> None:
        if mode not in MODES:
            raise UsageError(f"no smoothing {mode!r}: there are {', '.join(MODES)}")
        self.mode = mode
        self.steady = Steady()
        self.cuts = 0
        self._seen: _Seen | None = None
        self._small: NDArray[np.float32] | None = None
        self._excess = np.zeros(3, np.float32)

    def begin(self, picture: Picture, seconds: float, begin: Begin) -> Callable[[], Picture] | None:
        """Enhance one frame without flicker: do what the next frame waits for, and leave the rest to any thread.

        Args:
            picture: (H, W, 3) float32 RGB in [0, 1].
            seconds: when it is shown; later than the frame before.
            begin: given the settled measurements so far, does the same for the enhancement; None if there is none.

        Returns:
            What makes the result, to be called in the order of the frames; None if the frame stays as it is.
        """
        if self.mode == "off":
            self.steady.begin(1.0)
            return begin(picture, self.steady)
        share, cut = self._share(picture, seconds)
        self.cuts += cut
        self.steady.begin(share)
        finish = begin(picture, self.steady)
        return None if finish is None else lambda: self._level(finish(), share, cut)

    def is_cut(self, picture: Picture) -> bool:
        """Whether `picture`, the next frame, begins a new shot."""
        return self._seen is not None and _is_cut(self._seen.cells, _logs(picture))

    def state(self) -> dict[str, Any]:
        """All that the next frame needs: numbers and arrays, which are never changed afterwards."""
        seen = self._seen
        return {
            "steady": self.steady.state(),
            "seen": seen and [seen.cells, seen.light, seen.seconds, seen.frames],
            "cuts": self.cuts,
        } | self.level_state()

    def level_state(self) -> dict[str, Any]:
        """The part of the state that finishing a frame changes; beginning one changes the rest."""
        return {"small": self._small, "excess": self._excess}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, whose arrays may have become lists."""
        self.steady.restore(state["steady"])
        if state["seen"]:
            cells, light, seconds, frames = state["seen"]
            self._seen = _Seen(np.array(cells, np.float32), np.array(light, np.float32), seconds, frames)
        self._small = None if state["small"] is None else np.array(state["small"], np.float32)
        self._excess = np.array(state["excess"], np.float32)
        self.cuts = state["cuts"]

    def _share(self, picture: Picture, seconds: float) -> tuple[float, bool]:
        """The weight of this frame's measurements, and whether the frame comes after a cut."""
        logs = _logs(picture)
        light = np.quantile(logs, _QUANTILES).astype(np.float32)
        seen = self._seen
        if seen is None or _is_cut(seen.cells, logs):
            self._seen = _Seen(logs, light, seconds)
            return 1.0, seen is not None
        slow = 1 - math.exp(-max(seconds - seen.seconds, 1e-3) / SLOW[self.mode])
        slow = max(slow, 1 / (seen.frames + 1))  # a plain mean at first, or the first frame's noise would persist
        distance = float(np.sort(np.abs(light - seen.light))[-2])  # one alone may be a bright thing that passes
        change = min(1.0, max(0.0, (distance - STILL) / (OTHER - STILL)))
        share = slow + (1 - slow) * change * change
        settled = seen.light + np.float32(share) * (light - seen.light)
        # after a change, start again as in a new shot
        self._seen = _Seen(logs, settled, seconds, min(seen.frames + 1, max(1, round(1 / share))))
        return share, False

    def _level(self, lit: Picture, share: float, cut: bool) -> Picture:
        """Remove flicker from the level of the result."""
        small, before = reduced(lit, SMALL), self._small
        self._small = small
        if cut or before is None or before.shape != small.shape:
            self._excess = np.zeros(3, np.float32)
            return lit
        # the level minus its low pass, which is a high pass
        self._excess = np.float32(1 - share) * (self._excess + _brighter(before, small))
        wanted = np.clip(-self._excess, -LARGEST, LARGEST)
        # y + b y (1 - y) keeps black, white and the order of values, and changes the mean as wanted
        step = max(1, max(lit.shape) // SAMPLE)
        sample = lit[::step, ::step]
        mean, room = sample.mean((0, 1)), (sample * (1 - sample)).mean((0, 1))
        bend = np.clip(np.expm1(wanted) * (mean + FLOOR) / np.maximum(room, 1e-4), -0.5, 0.5).astype(np.float32)
        height, width, _ = lit.shape
        rows, row = lit.reshape(height, width * 3), np.tile(bend, width)  # whole rows: far faster than by 3 channels
        bent = rows * -row
        bent += 1 + row
        bent *= rows
        return np.asarray(bent.reshape(lit.shape), np.float32)


def _logs(picture: Picture) -> NDArray[np.float32]:
    """Logarithms of the mean brightness of at most `GRID` x `GRID` cells, (h, w)."""
    height, width, _ = picture.shape
    cells = cv2.resize(picture, (min(GRID, width), min(GRID, height)), interpolation=cv2.INTER_AREA)
    return np.asarray(np.log(cells @ LUMA + FLOOR), np.float32)


def _is_cut(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    differ, alike = CUT
    if before.shape != after.shape:
        return True
    if float(np.abs(after - before).mean()) < differ:
        return False
    one, other = before - before.mean(), after - after.mean()
    norm = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return norm == 0 or float((one * other).sum()) / norm < alike


def _moved(before: Picture, after: Picture) -> Picture:
    """Warp `before` so that its contents lie where they are in `after`."""
    height, width, _ = after.shape
    if min(height, width) < 16:  # too small for the flow search
        return before
    one, other = (np.rint(each @ LUMA * 255).astype(np.uint8) for each in (before, after))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    back = np.asarray(search.calc(other, one, np.zeros((height, width, 2), np.float32)), np.float32)
    return warped(before, back)


def _brighter(before: Picture, after: Picture) -> NDArray[np.float32]:
    """How much brighter each channel is, in logarithms: along the flow if that halves the blocks' disagreement."""
    level, apart = _compared(before, after)
    if apart > DOUBT / 4:
        other, less = _compared(_moved(before, after), after)
        if less < apart / 2:  # else the flow follows noise
            level, apart = other, less
    return level * np.float32(1 / (1 + (apart / DOUBT) ** 2))


def _compared(before: Picture, after: Picture) -> tuple[NDArray[np.float32], float]:
    """How much brighter each channel is over the blocks that agree, and their disagreement relative to the mean."""
    one, other = (cv2.resize(each, BLOCKS, interpolation=cv2.INTER_AREA) for each in (before, after))
    dim, bright = one @ LUMA, other @ LUMA
    # in sRGB-encoded values, noise is nearly the same in dark and bright blocks
    apart = np.abs(bright - dim * np.median((bright + FLOOR) / (dim + FLOOR)))
    median = float(np.median(apart))
    agree = apart <= AGREE * median + 1e-4
    level = np.log((other[agree].mean(0) + FLOOR) / (one[agree].mean(0) + FLOOR))
    return np.asarray(level, np.float32), median / (float(dim.mean()) + FLOOR)
