"""Layers whose forward an NVIDIA GPU computes in other words: the same function without passes that torch makes there.

Torch's convolution adds a bias in a pass of its own, which takes longer than the convolution; its reflection leaves
channels_last. Times below are of an H200, 64 channels at 1080p, bfloat16. A compiler has better ways for most of this,
so what is said here holds without one. Everywhere else, and for training, the layers are torch's own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ConvReLU", "Pointwise", "Reflect", "add_relu", "double", "eager", "halves", "norm_half", "residual"]


def halves(x: Tensor) -> bool:
    """Whether autocast computes in half precision on a GPU, without gradients.

    Float16 is then open to layers whose values stay far below its maximum of 65504. It has ten bits of mantissa as
    TF32, three more than bfloat16, and cuDNN's kernels for few channels are faster in it.
    """
    return x.is_cuda and torch.is_autocast_enabled("cuda") and not torch.is_grad_enabled()


def eager(x: Tensor) -> bool:
    """Whether torch runs operation by operation on a GPU, without gradients."""
    return x.is_cuda and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def add_relu(convolution: nn.Conv2d, x: Tensor, added: Tensor | None = None) -> Tensor:
    """`relu(convolution(x) + added)`, on an NVIDIA GPU in one kernel of cuDNN's: 0.30 ms in place of 0.78.

    Args:
        convolution: with numbers for its padding; unless its weights are in channels_last, torch's operations are used.
        x: (N, C, H, W).
        added: in the shape of the result; None for nothing.
    """
    laid_out = convolution.weight.is_contiguous(memory_format=torch.channels_last)
    if not (x.is_cuda and laid_out and torch.version.cuda) or torch.is_grad_enabled():
        convolved = nn.Conv2d.forward(convolution, x)
        return F.relu(convolved if added is None else added + convolved, inplace=True)
    kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype
    given = [None if each is None else each.to(kind) for each in (x, convolution.weight, convolution.bias, added)]
    how = convolution.stride, convolution.padding, convolution.dilation, convolution.groups
    fused: Tensor = torch.ops.lowlight.convolve_add_relu(*given, *how)
    return fused


def residual(body: nn.Sequential, x: Tensor) -> Tensor:
    """`relu(x + body(x))`; if a convolution ends the body, or one with its norm folded into it, by `add_relu`."""
    *inner, last, norm = body
    if not (isinstance(last, nn.Conv2d) and isinstance(norm, nn.Identity)):
        return F.relu(x + body(x), inplace=True)
    y = x
    for layer in inner:
        y = layer(y)
    return add_relu(last, y, x)


@torch.library.custom_op(
    "lowlight::convolve_add_relu",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor? bias, Tensor? added, int[] stride, int[] padding, int[] dilation, "
    "int groups) -> Tensor",
)
def _convolve_add_relu(
    x: Tensor, weight: Tensor, bias: Tensor | None, added: Tensor | None,
    stride: list[int], padding: list[int], dilation: list[int], groups: int,
) -> Tensor:  # fmt: skip
    """CuDNN's kernels as an operation that compilers can leave in place; torch's own if there is no cuDNN."""
    how, x = (stride, padding, dilation, groups), x.contiguous(memory_format=torch.channels_last)
    there = torch.backends.cudnn.enabled and torch.backends.cudnn.is_available()  # type: ignore[no-untyped-call]
    counted = max(x.numel(), x.numel() // x.shape[1] * weight.shape[0])
    if not there or counted >= 2**31:  # torch itself divides what cuDNN cannot index
        convolved = F.conv2d(x, weight, bias, *how)
        made = F.relu(convolved if added is None else convolved + added, inplace=True)
    elif added is None:
        made = torch.cudnn_convolution_relu(x, weight, bias, *how)
    else:
        added = added.contiguous(memory_format=torch.channels_last)
        made = torch.cudnn_convolution_add_relu(x, weight, added, 1.0, bias, *how)
    return made.contiguous(memory_format=torch.channels_last)


@_convolve_add_relu.register_fake
def _shaped(
    x: Tensor, weight: Tensor, bias: Tensor | None, added: Tensor | None,
    stride: list[int], padding: list[int], dilation: list[int], groups: int,
) -> Tensor:  # fmt: skip
    convolved = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    return torch.empty_like(convolved, memory_format=torch.channels_last)


class ConvReLU(nn.Conv2d):
    """A convolution and a ReLU, by `add_relu`. (N, C, H, W) to (N, C', H', W'), non-negative."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and clamp below at 0."""
        return add_relu(self, x)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution; in half precision on a GPU a matrix product, which adds its bias itself: 0.15 ms for 0.50."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W)."""
        if halves(x) and eager(x):
            return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        return super().forward(x)


class Reflect(nn.ReflectionPad2d):
    """Reflection at the borders; on a GPU into channels_last: 0.3 ms for 3.1, and for two conversions of the layout."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, top + H + bottom, left + W + right)."""
        if not eager(x) or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        left, right, top, bottom = self.padding
        height, width = x.shape[-2:]
        wide = _like(x, top + height + bottom, left + width + right)
        inside = wide[:, :, top : top + height]
        inside[..., left : left + width] = x
        for at in range(left):
            inside[..., at] = x[..., left - at]
        for at in range(right):
            inside[..., left + width + at] = x[..., width - 2 - at]
        for at in range(top):
            wide[:, :, at] = wide[:, :, 2 * top - at]
        for at in range(bottom):
            wide[:, :, top + height + at] = wide[:, :, top + height - 2 - at]
        return wide


def norm_half(x: Tensor, norm: nn.InstanceNorm2d) -> Tensor:
    """The instance norm of the first half of the channels, in one pass over all: mean 0 and variance 1 for the others.

    On a GPU, torch's own lays the picture out anew and takes four times as long.

    Args:
        x: (1, C, H, W).
        norm: affine, of C / 2 channels.
    """
    variance, mean = torch.var_mean(x[:, : norm.num_features].float(), (0, 2, 3), correction=0)
    zero, one = torch.zeros_like(mean), torch.ones_like(mean)
    scale, shift = torch.cat((norm.weight, one)), torch.cat((norm.bias, zero))
    return F.batch_norm(x, torch.cat((mean, zero)), torch.cat((variance, one - norm.eps)), scale, shift, eps=norm.eps)


def double(x: Tensor) -> Tensor:
    """Bilinear upscaling by 2 with half-pixel centres, one axis after the other: 0.6 ms for torch's 1.3.

    Args:
        x: (N, C, H, W) on a GPU, in channels_last.

    Returns:
        (N, C, 2 H, 2 W).
    """
    height, width = x.shape[-2:]
    tall = _like(x, 2 * height, width)
    _between(x, tall, 2)
    both = _like(x, 2 * height, 2 * width)
    _between(tall, both, 3)
    return both


def _between(x: Tensor, doubled: Tensor, axis: int) -> None:
    """Write each value of `x` twice along an axis, a quarter of the way to the neighbour on that side."""
    length = x.shape[axis]
    first, last = x.narrow(axis, 0, length - 1), x.narrow(axis, 1, length - 1)
    even, odd = torch.unflatten(doubled, axis, (length, 2)).unbind(axis + 1)
    torch.lerp(last, first, 0.25, out=even.narrow(axis, 1, length - 1))
    torch.lerp(first, last, 0.25, out=odd.narrow(axis, 0, length - 1))
    even.narrow(axis, 0, 1).copy_(x.narrow(axis, 0, 1))
    odd.narrow(axis, length - 1, 1).copy_(x.narrow(axis, length - 1, 1))


def _like(x: Tensor, height: int, width: int) -> Tensor:
    """Room for a result of another size, in channels_last."""
    size = *x.shape[:2], height, width
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
