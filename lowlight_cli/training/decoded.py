"""Pictures decoded once, into one memory-mapped file in the cache, by the reader of all commands."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.errors import InputError
from lowlight_cli.pictures import read
from lowlight_cli.training.sources import named
from lowlight_cli.weights.disk import replaced

__all__ = ["decode", "eight_bits"]

Bytes = NDArray[np.uint8]

DECODER: Final = 2
"""Part of the cache's key: another number wherever the same file would give other pixels."""


def decode(paths: Sequence[Path], cache: Path) -> dict[Path, Bytes]:
    """Pictures as views of one memory-mapped file, which is made on first use, and again where it is damaged.

    Args:
        paths: of the pictures, in any order.
        cache: a folder; made where there is none.

    Returns:
        (H, W, 3) uint8 sRGB each, upright.

    Raises:
        InputError: pictures are missing or cannot be read; the first few are named.
        DeviceError: this Pillow reads no AVIF.
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
    """Pixels in [0, 1] in levels of 8 bits, halves up; what lies outside, at its end."""
    return np.asarray(np.clip(pixels, 0, 1) * np.float32(255) + np.float32(0.5), np.uint8)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _forget(paths: Sequence[Path]) -> None:
    """Delete what the same folders were before they changed; where somebody still reads it, it may have to stay."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def _known(flat: Path, index: Path, count: int) -> list[tuple[int, int]] | None:
    """The shapes of what is there; None unless all of it is: a full disk or a cleaner may have taken a part."""
    try:
        shapes = [(int(height), int(width)) for height, width in json.loads(index.read_text())]
        whole = len(shapes) == count and sum(height * width * 3 for height, width in shapes) == flat.stat().st_size
    except (OSError, ValueError, TypeError):
        return None
    return shapes if whole else None


def _written(flat: Path, index: Path, paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Decode all; nothing is kept where one cannot be read."""
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
