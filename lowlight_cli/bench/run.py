"""The measurement: every method on every pair at full resolution, rounded to 8 bits as a file would be.

A method sees the low picture at the file's bit depth, also 16 bits; results and references are rounded.

`measure` decodes a pair once, runs each method on it, and keeps its scores and time. The outer loop is over pairs, so
that memory holds one pair whatever the size of the set.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.bench.journal import Journal, key
from lowlight_cli.bench.methods import Method
from lowlight_cli.bench.sets import DataSet, Pair, in_levels, read_pair, rounded
from lowlight_cli.errors import UsageError
from lowlight_cli.metrics.once import sharing
from lowlight_cli.metrics.table import Metric, chosen

__all__ = ["Looked", "Result", "Row", "Score", "Viewer", "measure"]

Picture = NDArray[np.float32]

SECONDS: Final = "seconds a picture, median, without reading and writing, after one picture to warm up"
"""Definition of the column `s`."""


@dataclass(frozen=True)
class Score:
    """The values by metric of one method on one pair; `seconds` is None if a finished result was read."""

    stem: str
    values: Mapping[str, float]
    seconds: float | None


@dataclass(frozen=True)
class Row:
    """The scores of one method on the whole set."""

    method: Method
    scores: tuple[Score, ...]

    def values(self, key: str) -> list[float]:
        """Return the values of a metric, picture by picture."""
        return [score.values[key] for score in self.scores]

    def mean(self, key: str) -> float:
        """Return the mean of a metric, NaN values left out; NaN if there are no others."""
        values = [value for value in self.values(key) if not math.isnan(value)]
        return float(np.mean(values)) if values else math.nan

    @property
    def seconds(self) -> float | None:
        """Median seconds over the pictures; None if nothing was timed."""
        times = [score.seconds for score in self.scores if score.seconds is not None]
        return float(np.median(times)) if times else None


class Viewer(Protocol):
    """A callback that is given results together with their pictures."""

    def wants(self, method: Method) -> bool:
        """Return whether it is to be called with the results of a method."""

    def __call__(self, method: Method, score: Score, low: Picture, made: Picture, high: Picture | None) -> None:
        """Take the score on a pair with the low picture, the result and the reference, (H, W, 3) each."""


@dataclass(frozen=True)
class Looked:
    """What was found of a pair: width and height in pixels, and the sha256 of its pixels."""

    width: int
    height: int
    pixels: str


@dataclass(frozen=True)
class Result:
    """Everything that was measured.

    Attributes:
        dataset: the set it was measured on.
        rows: sorted by the first metric, best first; in the given order if that metric only describes.
        pixels: sha256 of the pixels it was measured on.
        metrics: what was measured, in column order.
        looked: sizes and hashes of the pairs, in their order.
        missing: what was requested but could not be measured, with the reason.
    """

    dataset: DataSet
    rows: tuple[Row, ...]
    pixels: str
    metrics: tuple[Metric, ...]
    looked: tuple[Looked, ...]
    missing: tuple[str, ...] = ()

    @property
    def ranked(self) -> bool:
        """Whether one row can be better than another."""
        return self.metrics[0].higher is not None

    @property
    def definitions(self) -> dict[str, str]:
        """Meaning of each column, printed below tables and stored with every result."""
        return {metric.title.rstrip("*"): metric.meaning for metric in self.metrics} | {"s": SECONDS}


def measure(
    dataset: DataSet,
    methods: Sequence[Method],
    on_done: Callable[[float], None] | None = None,
    on_picture: Viewer | None = None,
    more: Sequence[str] = (),
    offline: bool = False,
    journal: Journal | None = None,
) -> Result:
    """Measure `methods` on `dataset`.

    Args:
        dataset: a set from `sets.find`.
        methods: at least one.
        on_done: called with 1 after each picture of each method.
        on_picture: called with each result that it wants, and its scores.
        more: metrics to add to those always measured, as `metrics.table.chosen` takes them.
        offline: whether fetching what a metric needs is forbidden.
        journal: earlier measurements; they are not repeated, and their results not made unless `on_picture` wants them.

    Raises:
        UsageError: two methods share a name; no such metric.
        InputError: a picture cannot be read, or sizes differ.
        OutputError: the journal cannot be written.
        ResourceError: the memory does not suffice, or the disk is full.
    """
    names = Counter(method.name for method in methods)
    if twice := [name for name, count in names.items() if count > 1]:
        raise UsageError(f"two rows would be called {twice[0]!r}: name each once")
    metrics, missing = chosen(more, dataset.paired, offline)
    scores: list[list[Score]] = [[] for _ in methods]
    digest, looked, warm = hashlib.sha256(), list[Looked](), set[str]()
    for pair in dataset.pairs:
        low, high = read_pair(pair)
        reference = rounded(low) if high is None else high
        seen = b"".join(_bytes(picture) for picture in (low, high) if picture is not None)
        digest.update(seen)
        looked.append(Looked(low.shape[1], low.shape[0], hashlib.sha256(seen).hexdigest()))
        with sharing(reference) as forget:
            for method, kept in zip(methods, scores, strict=True):
                known = key(method.identity(pair), looked[-1].pixels) if journal and method.identity else ""
                found = journal.find(known, metrics) if journal and known else None
                viewer = on_picture if on_picture and on_picture.wants(method) else None
                if found is None or viewer:
                    if found is None and method.timed and method.name not in warm:
                        method.make(pair, low)
                        warm.add(method.name)
                    made, seconds = _made(method, pair, low)
                if found is None:
                    found = {metric.key: metric.measure(made, reference) for metric in metrics}, seconds
                    forget()
                    if journal and known:
                        journal.keep(known, metrics, *found)
                kept.append(Score(pair.stem, *found))
                if viewer:
                    viewer(method, kept[-1], low, made, high)
                if on_done:
                    on_done(1)
    rows = [Row(method, tuple(kept)) for method, kept in zip(methods, scores, strict=True)]
    first = metrics[0]
    if first.higher is not None:
        rows.sort(key=lambda row: -row.mean(first.key) if first.higher else row.mean(first.key))
    return Result(dataset, tuple(rows), digest.hexdigest(), metrics, tuple(looked), missing)


def _made(method: Method, pair: Pair, low: Picture) -> tuple[Picture, float | None]:
    """Run a method on a pair; return the result, rounded to 8 bits as in a file, and the seconds it took."""
    start = time.perf_counter()
    made = method.make(pair, low)
    seconds = time.perf_counter() - start if method.timed else None
    return rounded(made), seconds


def _bytes(picture: Picture) -> bytes:
    """Return the bytes to hash for a picture: its shape, and its 8-bit levels or, if it has finer ones, its values."""
    levels = in_levels(picture)
    exact = np.array_equal(rounded(picture), picture)  # a 16-bit set must not hash like its 8-bit copy
    return repr(picture.shape).encode() + (levels if exact else picture).tobytes()
