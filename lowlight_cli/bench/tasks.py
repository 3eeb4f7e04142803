"""Detection as a benchmark: what a detector finds before and after enhancement, and how much of it labels confirm."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lowlight_cli.bench.detectors import Box, Detector, detector
from lowlight_cli.bench.labels import labels
from lowlight_cli.bench.methods import INPUT, Method
from lowlight_cli.bench.report import Table, environment
from lowlight_cli.bench.sets import DataSet, in_levels, read_pair

__all__ = ["Count", "Detected", "as_json", "matched", "measure", "notes", "table"]

OVERLAP: Final = 0.5
"""Least intersection over union at which a detected box matches a marked one."""
SCHEMA: Final = "lowlight-bench-task-1"


@dataclass(frozen=True)
class Count:
    """Numbers of boxes in one picture: found, of these right, and marked; the last two are None without labels."""

    stem: str
    found: int
    right: int | None
    marked: int | None


@dataclass(frozen=True)
class Detected:
    """The results of a detector on a set: for each method one `Count` a picture, the untouched input first."""

    task: str
    dataset: DataSet
    detector: Detector
    rows: tuple[tuple[Method, tuple[Count, ...]], ...]


def measure(
    task: str, dataset: DataSet, methods: Sequence[Method], on_done: Callable[[float], None] | None = None
) -> Detected:
    """Detect `faces` or `people` in the result of each method on each picture.

    Raises:
        DeviceError: the detector's package is not installed.
        InputError: a picture or a label file cannot be read.
    """
    finder, marked = detector(task), labels(dataset, task)
    ordered = sorted(methods, key=lambda method: method.name != INPUT)
    counts: list[list[Count]] = [[] for _ in ordered]
    for pair in dataset.pairs:
        low, _ = read_pair(pair)
        boxes = marked.get(pair.stem)
        for method, kept in zip(ordered, counts, strict=True):
            found = finder.find(in_levels(method.make(pair, low)))
            right = None if boxes is None else matched(found, boxes)
            kept.append(Count(pair.stem, len(found), right, None if boxes is None else len(boxes)))
            if on_done:
                on_done(1)
    return Detected(task, dataset, finder, tuple((m, tuple(c)) for m, c in zip(ordered, counts, strict=True)))


def matched(found: Sequence[Box], marked: Sequence[Box]) -> int:
    """Return how many boxes of `found`, most confident first, match a box of `marked`; each matches at most one.

    Example:
        >>> matched([(0, 0, 10, 10), (1, 0, 10, 10), (50, 50, 9, 9)], [(0, 0, 10, 11)])
        1
    """
    left = list(marked)
    for box in found:
        if left and _overlap(box, best := max(left, key=lambda each: _overlap(box, each))) >= OVERLAP:
            left.remove(best)
    return len(marked) - len(left)


def table(result: Detected) -> Table:
    """Return a table with a row for each method."""
    named = any(count.marked is not None for _, counts in result.rows for count in counts)
    rows = []
    for method, counts in result.rows:
        sums = _sums(counts)
        cells = [method.name, method.kind, str(sums["found"]), f"{sums['found'] / max(1, len(counts)):.2f}"]
        if named:
            cells += [str(sums["right"]), *(_share(sums[key]) for key in ("precision", "recall"))]
        rows.append(tuple(cells))
    more = ("right", "precision", "recall") if named else ()
    return Table(("method", "kind", result.task, "a picture", *more), tuple(rows))


def notes(result: Detected) -> list[str]:
    """Return the notes that belong to the table."""
    marked = [count for count in result.rows[0][1] if count.marked is not None]
    dataset, count = result.dataset, len(result.dataset.pairs)
    lines = [f"{dataset.title}: {count} picture{'s' * (count > 1)}{', not all of them' * dataset.limited}"]
    lines += dataset.notes
    lines.append(f"{result.task}: what {result.detector.meaning} finds; it was trained on well-lit pictures")
    if marked:
        boxes = sum(each.marked or 0 for each in marked)
        lines.append(
            f"right: on one of {boxes} marked boxes of {len(marked)} pictures by {OVERLAP:g} of their union; precision "
            "is the share of what was found there, recall that of what was marked"
        )
    else:
        lines.append("there are no labels: more is not better where what is found is not there")
    return lines


def as_json(results: Sequence[Detected]) -> str:
    """Return everything as JSON, picture by picture."""
    document = {"schema": SCHEMA, "environment": environment(), "sets": [_set(result) for result in results]}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _set(result: Detected) -> dict[str, Any]:
    return {
        "name": result.dataset.name,
        "title": result.dataset.title,
        "pictures": len(result.dataset.pairs),
        "limited": result.dataset.limited,
        "task": result.task,
        "detector": result.detector.meaning,
        "overlap": OVERLAP,
        "rows": [
            {
                "method": method.name,
                "kind": method.kind,
                "weights_sha256": method.loaded.sha256 if method.loaded else None,
                **_sums(counts),
                "pictures": [vars(count) for count in counts],
            }
            for method, counts in result.rows
        ],
    }


def _sums(counts: Sequence[Count]) -> dict[str, Any]:
    """Sum over all pictures; right, marked, precision and recall only over those that have labels."""
    labelled = [count for count in counts if count.marked is not None]
    found, right, marked = (sum(getattr(each, key) for each in labelled) for key in ("found", "right", "marked"))
    return {
        "found": sum(count.found for count in counts),
        "right": right if labelled else None,
        "marked": marked if labelled else None,
        "precision": right / found if found else None,
        "recall": right / marked if marked else None,
    }


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / max(a[2] * a[3] + b[2] * b[3] - shared, 1e-9)
