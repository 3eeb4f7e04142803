"""Files on disk: hashes, atomic replacement, those in packages, whether a folder takes files.

Also deleting, or appending to, our own files in a user's folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lowlight_cli.errors import OutputError, unwritten

__all__ = [
    "appended", "delete", "git_blob_id", "keep_mode", "packaged", "refuse_link", "replaced", "settle", "sha256",
    "takes_files",
]  # fmt: skip


def sha256(path: str | Path) -> str:
    """The SHA-256 of the whole file, 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_id(path: str | Path) -> str:
    """The git blob id of the content, 40 hex digits: SHA-1 over `blob SIZE`, a zero byte, the content."""
    path = Path(path)
    begun = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, begun.copy).hexdigest()


def packaged(package: str, name: str) -> Path | None:
    """A file of an installed package, found without importing it; None if either is missing.

    Args:
        package: the name that it is imported by.
        name: the file's path inside the package.
    """
    spec = importlib.util.find_spec(package)
    places = (spec.submodule_search_locations if spec else None) or ()
    return next((file for place in places if (file := Path(place) / name).is_file()), None)


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """Yield a temporary file beside `target`: renamed to it if the block succeeds, deleted if the block fails.

    Raises:
        OutputError: the folder cannot be written to, or `target` exists and is not a file.
        ResourceError: the disk is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        part.touch(exist_ok=False)
        try:
            yield part
            settle(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise unwritten(target, error) from error


def refuse_link(path: Path) -> None:
    """Raise OutputError if a file or folder of our own is a link: in a folder from others it may lead to any file."""
    if path.is_symlink():
        raise OutputError(f"{path}: is a link, which lowlight never makes; delete it, or choose another place with -o")


def appended(path: Path) -> BinaryIO:
    """Open a file of our own for reading and appending, created if there is none; never through a link.

    Raises:
        OutputError: it is a link.
        OSError: it cannot be opened.
    """

    def unfollowed(name: str, flags: int) -> int:  # a link may have been made since
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

    refuse_link(path)
    return open(path, "ab+", opener=unfollowed)


def delete(folder: Path, names: str) -> int:
    """Delete our own files in a folder, half-written ones too, and the folder itself if nothing else is in it.

    Args:
        folder: the folder; it need not exist.
        names: a regular expression for the names of the files.

    Returns:
        The number of bytes deleted.

    Raises:
        OutputError: the folder cannot be listed, or a file cannot be deleted.
    """
    ours = re.compile(rf"({names})|\.({names})\.[0-9a-f]{{8}}\.part")  # the names that `replaced` uses
    size, path = 0, folder
    try:
        for path in [path for path in folder.iterdir() if ours.fullmatch(path.name)]:
            size += sum(part.lstat().st_size for part in (path, *path.rglob("*")) if part.is_file())
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except (FileNotFoundError, NotADirectoryError):  # the folder does not exist, or no longer
        return size
    except OSError as error:
        raise OutputError(f"cannot delete {path}: {error.strerror or error}") from error
    with contextlib.suppress(OSError):
        folder.rmdir()
    return size


def takes_files(folder: Path) -> bool:
    """Whether files can be created in a folder, which need not exist yet."""
    while not os.path.exists(folder) and folder != folder.parent:  # noqa: PTH110  # Path.exists raises if forbidden
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def settle(part: Path, target: Path) -> Path:
    """Flush the finished file `part` to disk, rename it to `target`, and return `target`; permissions stay as they are.

    Raises:
        OutputError: `target` is not a file but a device, a pipe or a folder.
        OSError: it cannot be renamed.
    """
    if target.exists() and not target.is_file():
        raise OutputError(f"{target}: cannot be written, it is not a file; choose another name")
    with part.open("rb+") as file:  # Windows syncs only files that are open for writing
        os.fsync(file.fileno())
    keep_mode(part, target)
    return part.replace(target)


def keep_mode(part: Path, target: Path) -> None:
    """Give `part` the owner and the permissions of the file that it is to replace, if there is one: it may be private.

    If the owner, or a group that it is open to, cannot be given on, the permissions are not either: they could lock out
    those who had them.
    """
    if os.name == "posix":  # elsewhere there is only one, and what is read-only can be neither renamed nor deleted
        with contextlib.suppress(OSError):  # there is none, it is not ours, or the file system has no permissions
            old, new = target.stat(), part.stat()
            if old.st_uid != new.st_uid or (old.st_gid != new.st_gid and old.st_mode & stat.S_IRWXG):
                os.chown(part, old.st_uid, old.st_gid)
            part.chmod(old.st_mode & 0o777)
