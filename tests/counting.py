"""Count a network's work: trained values and multiply-adds of one inference, independent of any library's counter."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lowlight_cli.networks import build


@dataclass(frozen=True)
class Work:
    parameters: float
    """In millions, of those that the result depends on."""
    gmacs: float
    """Of convolutions, transposed convolutions and linear layers, in 1e9."""


class _Macs(TorchDispatchMode):
    """Multiply-adds of all that is done inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            x, weight, transposed = args[0], args[1], args[6]  # transposed, each input value meets the whole kernel
            self.count += (x if transposed else output).numel() * prod(weight.shape[1:])
        elif func is torch.ops.aten.addmm.default:
            self.count += output.numel() * args[1].shape[1]
        return output


def count(name: str, height: int = 384, width: int = 384) -> Work:
    """The work of network `name` on one picture; on the meta device, so nothing is computed."""
    with torch.device("meta"):
        network = build(name).eval()
    with _Macs() as macs:
        output = network(torch.empty(1, 3, height, width, device="meta"))
    output.sum().backward()
    used = sum(p.numel() for p in network.parameters() if p.grad is not None)
    return Work(used / 1e6, macs.count / 1e9)
