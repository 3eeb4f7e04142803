"""A cache of decoded pictures: one memory-mapped file for each set of pictures, made with the usual reader."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.disk import replaced
from lowlight_cli.errors import InputError
from lowlight_cli.pictures import read
from lowlight_cli.training.sources import named

__all__ = ["decode", "eight_bits"]

Bytes = NDArray[np.uint8]

DECODER: Final = 2
"""Part of the cache key; to be increased whenever the same file would decode to other pixels."""


def decode(paths: Sequence[Path], cache: Path) -> dict[Path, Bytes]:
    """Return pictures as views of one memory-mapped file, which is made on first use and remade if incomplete.

    Args:
        paths: the pictures, in any order.
        cache: the cache folder; created if missing.

    Returns:
        For each path, (H, W, 3) uint8 sRGB, upright.

    Raises:
        InputError: pictures are missing or cannot be read; the first few are named.
        DeviceError: this Pillow cannot read AVIF.
        ResourceError: the disk or the memory is full.
        OutputError: the cache cannot be written.
    """
    unique = sorted(set(paths))
    missing = [str(p) for p in unique if not p.is_file()]
    if missing:
        raise InputError(f"{len(missing)} pictures are missing: {named(missing)}")
    state = [DECODER, *((str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in unique)]
    place, content = _hash(sorted({str(p.resolve().parent) for p in unique}))[:6], _hash(state)[:10]
    flat, index = cache / f"{place}{content}.u8", cache / f"{place}{content}.json"
    if (shapes := _known(flat, index, len(unique))) is None:
        shapes = _written(flat, index, unique)
        _forget([path for path in cache.glob(f"{place}*") if path.stem != flat.stem])
    mapped = np.memmap(flat, np.uint8, "r")
    views, start = {}, 0
    for path, (height, width) in zip(unique, shapes, strict=True):
        end = start + height * width * 3
        views[path] = np.asarray(mapped[start:end]).reshape(height, width, 3)
        start = end
    return views


def eight_bits(pixels: NDArray[np.float32]) -> Bytes:
    """Convert pixels in [0, 1] to uint8, rounding halves up and clipping values outside."""
    return np.asarray(np.clip(pixels, 0, 1) * np.float32(255) + np.float32(0.5), np.uint8)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _forget(paths: Sequence[Path]) -> None:
    """Delete outdated cache files of the same folders; a file that is still in use may have to stay."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def _known(flat: Path, index: Path, count: int) -> list[tuple[int, int]] | None:
    """Return the cached shapes; None unless the cache is complete (a full disk or a cleaner may have cut it)."""
    try:
        shapes = [(int(height), int(width)) for height, width in json.loads(index.read_text())]
        whole = len(shapes) == count and sum(height * width * 3 for height, width in shapes) == flat.stat().st_size
    except (OSError, ValueError, TypeError):
        return None
    return shapes if whole else None


def _written(flat: Path, index: Path, paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Decode all pictures into the cache and return their shapes; if one cannot be read, keep nothing."""
    shapes: list[tuple[int, int]] = []
    damaged: list[str] = []
    why = ""
    with replaced(flat) as part, part.open("wb") as file:
        for path in paths:
            try:
                pixels = read(path).pixels
            except InputError as error:
                damaged.append(str(path))
                why = why or str(error).removeprefix(f"{path}: ")
                continue
            rounded = eight_bits(pixels)
            file.write(rounded.tobytes())
            shapes.append((rounded.shape[0], rounded.shape[1]))
        if damaged:
            of_first = why if len(damaged) == 1 else f"the first: {why}"
            raise InputError(f"{len(damaged)} files cannot be read as pictures: {named(damaged)} ({of_first})")
    with replaced(index) as part:
        part.write_text(json.dumps(shapes))
    return shapes
