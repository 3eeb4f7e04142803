"""Profile of a run's time. On a GPU it uses events in the GPU's queue, read when the loop waits for it anyway."""

from __future__ import annotations

import time

import torch

__all__ = ["Watch"]

Mark = float | torch.cuda.Event


class Watch:
    """Shares of time by part, from a mark at the end of each part.

    On a GPU a part is the queue's time between two events: if batches are ready in time, `data` is only the copy; time
    in which the queue is empty, waiting for the processor, counts for the part that comes late.
    """

    def __init__(self, device: str) -> None:
        self._events = device.startswith("cuda")
        self._marks: list[tuple[str, Mark]] = [("", self._mark())]

    def lap(self, name: str) -> None:
        """Mark the end of the part `name`, which began where the previous one ended."""
        self._marks.append((name, self._mark()))

    def shares(self) -> dict[str, float]:
        """Return each part's share of the time since the last call."""
        sums: dict[str, float] = {}
        for (_, before), (name, after) in zip(self._marks, self._marks[1:], strict=False):
            sums[name] = sums.get(name, 0.0) + _between(before, after)
        self._marks = self._marks[-1:]
        whole = sum(sums.values()) or 1.0
        return {name: round(part / whole, 4) for name, part in sums.items()}

    def _mark(self) -> Mark:
        if not self._events:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def _between(before: Mark, after: Mark) -> float:
    if isinstance(before, float) or isinstance(after, float):
        assert isinstance(before, float) and isinstance(after, float)
        return after - before
    after.synchronize()
    return float(before.elapsed_time(after))
