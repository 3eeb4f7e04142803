"""Results as tables, Markdown, JSON and TOML; printing to the terminal is done elsewhere."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import lowlight_cli
from lowlight_cli.bench.intervals import Interval, paired
from lowlight_cli.bench.run import Result, Row
from lowlight_cli.bench.sets import SETS
from lowlight_cli.bench.verify import TOLERANCE
from lowlight_cli.engines import hardware
from lowlight_cli.metrics.table import METRICS
from lowlight_cli.weights import catalog

__all__ = [
    "MARK",
    "REMARK",
    "SCHEMA",
    "Table",
    "as_json",
    "as_markdown",
    "as_toml",
    "checked",
    "compared",
    "environment",
    "means",
    "measured",
    "notes",
    "stated",
]

SCHEMA: Final = "lowlight-bench-2"
"""Version of the JSON format; it changes when a field changes its meaning or is removed."""

PROTOCOL: Final = "lowlight bench: full resolution, 8 bits"
"""How the figures in weights.toml were measured."""

MARK: Final = "as published"
"""Label of each figure that a paper publishes: shown in a table of their own, never beside measured rows."""

REMARK: Final = f"What papers state, {MARK}, by their own weights: none of it compares with the rows above."

FEW: Final = 10
"""With fewer pictures than this, bootstrap intervals are too narrow."""

PACKAGES: Final = ("torch", "numpy", "cv2", "PIL")


@dataclass(frozen=True)
class Table:
    """Column headings, and rows with one cell for each column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def measured(result: Result) -> Table:
    """Return the table of measured rows, the best first."""
    titles = (metric.title for metric in result.metrics)
    against = (f"{result.metrics[0].title}, less the best's (95 %)",) if result.ranked else ()
    return Table(
        ("method", "kind", *titles, "s", *against),
        tuple(_cells(result, row, interval) for row, interval in compared(result)),
    )


def stated(result: Result) -> Table | None:
    """Return the papers' figures for the measured networks, or for all if none was measured; None for sets but LOL."""
    if result.dataset.name not in ("lol", "lol-scenes"):
        return None
    networks = {row.method.loaded.network for row in result.rows if row.method.loaded}
    rows = tuple(
        (figure.network, MARK, figure.dataset, figure.split, _number(figure.psnr, 3), _number(figure.ssim, 4))
        for figure in catalog.stated()
        if not networks or figure.network in networks
    )
    return Table(("network", "origin", "data", "split", "PSNR", "SSIM"), rows) if rows else None


def notes(result: Result) -> list[str]:
    """Return the notes that belong to the table: the set and its flaws, what ran, what the columns mean."""
    dataset = result.dataset
    count = len(dataset.pairs)
    what = "pair" if dataset.paired else "picture"
    lines = [f"{dataset.title}: {count} {what}{'s' * (count > 1)}{', not all of them' * dataset.limited}"]
    lines[0] += "".join(f", {line}" for line in checked(result))
    lines += dataset.notes
    lines += result.missing
    lines += [f"{name}: {meaning}" for name, meaning in result.definitions.items()]
    for metric in result.metrics:
        by_picture = zip(*(row.values(metric.key) for row in result.rows), strict=True)
        if lost := sum(any(map(math.isnan, values)) for values in by_picture):
            lines.append(f"{metric.title}: no number for {lost} of {count} {what}s, which its mean leaves out")
    if result.ranked:
        lines.append(
            "* sees the reference. A tie is a difference from the best row that a paired bootstrap does not tell from 0"
        )
    else:
        lines.append(
            "there is no reference: the numbers describe, none of them says which is better, so no row is best"
        )
    if count < FEW and result.ranked:
        lines.append(f"few pictures ({count}): others may differ by more than the intervals say")
    for row in result.rows:
        if loaded := row.method.loaded:
            ran = f"{loaded.engine} on {loaded.device} in {loaded.precision}"
            lines.append(f"{row.method.name}: {ran}, weights sha256 {loaded.sha256[:16]}")
    return lines


def checked(result: Result) -> list[str]:
    """Return what the decoded pictures showed: their sizes, and whether their pixels are the published ones."""
    sizes = sorted({(each.width, each.height) for each in result.looked}, key=lambda size: size[0] * size[1])
    shown = [f"{width}x{height}" for width, height in sizes]
    lines = [shown[0] if len(shown) == 1 else f"{shown[0]} to {shown[-1]}"]
    known = SETS.get(result.dataset.name)
    if known and known.size and sizes != [known.size]:
        lines.append(f"NOT all {known.size[0]}x{known.size[1]} as published")
    if known and known.pixels:
        wanted = dict(known.pixels)
        stems = [pair.stem for pair in result.dataset.pairs]
        found = zip(stems, result.looked, strict=True)
        others = [stem for stem, each in found if wanted.get(stem) != each.pixels[:16]]
        few = ", ".join(others[:5]) + (" and others" if len(others) > 5 else "")
        lines.append(f"NOT the published pixels ({few})" if others else "pixels as published")
    return lines


def as_markdown(results: Sequence[Result]) -> str:
    """Return table, notes and published figures of each set for a README, with headings if there are several sets."""
    parts = list[str]()
    for result in results:
        if len(results) > 1:
            parts += [f"## {result.dataset.title}", ""]
        parts += [_markdown_table(measured(result)), *(f"- {_markdown(line)}" for line in notes(result)), ""]
        if told := stated(result):
            parts += [f"{REMARK}", "", _markdown_table(told)]
    return "\n".join(parts).rstrip() + "\n"


def as_json(results: Sequence[Result]) -> str:
    """Return everything as JSON, set by set and picture by picture, unrounded."""
    document = {
        "schema": SCHEMA,
        "environment": environment(),
        "sets": [_set(result) for result in results],
        "published": [{"mark": MARK, **figure.model_dump()} for figure in catalog.stated()],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _set(result: Result) -> dict[str, Any]:
    return {
        "name": result.dataset.name,
        "title": result.dataset.title,
        "pictures": len(result.dataset.pairs),
        "limited": result.dataset.limited,
        "paired": result.dataset.paired,
        "pixels_sha256": result.pixels,
        "notes": [*checked(result), *result.dataset.notes],
        "definitions": result.definitions,
        "missing": result.missing,
        "rows": [_row(result, row, interval) for row, interval in compared(result)],
    }


def as_toml(dataset: str, means: Mapping[str, float | None]) -> str:
    """Return an item for `metrics` in weights.toml, which `--verify` reads, from those among `means` that it states."""
    levels = [f"{key} = {mean:.{METRICS[key].digits}f}" for key in TOLERANCE if (mean := means.get(key)) is not None]
    return f'{{ protocol = "{PROTOCOL}", dataset = "{dataset}", {", ".join(levels)} }}'


def environment() -> dict[str, Any]:
    """Return the software and hardware that the figures, above all the timings, depend on."""
    found: dict[str, Any] = {
        "lowlight": lowlight_cli.__version__,
        "python": platform.python_version(),
        **hardware.versions(*PACKAGES),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if torch := sys.modules.get("torch"):  # not imported just for this: if no network ran, torch had no part
        found["threads"] = torch.get_num_threads()
        found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return found


def means(row: Row) -> dict[str, float | None]:
    """Return the mean of every metric of a row; None for NaN."""
    return _finite({key: row.mean(key) for key in row.scores[0].values})


def compared(result: Result) -> list[tuple[Row, Interval | None]]:
    """Pair each row with the interval of its first metric minus the best row's; None for the best and for 1 picture."""
    if not result.ranked:
        return [(row, None) for row in result.rows]
    best, *others = result.rows
    key = result.metrics[0].key
    return [(best, None), *((row, paired(row.values(key), best.values(key))) for row in others)]


def _cells(result: Result, row: Row, interval: Interval | None) -> tuple[str, ...]:
    against = "-" if interval is None else f"{interval.low:+.2f} to {interval.high:+.2f}{', tie' * interval.tie}"
    levels = (_number(row.mean(metric.key), metric.digits) for metric in result.metrics)
    last = (against,) if result.ranked else ()
    return (row.method.name, row.method.kind, *levels, _number(row.seconds, 3), *last)


def _row(result: Result, row: Row, interval: Interval | None) -> dict[str, Any]:
    loaded = row.method.loaded
    return {
        "method": row.method.name,
        "kind": row.method.kind,
        **means(row),
        "seconds": row.seconds,
        "best": result.ranked and row is result.rows[0],
        "against_best": None if interval is None else {**asdict(interval), "tie": interval.tie},
        "network": None
        if loaded is None
        else {
            "name": loaded.network,
            "checkpoint": loaded.checkpoint.name if loaded.checkpoint else None,
            "weights_sha256": loaded.sha256,
            "engine": loaded.engine,
            "device": loaded.device,
            "precision": loaded.precision,
        },
        "pictures": [{"stem": score.stem, **_finite(score.values), "seconds": score.seconds} for score in row.scores],
    }


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Replace NaN, which JSON cannot express, by None."""
    return {key: None if math.isnan(value) else value for key, value in values.items()}


def _markdown(text: str) -> str:
    """Escape text for Markdown."""
    return re.sub(r"([\\*|<`])", r"\\\1", text)


def _markdown_table(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(_markdown, cells)) + " |"

    return "\n".join([line(table.columns), line(["---"] * len(table.columns)), *map(line, table.rows), ""])


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _processor() -> str:
    """Return the processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
