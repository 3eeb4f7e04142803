"""A journal of measurements that lets an interrupted run continue: one line of JSON for each method and picture.

A line is reused only if everything it depends on is unchanged: weights, engine, device, precision and edition of the
look, or the result file; the program's version; the pixels of picture and reference; and the definition of each metric.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import lowlight_cli
from lowlight_cli.errors import InputError, unwritten
from lowlight_cli.metrics.table import Metric

__all__ = ["Journal", "key"]

FIRST: Final = '{"key": '
"""How each line begins."""


class Journal:
    """The journal file at `path`: read once at the start, then appended to; created by the first `keep` if missing.

    Raises:
        InputError: the file exists but is no journal, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[dict[str, float | None], float | None]] = {}
        try:
            text = path.read_text("utf-8") if path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read as what a bench left: {error}; name another file") from error
        if text and not text.startswith(FIRST):
            raise InputError(f"{path} is not what a bench left; name another file")
        for line in text.splitlines():
            try:
                made = json.loads(line)
                self._add(made["key"], made["values"], made["seconds"])
            except (ValueError, KeyError, TypeError):
                continue  # a truncated line: measure it again
        self._end = "" if text.endswith("\n") or not text else "\n"

    def find(self, key: str, metrics: Sequence[Metric]) -> tuple[dict[str, float], float | None] | None:
        """Return values by metric, and the seconds; None unless all of `metrics` were measured."""
        values, seconds = self._known.get(key, ({}, None))
        if any(metric.version not in values for metric in metrics):
            return None
        found = ((metric.key, values[metric.version]) for metric in metrics)
        return {name: math.nan if value is None else value for name, value in found}, seconds

    def keep(self, key: str, metrics: Sequence[Metric], values: Mapping[str, float], seconds: float | None) -> None:
        """Append a line.

        Raises:
            OutputError: the file cannot be written.
            ResourceError: the disk is full.
        """
        levels = {metric.version: values[metric.key] for metric in metrics}
        told = {name: None if math.isnan(value) else value for name, value in levels.items()}
        self._add(key, told, seconds)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(self._end + json.dumps({"key": key, "values": told, "seconds": seconds}) + "\n")
            self._end = ""
        except OSError as error:
            raise unwritten(self._path, error, full="make room, and go on with the same command") from error

    def _add(self, key: str, values: dict[str, float | None], seconds: float | None) -> None:
        self._known[key] = {**self._known.get(key, ({}, None))[0], **values}, seconds


def key(identity: str, pixels: str) -> str:
    """Return the key of a result: a hash of program version, method identity and pixels of the pair."""
    return hashlib.sha256(f"{lowlight_cli.__version__}\n{identity}\n{pixels}".encode()).hexdigest()
