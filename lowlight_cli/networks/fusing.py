"""Fuse layers of a network for inference: the same result with fewer passes over the picture."""

from __future__ import annotations

import itertools
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lowlight_cli.networks.gpu import ConvReLU, Pointwise

__all__ = ["fused"]

Module = TypeVar("Module", bound=nn.Module)


def fused(network: Module) -> Module:
    """Fuse layers of a network in place and return it; it cannot be trained any more.

    Batch norms are folded into the convolution before them. A PReLU with a single slope after a convolution becomes an
    in-place leaky ReLU, which needs no memory of its own, and which runtimes fuse with the convolution. A convolution
    and the ReLU after it become a `ConvReLU`, other 1x1 convolutions a `Pointwise`.

    Args:
        network: in `eval` mode.
    """
    for part in network.modules():
        if isinstance(part, nn.Sequential):
            _fold(part)
            _activate(part)
    for part in network.modules():
        for name, layer in part.named_children():
            if type(layer) is nn.Conv2d and layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1:
                setattr(part, name, _as(Pointwise, layer))
    return network


def _fold(part: nn.Sequential) -> None:
    """Fold the batch norms of one sequence into its convolutions."""
    for at, (first, second) in enumerate(itertools.pairwise(part)):
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            part[at], part[at + 1] = fuse_conv_bn_eval(first, second), nn.Identity()


def _activate(part: nn.Sequential) -> None:
    """Join the activations of one sequence to its convolutions."""
    acting = [at for at, layer in enumerate(part) if not isinstance(layer, nn.Identity)]
    for at, after in itertools.pairwise(acting):
        first, second = part[at], part[after]
        if not isinstance(first, nn.Conv2d):
            continue
        if isinstance(second, nn.PReLU) and second.num_parameters == 1:
            part[after] = nn.LeakyReLU(second.weight.item(), inplace=True)
        elif isinstance(second, nn.ReLU):
            part[at], part[after] = _as(ConvReLU, first), nn.Identity()


def _as(kind: type[nn.Conv2d], convolution: nn.Conv2d) -> nn.Conv2d:
    """The same convolution, with the same weights, as another class."""
    made = kind.__new__(kind)  # `__init__` would draw random weights
    made.__dict__.update(convolution.__dict__)
    return made
