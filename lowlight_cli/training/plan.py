"""The plan that a recipe gives the loop: stages, each with the modules it trains and their losses, compiled or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from torch import Tensor, nn

from lowlight_cli.engines import compiling
from lowlight_cli.training.data import Batch
from lowlight_cli.training.run import Run

__all__ = ["Losses", "Mixed", "Plan", "Stage", "compiled"]

Losses = Callable[[Batch], tuple[Tensor, ...]]
"""Losses of a stage: maps a batch to one scalar for each group."""

Mixed = Callable[[], AbstractContextManager[object]]
"""Makes the context in which networks run (bfloat16 if enabled); losses are computed outside it, in float32."""


@dataclass(frozen=True)
class Stage:
    """A stage of a run.

    Attributes:
        name: its name in the log.
        groups: the modules to train; all others are frozen and in evaluation mode, batch norms too. A second group is
            the adversary of the first, whose loss is `judge` in the log.
        losses: maps a batch to one scalar for each group. Gradients of a loss must not reach an earlier group, so the
            input of an adversary is detached.
    """

    name: str
    groups: tuple[tuple[nn.Module, ...], ...]
    losses: Losses


@dataclass(frozen=True)
class Plan:
    """Everything that a run trains.

    Attributes:
        stages: all stages, in order.
        helpers: modules for training only, by name; they move between devices and are saved with the network.
        degradations: darkening modules, by key of `networks.DEGRADATIONS`, of the network or helpers; also saved as
            results of the run.
    """

    stages: tuple[Stage, ...]
    helpers: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    degradations: Mapping[str, nn.Module] = field(default_factory=dict)


def compiled(losses: Losses, run: Run) -> Losses:
    """Compile a stage's losses with fused operations; on a GPU as a CUDA graph, since crops keep their size."""
    mode = "reduce-overhead" if run.device.startswith("cuda") else "default"
    return compiling.compiled(losses, device=run.device, name=run.model, mode=mode)
