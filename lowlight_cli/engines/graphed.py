"""Pictures of one size on an NVIDIA GPU: the network's kernels recorded once as a CUDA graph, replayed for each.

Most networks here are hundreds of small kernels, which a processor cannot start as fast as a GPU is done with them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Graphed", "give_back"]

WARM = 3
"""Passes before the recording, in which libraries choose their kernels and take what memory they want."""


_recording = Lock()
"""Held where a graph is recorded: torch records one at a time, and refuses to give memory back meanwhile."""


@functools.cache
def _side(device: str) -> torch.cuda.Stream:
    """The stream on which a GPU's work is recorded: one for all recordings, as cuBLAS keeps memory for each stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def give_back() -> None:
    """Give back what torch keeps of the GPUs' memory, and of page-locked memory where it can; never an error."""
    with _recording:
        for emptied in (torch.cuda.empty_cache, getattr(torch._C, "_host_emptyCache", None)):
            with contextlib.suppress(RuntimeError):  # as after a recording that broke off and is never closed
                if emptied:
                    emptied()


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
            RuntimeError: it cannot be recorded: for want of memory, page-locked too, or what else CUDA has against it.
        """
        self.shape = shape
        # A recording that cannot be begun or ended leaves the thread on the stream aside: the last puts it back.
        with _recording, torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
            self._given = torch.zeros(shape, device=device)
            self._up, self._down = (torch.empty(shape, pin_memory=True) for _ in range(2))
            self._graph = torch.cuda.CUDAGraph()
            side = _side(device)
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM):
                    forward(self._given)
            torch.cuda.current_stream().wait_stream(side)
            # Without a stream, torch takes that of the GPU that came first, and records nothing of another one's work.
            with torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"):  # others work beside
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
