"""A run's state on disk, for going on exactly where it stopped: safetensors, written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from lowlight_cli.errors import InputError
from lowlight_cli.weights.disk import replaced

__all__ = ["load_state", "save_state"]


def save_state(
    path: Path, network: nn.Module, average: dict[str, Tensor], optimiser: Optimizer, numbers: dict[str, Any]
) -> None:
    """Write network, moving average, optimiser and counters; the file at `path` is always a whole one.

    Raises:
        OutputError: the folder cannot be written.
        ResourceError: the disk is full; the state before stays.
    """
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"average.{key}": value for key, value in average.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    with replaced(path) as part:
        save_file({key: value.contiguous() for key, value in tensors.items()}, part, {"numbers": json.dumps(numbers)})


def load_state(path: Path, network: nn.Module, average: dict[str, Tensor], optimiser: Optimizer) -> dict[str, Any]:
    """Fill network, moving average and optimiser from a saved state; give the counters.

    Raises:
        InputError: there is no state at `path`, or it belongs to another network.
    """
    if not path.is_file():
        raise InputError(f"{path}: no run to resume here; leave --resume out to start one")
    try:
        with safe_open(path, "pt") as file:
            numbers: dict[str, Any] = json.loads(file.metadata()["numbers"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        network.load_state_dict(_under("network.", tensors))
        for key, value in _under("average.", tensors).items():
            average[key].copy_(value)
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise InputError(f"{path}: not a state of this network's training ({error})") from error
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in _under("optimiser.", tensors).items():
        index, _, name = key.partition(".")
        # Fused optimisers walk memory: a moment must lie as its parameter does, or values land in wrong places.
        parameter = parameters[int(index)]
        laid = (
            torch.empty_like(parameter, requires_grad=False).copy_(value) if value.shape == parameter.shape else value
        )
        states.setdefault(int(index), {})[name] = laid
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
    return numbers


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
