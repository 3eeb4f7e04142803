"""PyTorch's number of threads, a setting of the whole process: divided among callers, and one in a forked process.

A fork does not copy threads, and PyTorch would wait for its own for ever.
"""

from __future__ import annotations

import os
import sys

__all__ = ["share"]

_given: list[int] = []
"""The number before and after the last `share`, so that it is not divided twice."""


def share(at_once: int) -> None:
    """Divide PyTorch's threads among `at_once` calling threads; with 1, restore the full number."""
    import torch

    now = torch.get_num_threads()
    whole = _given[0] if _given and now == _given[1] else now
    part = max(1, whole // at_once)
    torch.set_num_threads(part)
    _given[:] = whole, part


def _compute_alone() -> None:
    if torch := sys.modules.get("torch"):  # whoever used it in the parent
        torch.set_num_threads(1)
    _given.clear()  # `share` would restore the parent's number


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_alone)
