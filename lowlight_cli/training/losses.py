"""Losses shared by recipes: pure functions that map (N, 3, H, W) float32 tensors in [0, 1] to a scalar."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "charbonnier", "charbonnier_at_mean", "constant", "hue_and_saturation", "seen_through", "ssim", "supervised",
    "taken_for_real",
]  # fmt: skip

LUMA = (0.299, 0.587, 0.114)

EPSILON = 1e-3
"""Width of the rounded minimum of the Charbonnier loss."""


@functools.cache
def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return a few numbers as a tensor, copied to the device only once: each copy would stall a GPU's queue."""
    return torch.tensor(values, device=device, dtype=dtype)


def charbonnier(x: Tensor, y: Tensor) -> Tensor:
    """Mean of sqrt((x - y)^2 + EPSILON^2): L1 with a rounded minimum (Charbonnier et al. 1994)."""
    return torch.sqrt((x - y) ** 2 + EPSILON**2).mean()


def charbonnier_at_mean(x: Tensor, y: Tensor) -> Tensor:
    """Charbonnier loss after scaling each picture of `x` to the mean luma of its reference; the factor has no gradient.

    It teaches colour, noise and detail even if the reference's brightness cannot be known from the input.
    """
    weights = constant(LUMA, x.device, x.dtype).view(1, 3, 1, 1)
    means = [(picture.detach() * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True) for picture in (x, y)]
    factor = (means[1] / means[0].clamp(min=1e-3)).clamp(0.25, 4)
    return charbonnier(x * factor, y)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Mean structural similarity, 1 for equal pictures (Wang et al. 2004): 11x11 Gaussian of sigma 1.5, per channel.

    Population variances, borders left out; K1 = 0.01, K2 = 0.03.
    """
    channels = x.shape[1]
    positions = torch.arange(11, device=x.device, dtype=x.dtype) - 5
    bell = torch.exp(-(positions**2) / (2 * 1.5**2))
    bell = bell / bell.sum()
    maps = torch.cat((x, y, x * x, y * y, x * y), 1)
    across = bell.view(1, 1, 1, 11).expand(5 * channels, 1, 1, 11)
    down = bell.view(1, 1, 11, 1).expand(5 * channels, 1, 11, 1)
    blurred = F.conv2d(F.conv2d(maps, across, groups=5 * channels), down, groups=5 * channels)
    mean_x, mean_y, xx, yy, xy = blurred.chunk(5, 1)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * (xy - mean_x * mean_y) + c2) / (xx - mean_x**2 + yy - mean_y**2 + c2)
    return (luminance * structure).mean()


def supervised(output: Tensor, high: Tensor, *, at_mean: float, structure: float) -> Tensor:
    """Charbonnier + `at_mean` times the same at equal mean + `structure` times (1 - SSIM)."""
    loss = charbonnier(output, high) + at_mean * charbonnier_at_mean(output, high)
    return loss + structure * (1 - ssim(output, high))


def hue_and_saturation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Hue in turns, [0, 1), and saturation, [0, 1], of RGB clamped to [0, 1]: (N, 3, H, W) to two (N, H, W).

    Hue has no gradient at grey, nor saturation at black, and huge ones nearby. So hue is constant 0 up to a chroma of
    0.004 (one grey level), and saturation up to a value of 0.004.
    """
    red, green, blue = x.clamp(0, 1).unbind(1)
    value = x.clamp(0, 1).amax(1)
    chroma = value - x.clamp(0, 1).amin(1)
    coloured, lit = chroma > 0.004, value > 0.004
    width = torch.where(coloured, chroma, 1)
    sixth = torch.where(
        value == red,
        ((green - blue) / width) % 6,
        torch.where(value == green, (blue - red) / width + 2, (red - green) / width + 4),
    )
    zero = torch.zeros_like(value)
    return torch.where(coloured, sixth / 6, zero), torch.where(lit, chroma / torch.where(lit, value, 1), zero)


def taken_for_real(logits: Tensor) -> Tensor:
    """Mean of -log D, with D the sigmoid of an adversary's logits of any shape: 0 if it is certain they are real."""
    return F.softplus(-logits).mean()


def seen_through(logits: Tensor) -> Tensor:
    """Mean of -log(1 - D): 0 if the adversary is certain they are synthetic."""
    return F.softplus(logits).mean()
