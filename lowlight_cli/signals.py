"""The signals that ask the program to end; it first undoes or secures unfinished work."""

from __future__ import annotations

import signal
from typing import Final

__all__ = ["ENDING"]

ENDING: Final[tuple[signal.Signals, ...]] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Ctrl-C, a termination request, and the loss of the terminal or connection, for which Windows has no signal."""
