"""The signals that ask the program to end; it first undoes or secures unfinished work."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Final

__all__ = ["ENDING", "recorded"]

ENDING: Final[tuple[signal.Signals, ...]] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Ctrl-C, a termination request, and the loss of the terminal or connection, for which Windows has no signal."""


@contextlib.contextmanager
def recorded(came: list[int]) -> Iterator[None]:
    """Only add these signals to `came` inside the block; those that are ignored on purpose stay so."""
    numbers = [each for each in ENDING if signal.getsignal(each) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
