"""Weight files as bytes on disk: hashes, the safetensors header, atomic replacement of a file. Does not use torch."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lowlight_cli.errors import OutputError, ResourceError, WeightsError, disk_full

__all__ = [
    "Header", "called", "delete", "first_line", "git_blob_id", "inspect", "replaced", "settle", "sha256", "sniff",
    "takes_files",
]  # fmt: skip


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file, read without any tensor.

    Attributes:
        path: the file.
        bytes: its size.
        metadata: its metadata strings; empty if it has none.
        shapes: tensor name to shape.
        dtypes: tensor name to element type as safetensors spells it (F16, F32, I64, ...).
    """

    path: Path
    bytes: int
    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]


def inspect(path: str | Path) -> Header:
    """The header of any safetensors file, without reading a tensor and without torch.

    Raises:
        WeightsError: the file is missing, of another kind, or truncated; the message says what it looks like.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        if not path.is_file():
            raise WeightsError(f"no weights file {path}" + (": it is a folder" if path.is_dir() else ""))
        size = path.stat().st_size
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            dtypes = {name: str(part.get_dtype()) for name, part in slices.items()}
            return Header(path, size, dict(file.metadata() or {}), shapes, dtypes)
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        looks = sniff(path) or f"it is cut off, damaged or of another kind ({first_line(error)})"
        raise WeightsError(f"{path} is not a safetensors file: {looks}") from error


def sha256(path: str | Path) -> str:
    """The SHA-256 of the whole file, 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_id(path: str | Path) -> str:
    """The git blob id of the content, 40 hex digits: SHA-1 over `blob SIZE`, a zero byte, the content."""
    path = Path(path)
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sniff(path: str | Path) -> str:
    """What a file that is not safetensors looks like, in a few words; empty if unknown."""
    with Path(path).open("rb") as file:
        head = file.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "it is empty"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "it is a web page (HTML), not a file of weights; the address of the file itself is wanted"
    if text.startswith(b"version https://git-lfs"):
        return "it is a git-lfs pointer, not the file that it stands for; run `git lfs pull`"
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return "it is a pickle or an archive (.pth, .pt), which only `lowlight weights convert` reads"
    if text.startswith((b"{", b"[")):
        return "it is a text (JSON), not a file of weights"
    return ""


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
        if disk_full(error):
            raise ResourceError(f"the disk is full: {target} was not written") from error
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error


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
    """Flush the finished file `part` to disk, rename it to `target`, and return `target`.

    Raises:
        OutputError: `target` is not a file but a device, a pipe or a folder.
        OSError: it cannot be renamed.
    """
    if target.exists() and not target.is_file():
        raise OutputError(f"cannot write {target}: it is not a file")
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    return part.replace(target)


@contextlib.contextmanager
def called(part: Path, name: str) -> Iterator[None]:
    """Make errors about the temporary file `part` mention `name`, which the user knows."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(str(error).replace(str(part), name)) from error


def first_line(error: BaseException) -> str:
    """The first line of another library's error message; its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
