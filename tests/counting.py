"""Count a network's work: trained values and multiply-adds of one inference, independent of any library's counter."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from lowlight_cli.networks import build


@dataclass(frozen=True)
class Work:
    parameters: float
    """In millions, of the layers that took part."""
    gmacs: float
    """Of convolutions, transposed convolutions and linear layers, in 1e9."""


def count(name: str, height: int = 384, width: int = 384) -> Work:
    """The work of network `name` on one picture; on the meta device, so nothing is computed."""
    with torch.device("meta"):
        network = build(name).eval()
    used: set[nn.Module] = set()
    macs = 0

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal macs
        used.add(module)
        if isinstance(module, nn.ConvTranspose2d):  # each input value meets the whole kernel once
            macs += inputs[0].numel() * prod(module.weight.shape[1:])
        elif isinstance(module, nn.Conv2d | nn.Linear):
            macs += output.numel() * prod(module.weight.shape[1:])

    leaves = [module for module in network.modules() if not list(module.children())]
    for leaf in leaves:
        leaf.register_forward_hook(hook)
    with torch.no_grad():
        network(torch.empty(1, 3, height, width, device="meta"))
    idle = sum(p.numel() for leaf in leaves if leaf not in used for p in leaf.parameters())
    return Work((sum(p.numel() for p in network.parameters()) - idle) / 1e6, macs / 1e9)
