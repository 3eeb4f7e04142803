"""The state of a run (weights, moving average, optimisers, progress), saved as one file by atomic rename."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.optim import Optimizer

from lowlight_cli.disk import replaced
from lowlight_cli.errors import InputError
from lowlight_cli.networks.layers import Network
from lowlight_cli.signals import recorded
from lowlight_cli.training.plan import Plan
from lowlight_cli.training.recipe import Recipe

__all__ = ["State", "unbroken"]

UNFUSED: Final = ("mps",)
"""Devices whose fused optimisers ignore `found_inf` and take steps that should be skipped."""


class State:
    """Everything that a run needs to resume exactly.

    Attributes:
        network: the network that is trained.
        helpers: the plan's modules for training only.
        average: the moving average of the network's state, which is validated and shipped.
        stage: number of the current stage; `optimisers` has one optimiser for each of its groups.
        step: number of steps done; `seconds` is the working time up to the last save.
        lowered: multiplier of the scheduled rate, below 1 once the run had to go back after non-finite gradients.
        best: step and PSNR of the best validation, in the process that validates.
    """

    def __init__(self, network: Network, plan: Plan, recipe: Recipe) -> None:
        self.network, self.plan, self.recipe = network, plan, recipe
        self.helpers = plan.helpers
        self.average = {key: value.clone() for key, value in network.state_dict().items()}
        self.step, self.seconds, self.lowered = 0, 0.0, 1.0
        self.best: tuple[int, float] | None = None
        self.stage = 0
        self.optimisers: list[Optimizer] = []

    def enter(self, stage: int) -> None:
        """Begin a stage: train its modules with new optimisers and freeze all others, including their batch norms."""
        self.stage = stage
        for whole in (self.network, self.helpers):
            whole.eval().requires_grad_(False)
        kind = torch.optim.AdamW if self.recipe.optimiser == "adamw" else torch.optim.Adam
        self.optimisers = []
        for group in self.plan.stages[stage].groups:
            for module in group:
                module.train().requires_grad_(True)
            learnt = [parameter for module in group for parameter in module.parameters()]
            rate, betas = self.recipe.rate, (self.recipe.betas[0], self.recipe.betas[1])
            fused = None if learnt[0].device.type in UNFUSED else True
            self.optimisers.append(kind(learnt, rate, betas, weight_decay=self.recipe.decay, fused=fused))

    @torch.no_grad()
    def follow(self) -> None:
        """Update the moving average; batch-norm statistics are averaged too, counters are copied."""
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        state = self.network.state_dict()
        floats = [key for key, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[key] for key in floats], [state[key] for key in floats], 1 - decay)
        for key in state.keys() - set(floats):
            self.average[key].copy_(state[key])

    def sound(self) -> bool:
        """Return whether every value is finite."""
        return all(bool(torch.isfinite(value).all()) for value in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """Return all values by name, not copied."""
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.items()}
        tensors |= {f"helpers.{key}": value for key, value in self.helpers.state_dict().items()}
        for number, optimiser in enumerate(self.optimisers):
            for index, state in optimiser.state_dict()["state"].items():
                prefix = f"optimiser{number or ''}.{index}."
                tensors |= {f"{prefix}{key}": torch.as_tensor(value) for key, value in state.items()}
        return tensors

    def copy(self) -> dict[str, Tensor]:
        """Return a copy of `tensors`, for `restore`."""
        return {key: value.clone() for key, value in self.tensors().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore values; the caller must already have entered the stage that the optimisers' values belong to.

        Raises:
            KeyError, RuntimeError, ValueError: they belong to another network.
        """
        self.network.load_state_dict(_under("network.", tensors))
        self.helpers.load_state_dict(_under("helpers.", tensors))
        for key, value in _under("average.", tensors).items():
            self.average[key].copy_(value)
        for number, optimiser in enumerate(self.optimisers):
            _fill(optimiser, _under(f"optimiser{number or ''}.", tensors))

    def save(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Write everything and the `Run.settings` to `path`, which always holds a complete file.

        Raises:
            OutputError: the folder cannot be written.
            ResourceError: the disk is full; the previous state is kept.
        """
        tensors = {key: value.contiguous() for key, value in self.tensors().items()}
        numbers: dict[str, Any] = {"step": self.step, "seconds": self.seconds, "stage": self.stage}
        numbers |= {"best": self.best, "lowered": self.lowered, "recipe": self.recipe.kind, "tensors": len(tensors)}
        numbers["settings"] = settings
        with replaced(path) as part:  # safetensors' own writer leaves a temporary file behind if killed
            part.write_bytes(to_bytes(tensors, {"numbers": json.dumps(numbers)}))

    def load(self, path: Path) -> None:
        """Load a saved state.

        Raises:
            InputError: there is no state at `path`, or it belongs to another network or recipe.
        """
        try:
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
                about = file.metadata() or {}
            if "numbers" not in about:
                raise _no_state(path, "it does not tell its step")
            numbers: dict[str, Any] = json.loads(about["numbers"])
            self.step, self.seconds = int(numbers["step"]), float(numbers["seconds"])
            self.lowered = float(numbers["lowered"])
            if best := numbers.get("best"):
                self.best = int(best[0]), float(best[1])
            kind = numbers["recipe"]
            self.enter(int(numbers["stage"]))
            fault = self._differences(tensors, int(numbers["tensors"]))
            if kind == self.recipe.kind and not fault:
                self.restore(tensors)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
        except (SafetensorError, RuntimeError, LookupError, TypeError, ValueError) as error:
            raise _no_state(path, f"{type(error).__name__}: {error}") from error
        if kind != self.recipe.kind:
            raise _no_state(path, f"it is of --recipe {kind}: resume it with that")
        if fault:
            raise _no_state(path, fault)

    def _differences(self, tensors: dict[str, Tensor], count: int) -> str:
        """Return what is missing, unknown or misshapen in a saved state, in a few words; empty if nothing is.

        Which optimiser moments exist depends on the steps taken, so only the total number of tensors is checked there.
        """
        wanted = {key: value for key, value in self.tensors().items() if not key.startswith("optimiser")}
        found = {key: value for key, value in tensors.items() if not key.startswith("optimiser")}
        if missing := sorted(wanted.keys() - found.keys()):
            return f"{len(missing)} tensors are missing, first {missing[0]}"
        if unknown := sorted(found.keys() - wanted.keys()):
            return f"{len(unknown)} tensors are unknown, first {unknown[0]}"
        if bent := sorted(key for key in wanted if wanted[key].shape != found[key].shape):
            return f"{bent[0]} is of another shape"
        heads = {f"optimiser{number or ''}" for number in range(len(self.optimisers))}
        if odd := sorted(key for key in tensors.keys() - found.keys() if key.partition(".")[0] not in heads):
            return f"{len(odd)} tensors are unknown, first {odd[0]}"
        return "" if len(tensors) == count else f"of {count} tensors {len(tensors)} are there"


@contextlib.contextmanager
def unbroken() -> Iterator[None]:
    """Defer Ctrl-C and termination signals until the end of the block, so that a step is never interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    with recorded(came):
        yield
    if came:
        signal.raise_signal(came[0])


def _no_state(path: Path, why: str) -> InputError:
    return InputError(f"{path}: not a state of this network's training by this recipe ({why})")


def _fill(optimiser: Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters: list[nn.Parameter] = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        # Fused optimisers address raw memory: a moment needs the memory layout of its parameter.
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        elif value.ndim:
            raise ValueError(f"a moment of {tuple(value.shape)} for a parameter of {tuple(parameter.shape)}")
        else:
            value = value.clone()  # the optimiser would keep a view of the mapped file or of the good state
        states.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
