"""The plan that a recipe gives the loop: stages, each with the modules it trains and their losses, compiled or not."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lowlight_cli.errors import DeviceError, first_line
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
    from torch._dynamo.exc import TorchDynamoException  # a slow import

    mode = "reduce-overhead" if run.device.startswith("cuda") else "default"
    fused: Losses = torch.compile(losses, mode=mode, dynamic=False)

    def explained(batch: Batch) -> tuple[Tensor, ...]:
        try:
            return fused(batch)
        except TorchDynamoException as error:
            cause = getattr(error, "inner_exception", error)  # the outer message only says that there is one
            told = f"({type(cause).__name__}: {first_line(cause)})"
            if lacking := _lacking(run.device):
                raise DeviceError(f"--compile needs {lacking}: leave it out {told}") from error
            raise DeviceError(f"--compile does not work with {run.model} here: leave it out {told}") from error

    return explained


def _lacking(device: str) -> str:
    """Return what torch.compile needs on the device but is missing; empty if nothing is."""
    compilers = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "cl"]
    has = {
        "Triton": not device.startswith("cuda") or importlib.util.find_spec("triton") is not None,
        "a C++ compiler": any(map(shutil.which, compilers)),
    }
    return " and ".join(name for name, there in has.items() if not there)
