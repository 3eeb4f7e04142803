"""PyTorch in a process forked from one that used it: its threads do not come along, and it waits for them for ever."""

from __future__ import annotations

import os
import sys

__all__ = ["go_on"]

_state = {"stranded": False}


def go_on() -> None:
    """Let PyTorch compute on one thread where it may have lost the others; before anything is asked of it."""
    if _state["stranded"]:
        sys.modules["torch"].set_num_threads(1)
        _state["stranded"] = False


def _look() -> None:
    _state["stranded"] = "torch" in sys.modules  # and may have computed there


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_look)
