"""Pictures of one size on an NVIDIA GPU: the network's kernels recorded once as a CUDA graph, replayed for each.

Most networks here are hundreds of small kernels, which a processor cannot start as fast as a GPU is done with them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Graphed"]

WARM = 3
"""Passes before the recording, in which libraries choose their kernels and take what memory they want."""


class Graphed:
    """A pass at one size. It holds the memory of that pass for as long as it lives.

    Attributes:
        shape: of the batches that it takes, (N, H, W, 3).
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], shape: tuple[int, ...], device: str) -> None:
        """Record.

        Args:
            forward: (N, H, W, 3) float32 on the device to the same; always the same kernels for one shape, and nothing
                that waits for the GPU.
            shape: of the batches.
            device: `cuda:N`.

        Raises:
            torch.OutOfMemoryError: the device has not the memory.
        """
        self.shape = shape
        with torch.cuda.device(device):
            self._given = torch.zeros(shape, device=device)
            self._up, self._down = (torch.empty(shape, pin_memory=True) for _ in range(2))
            self._graph = torch.cuda.CUDAGraph()
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM):
                    forward(self._given)
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):  # others may be at work beside
                self._made = forward(self._given)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """One batch of the shape; the result is the caller's own."""
        np.copyto(self._up.numpy(), batch)
        with torch.cuda.device(self._given.device):
            self._given.copy_(self._up, non_blocking=True)
            self._graph.replay()
            self._down.copy_(self._made, non_blocking=True)
            torch.cuda.current_stream().synchronize()
        bright: NDArray[np.float32] = self._down.numpy().copy()
        return bright

    def seconds(self) -> float:
        """How long the GPU takes for one batch that lies there already."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        with torch.cuda.device(self._given.device):
            start.record()
            self._graph.replay()
            end.record()
            end.synchronize()
        return float(start.elapsed_time(end)) / 1e3
