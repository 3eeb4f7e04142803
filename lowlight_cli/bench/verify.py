"""Check the figures in weights.toml against what this machine measures (`--verify`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lowlight_cli.bench.methods import Method
from lowlight_cli.bench.run import Result
from lowlight_cli.bench.sets import DataSet
from lowlight_cli.errors import UsageError
from lowlight_cli.weights.catalog import Metric

__all__ = ["TOLERANCE", "Claim", "claims", "refuse_nothing", "stated"]

TOLERANCE: Final = {
    "psnr": 0.05, "psnr_gt_mean": 0.05, "ssim": 0.002, "luma": 0.002, "niqe": 0.05, "niqe_own": 0.05,
}  # fmt: skip
"""Metrics that weights.toml may state, and the largest difference allowed: half precision and other processors stay far
below it."""


@dataclass(frozen=True)
class Claim:
    """One figure of weights.toml and the measured value."""

    checkpoint: str
    figure: str
    stated: float
    measured: float

    def __str__(self) -> str:
        return f"{self.checkpoint} {self.figure}: stated {self.stated:g}, measured {self.measured:.4f}"

    @property
    def holds(self) -> bool:
        """Whether the two agree within the tolerance."""
        return abs(self.stated - self.measured) <= TOLERANCE[self.figure]


def stated(method: Method, dataset: DataSet) -> list[Metric]:
    """Return what weights.toml states for a method on a data set; empty if the method is not a listed checkpoint."""
    checkpoint = method.loaded.checkpoint if method.loaded else None
    return [metric for metric in checkpoint.metrics if metric.dataset == dataset.name] if checkpoint else []


def refuse_nothing(methods: Iterable[Method], datasets: Iterable[DataSet]) -> None:
    """Refuse, before any work, sets with nothing to verify: they must not count as verified.

    Raises:
        UsageError: a set is limited, or weights.toml has no figure of these methods on one of the sets.
    """
    ready = list(methods)
    for dataset in datasets:
        if dataset.limited:
            raise UsageError("--verify wants the whole data set: drop --limit")
        if not any(stated(method, dataset) for method in ready):
            raise UsageError(
                f"nothing to verify: weights.toml states no figure on {dataset.name} for the models measured"
            )


def claims(result: Result) -> list[Claim]:
    """Return every figure of weights.toml that this result can confirm or refute."""
    return [
        Claim(f"{row.method.name} on {result.dataset.name}", figure, value, row.mean(figure))
        for row in result.rows
        for metric in stated(row.method, result.dataset)
        for figure in TOLERANCE
        if figure in row.scores[0].values and (value := getattr(metric, figure)) is not None
    ]
