"""Building blocks that several networks share: their base class, padding, precision, channel attention."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlight_cli.networks.statistics import whole

__all__ = [
    "MINIMUM", "ChannelAttention", "Network", "float32_at_least", "full_precision", "pad", "widened",
]  # fmt: skip

MINIMUM: Final = 16
"""The shortest side that a network sees; shorter sides are padded to it."""


class Network(nn.Module):
    """Base class of the networks: takes a picture and returns a picture.

    A subclass implements `training_outputs`. If the losses need more than inference does, it implements `forward` too,
    so that an exported graph has no branches that only training uses.
    """

    wants_thumbnail: bool = False
    """Whether `training_outputs` takes a second argument, the thumbnail of the whole picture that a crop is from."""

    def forward(self, x: Tensor) -> Tensor:
        """Enhance (N, 3, H, W) RGB in [0, 1] to the same shape, unclamped."""
        return self.training_outputs(x)["output"]

    def wide(self) -> Network:
        """The same function with more channels, which data-centre GPUs compute faster; itself if there is none."""
        return self

    def training_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """`output`, as returned by `forward`, and whatever else the paper's losses need, by name."""
        raise NotImplementedError


Wider = TypeVar("Wider", bound=nn.Module)


@torch.no_grad()
def widened(narrow: nn.Module, make: Callable[[], Wider], widths: Mapping[int, int]) -> Wider:
    """Build a network with more channels that has the weights of `narrow`, and zeros beside them: the same function.

    Args:
        narrow: a network, on the CPU.
        make: builds it with the other widths; the caller's random state and default device do not matter.
        widths: numbers of channels, and what they are in the other one. A side of a weight that belongs to several
            groups of channels is a multiple; the largest number that divides it counts.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        wide = make().to(next(narrow.parameters()).dtype)
    own = wide.state_dict()
    for name, value in narrow.state_dict().items():
        for side, (small, large) in enumerate(zip(value.shape, own[name].shape, strict=True)):
            if small != large:
                width = max(each for each in widths if small % each == 0 and small // each * widths[each] == large)
                groups = value.unflatten(side, (-1, width))
                more = list(groups.shape)
                more[side + 1] = widths[width] - width
                value = torch.cat((groups, groups.new_zeros(more)), side + 1).flatten(side, side + 1)
        own[name].copy_(value)
    return wide.train(narrow.training).requires_grad_(False)


def pad(x: Tensor, stride: int) -> Tensor:
    """Extend (N, C, H, W) at the right and bottom to multiples of `stride`, at least `MINIMUM`.

    By reflection; if either side is too short to reflect, by replication on both.
    """
    height, width = x.shape[-2:]
    down = max(-height % stride, MINIMUM - height)
    right = max(-width % stride, MINIMUM - width)
    if down == 0 and right == 0:
        return x
    mode = "reflect" if down < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, down), mode=mode)


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Disable autocast on the device of `x` inside the block, where bfloat16 would cost whole grey levels."""
    device = x.device.type
    # Torch 2.11 cannot compile the question whether there is autocast.
    if torch.compiler.is_compiling() or torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def float32_at_least(x: Tensor) -> Tensor:
    """`x` in float32, or unchanged if it is float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class ChannelAttention(nn.Module):
    """Squeeze and excitation: scale each channel by a gate computed from all channels' means.

    (N, C, H, W) to the same shape. SENet, Hu et al. 2018; used as in RCAN, Zhang et al. 2018, where the result is added
    to a block's input: if that is given as `base`, the addition needs no separate pass over the picture.
    """

    def __init__(self, channels: int, hidden: int, *, bias: bool = True) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=bias),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1, bias=bias),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        """Scale (N, C, H, W), and add it to `base`, of the same shape, if given."""
        gate: Tensor = self.gate(whole(lambda: x.mean((2, 3), keepdim=True)))
        return x * gate if base is None else torch.addcmul(base, x, gate)
