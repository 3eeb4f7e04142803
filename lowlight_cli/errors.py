"""Every error that lowlight raises on purpose, and what the system's mean: a full disk, a reader that is gone.

    LowlightError          1   anything that went wrong and is ours to explain
    ├── UsageError         2   options that do not fit together, an unknown model, two inputs to one output
    ├── InputError         3   an input that is missing, unreadable, damaged or not a picture
    ├── OutputError        4   an output that cannot or must not be written
    ├── WeightsError       5   weights that are missing, wrong or unreachable
    ├── DeviceError        6   a device, engine or optional package that is not available
    └── ResourceError      7   memory or disk is used up

The number is the exit code of the command. A message is one line: what, which file, why, what to do.
"""

from __future__ import annotations

import errno
import os

__all__ = [
    "DeviceError",
    "InputError",
    "LowlightError",
    "OutputError",
    "ResourceError",
    "UsageError",
    "WeightsError",
    "disk_full",
    "reader_gone",
]


class LowlightError(Exception):
    """The root of the tree; `exit_code` is what the command ends with."""

    exit_code = 1


class UsageError(LowlightError):
    """Options or names that cannot be honoured."""

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


def disk_full(error: BaseException | None) -> bool:
    """Whether `error`, or what caused it, is a full disk or a used-up quota."""
    full = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    while error is not None:
        if isinstance(error, OSError) and error.errno in full:
            return True
        error = error.__cause__ or error.__context__
    return False


def reader_gone(error: OSError) -> bool:
    """Whether `error`, from writing to a pipe, means that nobody reads there any more: on Windows, EINVAL does too."""
    return isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL)
