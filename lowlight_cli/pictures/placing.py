"""Write a file atomically: it is complete or absent, and temporary files do not pile up beside it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lowlight_cli.disk import keep_mode
from lowlight_cli.errors import OutputError, disk_full, unwritten

__all__ = ["part", "place"]

_PART: Final = re.compile(r"\.lowlight-[0-9a-f]{12}\.tmp")
_DEAD: Final = 24 * 3600
"""Age in seconds from which a temporary file counts as abandoned: no picture takes that long, on any network disk."""

_swept: set[str] = set()
"""Folders already searched for such files, so that a folder of 10,000 photographs is not listed for each of them."""


def place(
    target: Path,
    data: bytes,
    *,
    anew: bool = False,
    beside: Path | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Write a temporary file beside the target, flush it to disk, then rename it atomically; permissions stay.

    Args:
        target: the file.
        data: its content.
        anew: raise FileExistsError if the target exists, instead of replacing it.
        beside: the temporary name, in the same folder; a file there is replaced. None picks an unused name.
        ready: called once the content is on disk under the temporary name. If it raises, nothing is left behind.

    Raises:
        FileExistsError: the target exists and `anew` is set.
        OutputError: the file cannot be written there.
        ResourceError: the disk is full.
    """
    # a short random name: one derived from the target's could be too long for the file system
    first = beside or target.parent / f".lowlight-{secrets.token_hex(6)}.tmp"
    if not anew and os.path.exists(target) and not os.path.isfile(target):  # noqa: PTH110, PTH113  # Path's may raise
        # renaming would replace a device or a pipe with a file
        reason = "a folder has that name" if target.is_dir() else "it is not a file"
        raise OutputError(f"{target}: cannot be written, {reason}; choose another name")
    try:
        try:
            if beside:
                beside.unlink(missing_ok=True)  # not overwritten: it may be a hard link to a result
            with first.open("xb") as file:
                keep_mode(first, target)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if ready:
                ready()
            _give_name(first, target, anew=anew)
        except BaseException:  # Ctrl-C too: leave nothing half-written
            first.unlink(missing_ok=True)
            raise
        if not beside:
            _sweep(target.parent)
    except (OSError, ValueError) as error:
        if anew and isinstance(error, FileExistsError):
            raise
        if disk_full(error):
            raise unwritten(target, error) from error
        number = error.errno if isinstance(error, OSError) else None
        told = getattr(error, "strerror", None) or str(error)
        if number == errno.ENOENT and not os.path.isdir(target.parent):  # noqa: PTH112  # Path's may raise
            reason, way = f"there is no folder {target.parent}", "make it first"
        elif getattr(error, "filename2", None) and number in (errno.EACCES, errno.EPERM):  # from renaming
            reason, way = told, "close it in other programs, or choose another name"  # Windows replaces no open file
        elif number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):  # ENOENT is what /proc answers
            reason, way = "the folder cannot be written to", "check its permissions or choose another"
        elif number == errno.EFBIG:
            reason = f"the file is larger than this system lets one be ({len(data):,} bytes)"
            way = "raise `ulimit -f` or choose another disk"
        elif number in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
            reason, way = "a folder has that name", "choose another name"
        else:
            reason, way = told, "choose another name or folder"
        raise OutputError(f"{target}: cannot be written, {reason}; {way}") from error


def part(target: Path) -> Path:
    """A temporary name for `place` that is always the same, so that a resumed run finds or replaces the file."""
    short = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]
    return target.with_name(f".lowlight-{short}.part")


def _sweep(folder: Path) -> None:
    """Remove old temporary files, left in a folder by killed runs; once per process and folder.

    Age decides, because a process id says nothing about a process on another machine or in a container.
    """
    where = os.path.abspath(folder)  # noqa: PTH100  # the current directory may change
    if where in _swept:
        return
    _swept.add(where)
    with contextlib.suppress(OSError), os.scandir(where) as entries:
        for entry in entries:
            if _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < time.time() - _DEAD:
                        os.unlink(entry.path)  # noqa: PTH108


def _give_name(first: Path, target: Path, *, anew: bool = False) -> None:
    """Give a complete file its final name atomically.

    Args:
        first: the file.
        target: its final name.
        anew: raise FileExistsError if the target exists, instead of replacing it.

    Raises:
        FileExistsError: the target exists and `anew` is set.
        OSError: the file cannot be renamed.
    """
    if anew:
        try:
            os.link(first, target)  # unlike renaming, it never replaces
        except OSError as error:  # the name is taken, or the file system has no links
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        else:
            first.unlink()
            return
    first.replace(target)
