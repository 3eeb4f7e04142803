"""DGAF's Enlightening network, for video and for photographs of any kind, and its Darkening network.

Paper: Chen et al., "Real-world low-light image enhancement via domain-gap aware framework and reverse domain-distance
guided strategy", Frontiers in Physics 11:1147031, 2023. No code is public. The paper specifies how the network is
trained (on pseudo-low-light pictures weighted by how real they look) and leaves its layers mostly open; the layers here
are ours, designed for video on a CPU:

- exposure first: one gain in linear light for the whole picture, from a thumbnail, by the curve 1 - (1 - x)^g, which
  clips nothing. Brightness depends on the whole picture; local networks that guess it produce halos around lamps and
  grey skies.
- then, on the picture and its exposed form, residual blocks at quarter resolution (two 3x3 convolutions with ReLU
  between, as in the paper's Darkening network), and from them a gain and a residual for each pixel and channel.
"""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlight_cli.networks.gpu import ConvReLU
from lowlight_cli.networks.layers import Network, float32_at_least, full_precision, pad
from lowlight_cli.networks.statistics import whole

__all__ = ["DGAF", "Darkening", "Exposure", "averaged", "expose", "headroom", "to_linear", "to_srgb"]

STRIDE: Final = 4
THUMBNAIL: Final = 64
KEY: Final = 0.13
"""Log-average of the linear light of a well exposed picture, which the gain aims at before training."""
WHITE: Final = 0.9999
"""Largest linear light that `headroom` takes the logarithm for; a fiftieth of a grey level below 1."""
LEVELS: Final = 2**16
"""Entries of the lookup table for exposed values: every 8- and 16-bit value has its own."""


def to_linear(srgb: Tensor) -> Tensor:
    """Linear light of sRGB-encoded values (IEC 61966-2-1); any shape, [0, 1]."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, _power((srgb.clamp(min=0.04045) + 0.055) / 1.055, 2.4))


def to_srgb(linear: Tensor) -> Tensor:
    """SRGB encoding of linear light (IEC 61966-2-1); any shape, [0, 1]."""
    curved = 1.055 * _power(linear.clamp(min=0.0031308), 1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, curved)


def _power(x: Tensor, exponent: float) -> Tensor:
    """A positive number to a power. Runtimes vectorise exponentials and logarithms, but not powers."""
    return torch.exp(exponent * torch.log(x))


def headroom(srgb: Tensor) -> Tensor:
    """log(1 - x) of the linear light x of sRGB-encoded values in [0, 1]; any shape."""
    return torch.log1p(-to_linear(srgb).clamp(0.0, WHITE))


def expose(room: Tensor, gain: Tensor) -> Tensor:
    """The curve 1 - (1 - x)^g on linear light x, sRGB-encoded, from `headroom` and a positive gain g."""
    return to_srgb(-torch.expm1(gain * room))


def averaged(x: Tensor, height: int, width: int) -> Tensor:
    """Means over cells, which share pixels if a side is not divisible: torch's `area`, which Apple's GPU then refuses.

    Computed as two matrix products, which is as fast: a picture in channels_last is already laid out as a matrix.

    Args:
        x: (N, C, H, W) in any float type.
        height: number of cells along the height.
        width: number of cells along the width.

    Returns:
        (N, C, height, width), in float32 at least.
    """
    x = float32_at_least(x)
    count, channels, rows, columns = x.shape
    with full_precision(x):
        high, wide = _covered(height, rows, x), _covered(width, columns, x)
        low = high @ x.permute(0, 2, 3, 1).reshape(count, rows, -1) / high.sum(1, keepdim=True)
        # As (C * height, W) @ (W, width): with the three channels last, runtimes take three times as long.
        small: Tensor = low.reshape(count, height, columns, channels).permute(0, 3, 1, 2) @ wide.T / wide.sum(1)
        return small


def _covered(cells: int, pixels: int, like: Tensor) -> Tensor:
    """1 where a cell along one side overlaps a pixel, else 0: (cells, pixels)."""
    pixel = torch.arange(pixels, device=like.device) * cells
    cell = torch.arange(cells, device=like.device)[:, None] * pixels
    return ((pixel + cells > cell) & (pixel < cell + pixels)).to(like.dtype)


class Exposure(nn.Module):
    """One positive gain in linear light from a thumbnail of the whole picture: (N, 3, 64, 64) to (N, 1, 1, 1).

    It starts as the log-average rule (Reinhard et al. 2002) and learns a correction from the means and standard
    deviations of the logarithms, and from the means and maxima of learnt features.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(32, 48, 3, 2, 1), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(102, 48), nn.ReLU(), nn.Linear(48, 1))
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=1e-2)
        nn.init.zeros_(last.bias)

    def forward(self, thumbnail: Tensor) -> Tensor:
        """The gain of each picture, in float32 at least: an error of half a per cent is a grey level."""
        with full_precision(thumbnail):
            logs = torch.log(to_linear(float32_at_least(thumbnail)).clamp(min=0) + 1e-3)
            scaled = logs / 3 + 1
            features = self.features(scaled)
            pooled = torch.cat(
                (features.mean((2, 3)), features.amax((2, 3)), scaled.mean((2, 3)), scaled.std((2, 3))), dim=1
            )
            rule = math.log(KEY) - logs.mean((1, 2, 3)).unsqueeze(1)
            return torch.exp(rule + self.head(pooled))[..., None, None]


class ResidualBlock(nn.Module):
    """conv3, ReLU, conv3, added to the input: (N, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvReLU(channels, channels, 3, 1, 1)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)
        nn.init.normal_(self.second.weight, std=1e-2)

    def forward(self, x: Tensor) -> Tensor:
        """Refine the features."""
        refined: Tensor = x + self.second(self.first(x))
        return refined


class DGAF(Network):
    """The Enlightening network. `forward` gives (N, 3, H, W) of the same size, unclamped."""

    wants_thumbnail = True

    def __init__(self) -> None:
        super().__init__()
        self.exposure = Exposure()
        self.levels: Tensor
        self.register_buffer("levels", headroom(torch.linspace(0, 1, LEVELS)), persistent=False)
        self.stem = ConvReLU(6, 24, 3, 2, 1)
        self.down = ConvReLU(24, 48, 3, 2, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(48) for _ in range(8)))
        self.up = nn.Conv2d(48, 96, 1)
        self.merge = ConvReLU(24, 24, 3, 1, 1)
        self.last = nn.Conv2d(24, 24, 3, 1, 1)
        nn.init.normal_(self.last.weight, std=1e-3)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def training_outputs(self, x: Tensor, thumbnail: Tensor | None = None) -> dict[str, Tensor]:
        """`output`, and the `exposed` picture for inspection.

        Args:
            x: (N, 3, H, W), a whole picture or a crop of one.
            thumbnail: (N, 3, 64, 64) of the whole picture that `x` was cut from; computed from `x` if not given.
        """
        height, width = x.shape[-2:]
        if thumbnail is None:
            thumbnail = averaged(x, THUMBNAIL, THUMBNAIL)
        x = pad(x, STRIDE)
        gain = whole(lambda: self.exposure(thumbnail).to(x.dtype))
        exposed = expose(headroom(x), gain) if torch.is_grad_enabled() else self._expose_by_table(x, gain)
        half = self.stem(torch.cat((x, exposed), 1))
        deep = self.blocks(self.down(half))
        merged = F.relu(F.pixel_shuffle(self.up(deep), 2) + half)
        refined = self.merge(merged)
        output = exposed * (1 + self._half_of_last(refined, 0)) + self._half_of_last(refined, 12)
        return {"output": output[..., :height, :width], "exposed": exposed[..., :height, :width]}

    def _expose_by_table(self, x: Tensor, gain: Tensor) -> Tensor:
        """Like `expose`, by table lookup of the nearest level: no powers or logarithms per pixel, and no gradient."""
        table = expose(self.levels, gain.reshape(-1, 1)).flatten()
        row = torch.arange(x.shape[0], dtype=torch.int32, device=x.device).reshape(-1, 1, 1, 1) * LEVELS
        nearest = (x * (LEVELS - 1) + 0.5).int().clamp(0, LEVELS - 1) + row  # the clamp keeps NaN within the table
        return table.index_select(0, nearest.flatten()).reshape(x.shape)

    def _half_of_last(self, refined: Tensor, first: int) -> Tensor:
        """Twelve channels of `last` as three at full size; computing both halves at once would need a split."""
        assert self.last.bias is not None
        weight, bias = self.last.weight[first : first + 12], self.last.bias[first : first + 12]
        return F.pixel_shuffle(F.conv2d(refined, weight, bias, padding=1), 2)


class Darkening(nn.Sequential):
    """Sec. 3.1.1: a bright picture to a pseudo-low-light one, (N, 3, H, W) to the same, in (0, 1).

    Eight blocks of 3x3, ReLU, 3x3 [P]; a convolution before and after, and a sigmoid, as in DASR. Used only by training
    and `lowlight darken`. [W] It starts close to a dimming that keeps colours: three features carry them, and the
    sigmoid maps white to 0.27, grey to 0.05 and black to 0.007. Started at random, it is grey for hundreds of steps.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 64, 3, padding=1),
            nn.ReLU(),
            *(ResidualBlock(64) for _ in range(8)),
            nn.Conv2d(64, 3, 3, padding=1),
            nn.Sigmoid(),
        )
        first, last = self[0], self[-2]
        assert isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d)
        assert first.bias is not None and last.bias is not None
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.fill_(-5)
            first.bias.zero_()
            for colour in range(3):
                first.weight[colour].zero_()
                first.weight[colour, colour, 1, 1] = 1
                last.weight[colour, colour, 1, 1] = 4
