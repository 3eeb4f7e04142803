"""`lowlight models`: list the networks, to help choose one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lowlight_cli import DEFAULT_MODEL
from lowlight_cli.cli import report
from lowlight_cli.cli.options import Debug, Json
from lowlight_cli.networks import NETWORKS, Descriptor

if TYPE_CHECKING:
    from lowlight_cli.weights.catalog import Checkpoint

__all__ = ["models", "speed_class"]

SPEEDS = ((5.0, "fastest"), (20.0, "fast"), (50.0, "medium"), (float("inf"), "slow"))
"""Upper limits in GMACs (1e9 multiply-adds) at 384x384, each with the name of its speed class."""


def models(json: Json = False, debug: Debug = False) -> None:
    """List the networks: size, speed, strengths, measured figures.

    Figures are of each network's own weights (PSNR in dB as it is / with the mean brightness matched, SSIM).
    """
    from lowlight_cli.weights.catalog import catalog

    checkpoints: dict[str, list[Checkpoint]] = {name: [] for name in NETWORKS}
    for checkpoint in catalog():
        checkpoints[checkpoint.network].append(checkpoint)
    if json:
        for each in NETWORKS.values():
            report.event("model", _described(each, checkpoints[each.name]))
        return
    report.table(
        ("model", "paper", "parameters", "speed", "good at", "bad at", "measured"),
        [_row(each, checkpoints[each.name]) for each in NETWORKS.values()],
    )
    report.note("Measured: PSNR in dB / PSNR at the reference's mean brightness, SSIM; higher is better.")
    report.note(f"Default: {DEFAULT_MODEL}. Another: lowlight enhance PHOTO -m NAME. Weights: lowlight weights list.")


def speed_class(descriptor: Descriptor) -> str:
    """Return how fast a network is compared to the others, in one word."""
    return next(name for limit, name in SPEEDS if descriptor.gmacs <= limit)


def _row(descriptor: Descriptor, checkpoints: list[Checkpoint]) -> tuple[str, ...]:
    return (
        descriptor.name + (" (default)" if descriptor.name == DEFAULT_MODEL else ""),
        descriptor.paper,
        f"{descriptor.parameters:.2f} M",
        speed_class(descriptor),
        descriptor.good_at,
        descriptor.bad_at,
        "; ".join(_figures(checkpoints[0])) if checkpoints else "no weights yet",
    )


def _figures(checkpoint: Checkpoint) -> list[str]:
    """Return `eval15 22.10 / 25.30, 0.830` for each set with references that a checkpoint was measured on."""
    told = []
    for metric in (each for each in checkpoint.metrics if each.psnr is not None):
        levels = " / ".join(f"{value:.2f}" for value in (metric.psnr, metric.psnr_gt_mean) if value is not None)
        ssim = [f"{metric.ssim:.3f}"] if metric.ssim is not None else []
        told.append(f"{metric.dataset} {', '.join(filter(None, [levels, *ssim]))}")
    return told


def _described(descriptor: Descriptor, checkpoints: list[Checkpoint]) -> dict[str, Any]:
    return {
        "name": descriptor.name,
        "title": descriptor.title,
        "default": descriptor.name == DEFAULT_MODEL,
        "paper": descriptor.paper,
        "url": descriptor.url,
        "parameters": descriptor.parameters * 1e6,
        "gmacs": descriptor.gmacs,
        "published": descriptor.published,
        "speed": speed_class(descriptor),
        "good_at": descriptor.good_at,
        "bad_at": descriptor.bad_at,
        "weights": [
            {
                "name": each.name,
                "shipped": each.file is not None,
                "sha256": each.sha256,
                "licence": each.licence,
                "training_data": each.training_data,
                "recipe": each.recipe,
                "metrics": [metric.model_dump() for metric in each.metrics],
                "as_published": [figure.model_dump(exclude={"network"}) for figure in each.published],
            }
            for each in checkpoints
        ],
    }
