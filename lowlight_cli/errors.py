"""Every error that lowlight raises on purpose, and what system errors mean: a full disk, a closed pipe.

    LowlightError          1   any other failure that lowlight itself explains
    ├── UsageError         2   options that do not fit together, an unknown model, two inputs to one output
    ├── InputError         3   an input that is missing, unreadable, damaged or not a picture
    ├── OutputError        4   an output that cannot or must not be written
    ├── WeightsError       5   weights that are missing, wrong or unreachable
    ├── DeviceError        6   a device, engine or optional package that is not available
    └── ResourceError      7   memory or disk is used up

The number is the command's exit code. A message is one line: what failed, for which file, why, and what to do.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final

__all__ = [
    "DeviceError",
    "InputError",
    "LowlightError",
    "OutputError",
    "ResourceError",
    "UsageError",
    "WeightsError",
    "disk_full",
    "exhausted",
    "first_line",
    "memory_told",
    "reader_gone",
    "unwritten",
]


class LowlightError(Exception):
    """The base class of all errors; `exit_code` is the command's exit status."""

    exit_code = 1


class UsageError(LowlightError):
    """Options that do not fit together, or names that are unknown."""

    exit_code = 2


class InputError(LowlightError):
    """An input that is missing, unreadable, damaged or not a picture."""

    exit_code = 3


class OutputError(LowlightError):
    """An output that cannot or must not be written."""

    exit_code = 4


class WeightsError(LowlightError):
    """Weights that are missing, wrong or unreachable."""

    exit_code = 5


class DeviceError(LowlightError):
    """A device, engine or optional package that is not available."""

    exit_code = 6


class ResourceError(LowlightError):
    """Memory or disk is used up."""

    exit_code = 7


_NO_ROOM: Final = ("failed to map segment", "Cannot allocate memory", "can't start new thread")
"""How the dynamic loader, the system as quoted by torch, and Python's threads say that memory has run out."""


def exhausted(error: Exception) -> ResourceError | None:
    """The error to raise if `error` means that main memory has run out; None if it means something else."""
    if isinstance(error, MemoryError) or "(-4:Insufficient memory)" in str(error):  # OpenCV's error is no MemoryError
        return ResourceError("out of memory: use a smaller model or picture")
    if isinstance(error, (ImportError, OSError, RuntimeError)) and any(sign in str(error) for sign in _NO_ROOM):
        return ResourceError(
            "out of memory, or more than `ulimit -v` lets a program have: free some, or raise the limit"
        )
    return None


@contextlib.contextmanager
def memory_told() -> Iterator[None]:
    """Raise ResourceError where main memory runs out; also a decorator."""
    try:
        yield
    except Exception as error:
        if told := exhausted(error):
            raise told from error
        raise


def disk_full(error: BaseException | None) -> bool:
    """Whether `error`, or any error in its chain of causes, means a full disk or an exhausted quota."""
    full = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    seen: list[BaseException] = []
    while error is not None and error not in seen:  # `raise error from error` makes a cycle
        if isinstance(error, OSError) and error.errno in full:
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False


def unwritten(
    what: object,
    error: BaseException,
    then: str = "choose another place",
    *,
    full: str = "make room or choose another place",
) -> OutputError | ResourceError:
    """The error to raise if `what` cannot be written.

    Args:
        what: the file, or another name that the user knows.
        error: why it cannot be written.
        then: what to do about it.
        full: what to do if the disk is full.
    """
    if disk_full(error):
        return ResourceError(f"{what}: the disk is full; {full}")
    return OutputError(f"{what}: cannot be written ({getattr(error, 'strerror', None) or error}); {then}")


def first_line(error: BaseException) -> str:
    """The first line of another library's error message; its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def reader_gone(error: OSError) -> bool:
    """Whether `error`, from writing to a pipe, means that the reader has closed it: on Windows, EINVAL does too."""
    return isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL)
