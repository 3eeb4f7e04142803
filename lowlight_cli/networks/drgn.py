"""DRGN and LW-DRGN: subtract the degradation, then refine the rest.

Paper: Jiang, Wang, Wang, Chen, Yi, Lu, Lin, "Degrade is Upgrade: Learning Degradation for Low-light Image
Enhancement", AAAI 2022, arXiv 2103.10621. Section and equation numbers below are the paper's.

The authors have published no code, so the layout comes from the paper alone: [P] marks what it specifies, [W] what it
leaves open and we chose. The widths follow from the two budgets of Table 2 (4.773 M parameters and 110.59 G
multiply-adds for DRGN, 0.660 M and 18.15 G for LW-DRGN, at 384x384).

Choices that apply throughout:

- [W] ReG adds its input to its output: `I* = I_B + MFN(I_B)`. Eq. 13 ends with a convolution and mentions no skip
  connection; with it ReG starts as the identity, and a short training run spends its steps on the difference. DeG has
  none: I_D is itself a difference.
- [W] The last convolution of both generators starts near zero (`LAST`), so that an untrained network approximately
  returns its input, and gradients reach every weight from the first step.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlight_cli.networks.gpu import ConvReLU, halves
from lowlight_cli.networks.layers import ChannelAttention, Network, full_precision, pad, widened

__all__ = [
    "DRGN", "RCAB", "DenseBranch", "LightDRGN", "MultiResolutionFusion", "degradation", "gaussian_half",
    "light_degradation",
]  # fmt: skip

STRIDE: Final = 4
"""[P] Three pyramid levels: full, 1/2 and 1/4 (Sec. 3.1)."""
WIDTHS: Final = (40, 40, 88)
"""[W] Channels from full to 1/4: within 2 % of both published budgets."""
WIDE: Final = (64, 64, 96)
"""[W] The same for `wide`: multiples of 32, which a GPU's tensor cores work on."""
GROUPS: Final = (2, 3, 4)
"""[P] Groups of RCABs in the residual group of each level (Sec. 3.1)."""
DEPTH: Final = 3
"""[P] RCABs in each group (Sec. 3.1)."""
LAST: Final = 0.03
"""[W] Factor on the initial weights of a generator's last convolution: its output is then 1 to 4 grey levels."""
BRANCH: Final = 0.2
"""[W] Factor on the initial weights of an RCAB's second convolution, so that 12 in a row stay near the identity."""


class DRGN(Network):
    """The degradation generator `deg` and the refinement generator `reg`, of the same architecture (Sec. 2.1 and 2.2).

    The paper trains them in two stages; each can be called alone on (N, 3, H, W) with sides divisible by 4.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.deg = MultiResolutionFusion(widths, residual=False)
        self.reg = MultiResolutionFusion(widths, residual=True)

    def wide(self) -> DRGN:
        """See `Network.wide`; attention has an eighth of the channels."""
        return widened(self, lambda: DRGN(WIDE), {40: 64, 88: 96, 5: 8, 11: 12})

    def training_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """`output` I*, `degradation` I_D and `base` I_B, each of the shape of `x`, (N, 3, H, W)."""
        return _degrade_then_refine(self.deg, self.reg, x)


class LightDRGN(Network):
    """LW-DRGN: each generator is a single branch with attention-guided dense fusion (Sec. 3.3).

    [W] DeG works at 1/4 resolution, because degradation is smooth, and ReG at 1/2; 4 and 10 RCABs of 48 channels.
    Called alone, `deg` needs sides divisible by 4 and `reg` sides divisible by 2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.deg = light_degradation()
        self.reg = DenseBranch(scale=2, depth=5, residual=True)

    def training_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """`output` I*, `degradation` I_D and `base` I_B, each shaped as `x`, (N, 3, H, W)."""
        return _degrade_then_refine(self.deg, self.reg, x)


def _degrade_then_refine(deg: nn.Module, reg: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """`I_D = DeG(I_L)`, `I_B = I_L - I_D`, `I* = ReG(I_B)` (Eq. 4 and 8), on the padded input, cropped at the end."""
    height, width = x.shape[-2:]
    low = pad(x, STRIDE)
    degradation = deg(low)
    base = low - degradation
    pictures = {"output": reg(base), "degradation": degradation, "base": base}
    return {name: picture[..., :height, :width] for name, picture in pictures.items()}


class MultiResolutionFusion(nn.Module):
    """MFN: three levels of a Gaussian pyramid that exchange features before and after their residual groups (Fig. 3).

    (N, 3, H, W) to the same shape; H and W are divisible by 4.

    Args:
        widths: channels from full to 1/4 of the size.
        residual: add the input to the output (ReG) or not (DeG).
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.initial = nn.ModuleList(nn.Conv2d(3, width, 3, padding=1) for width in widths)
        self.exchange = nn.ModuleList(MultiScaleRepresentation(widths[: level + 1]) for level in range(len(widths)))
        self.groups = nn.ModuleList(
            LongTermFusion(width, DEPTH * groups) for width, groups in zip(widths, GROUPS, strict=True)
        )
        self.up = nn.ModuleList(Upsample(widths[level], widths[0], 2**level) for level in range(1, len(widths)))
        self.fuse = nn.Conv2d(len(widths) * widths[0], widths[0], 1)
        self.reconstruct = nn.Conv2d(widths[0], 3, 3, padding=1)
        _start(self, self.reconstruct)

    def forward(self, x: Tensor) -> Tensor:
        """Eq. 10 to 13, in order."""
        half = gaussian_half(x)
        pyramid = (x, half, gaussian_half(half))
        first = [project(picture) for project, picture in zip(self.initial, pyramid, strict=True)]
        shared = [exchange(first) for exchange in self.exchange]
        deep = [group(features) for group, features in zip(self.groups, shared, strict=True)]
        picture: Tensor = self.reconstruct(self._upsample_and_fuse(*deep))
        return x + picture if self.residual else picture

    def _upsample_and_fuse(self, full: Tensor, *lower: Tensor) -> Tensor:
        """Apply `fuse` to `full` and the upsampled `lower` levels: the two linear steps are computed as one.

        This avoids upsampling each level separately and concatenating at full resolution.
        """
        ups = [up for up in self.up if isinstance(up, Upsample)]
        width, weight = self.fuse.out_channels, self.fuse.weight
        mixes = [weight[:, at : at + width, 0, 0] for at in range(width, weight.shape[1], width)]
        assert self.fuse.bias is not None
        with full_precision(full):
            bias = sum((up.mixed_bias(mix) for up, mix in zip(ups, mixes, strict=True)), start=self.fuse.bias)
        fused = F.conv2d(full, weight[:, :width], bias)
        for up, features, mix in zip(ups, lower, mixes, strict=True):
            fused += up.mixed(features, mix)
        return fused


class MultiScaleRepresentation(nn.Module):
    """MSR (Eq. 11): a level's first features, combined with those of every level of higher resolution.

    A strided 3x3 convolution downsamples each of these, and a 1x1 fuses the concatenation. [W] The full-resolution
    level has none above it and keeps its features as they are.

    Args:
        widths: channels from full size to this level.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        *higher, width = widths
        self.level = level = len(higher)
        self.down = nn.ModuleList(
            nn.Conv2d(above, width, 3, stride=2 ** (level - at), padding=1) for at, above in enumerate(higher)
        )
        self.fuse = nn.Conv2d((level + 1) * width, width, 1) if level else nn.Identity()

    def forward(self, first: list[Tensor]) -> Tensor:
        """Fuse the features of all levels, (N, C_i, H / 2^i, W / 2^i), into this level's, of its own shape."""
        above = [down(features) for down, features in zip(self.down, first[: self.level], strict=True)]
        fused: Tensor = self.fuse(torch.cat([*above, first[self.level]], 1))
        return fused


class LongTermFusion(nn.Module):
    """A residual group and the 1x1 convolution over its output and its input (Eq. 12). (N, C, H, W) to the same.

    [W] The groups follow each other without convolutions or skip connections of their own: RCAN's convolution per group
    would exceed the published parameters by a sixth, and Eq. 12 is itself the skip connection.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.group = nn.Sequential(*(RCAB(width, width // 8) for _ in range(blocks)))  # [W] reduction 8
        self.fuse = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Refine (N, C, H, W)."""
        fused: Tensor = self.fuse(torch.cat([self.group(x), x], 1))
        return fused


class RCAB(nn.Module):
    """Residual channel attention block: conv3, ReLU, conv3, attention, addition (RCAN, Zhang et al. 2018)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first = ConvReLU(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.attention = ChannelAttention(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        refined: Tensor = self.attention(self.second(self.first(x)), x)
        return refined


class Upsample(nn.ConvTranspose2d):
    """The transposed convolution before Eq. 13: (N, C, H, W) to (N, C', scale H, scale W).

    [W] With a kernel of `scale + 2`, neighbours overlap by one pixel on each side, and the taps start as a smooth
    interpolation whose sum is the same at every output pixel: no checkerboard before training, little after.
    """

    def __init__(self, inputs: int, outputs: int, scale: int) -> None:
        super().__init__(inputs, outputs, scale + 2, stride=scale, padding=1)
        self.scale = scale

    def mixed(self, x: Tensor, mix: Tensor) -> Tensor:
        """Upsample, and mix the channels by a matrix (P, C'), both without bias: (N, C, H, W) to (N, P, s H, s W)."""
        with full_precision(x):
            weight = torch.einsum("iohw,po->iphw", self.weight, mix)
        if halves(x):
            return F.pixel_shuffle(F.conv2d(x, self._phases(weight), padding=1), self.scale)
        return F.conv_transpose2d(x, weight, None, self.scale, padding=1)

    def mixed_bias(self, mix: Tensor) -> Tensor:
        """What `mixed` leaves out, (P,)."""
        assert self.bias is not None
        return mix @ self.bias

    def _phases(self, weight: Tensor) -> Tensor:
        """The weights as those of a 3x3 convolution to `scale`^2 phases, which `pixel_shuffle` puts in their places.

        Half of its taps are 0, and yet an H200 takes a third of the transposed one's 6 ms, for a scale of 4 at 1080p.

        Args:
            weight: (C, P, scale + 2, scale + 2) of a transposed convolution.

        Returns:
            (P * scale^2, C, 3, 3).
        """
        scale = self.scale
        rows = torch.unflatten(F.pad(weight, (scale - 1,) * 4), 2, (3, scale))
        taps = torch.unflatten(rows, 4, (3, scale)).flip(2, 4)
        return taps.permute(1, 3, 5, 0, 2, 4).flatten(0, 2)

    @torch.no_grad()
    def start(self) -> None:
        """Initialise: mix channels at random, keeping variance, and interpolate with a box of `scale` smoothed by 3."""
        scale = self.scale
        taps = torch.tensor([min(i + 1, scale, 3, scale + 2 - i) / min(scale, 3) for i in range(scale + 2)])
        taps = taps * (scale / taps.sum())
        mix = torch.randn(self.in_channels, self.out_channels, 1, 1) / self.in_channels**0.5
        self.weight.copy_(mix * taps[:, None] * taps)


class DenseBranch(nn.Module):
    """A generator of LW-DRGN: groups of RCABs at one lower resolution, densely fused (Sec. 3.3).

    (N, 3, H, W) to the same shape; H and W are divisible by `scale`. [W] Two groups, width 48, reduction 16, and pixel
    shuffling for lossless changes of resolution, rather than strided convolutions, which would lose detail.

    Args:
        scale: the branch works at 1 / scale of the resolution.
        depth: RCABs in each group.
        residual: add the input to the output (ReG) or not (DeG).
    """

    def __init__(self, *, scale: int, depth: int, residual: bool) -> None:
        super().__init__()
        width, reduction, groups = 48, 16, 2
        self.scale = scale
        self.residual = residual
        self.initial = nn.Conv2d(3 * scale**2, width, 3, padding=1)
        self.groups = nn.ModuleList(
            nn.Sequential(*(RCAB(width, width // reduction) for _ in range(depth))) for _ in range(groups)
        )
        self.fusions = nn.ModuleList(
            nn.Sequential(ChannelAttention(seen * width, seen * width // reduction), nn.Conv2d(seen * width, width, 1))
            for seen in range(2, groups + 2)
        )
        self.reconstruct = nn.Conv2d(width, 3 * scale**2, 3, padding=1)
        _start(self, self.reconstruct)

    def forward(self, x: Tensor) -> Tensor:
        """After each group, apply attention to all features so far, and a 1x1 convolution back to one width."""
        features: Tensor = self.initial(F.pixel_unshuffle(x, self.scale))
        seen = [features]
        for group, fusion in zip(self.groups, self.fusions, strict=True):
            seen.append(group(features))
            features = fusion(torch.cat(seen, 1))
        picture: Tensor = F.pixel_shuffle(self.reconstruct(features), self.scale)
        return x + picture if self.residual else picture


def gaussian_half(x: Tensor) -> Tensor:
    """The next level of a Gaussian pyramid (Eq. 10): (N, C, H, W) with even sides to (N, C, H / 2, W / 2).

    [W] The binomial filter 1 4 6 4 1 of Burt and Adelson, 1983, with reflected borders, sampled at the even pixels,
    where the strided convolutions of Eq. 11 are centred too.
    """
    place = torch.arange(-2, 3, device=x.device, dtype=x.dtype)  # created on x's device: a copy would wait for the GPU
    taps = (12 - 3 * place.abs() - place**2) / 32
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def degradation() -> MultiResolutionFusion:
    """DRGN's DeG, alone as `lowlight darken` uses it."""
    return MultiResolutionFusion(residual=False)


def light_degradation() -> DenseBranch:
    """LW-DRGN's DeG."""
    return DenseBranch(scale=4, depth=2, residual=False)


@torch.no_grad()
def _start(generator: nn.Module, last: nn.Conv2d) -> None:
    """Initialise a generator for short training runs [W]: keep variance along the linear path, blocks near identity.

    Biases are 0, except those before the ReLU of a gate: its few hidden units could otherwise all be dead at first.
    """
    for module in generator.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, Upsample):
            module.start()
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    for module in generator.modules():
        if isinstance(module, RCAB):
            nn.init.kaiming_normal_(module.first.weight, nonlinearity="relu")
            module.second.weight.mul_(BRANCH)
        elif isinstance(module, ChannelAttention):
            weight, bias = module.gate[0].parameters()
            weight.mul_(0.5)
            bias.fill_(0.5)
    last.weight.mul_(LAST)
