"""The peak that `speed` measures by: what torch reaches on a device with one convolution, its kernels at their best."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

__all__ = ["CHANNELS", "convolution", "full"]

CHANNELS: Final = 64
"""Of the convolution: 3x3, as many out as in, at the size of the picture."""

QUEUED: Final = 50
"""How many a GPU is given at a time: it is done before the next is asked for, unless they queue."""


def convolution(precision: str, size: tuple[int, int], place: str) -> Callable[[], float]:
    """What convolves in torch when it is called, and gives multiply-adds a second, in 1e9.

    Args:
        precision: one of `engines.PRECISIONS`, not `auto`.
        size: width and height.
        place: the device, as torch calls it.
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
        for _ in range(4):  # the first ones find no memory ready
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
    """Float32 in full on NVIDIA's GPUs too, as the engine computes in it: else torch by itself takes TF32."""
    if precision != "fp32" or not place.startswith("cuda"):
        return contextlib.nullcontext()
    from lowlight_cli.engines import tf32

    return tf32.off()


def _wait(place: str) -> Callable[[], object] | None:
    """What waits until a device has done all that it was given; None for a CPU, which is done when it returns."""
    import torch

    if place.startswith("cuda"):
        return lambda: torch.cuda.synchronize(place)
    return torch.mps.synchronize if place.startswith("mps") else None
