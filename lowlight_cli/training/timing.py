"""Where a run's time goes. On a GPU the marks lie in its own queue, and are read where it is waited for anyway."""

from __future__ import annotations

import time

import torch

__all__ = ["Watch"]

Mark = float | torch.cuda.Event


class Watch:
    """Shares of time by name, from marks at the end of each part.

    On a GPU a part is what its queue did between two marks: while batches are ready in time, `data` is the copy alone,
    and where the queue ran empty because of the processor, it counts for the part that came late.
    """

    def __init__(self, device: str) -> None:
        self._events = device.startswith("cuda")
        self._marks: list[tuple[str, Mark]] = [("", self._mark())]

    def lap(self, name: str) -> None:
        """The part called `name` ends here, and began where the one before it ended."""
        self._marks.append((name, self._mark()))

    def shares(self) -> dict[str, float]:
        """Each part's share of the time since this was asked last."""
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
