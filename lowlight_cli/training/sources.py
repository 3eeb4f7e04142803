"""Training sources: turn `--data` values into pairs of files, each with its scene and whether it is held out.

    lol:PATH          our485/{low,high} and siblings/{low,high}, those that exist; scenes.csv assigns pairs to scenes
    sice:PATH         low/, high/ and pairs.csv with its split
    pairs:LOW,HIGH    two folders, matched by stem whatever the suffix, also `low1` with `normal1`; pairs that
                      `lowlight darken` made from one photograph (manifest beside LOW) are one scene
    bright:PATH       well-lit photographs, darkened anew each time (darken.physical)
    dark:PATH         photographs of real nights, without partners, for recipes that need them

A suffix `@WEIGHT` sets a source's share of the batches. Subfolders are not searched, and no picture is opened here.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lowlight_cli.errors import InputError, UsageError
from lowlight_cli.pictures import FORMATS

__all__ = [
    "HELD_OUT", "READERS", "Row", "Source", "by_pair", "by_stem", "held", "listed", "named", "pair_of", "parse",
    "scenes_told",
]  # fmt: skip

HELD_OUT: Final = 20
"""About one scene in HELD_OUT is kept for validation."""


@dataclass(frozen=True)
class Source:
    """One parsed `--data` value; `weight` is its share of the batches relative to the other sources."""

    kind: str
    paths: tuple[Path, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Row:
    """The files of one pair. `low` is None for single pictures: one to be darkened, or a dark one without a partner."""

    low: Path | None
    high: Path
    scene: str
    validation: bool = False


def parse(text: str) -> Source:
    """Parse `KIND:PATH[@WEIGHT]` or `pairs:LOW,HIGH[@WEIGHT]`.

    Raises:
        UsageError: the kind is unknown, the path is missing, or the weight is not positive and finite.
    """
    kind, _, rest = text.partition(":")
    if kind not in READERS or not rest:
        raise UsageError(f"--data {text!r}: write KIND:PATH, where KIND is one of {', '.join(READERS)}")
    rest, at, number = rest.rpartition("@") if "@" in rest else (rest, "", "1")
    try:
        weight = float(number)
    except ValueError:
        rest, weight = rest + at + number, 1.0
    if not 0 < weight < math.inf:
        raise UsageError(f"--data {text!r}: the weight behind @ must be a number above 0")
    return Source(kind, _two(rest) if kind == "pairs" else (Path(rest).expanduser(),), weight)


def _two(text: str) -> tuple[Path, ...]:
    """Split `LOW,HIGH` at its comma; of several commas, at the first one that separates two existing folders."""
    parts = text.split(",")
    ways = [(",".join(parts[:cut]), ",".join(parts[cut:])) for cut in range(1, len(parts))]
    found = [tuple(Path(side).expanduser() for side in way) for way in ways]
    there = next((way for way in found if all(side.is_dir() for side in way)), None)
    return there or tuple(Path(part).expanduser() for part in parts)


def listed(source: Source) -> list[Row]:
    """Return the pairs of a source.

    Raises:
        UsageError: `pairs` does not name two folders.
        InputError: a folder or table is missing or invalid, pictures have no partner, or no picture was found.
    """
    rows = READERS[source.kind](source)
    if not rows:
        raise InputError(f"{source.paths[0]}: no picture found for {source.kind}: {_instead(source)}")
    return rows


def _instead(source: Source) -> str:
    """Return the advice for a source that holds no picture."""
    if source.kind in ("pairs", "bright", "dark"):
        for folder in sorted(path for path in source.paths[0].iterdir() if path.is_dir()):
            if not folder.name.startswith(".") and _files(folder):
                return f"those in {folder.name} are not searched; give each folder a --data of its own"
    return f"it reads {', '.join(sorted(FORMATS))}; convert others"


def named(stems: Sequence[str]) -> str:
    """Return the first five names, and how many more there are."""
    return ", ".join(stems[:5]) + (f" and {len(stems) - 5} more" if len(stems) > 5 else "")


def held(scene: str) -> bool:
    """Whether a scene is kept for validation. Only its name decides, so adding pictures does not change the split."""
    return int(hashlib.sha256(f"scene {scene}".encode()).hexdigest(), 16) % HELD_OUT == 0


def scenes_told(source: Source) -> bool:
    """Whether a source states which of its pairs show the same scene; LOL as published does not."""
    return source.kind != "lol" or (source.paths[0] / "scenes.csv").is_file()


def _files(folder: Path) -> list[Path]:
    """Return the pictures in a folder, sorted, without hidden files such as the `._` files that macOS creates."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in FORMATS and not file.name.startswith("."))


def by_stem(folder: Path) -> dict[str, Path]:
    """Map stems to the pictures in a folder.

    Raises:
        InputError: the folder does not exist, or two pictures share a stem.
    """
    found: dict[str, Path] = {}
    for file in _files(folder):
        if file.stem in found:
            both = f"{found[file.stem].name} and {file.name}"
            raise InputError(f"{folder}: {both} share a stem: which is the pair's? Move the other away")
        found[file.stem] = file
    return found


def by_pair(folder: Path) -> dict[str, Path]:
    """Map pair names (see `pair_of`) to the pictures in a folder.

    Raises:
        InputError: as `by_stem`, or two pictures belong to one pair.
    """
    found: dict[str, Path] = {}
    for stem, file in by_stem(folder).items():
        if other := found.get(pair_of(stem)):
            raise InputError(f"{folder}: {other.name} and {file.name} are both of pair {pair_of(stem)}; remove one")
        found[pair_of(stem)] = file
    return found


def pair_of(stem: str) -> str:
    """Return a stem without the `low`, `normal` or `high` before its number, as LOL v2 has it: `low00690`."""
    match = re.fullmatch(r"(?:low|normal|high)_?(\d+)", stem, re.IGNORECASE)
    return match[1] if match else stem


def _matched(low: Path, high: Path) -> list[tuple[Path, Path]]:
    lows, highs = by_stem(low), by_stem(high)
    if lows.keys() != highs.keys():
        lows, highs = by_pair(low), by_pair(high)
    if single := sorted(lows.keys() ^ highs.keys()):
        raise InputError(f"{low} and {high}: {len(single)} pictures without partner: {named(single)}")
    return [(lows[stem], highs[stem]) for stem in sorted(lows)]


def _table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a CSV file with their line numbers. It is UTF-8, with or without Excel's byte order mark.

    Raises:
        InputError: the file cannot be read, or a column or a value is missing.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            there = reader.fieldnames or ()
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not in UTF-8; save it as CSV in UTF-8") from None
    except (OSError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}); export it anew") from error
    if missing := [name for name in columns if name not in there]:
        has = f"it has {', '.join(there)}" if there else "it is empty"
        raise InputError(f"{path}: has no column {missing[0]} ({has}); wanted are {', '.join(columns)}, between commas")
    for number, row in rows:
        if short := [name for name in columns if not row[name]]:
            raise InputError(f"{path}, line {number}: has no {short[0]}; fill it in, or leave the line out")
    return [(number, {name: row[name].strip() for name in columns}) for number, row in rows]


def _lol(source: Source) -> list[Row]:
    root = source.paths[0]
    if not root.is_dir():
        raise InputError(f"{root} is not there (a folder with our485/low and our485/high)")
    scenes: dict[str, str] = {}
    if scenes_told(source):
        table = _table(root / "scenes.csv", ("folder", "stem", "scene"))
        scenes = {f"{row['folder']}/{row['stem']}": row["scene"] for _, row in table}
    folders = [root / name for name in ("our485", "siblings") if (root / name).is_dir()] or [root]
    if not (folders[0] / "low").is_dir() and folders == [root]:
        raise InputError(f"{root} has neither our485/low and our485/high, as LOL has them, nor low and high")
    rows = []
    for folder in folders:
        for low, high in _matched(folder / "low", folder / "high"):
            scene = scenes.get(f"{folder.name}/{high.stem}", high.stem)
            rows.append(Row(low, high, scene, held(scene)))
    return rows


def _sice(source: Source) -> list[Row]:
    root = source.paths[0]
    listing = root / "pairs.csv"
    if not listing.is_file():
        raise InputError(f"{listing}: missing; sice: wants low/, high/ and pairs.csv (low, high, scene, split)")
    rows = []
    for number, row in _table(listing, ("low", "high", "scene", "split")):
        if (split := row["split"]) not in ("train", "val"):
            raise InputError(f"{listing}, line {number}: split is {split!r}, it must be train or val")
        rows.append(Row(root / "low" / row["low"], root / "high" / row["high"], f"sice {row['scene']}", split == "val"))
    return rows


def _pairs(source: Source) -> list[Row]:
    if len(source.paths) != 2:
        raise UsageError("--data pairs: wants two folders, pairs:LOW,HIGH")
    made: dict[str, str] = {}
    if (manifest := source.paths[0].parent / "manifest.jsonl").is_file():
        for line in manifest.read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # truncated, or of another command
                made[Path(json.loads(line)["low"]).stem] = str(json.loads(line)["input"])
    matched = [(low, high, made.get(low.stem, low.stem)) for low, high in _matched(*source.paths)]
    return [Row(low, high, scene, held(scene)) for low, high, scene in matched]


def _single(source: Source) -> list[Row]:
    folder = source.paths[0]
    if "," in folder.name and not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give each folder a --data of its own, only pairs: takes two")
    return [Row(None, file, file.stem) for file in _files(folder)]


READERS: Final = {"lol": _lol, "sice": _sice, "pairs": _pairs, "bright": _single, "dark": _single}
