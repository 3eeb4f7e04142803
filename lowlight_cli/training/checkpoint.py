"""A run's state: what is trained, what follows it, where it stands; on disk one file, written atomically."""

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

from lowlight_cli.errors import InputError
from lowlight_cli.networks.layers import Network
from lowlight_cli.signals import ENDING
from lowlight_cli.training.plan import Plan
from lowlight_cli.training.recipe import Recipe
from lowlight_cli.weights.disk import replaced

__all__ = ["State", "unbroken"]

UNFUSED: Final = ("mps",)
"""Where torch's fused optimisers take steps too that they are told to leave out (`found_inf`)."""


class State:
    """Everything that a run needs to go on exactly where it was.

    Attributes:
        network: what is trained.
        helpers: the plan's modules that only training has.
        average: the moving average of the network's state, which is what is validated and shipped.
        stage: the number of the plan's stage that `optimisers` belong to, one a group of modules.
        step: steps done; `seconds` of work before this process.
        lowered: what the schedule's rate is multiplied by, below 1 after the loss was no number.
    """

    def __init__(self, network: Network, plan: Plan, recipe: Recipe) -> None:
        self.network, self.plan, self.recipe = network, plan, recipe
        self.helpers = plan.helpers
        self.average = {key: value.clone() for key, value in network.state_dict().items()}
        self.step, self.seconds, self.lowered = 0, 0.0, 1.0
        self.stage = 0
        self.optimisers: list[Optimizer] = []

    def enter(self, stage: int) -> None:
        """Begin a stage: its modules learn, with new optimisers; all others stand still, their batch norms too."""
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
        """Move the average towards the network; batch-norm statistics are averaged too, counters copied."""
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        state = self.network.state_dict()
        floats = [key for key, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[key] for key in floats], [state[key] for key in floats], 1 - decay)
        for key in state.keys() - set(floats):
            self.average[key].copy_(state[key])

    def sound(self) -> bool:
        """Whether every value is a number."""
        return all(bool(torch.isfinite(value).all()) for value in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """All values by name; they are the state's own, not copies."""
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.items()}
        tensors |= {f"helpers.{key}": value for key, value in self.helpers.state_dict().items()}
        for number, optimiser in enumerate(self.optimisers):
            for index, state in optimiser.state_dict()["state"].items():
                prefix = f"optimiser{number or ''}.{index}."
                tensors |= {f"{prefix}{key}": torch.as_tensor(value) for key, value in state.items()}
        return tensors

    def copy(self) -> dict[str, Tensor]:
        """The same as it is now, for `restore`."""
        return {key: value.clone() for key, value in self.tensors().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take values back, those of the optimisers where they are of this stage, which the caller has entered.

        Raises:
            KeyError, RuntimeError, ValueError: they are of another network.
        """
        self.network.load_state_dict(_under("network.", tensors))
        self.helpers.load_state_dict(_under("helpers.", tensors))
        for key, value in _under("average.", tensors).items():
            self.average[key].copy_(value)
        for number, optimiser in enumerate(self.optimisers):
            _fill(optimiser, _under(f"optimiser{number or ''}.", tensors))

    def save(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Write everything, and by which `Run.settings`; the file at `path` is always a whole one.

        Raises:
            OutputError: the folder cannot be written.
            ResourceError: the disk is full; the state before stays.
        """
        tensors = {key: value.contiguous() for key, value in self.tensors().items()}
        numbers: dict[str, Any] = {"step": self.step, "seconds": self.seconds, "stage": self.stage}
        numbers |= {"lowered": self.lowered, "recipe": self.recipe.kind, "tensors": len(tensors)}
        numbers["settings"] = settings
        with replaced(path) as part:  # in one piece: safetensors' own writing leaves a file of its own when killed
            part.write_bytes(to_bytes(tensors, {"numbers": json.dumps(numbers)}))

    def load(self, path: Path) -> None:
        """Go on with a saved state.

        Raises:
            InputError: there is none at `path`, or it belongs to another network or recipe.
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
        """What is missing, unknown or misshapen of a saved state, in a few words; empty where nothing is.

        Which moments there are depends on the steps that were taken: of those only the number is known.
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
    """Ctrl-C and a request to end wait until the block is done: a step happens whole or not at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in ENDING}
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def _no_state(path: Path, why: str) -> InputError:
    return InputError(f"{path}: not a state of this network's training by this recipe ({why})")


def _fill(optimiser: Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters: list[nn.Parameter] = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        # Fused optimisers walk memory: a moment must lie as its parameter does, or values land in wrong places.
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        elif value.ndim:
            raise ValueError(f"a moment of {tuple(value.shape)} for a parameter of {tuple(parameter.shape)}")
        else:
            value = value.clone()  # which an optimiser would keep: a view of the mapped file, or of what is good
        states.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
