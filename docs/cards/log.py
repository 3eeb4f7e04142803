"""The log of a checkpoint's training, thinned to what a card shows: docs/models/logs/NAME.TAG.jsonl.

A leg is one run of `lowlight train`. Its first line says what was set, the others what happened:

    {"leg": 1, "steps": 10000, "hardware": "...", "sources": {"lol": 2.0}, "recipe": {...}, "config": "sha256", ...}
    {"step": 120, "seconds": 48.7, "loss": 0.126, "scores": {"psnr": ..., "psnr_gt_mean": ..., "ssim": ...}, ...}

Steps count through all legs; seconds are those since the line before; losses are means over those steps. Nothing of a
machine's paths is kept. Lines with scores or a note stay as they are, those between are drawn together.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

POINTS: Final = 120
"""So many lines a leg beside those with scores."""
RECIPE: Final = ("kind", "optimiser", "rate", "schedule", "crop", "crop_end", "batch", "batch_end", "ema")
"""What of a recipe the log keeps."""
LATE: Final = 0.4
"""The trend is taken over steps later than this share: before, a curve climbs for other reasons."""


@dataclass(frozen=True)
class Point:
    """One line: steps through all legs, seconds since the line before, the mean loss, dB and share where measured."""

    step: int
    seconds: float
    loss: float | None
    scores: dict[str, float] | None = None
    stage: str = ""
    note: str = ""


@dataclass(frozen=True)
class Leg:
    """One run: what was set, and its lines."""

    setting: dict[str, Any]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Trend:
    """How a curve rises at its end: dB a doubling of steps, its standard error, over how many points."""

    slope: float
    error: float
    points: int

    @property
    def rises(self) -> bool:
        """Whether the rise is more than twice its error."""
        return self.slope > 2 * self.error


def legs_of(runs: Path, name: str) -> list[Path]:
    """The folders of a checkpoint's runs in order: NAME.TAG, or NAME.TAG.1, NAME.TAG.2 and so on after it."""
    found: dict[int, Path] = {}
    for path in runs.glob(f"{name}*"):
        match = re.fullmatch(rf"{re.escape(name)}(?:\.(\d+))?", path.name)
        if match and (path / "log.jsonl").is_file() and (path / "run.json").is_file():
            found[int(match[1] or 0)] = path
    return [found[number] for number in sorted(found)]


def read_runs(folders: Iterable[Path], hardware: str) -> list[Leg]:
    """Runs as `lowlight train` left them, thinned; `hardware` is said of each."""
    legs: list[Leg] = []
    before = 0
    for number, folder in enumerate(folders, 1):
        described = (folder / "run.json").read_bytes()
        run = json.loads(described)
        points = thinned(list(_points(folder / "log.jsonl", before)))
        sources: dict[str, float] = {}
        for source in run["sources"]:
            sources[source["kind"]] = sources.get(source["kind"], 0) + source["weight"]
        setting = {
            "leg": number,
            "steps": points[-1].step - before if points else 0,
            "hardware": hardware if run["device"] == "cpu" or hardware else run["device"],
            "device": run["device"],
            "bf16": run["bf16"],
            "seed": run["seed"],
            "sources": sources,
            "init": Path(run["init"]).name if run["init"] else None,
            "recipe": {key: run["recipe"][key] for key in RECIPE if key in run["recipe"]},
            "config": run.get("config") or hashlib.sha256(described).hexdigest(),  # by which older runs are called
        }
        legs.append(Leg(setting, tuple(points)))
        before += setting["steps"]
    return legs


def _points(path: Path, before: int) -> Iterator[Point]:
    """The lines of a run's log; one that a kill cut short is none."""
    last = 0
    for text in path.read_text("utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        steps, pace = line["step"] - last, line["steps_per_second"]
        seconds = steps / pace if pace and steps > 0 else 0.0
        last = line["step"]
        yield Point(before + last, seconds, line["loss"], line["scores"], line["stage"], line["note"])


def thinned(points: list[Point]) -> list[Point]:
    """At most about `POINTS` of them and those with scores, notes or a new stage; no second is lost."""
    every = max(1, -(-len(points) // POINTS))
    kept, held = [], []
    for number, point in enumerate(points):
        held.append(point)
        following = points[number + 1] if number + 1 < len(points) else None
        ends = following is None or following.stage != point.stage
        if len(held) == every or point.scores or point.note or ends:
            losses = [each.loss for each in held if each.loss is not None]
            mean = round(float(np.mean(losses)), 5) if losses else None
            seconds = round(sum(each.seconds for each in held), 2)
            scores = point.scores and {key: round(value, 4) for key, value in point.scores.items()}
            kept.append(Point(point.step, seconds, mean, scores, point.stage, point.note))
            held = []
    return kept


def write(path: Path, legs: list[Leg]) -> None:
    """Keep a log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for leg in legs:
        lines.append(json.dumps(leg.setting))
        for point in leg.points:
            line = {"step": point.step, "seconds": point.seconds, "loss": point.loss}
            more = {"scores": point.scores, "stage": point.stage, "note": point.note}
            lines.append(json.dumps(line | {key: value for key, value in more.items() if value}))
    path.write_text("".join(line + "\n" for line in lines), "utf-8")


def read(path: Path) -> list[Leg]:
    """What `write` kept; nothing where there is no such file."""
    legs: list[tuple[dict[str, Any], list[Point]]] = []
    for text in path.read_text("utf-8").splitlines() if path.is_file() else []:
        line = json.loads(text)
        if "leg" in line:
            legs.append((line, []))
        else:
            legs[-1][1].append(Point(**line))
    return [Leg(setting, tuple(points)) for setting, points in legs]


def hours(legs: list[Leg]) -> float:
    """Of training, without validation and saving."""
    return sum(point.seconds for leg in legs for point in leg.points) / 3600


def scored(legs: list[Leg], figure: str) -> list[tuple[int, float]]:
    """(step, value) wherever a figure was measured."""
    return [(point.step, point.scores[figure]) for leg in legs for point in leg.points if point.scores]


def trend(curve: list[tuple[int, float]]) -> Trend | None:
    """A straight line through the late part of a curve over log2(steps), by least squares; None below four points."""
    late = [(step, value) for step, value in curve if step > LATE * curve[-1][0]]
    if len(late) < 4:
        return None
    x, y = np.log2([step for step, _ in late]), np.array([value for _, value in late])
    (slope, start), *_ = np.polyfit(x, y, 1, full=True)
    left = y - (slope * x + start)
    error = np.sqrt((left @ left) / (len(late) - 2) / ((x - x.mean()) ** 2).sum())
    return Trend(float(slope), float(error), len(late))
