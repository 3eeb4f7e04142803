"""A folder that one run at a time writes to: a lock in it, which goes with the run, however that ends."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from lowlight_cli.errors import OutputError

__all__ = ["claimed"]


@contextlib.contextmanager
def claimed(folder: Path, guard: str, busy: str, *, keep: bool = False) -> Iterator[None]:
    """Make `folder` where there is none, and keep every other run out of it for a while.

    Args:
        folder: what is claimed.
        guard: the name of the file in it that is locked.
        busy: what to say where another run has it.
        keep: leave the folder even where in the end nothing is in it.

    Raises:
        OutputError: another run has it.
        OSError: nobody can write there.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / guard, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(busy) from None
    except (OSError, NotImplementedError) as error:
        if not keep:
            with contextlib.suppress(OSError):  # as where the disk is full, or something is in there
                folder.rmdir()
        raise error if isinstance(error, OSError) else OSError(errno.ENOSYS, str(error)) from error
    before = os.name != "nt"  # there, nothing that is open can be removed; elsewhere nobody must come in between
    try:
        yield
    finally:
        if before and not keep:
            _remove(folder, guard)
        lock.release()
        if not before and not keep:
            _remove(folder, guard)


def _remove(folder: Path, guard: str) -> None:
    """Remove a folder that holds nothing, or the guard alone."""
    with contextlib.suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {guard}:
            (folder / guard).unlink(missing_ok=True)
            folder.rmdir()
