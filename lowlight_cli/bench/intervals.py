"""Whether a difference is one: paired bootstrap of means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

__all__ = ["DRAWS", "Interval", "paired"]

DRAWS: Final = 10_000
PARTS: Final = 100
"""Drawn in so many parts, so that a large set takes no more memory than a small one."""

SEED: Final = 0


@dataclass(frozen=True)
class Interval:
    """Where the mean difference lies with 95 % confidence, over pictures like these."""

    low: float
    high: float

    @property
    def tie(self) -> bool:
        """Whether no difference is among the likely ones."""
        return self.low <= 0 <= self.high


def paired(values: Sequence[float], others: Sequence[float]) -> Interval | None:
    """The 95 % interval of the mean of values - others, picture by picture: percentiles of resampled means, seeded.

    None for fewer than two pictures, which tell nothing of others.

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
