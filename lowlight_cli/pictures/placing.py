"""Placing: bytes to a file that is whole or not there, and nothing beside it for long."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lowlight_cli.errors import OutputError, ResourceError, disk_full

__all__ = ["place"]

_PART: Final = re.compile(r"\.lowlight-[0-9a-f]{12}\.tmp")
_DEAD: Final = 24 * 3600
"""Seconds without a change after which a temporary file is left over: no picture takes that long, over no network."""

_swept: set[str] = set()
"""Folders that were searched for such files: one of 10,000 photographs is not listed for each of them."""


def place(
    target: Path,
    data: bytes,
    *,
    anew: bool = False,
    beside: Path | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Put bytes where a file is wanted: beside it first, on the disk for sure, then under its name at one stroke.

    Args:
        target: the file.
        data: its content.
        anew: leave a file that exists; else it is replaced.
        beside: the name before the final one, in the same folder; what has it is replaced. None takes a new one.
        ready: called when the content is safe under the first name. What it raises leaves nothing behind.

    Raises:
        FileExistsError: there is a file already, and `anew`.
        OutputError: the file cannot be written there.
        ResourceError: the disk is full.
    """
    # a short name of its own: one made from the target's could be too long for the file system
    part = beside or target.parent / f".lowlight-{secrets.token_hex(6)}.tmp"
    if not anew and os.path.exists(target) and not os.path.isfile(target):  # noqa: PTH110, PTH113  # Path's may raise
        # renaming would put a file where a device or a pipe was
        reason = "a folder has that name" if target.is_dir() else "it is not a file"
        raise OutputError(f"{target}: cannot be written, {reason}; choose another name")
    try:
        try:
            if beside:
                beside.unlink(missing_ok=True)  # not written into: it may be a second name of a result
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if ready:
                ready()
            _give_name(part, target, anew=anew)
        except BaseException:  # Ctrl-C too: nothing half-written stays
            part.unlink(missing_ok=True)
            raise
        if not beside:
            _sweep(target.parent)
    except (OSError, ValueError) as error:
        if anew and isinstance(error, FileExistsError):
            raise
        if disk_full(error):
            raise ResourceError(f"{target}: the disk is full; make room or choose another folder") from error
        number = error.errno if isinstance(error, OSError) else None
        if number == errno.ENOENT and not os.path.isdir(target.parent):  # noqa: PTH112  # Path's may raise
            reason, way = f"there is no folder {target.parent}", "make it first"
        elif number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):  # the last one is what /proc says
            reason, way = "the folder cannot be written to", "check its permissions or choose another"
        elif number == errno.EFBIG:
            reason = f"the file is larger than this system lets one be ({len(data):,} bytes)"
            way = "raise `ulimit -f` or choose another disk"
        elif number in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
            reason, way = "a folder has that name", "choose another name"
        else:
            reason, way = getattr(error, "strerror", None) or str(error), "choose another name or folder"
        raise OutputError(f"{target}: cannot be written, {reason}; {way}") from error


def _sweep(folder: Path) -> None:
    """Remove what killed runs have left in a folder, told by its age; once a process.

    The number of a process would say nothing about one on another machine or in a container.
    """
    where = os.path.abspath(folder)  # noqa: PTH100  # the folder that one is in may change
    if where in _swept:
        return
    _swept.add(where)
    with contextlib.suppress(OSError), os.scandir(where) as entries:
        for entry in entries:
            if _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < time.time() - _DEAD:
                        os.unlink(entry.path)  # noqa: PTH108


def _give_name(part: Path, target: Path, *, anew: bool = False) -> None:
    """Give a complete file its last name at one stroke.

    Args:
        part: the file.
        target: its last name.
        anew: leave a file that has that name; else it is replaced.

    Raises:
        FileExistsError: a file has that name, and `anew`.
        OSError: it cannot be renamed.
    """
    if anew:
        try:
            os.link(part, target)  # unlike renaming, it never replaces
        except OSError as error:  # the name is taken, or the file system has no links
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        else:
            part.unlink()
            return
    part.replace(target)
