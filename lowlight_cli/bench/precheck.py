"""Checks of sets and finished results before the measurement starts: damage, sizes, transparency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lowlight_cli.bench import methods, sets
from lowlight_cli.bench.methods import Method
from lowlight_cli.bench.sets import DataSet, Pair
from lowlight_cli.errors import InputError
from lowlight_cli.overlap import overlapped
from lowlight_cli.pictures import read
from lowlight_cli.training.sources import named

__all__ = ["looked_at"]

THREADS: Final = 4
"""Threads that decode; each holds one picture, and all together no more than measuring a pair takes."""


@dataclass(frozen=True)
class _Seen:
    """What decoding a picture shows: its shape (H, W, 3) and whether parts are fully transparent, or its fault."""

    shape: tuple[int, ...] = ()
    clear: bool = False
    fault: str = ""


def looked_at(
    given: Sequence[tuple[DataSet, Sequence[Method]]], on_done: Callable[[float], None] | None = None
) -> list[DataSet]:
    """Decode every picture once, finished results included, so that no measurement is lost to a damaged one.

    Args:
        given: each set with the methods to measure on it; only methods with `files` are checked.
        on_done: called with 1 after each picture.

    Returns:
        The sets, with notes on transparent pictures added.

    Raises:
        InputError: pictures are damaged, too small, or differ in size from their pair; the first few are named.
    """
    paths = [path for dataset, each in given for pair in dataset.pairs for path in _files(pair, each).values()]
    seen = dict[Path, _Seen]()
    for path, found in zip(paths, overlapped(_look, paths, THREADS), strict=True):
        seen[path] = found
        if on_done:
            on_done(1)
    faults = [fault for dataset, each in given for pair in dataset.pairs for fault in _faults(pair, each, seen)]
    if faults:
        count, more = len(faults), len(faults) - 5
        told = "; ".join(faults[:5]) + (f"; and {more} more" if more > 0 else "")
        raise InputError(told if count == 1 else f"{count} pictures cannot be measured: {told}")
    return [replace(dataset, notes=(*dataset.notes, *_clear(dataset, each, seen))) for dataset, each in given]


def _files(pair: Pair, given: Sequence[Method]) -> dict[str, Path]:
    """Return the pictures of a pair by whose they are, finished results included."""
    files = {"dark pictures": pair.low} | ({"references": pair.high} if pair.high else {})
    return files | {f"results of {method.name}": method.files[pair.stem] for method in given if method.files}


def _look(path: Path) -> _Seen:
    try:
        photo = read(path)
    except InputError as error:
        return _Seen(fault=str(error))
    return _Seen(photo.pixels.shape, photo.alpha is not None and not photo.alpha.all())


def _faults(pair: Pair, given: Sequence[Method], seen: Mapping[Path, _Seen]) -> list[str]:
    """Return the reasons why a pair, or a finished result for it, cannot be measured."""
    low, high = seen[pair.low].shape, seen[pair.high].shape if pair.high else ()
    results = [method.files[pair.stem] for method in given if method.files]
    faults = [seen[path].fault for path in _files(pair, given).values()]
    if low:
        faults.append(sets.unfit(pair, low, high or None))
        faults += [methods.unfit(path, shape, low) for path in results if (shape := seen[path].shape)]
    return [fault for fault in faults if fault]


def _clear(dataset: DataSet, given: Sequence[Method], seen: Mapping[Path, _Seen]) -> list[str]:
    """Return a line each on dark pictures, references and results that have fully transparent parts."""
    stems: dict[str, list[str]] = {}
    for pair in dataset.pairs:
        for whose, path in _files(pair, given).items():
            if seen[path].clear:
                stems.setdefault(whose, []).append(pair.stem)
    return [
        f"{len(clear)} of {len(dataset.pairs)} {whose} {'has' if len(clear) == 1 else 'have'} transparent parts, "
        f"measured as filled from around them: {named(clear)}"
        for whose, clear in stems.items()
    ]
