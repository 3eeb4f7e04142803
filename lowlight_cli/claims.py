"""Claim a folder for one run at a time, by a lock file that is released however the run ends."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from lowlight_cli.disk import refuse_link
from lowlight_cli.errors import OutputError

__all__ = ["claimed"]


@contextlib.contextmanager
def claimed(folder: Path, guard: str, busy: str, *, keep: bool = False) -> Iterator[None]:
    """Create `folder` if necessary, and keep other runs out of it inside the block.

    Args:
        folder: the folder to claim.
        guard: name of the lock file in it.
        busy: error message if another run holds the lock.
        keep: leave the folder even if it ends up empty.

    Raises:
        OutputError: another run holds the lock, or it is a link.
        OSError: the folder cannot be written to or locked.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    refuse_link(folder / guard)  # some versions of filelock would empty what it leads to
    lock = FileLock(folder / guard, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(busy) from None
    except (OSError, NotImplementedError) as error:
        if not keep:
            with contextlib.suppress(OSError):  # fails if the disk is full or the folder is not empty
                folder.rmdir()
        if isinstance(error, OSError):
            raise
        raise OSError(errno.ENOSYS, str(error)) from error
    before = os.name != "nt"  # Windows cannot remove an open file; elsewhere, remove it before another run can lock it
    try:
        yield
    finally:
        if before and not keep:
            _remove(folder, guard)
        lock.release()
        if not before and not keep:
            _remove(folder, guard)


def _remove(folder: Path, guard: str) -> None:
    """Remove a folder that is empty or holds only the lock file."""
    with contextlib.suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {guard}:
            (folder / guard).unlink(missing_ok=True)
            folder.rmdir()
