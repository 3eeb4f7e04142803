"""Reader for boxes that people marked in pictures: the label files of ExDark (bbGt) and of DARK FACE."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lowlight_cli.bench.detectors import Box
from lowlight_cli.bench.sets import DataSet
from lowlight_cli.errors import InputError

__all__ = ["labels", "read_labels"]

CLASSES: Final = {"people": "people"}
"""Classes of ExDark by task, in lower case; ExDark has no class for faces."""
PICTURES: Final = ("image", "images")
"""Names of picture folders that have their labels beside them."""


def labels(dataset: DataSet, task: str) -> dict[str, list[Box]]:
    """Return boxes by stem for each picture with a label file for this task: `NAME.jpg.txt` or `NAME.txt`.

    Label files are searched below the pictures' folders or, for folders named image or images, below their parents.

    Raises:
        InputError: a label file is damaged.
    """
    roots = {_root(pair.low.parent) for pair in dataset.pairs}
    files = {path.stem: path for root in sorted(roots) for path in sorted(root.rglob("*.txt"))}
    found = {}
    for pair in dataset.pairs:
        path = files.get(pair.low.name) or files.get(pair.low.stem)
        boxes = read_labels(path, task) if path else None
        if boxes is not None:
            found[pair.stem] = boxes
    return found


def read_labels(path: Path, task: str) -> list[Box] | None:
    """Return the boxes of a label file; None if it has no labels for `task`.

    Raises:
        InputError: it is damaged.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
        if lines and lines[0].startswith("% bbGt"):
            return _bbgt(lines[1:], CLASSES[task]) if task in CLASSES else None
        if task == "faces" and lines and lines[0].strip().isdecimal():
            return [_corners(line) for line in lines[1:] if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a file of labels: {error}") from error
    return None


def _root(folder: Path) -> Path:
    """Return the parent of image/ or images/, for pictures in it or in a class folder inside; else their own folder."""
    for each in (folder, folder.parent):
        if each.name.lower() in PICTURES:
            return each.parent
    return folder


def _bbgt(lines: Iterable[str], wanted: str) -> list[Box]:
    """Parse lines like `People 521 211 24 58 0 0 0 0 0 0 0`: class, left, top, width, height."""
    rows = [line.split() for line in lines if line.strip()]
    return [_box(row[1:5]) for row in rows if row[0].lower() == wanted]


def _corners(line: str) -> Box:
    """Parse a line like `10 20 30 40`: left, top, right, bottom."""
    left, top, right, bottom = _box(line.split()[:4])
    return left, top, right - left, bottom - top


def _box(words: list[str]) -> Box:
    a, b, c, d = map(float, words)
    return a, b, c, d
