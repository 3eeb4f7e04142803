"""Keep PyTorch usable in a forked process: its worker threads are not forked, and it would wait for them for ever."""

from __future__ import annotations

import os
import sys

__all__ = ["go_on"]

_state = {"stranded": False}


def go_on() -> None:
    """Limit PyTorch to one thread if a fork may have lost the others; call this before any computation."""
    if _state["stranded"]:
        sys.modules["torch"].set_num_threads(1)
        _state["stranded"] = False


def _look() -> None:
    _state["stranded"] = "torch" in sys.modules  # the parent may have computed with it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_look)
