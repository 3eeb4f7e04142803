"""Memory that PyTorch gives back on a CPU is kept for its next operation, instead of being asked for anew each time.

The C library hands large blocks back to the system at once, and each page of the next one is then faulted in and
cleared: at ten megapixels that is half of the time. Kept blocks do not fit into each other as well, which `SHARE` pays
for. It is a setting of the whole process, so commands ask for it, and the Python API does not.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Final

__all__ = ["SHARE", "allow", "drop", "give_back", "keep", "kept", "trim"]

SHARE: Final = 0.5
"""Of the memory that is left, how much may be planned with: at 0.6, 24 megapixels by `frlie` took 99 % of a budget."""

_TRIM_THRESHOLD: Final = -1
_MMAP_MAX: Final = -4
"""Numbers of glibc's `mallopt`."""

_state = {"allowed": False, "kept": False}


def allow() -> None:
    """This process is ours: `keep` may change its settings."""
    _state["allowed"] = True


def keep() -> None:
    """Keep memory from now on, where that is allowed and the C library is glibc."""
    if _state["allowed"] and (libc := _libc()) is not None:
        _state["kept"] = bool(libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def drop() -> None:
    """Keep no memory any more, and give back what is kept: as a process begins."""
    if kept() and (libc := _libc()) is not None:
        libc.mallopt(_MMAP_MAX, 65_536)
        libc.mallopt(_TRIM_THRESHOLD, 128 * 1024)
        give_back()
        _state["kept"] = False


def kept() -> bool:
    """Whether memory is kept."""
    return _state["kept"]


def trim() -> None:
    """Give back what is kept and not in use."""
    if kept():
        give_back()


def give_back() -> None:
    """Give back what the C library holds and nobody uses, as it does even where it was not told to keep anything."""
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
