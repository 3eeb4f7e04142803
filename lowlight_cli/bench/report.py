"""A result as a table, as Markdown, as JSON; no terminal here."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import lowlight_cli
from lowlight_cli.bench.intervals import Interval, paired
from lowlight_cli.bench.published import MARK, published
from lowlight_cli.bench.run import Result, Row
from lowlight_cli.bench.sets import DataSet
from lowlight_cli.metrics.table import METRICS

__all__ = [
    "REMARK",
    "SCHEMA",
    "Table",
    "as_json",
    "as_markdown",
    "as_toml",
    "compared",
    "environment",
    "measured",
    "notes",
    "stated",
]

SCHEMA: Final = "lowlight-bench-1"
"""Of the JSON; it changes when a field changes its meaning or goes away."""

EVAL15: Final = "c69b78d360573d2d0054cb21531d9d329d5c0d0db40ac177291284b153db4936"
"""sha256 of eval15's pixels as `Result.pixels` has it: lossless copies of the published test pairs have this one."""

PROTOCOL: Final = "lowlight bench: full resolution, 8 bits"
"""How figures in weights.toml were measured."""

REMARK: Final = f"What the papers state, {MARK}, each on its own split: none of it compares with the rows above."

FEW: Final = 10
"""Below so many pictures, intervals by resampling are too narrow."""

PACKAGES: Final = ("torch", "numpy", "opencv-python-headless", "pillow")


@dataclass(frozen=True)
class Table:
    """Columns with their headings, and rows of as many cells."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def measured(result: Result) -> Table:
    """The measured rows, the best first."""
    titles = (metric.title for metric in result.metrics)
    columns = ("method", "kind", *titles, "s", f"{result.metrics[0].title}, less the best's (95 %)")
    return Table(columns, tuple(_cells(result, row, interval) for row, interval in compared(result)))


def stated(result: Result) -> Table | None:
    """The papers' own figures for the networks that were measured, or for all; None beside other sets than LOL."""
    if not result.dataset.name.startswith("lol"):
        return None
    networks = {row.method.loaded.network for row in result.rows if row.method.loaded}
    rows = tuple(
        (figure.network, MARK, figure.dataset, figure.split, _number(figure.psnr, 3), _number(figure.ssim, 4))
        for figure in published(networks)
    )
    return Table(("network", "origin", "data", "split", "PSNR", "SSIM"), rows) if rows else None


def notes(result: Result) -> list[str]:
    """What must be read with the table: the set and its faults, what ran, what the columns mean."""
    dataset = result.dataset
    count = len(dataset.pairs)
    lines = [f"{dataset.title}: {count} pair{'s' * (count > 1)}{', not all of them' * dataset.limited}"]
    if dataset.name == "lol" and not dataset.limited:
        lines[0] += ", " + ("pixels as published" if result.pixels == EVAL15 else "NOT the published pixels")
    lines += dataset.notes
    lines += [f"{name}: {meaning}" for name, meaning in result.definitions.items()]
    lines.append(
        "* sees the reference. A tie is a difference from the best row that a paired bootstrap does not tell from 0"
    )
    if count < FEW:
        lines.append(f"few pictures ({count}): others may differ by more than the intervals say")
    for row in result.rows:
        if loaded := row.method.loaded:
            ran = f"{loaded.engine} on {loaded.device} in {loaded.precision}"
            lines.append(f"{row.method.name}: {ran}, weights sha256 {loaded.sha256[:16]}")
    return lines


def as_markdown(result: Result) -> str:
    """Table, notes and published figures, ready for a README."""
    parts = [_markdown_table(measured(result)), *(f"- {line}" for line in notes(result)), ""]
    if told := stated(result):
        parts += [f"{REMARK}", "", _markdown_table(told)]
    return "\n".join(parts).rstrip() + "\n"


def as_json(result: Result) -> str:
    """Everything, picture by picture, nothing rounded."""
    document = {
        "schema": SCHEMA,
        "dataset": {
            "name": result.dataset.name,
            "title": result.dataset.title,
            "pairs": len(result.dataset.pairs),
            "limited": result.dataset.limited,
            "pixels_sha256": result.pixels,
            "notes": result.dataset.notes,
        },
        "definitions": result.definitions,
        "environment": environment(),
        "rows": [_row(result, row, interval) for row, interval in compared(result)],
        "published": [{"mark": MARK, **figure.model_dump()} for figure in published()],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_toml(row: Row, dataset: DataSet) -> str:
    """A row as an item of `metrics` in weights.toml, which `--verify` finds again."""
    levels = ", ".join(f"{key} = {row.mean(key):.{METRICS[key].digits}f}" for key in ("psnr", "psnr_gt_mean", "ssim"))
    return f'{{ protocol = "{PROTOCOL}", dataset = "{dataset.name}", {levels} }}'


def environment() -> dict[str, Any]:
    """What the figures, above all the seconds, depend on."""
    found: dict[str, Any] = {
        "lowlight": lowlight_cli.__version__,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in PACKAGES},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if torch := sys.modules.get("torch"):  # not imported for this: without a network it had no part in it
        found["threads"] = torch.get_num_threads()
        found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return found


def compared(result: Result) -> list[tuple[Row, Interval | None]]:
    """Each row with the interval of its first metric less the best's; None for the best, and for a single picture."""
    best, *others = result.rows
    key = result.metrics[0].key
    return [(best, None), *((row, paired(row.values(key), best.values(key))) for row in others)]


def _cells(result: Result, row: Row, interval: Interval | None) -> tuple[str, ...]:
    against = "-" if interval is None else f"{interval.low:+.2f} to {interval.high:+.2f}{', tie' * interval.tie}"
    levels = (f"{row.mean(metric.key):.{metric.digits}f}" for metric in result.metrics)
    return (row.method.name, row.method.kind, *levels, _number(row.seconds, 3), against)


def _row(result: Result, row: Row, interval: Interval | None) -> dict[str, Any]:
    loaded = row.method.loaded
    return {
        "method": row.method.name,
        "kind": row.method.kind,
        **{metric.key: row.mean(metric.key) for metric in result.metrics},
        "seconds": row.seconds,
        "best": row is result.rows[0],
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
        "pictures": [{"stem": score.stem, **score.values, "seconds": score.seconds} for score in row.scores],
    }


def _markdown_table(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(table.columns), line(["---"] * len(table.columns)), *map(line, table.rows), ""])


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _processor() -> str:
    """What the processor calls itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
