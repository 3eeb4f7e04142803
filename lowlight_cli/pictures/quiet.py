"""Keep libraries from telling the terminal what they think of a damaged file: it reaches us as an error of one line.

libpng, libtiff and LibRaw write to file descriptor 2 behind Python's back. It leads nowhere while a file is decoded,
but only where `sys.stderr` has a way of its own to the same place, as the command gives it: of a program that uses the
package nothing is taken. Pillow and tifffile log, and what nobody handles Python prints.
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
    """Nothing written to file descriptor 2 is seen; several threads may be inside."""
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
    """Whether descriptor 2 is a second way to where Python's stderr leads."""
    try:
        own = sys.stderr.fileno()
        return own != _STDERR and os.path.samestat(os.fstat(own), os.fstat(_STDERR))
    except (OSError, ValueError, AttributeError):  # none, or one that is no file
        return False
