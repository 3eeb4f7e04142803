"""The measurement: every method on every pair at full resolution, rounded to 8 bits as a file would be.

One page: a pair is decoded once, each method makes its picture of it, three numbers and a time are kept. Pairs are
outermost, so memory holds one pair whatever the set's size.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.bench.methods import Method
from lowlight_cli.bench.sets import DataSet, read_pair
from lowlight_cli.errors import UsageError
from lowlight_cli.metrics import gt_mean, psnr, ssim

__all__ = ["CEILING", "DEFINITIONS", "Result", "Row", "Score", "measure"]

Picture = NDArray[np.float32]

CEILING: Final = 100.0
"""What equal pictures count as, in dB: an infinite one would make every mean infinite."""

DEFINITIONS: Final = {
    "PSNR": "dB, over all pixels and channels of 8-bit sRGB at full resolution, mean over pictures; "
    f"equal pictures count as {CEILING:g}",
    "GT-mean PSNR": "PSNR after scaling the result so that its mean grey equals the reference's: it takes knowledge of "
    "the reference, and is for colour and noise alone",
    "SSIM": "scikit-image's structural_similarity, Gaussian window of sigma 1.5 (11x11), population variances, per RGB "
    "channel, K 0.01 and 0.03, borders of 5 pixels left out",
    "s": "seconds a picture, median, without reading and writing, after one picture to warm up",
}
"""What the columns mean; printed below tables and stored with every result."""


@dataclass(frozen=True)
class Score:
    """One method on one pair; `seconds` is None where a finished picture was read."""

    stem: str
    psnr: float
    psnr_gt_mean: float
    ssim: float
    seconds: float | None


@dataclass(frozen=True)
class Row:
    """One method on the whole set."""

    method: Method
    scores: tuple[Score, ...]

    @property
    def psnr(self) -> float:
        """Mean over pictures, dB."""
        return float(np.mean([score.psnr for score in self.scores]))

    @property
    def psnr_gt_mean(self) -> float:
        """Mean over pictures, dB."""
        return float(np.mean([score.psnr_gt_mean for score in self.scores]))

    @property
    def ssim(self) -> float:
        """Mean over pictures."""
        return float(np.mean([score.ssim for score in self.scores]))

    @property
    def seconds(self) -> float | None:
        """Median over pictures."""
        times = [score.seconds for score in self.scores if score.seconds is not None]
        return float(np.median(times)) if times else None


@dataclass(frozen=True)
class Result:
    """Everything that was measured: rows with the best PSNR first, and the sha256 of the pixels it was measured on."""

    dataset: DataSet
    rows: tuple[Row, ...]
    pixels: str


def measure(dataset: DataSet, methods: Sequence[Method], on_done: Callable[[float], None] | None = None) -> Result:
    """Measure `methods` on `dataset`.

    Args:
        dataset: of `sets.find`.
        methods: at least one.
        on_done: called with 1 after each picture of each method.

    Raises:
        UsageError: two methods share a name.
        InputError: a picture cannot be read, or sizes differ.
        ResourceError: the memory does not suffice.
    """
    names = Counter(method.name for method in methods)
    if twice := [name for name, count in names.items() if count > 1]:
        raise UsageError(f"two rows would be called {twice[0]!r}: name each once")
    scores: list[list[Score]] = [[] for _ in methods]
    digest = hashlib.sha256()
    for number, pair in enumerate(dataset.pairs):
        low, high = read_pair(pair)
        for picture in (low, high):
            digest.update(repr(picture.shape).encode() + np.rint(picture * 255).astype(np.uint8).tobytes())
        for method, kept in zip(methods, scores, strict=True):
            if number == 0 and method.timed:
                method.make(pair, low)
            start = time.perf_counter()
            made = method.make(pair, low)
            seconds = time.perf_counter() - start if method.timed else None
            kept.append(_score(pair.stem, made, high, seconds))
            if on_done:
                on_done(1)
    rows = [Row(method, tuple(kept)) for method, kept in zip(methods, scores, strict=True)]
    return Result(dataset, tuple(sorted(rows, key=lambda row: -row.psnr)), digest.hexdigest())


def _score(stem: str, made: Picture, high: Picture, seconds: float | None) -> Score:
    """Compare a result, as a file of 8 bits would hold it, with the reference."""
    rounded = (np.rint(made * 255) / 255).astype(np.float32)
    plain, matched = psnr(rounded, high), psnr(gt_mean(rounded, high), high)
    return Score(stem, min(plain, CEILING), min(matched, CEILING), ssim(rounded, high), seconds)
