"""How a recipe tells the loop what to train: stages, each with what it moves and by which losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from torch import Tensor, nn

from lowlight_cli.training.data import Batch

__all__ = ["Losses", "Mixed", "Plan", "Stage"]

Losses = Callable[[Batch], tuple[Tensor, ...]]
"""Of a stage: a batch to one scalar a group."""

Mixed = Callable[[], AbstractContextManager[object]]
"""Gives the block in which networks run: bfloat16 where the run wants it. Losses are taken outside, in float32."""


@dataclass(frozen=True)
class Stage:
    """A part of a run.

    Attributes:
        name: for the log.
        groups: what is trained. All else is frozen and in evaluation mode, batch norms too. A second group is the
            adversary of the first.
        losses: a batch to one scalar a group. No loss may reach an earlier group: what an adversary judges is detached.
    """

    name: str
    groups: tuple[tuple[nn.Module, ...], ...]
    losses: Losses


@dataclass(frozen=True)
class Plan:
    """What is trained.

    Attributes:
        stages: all of them, in order.
        helpers: by name the modules that only training has: they move and are saved with the network.
        degradations: by name (`networks.DEGRADATIONS`) what darkens, of network or helpers: a result of the run too.
    """

    stages: tuple[Stage, ...]
    helpers: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    degradations: Mapping[str, nn.Module] = field(default_factory=dict)
