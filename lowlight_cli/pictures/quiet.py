"""Silence what libraries print about a damaged file: the user gets one line, from the exception.

libpng, libtiff and LibRaw write to file descriptor 2 behind Python's back. While a file is decoded, that descriptor
leads to os.devnull, but only if `sys.stderr` uses another one for the same target, as the command arranges: programs
that use the package lose no output. Pillow and tifffile log, and Python prints records that have no handler.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Final

__all__ = ["quiet"]

_STDERR: Final = 2
_LOGGING: Final = ("PIL", "tifffile")
_lock = threading.Lock()
_inside = 0
_kept = -1


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard what is written to file descriptor 2; several threads may be inside at once."""
    global _inside, _kept
    with _lock:
        for name in _LOGGING:
            if not logging.getLogger(name).handlers:
                logging.getLogger(name).addHandler(logging.NullHandler())
        _inside += 1
        if _inside == 1 and _apart():
            _kept = os.dup(_STDERR)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, _STDERR)
            os.close(nowhere)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _kept >= 0:
                os.dup2(_kept, _STDERR)
                os.close(_kept)
                _kept = -1


def _apart() -> bool:
    """Whether Python's stderr reaches the target of descriptor 2 through a descriptor of its own."""
    try:
        own = sys.stderr.fileno()
        return own != _STDERR and os.path.samestat(os.fstat(own), os.fstat(_STDERR))
    except (OSError, ValueError, AttributeError):  # no stderr, or one that is not a file
        return False
