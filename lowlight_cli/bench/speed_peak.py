"""The peak that `speed` compares with: the rate that torch reaches on a device with one convolution that suits it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

__all__ = ["CHANNELS", "convolution", "full"]

CHANNELS: Final = 64
"""Input and output channels of the 3x3 convolution, which runs at the size of the picture."""

QUEUED: Final = 50
"""Convolutions queued on a GPU at a time: launched one by one, each would end before the next is launched."""


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
    several = QUEUED if wait else 1

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
