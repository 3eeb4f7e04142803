"""Make the C library keep the memory that PyTorch frees on a CPU, for reuse by its next operation.

By default glibc returns large blocks to the system at once, and each page of the next block is then faulted in and
cleared: at ten megapixels that is half of the time. Kept memory fragments more, which `SHARE` allows for. The setting
applies to the whole process, so the commands use it and the Python API does not.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Final

__all__ = ["SHARE", "allow", "drop", "give_back", "keep", "kept", "trim"]

SHARE: Final = 0.5
"""Fraction of the remaining memory to plan with: at 0.6, 24 megapixels with `frlie` took 99 % of a budget."""

_TRIM_THRESHOLD: Final = -1
_MMAP_MAX: Final = -4
"""Parameter numbers of glibc's `mallopt`."""

_state = {"allowed": False, "kept": False}


def allow() -> None:
    """Declare that this process belongs to lowlight, so that `keep` may change its malloc settings."""
    _state["allowed"] = True


def keep() -> None:
    """Keep freed memory from now on, if `allow` was called and the C library is glibc."""
    if _state["allowed"] and (libc := _libc()) is not None:
        _state["kept"] = bool(libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def drop() -> None:
    """Stop keeping memory: restore glibc's defaults and return what is kept to the system."""
    if kept() and (libc := _libc()) is not None:
        libc.mallopt(_MMAP_MAX, 65_536)
        libc.mallopt(_TRIM_THRESHOLD, 128 * 1024)
        give_back()
        _state["kept"] = False


def kept() -> bool:
    """Whether freed memory is being kept."""
    return _state["kept"]


def trim() -> None:
    """Return kept memory that is not in use to the system; nothing if memory is not kept."""
    if kept():
        give_back()


def give_back() -> None:
    """Return unused memory to the system; glibc holds some even if it was not told to keep it."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)


@functools.cache
def _libc() -> Any:
    if sys.platform != "linux":
        return None
    import ctypes

    try:
        libc = ctypes.CDLL("libc.so.6")
        return libc if hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version") else None
    except OSError:
        return None
