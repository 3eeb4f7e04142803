"""Which signals ask the program to end; what is half done is then undone or made safe first."""

from __future__ import annotations

import signal
from typing import Final

__all__ = ["ENDING"]

ENDING: Final[tuple[signal.Signals, ...]] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Ctrl-C, a request, a terminal or connection that is gone; Windows has no such signal for the last."""
