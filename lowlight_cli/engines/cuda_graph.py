"""Record the network's kernels for one picture size as a CUDA graph, and replay it for each picture.

Most networks here consist of hundreds of small kernels, which a CPU cannot launch as fast as a GPU finishes them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Graphed", "give_back"]

WARM = 3
"""Warm-up passes before the recording, in which libraries choose their kernels and allocate their workspaces."""


_recording = Lock()
"""Held while a graph is recorded: torch records one at a time, and refuses to release memory meanwhile."""


@functools.cache
def _side(device: str) -> torch.cuda.Stream:
    """The stream for recordings on a GPU: one for all of them, because cuBLAS keeps memory for each stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@functools.cache
def _copying(device: str) -> tuple[torch.cuda.Stream, torch.cuda.Stream]:
    """The streams for copies to a GPU and from it, beside the one that computes."""
    return torch.cuda.Stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def give_back() -> None:
    """Release torch's cached GPU memory, and its page-locked memory if this torch can; never raises an error."""
    with _recording:
        for emptied in (torch.cuda.empty_cache, getattr(torch._C, "_host_emptyCache", None)):
            with contextlib.suppress(RuntimeError):  # raised, for example, after a recording that was aborted
                if emptied:
                    emptied()


class _Slot:
    """What one batch passes through: page-locked memory, GPU memory before and after the pass, page-locked memory."""

    def __init__(self, shape: tuple[int, ...], device: str) -> None:
        self.up, self.down = (torch.empty(shape, pin_memory=True) for _ in range(2))
        self.given, self.made = (torch.empty(shape, device=device) for _ in range(2))
        self.uploaded, self.computed = (torch.cuda.Event() for _ in range(2))  # type: ignore[no-untyped-call]
        self.done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # wait without using a core


class Graphed:
    """A recorded pass at one size. It holds the memory of that pass for as long as it exists.

    Several threads may call it: while one batch is computed, the next is copied to the GPU and the last one from it, on
    streams of their own, as long as `slots` allow.

    Attributes:
        shape: of the batches that it takes, (N, H, W, 3).
    """

    def __init__(
        self, forward: Callable[[Tensor], Tensor], shape: tuple[int, ...], device: str, slots: int = 1
    ) -> None:
        """Record the pass.

        Args:
            forward: (N, H, W, 3) float32 on the device to the same; must launch the same kernels every time for one
                shape, and never wait for the GPU.
            shape: of the batches.
            device: `cuda:N`.
            slots: how many batches may be under way at once.

        Raises:
            RuntimeError: it cannot be recorded: too little GPU or page-locked memory, or any other CUDA error.
        """
        self.shape, self._device = shape, device
        self._launching, self._slots = Lock(), SimpleQueue[_Slot]()
        # A failed recording leaves the thread on the side stream: the last context manager restores the current one.
        with _recording, torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
            self._given = torch.zeros(shape, device=device)
            for _ in range(slots):
                self._slots.put(_Slot(shape, device))
            self._graph = torch.cuda.CUDAGraph()
            side = _side(device)
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM):
                    forward(self._given)
            torch.cuda.current_stream().wait_stream(side)
            # Without `stream`, torch uses a stream of the first GPU used, and records nothing of another GPU's work.
            # `thread_local`, because other threads use CUDA meanwhile.
            with torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"):
                self._made = forward(self._given)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Replay the pass on one batch of `shape`; the result is a copy that belongs to the caller."""
        slot = self._slots.get()
        try:
            np.copyto(slot.up.numpy(), batch)
            with self._launching, torch.cuda.device(self._device):
                self._launch(slot)
            slot.done.synchronize()
            bright: NDArray[np.float32] = slot.down.numpy().copy()
            return bright
        finally:
            self._slots.put(slot)

    def _launch(self, slot: _Slot) -> None:
        """Queue the copies and the pass; returns before they have happened.

        The pass reads and writes the same memory each time, so all passes follow one another on one stream. Each slot
        has memory of its own, which no one else touches until it is done.
        """
        up, down = _copying(self._device)
        with torch.cuda.stream(up):
            slot.given.copy_(slot.up, non_blocking=True)
            slot.uploaded.record()
        with torch.cuda.stream(torch.cuda.default_stream(self._device)):  # whatever the caller's is
            slot.uploaded.wait()
            self._given.copy_(slot.given)
            self._graph.replay()
            slot.made.copy_(self._made)
            slot.computed.record()
        with torch.cuda.stream(down):
            slot.computed.wait()
            slot.down.copy_(slot.made, non_blocking=True)
            slot.done.record()

    def seconds(self) -> float:
        """How long the GPU takes for one batch that is already in its memory."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        with self._launching, torch.cuda.device(self._device):
            start.record()
            self._graph.replay()
            end.record()
            end.synchronize()
        return float(start.elapsed_time(end)) / 1e3
