"""Weight files without torch: the safetensors header, and what a file of another kind looks like."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lowlight_cli.errors import WeightsError, first_line

__all__ = ["Header", "called", "inspect", "sniff"]


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
def called(part: Path, name: str) -> Iterator[None]:
    """Make errors about the temporary file `part` mention `name`, which the user knows."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(str(error).replace(str(part), name)) from error
