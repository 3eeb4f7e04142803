"""Checks of sets and finished results before the measurement starts: sizes, damage, transparency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lowlight_cli.bench.methods import Method
from lowlight_cli.bench.sets import DataSet, Pair, read_pair
from lowlight_cli.errors import InputError
from lowlight_cli.metrics.ssim import SMALLEST
from lowlight_cli.pictures import Header, header, read
from lowlight_cli.training.sources import named

__all__ = ["looked_at"]


def looked_at(given: Sequence[tuple[DataSet, Sequence[Method]]]) -> list[DataSet]:
    """Check the headers of all pictures, including finished results, and decode only pictures in doubt.

    Args:
        given: each set with the methods to measure on it; only methods with `files` are checked.

    Returns:
        The sets, with notes on transparent pictures added.

    Raises:
        InputError: pictures are damaged, too small, or differ in size from their pair; the first few are named.
    """
    faults = [fault for dataset, methods in given for pair in dataset.pairs for fault in _faults(pair, methods)]
    if faults:
        count, more = len(faults), len(faults) - 5
        told = "; ".join(faults[:5]) + (f"; and {more} more" if more > 0 else "")
        raise InputError(told if count == 1 else f"{count} pictures cannot be measured: {told}")
    return [replace(dataset, notes=(*dataset.notes, *_clear(dataset, methods))) for dataset, methods in given]


def _faults(pair: Pair, methods: Sequence[Method]) -> list[str]:
    """Return the reasons why a pair, or a finished result for it, cannot be measured."""
    made = [method for method in methods if method.files]
    try:
        heads = [header(path) for path in (pair.low, pair.high, *(each.files[pair.stem] for each in made)) if path]
        sizes = {(head.width, head.height) for head in heads if head}
        if len(sizes) <= 1 and all(min(size) >= SMALLEST for size in sizes):
            return []
    except InputError:
        pass  # decode it, as if sizes differ: EXIF rotation may swap them
    found = []
    try:
        low, _ = read_pair(pair)
    except InputError as error:
        return [str(error)]
    for method in made:
        try:
            method.make(pair, low)
        except InputError as error:
            found.append(str(error))
    return found


def _clear(dataset: DataSet, methods: Sequence[Method]) -> list[str]:
    """Return a line each on dark pictures, references and results that have fully transparent parts."""
    files: dict[str, dict[str, Path]] = {"dark pictures": {pair.stem: pair.low for pair in dataset.pairs}}
    files["references"] = {pair.stem: pair.high for pair in dataset.pairs if pair.high}
    files |= {f"results of {method.name}": dict(method.files) for method in methods if method.files}
    lines = []
    for whose, pictures in files.items():
        if clear := [stem for stem, path in pictures.items() if _is_clear(path)]:
            have = "has" if len(clear) == 1 else "have"
            told = f"{len(clear)} of {len(dataset.pairs)} {whose} {have} transparent parts"
            lines.append(f"{told}, measured as filled from around them: {named(clear)}")
    return lines


def _is_clear(path: Path) -> bool:
    """Return whether parts of a picture are fully transparent, which the reader then fills in."""
    try:
        head = header(path)
    except InputError:  # a format that `read` knows but Pillow does not
        head = Header(0, 0, True)
    alpha = read(path).alpha if head and head.alpha else None
    return alpha is not None and not alpha.all()
