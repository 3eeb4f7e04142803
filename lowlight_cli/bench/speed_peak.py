"""What `speed` compares with: the bare network, the rate of one convolution and of a copy, and their roofline."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

    from lowlight_cli.networks.layers import Network

__all__ = ["CHANNELS", "Eager", "bandwidth", "convolution", "full", "roofline"]

CHANNELS: Final = 64
"""Input and output channels of the 3x3 convolution, which runs at the size of the picture."""

QUEUED: Final = 12_000_000
"""Pixels of convolutions queued on a GPU at a time: launched one by one, each would end before the next is launched."""


@dataclass(frozen=True)
class Eager:
    """A network called directly in torch, without an engine: the baseline that engines are compared with."""

    module: Network
    device: str
    name: str = "eager"
    provider: str = "torch"
    precision: str = "fp32"

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Enhance a batch, (N, H, W, 3) to the same shape."""
        import torch

        with torch.inference_mode(), full(self.precision, self.device):
            given = torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous().to(self.device)
            bright: NDArray[np.float32] = self.module(given).clamp(0, 1).cpu().permute(0, 2, 3, 1).contiguous().numpy()
        return bright


def convolution(precision: str, size: tuple[int, int], place: str) -> Callable[[], float]:
    """Return a function that runs the convolution in torch and returns its multiply-adds a second, in 1e9.

    Args:
        precision: one of `engines.PRECISIONS`, not `auto`.
        size: width and height.
        place: torch's name of the device.
    """
    import torch
    from torch.nn.functional import conv2d

    from lowlight_cli.engines.pytorch import DTYPES

    kind = DTYPES[precision]
    width, height = size
    x = torch.rand(1, CHANNELS, height, width).to(place, kind, memory_format=torch.channels_last)
    weight = torch.rand(CHANNELS, CHANNELS, 3, 3).to(place, kind, memory_format=torch.channels_last)
    wait = _wait(place)
    several = max(5, QUEUED // (width * height)) if wait else 1

    @torch.inference_mode()
    def convolve() -> float:
        times = []
        for _ in range(4):  # the first ones still allocate memory
            start = time.perf_counter()
            with full(precision, place):
                for _ in range(several):
                    conv2d(x, weight, padding=1)
            if wait:
                wait()
            times.append((time.perf_counter() - start) / several)
        return float(9 * CHANNELS**2 * width * height / min(times) / 1e9)

    return convolve


def bandwidth(place: str) -> float:
    """Return the bytes a second, in 1e9, that one large copy within a GPU's memory reads and writes.

    Args:
        place: torch's name of the GPU.
    """
    import torch

    given, made = (torch.ones(2**30, dtype=torch.uint8, device=place) for _ in range(2))
    times = []
    for _ in range(5):
        torch.cuda.synchronize(place)
        start = time.perf_counter()
        for _ in range(4):
            made.copy_(given)
        torch.cuda.synchronize(place)
        times.append((time.perf_counter() - start) / 4)
    return 2 * given.numel() / min(times) / 1e9


def roofline(network: nn.Module, size: tuple[int, int], precision: str, peak: float, bytes_a_second: float) -> float:
    """Return the seconds below which a network's convolutions cannot get, one after the other.

    Each takes its multiply-adds at the peak, or what it reads and writes at the rate of a copy, whichever is longer.

    Args:
        network: as it was built; it is not run, and ends on torch's `meta` device.
        size: width and height.
        precision: one of `engines.PRECISIONS`, not `auto`.
        peak: multiply-adds a second, in 1e9.
        bytes_a_second: in 1e9.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    least = list[float]()
    width, height = size
    each = 4 if precision == "fp32" else 2

    class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Sees every operation, here the convolutions."""

        def __torch_dispatch__(self, called, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            made = called(*args, **(kwargs or {}))
            if called is torch.ops.aten.convolution.default:
                given, weight, transposed = args[0], args[1], args[6]
                macs = (given if transposed else made).numel() * weight[0].numel()
                moved = each * (given.numel() + made.numel() + weight.numel())
                least.append(max(macs / peak, moved / bytes_a_second) / 1e9)
            return made

    with torch.no_grad(), Counted():  # type: ignore[no-untyped-call]
        network.to("meta")(torch.empty(1, 3, height, width, device="meta"))
    return sum(least)


def full(precision: str, place: str) -> contextlib.AbstractContextManager[None]:
    """Turn TF32 off for fp32 on NVIDIA GPUs, as the engine does: torch would use it by default."""
    if precision != "fp32" or not place.startswith("cuda"):
        return contextlib.nullcontext()
    from lowlight_cli.engines import tf32

    return tf32.off()


def _wait(place: str) -> Callable[[], object] | None:
    """Return a function that waits until the device has finished its queue; None for a CPU, which has no queue."""
    import torch

    if place.startswith("cuda"):
        return lambda: torch.cuda.synchronize(place)
    return torch.mps.synchronize if place.startswith("mps") else None
