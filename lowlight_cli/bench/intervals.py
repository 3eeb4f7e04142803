"""Confidence intervals of mean differences between two methods, by a paired bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

__all__ = ["DRAWS", "Interval", "paired"]

DRAWS: Final = 10_000
PARTS: Final = 100
"""The draws are made in this many parts, to save memory on large sets."""

SEED: Final = 0


@dataclass(frozen=True)
class Interval:
    """The 95 % confidence interval of a mean difference, over pictures like these."""

    low: float
    high: float

    @property
    def tie(self) -> bool:
        """Whether the interval contains 0."""
        return self.low <= 0 <= self.high


def paired(values: Sequence[float], others: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of the mean of values - others over pictures: percentiles of resampled means, seeded.

    Returns None for fewer than two pictures, which say nothing about others.

    Example:
        >>> paired([1.0, 2.0, 3.0], [1.1, 2.1, 2.8]).tie
        True
        >>> paired([1.0, 2.0, 3.0], [2.0, 3.1, 4.0]).tie
        False
    """
    differences = np.subtract(values, others)
    if differences.size < 2:
        return None
    random, size = np.random.default_rng(SEED), (DRAWS // PARTS, differences.size)
    means = [differences[random.integers(differences.size, size=size)].mean(1) for _ in range(PARTS)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(low), float(high))
