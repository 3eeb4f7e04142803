"""Data sets: find them on disk, match pairs, and attach the notes that belong to their figures.

    lol          the 15 published test pairs of LOL v1 (eval15)
    lol-scenes   the pairs of LOL v1 scenes held out by `lowlight train` whose low picture still has its noise
    sice         the validation scenes of SICE's exposures
    ...          the other sets of `known.SETS`, with and without references
    PATH         any folder with low/ and high/ (or normal/), or with dark pictures alone

Pairs are matched by stem, whatever the suffix. Pictures in subfolders are named by their path: `Cat_1` is Cat/1.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.bench.known import SETS, Known
from lowlight_cli.errors import InputError, UsageError
from lowlight_cli.metrics.ssim import SMALLEST
from lowlight_cli.pictures import read, suffixes
from lowlight_cli.training.sources import READERS, Source, by_pair, pair_of

__all__ = ["SETS", "DataSet", "Pair", "find", "in_levels", "read_pair", "results", "rounded", "unfit"]

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """The files of a dark picture and of its reference, if it has one.

    Attributes:
        stem: its name in tables, unique in its set.
        low: the dark picture.
        high: its reference.
        called: possible names of a result for it, the likeliest first: paths below the results' folder, no suffixes.
    """

    stem: str
    low: Path
    high: Path | None
    called: tuple[str, ...]


@dataclass(frozen=True)
class DataSet:
    """A set of pictures to measure on.

    Attributes:
        name: as the user typed it.
        title: its name in tables.
        pairs: sorted by stem.
        limited: whether further pairs were left out.
        notes: lines that must be printed below every table.
        paired: whether there are references; either all pictures have one or none has.
    """

    name: str
    title: str
    pairs: tuple[Pair, ...]
    limited: bool = False
    notes: tuple[str, ...] = ()
    paired: bool = True

    @property
    def folder(self) -> str:
        """Name of the folder with its results, if there are results of several sets."""
        if self.name in SETS:
            return self.name
        path = Path(self.name).expanduser()
        return path.name if path.name not in ("", "..") else path.resolve().name  # a symlink keeps its own name


def find(name: str, root: Path, limit: int | None = None) -> DataSet:
    """Find a data set, then list and match its pairs; no picture is opened.

    Args:
        name: one of `SETS`, or a folder with low/ and high/ (or normal/), or one with dark pictures alone.
        root: the folder in which to look for named sets.
        limit: take at most this many pairs.

    Raises:
        UsageError: neither a known name nor a path.
        InputError: it is not there, or pictures have no partner; the message says what layout is expected.
    """
    notes: tuple[str, ...] = ()
    if known := SETS.get(name):
        folder = _place(name, known, root)
        pairs = _listed(name, known, folder)
        title, notes, paired = known.title, known.notes, known.paired
        if known.count and len(pairs) != known.count:
            notes = (f"NOT the whole set: {len(pairs)} here, {known.count} as it is mostly packed", *notes)
    else:
        folder = Path(name).expanduser()
        if not folder.exists() and not {"/", "\\"} & set(name):
            near = difflib.get_close_matches(name, SETS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(SETS)}, or a folder with pictures"
            raise UsageError(f"no data set {name!r}: {hint}")
        parts = _own(folder)
        pairs, title, paired = (_folders(folder, parts) if parts else _alone(folder)), name, bool(parts)
        notes = _deeper(folder, parts) if parts else ()
    if not pairs:
        why = "".join(f"; {note}: put them into low/ and high/" for note in notes if not known)
        raise InputError(f"{folder}: no {'pair' if paired else 'picture'} for {title}{why}")
    kept = tuple(sorted(pairs, key=_order)[:limit])
    return DataSet(name, title, kept, len(kept) < len(pairs), notes, paired)


def read_pair(pair: Pair) -> tuple[Picture, Picture | None]:
    """Read the low picture at its file's bit depth and the reference rounded to 8 bits (or None), (H, W, 3) each.

    Raises:
        InputError: one of them cannot be read, their sizes differ, or they are too small for SSIM.
    """
    low = read(pair.low).pixels
    high = read(pair.high).pixels if pair.high else None
    if why := unfit(pair, low.shape, None if high is None else high.shape):
        raise InputError(why)
    return low, None if high is None else rounded(high)


def unfit(pair: Pair, low: tuple[int, ...], high: tuple[int, ...] | None) -> str:
    """Return why pictures of these shapes, (H, W, 3), cannot be measured as a pair; an empty string if they can."""
    if high not in (None, low):
        sizes = " and ".join(f"{shape[1]}x{shape[0]}" for shape in (low, high))
        return f"{pair.low} and {pair.high} differ in size ({sizes}): a pair shows the same pixels"
    if min(low[:2]) < SMALLEST:
        return f"{pair.low} is too small to be measured: SSIM wants {SMALLEST} pixels a side"
    return ""


def rounded(picture: Picture) -> Picture:
    """Round (H, W, 3) in [0, 1] to 8-bit levels; a picture from an 8-bit file is returned bit-identical."""
    return (np.rint(picture * 255) / 255).astype(np.float32)


def in_levels(picture: Picture) -> NDArray[np.uint8]:
    """Convert (H, W, 3) in [0, 1] to uint8, the same levels as `rounded`."""
    return np.rint(picture * 255).astype(np.uint8)


def results(folder: Path, dataset: DataSet) -> dict[str, Path]:
    """Find another program's results on a set, by pair stem; they must be named and laid out like the low pictures.

    If the results lack the set's subfolders, file names that are unique in the set suffice. For LOL v2's `low1`, `1`
    and `normal1` match too.

    Raises:
        InputError: there is no such folder, or several pictures could be the result of one pair.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    named, bare = dict[str, list[Path]](), dict[str, list[Path]]()
    for path in _pictures(folder):
        name = "/".join(_parts(path, folder))
        named.setdefault(name, []).append(path)
        if dataset.paired:
            bare.setdefault(pair_of(name), []).append(path)
    found: dict[str, Path] = {}
    for pair in dataset.pairs:
        files = next((named[name] for name in pair.called if name in named), bare.get(pair.stem, []))
        if len(files) > 1:
            both = " and ".join(str(file.relative_to(folder)) for file in files[:2])
            raise InputError(f"{folder}: {both} may both be the result of {pair.stem}; remove one of them")
        if files:
            found[pair.stem] = files[0]
    return found


def _place(name: str, known: Known, root: Path) -> Path:
    """Return the first usual place below `root` that holds all parts of a set."""
    for place in known.places:
        if (root / place).is_dir() and all((root / place / part).exists() for part in known.parts):
            return root / place
    parts = f"{', '.join(known.parts)} in " if known.parts else ""
    raise InputError(
        f"data set {name} is not under {root} (looked for {parts}{', '.join(known.places)}): {known.missing}; "
        "then --root or LOWLIGHT_DATA names the folder above it"
    )


def _listed(name: str, known: Known, folder: Path) -> list[Pair]:
    if not known.paired:
        return _alone(folder)
    if name == "lol-scenes":
        return [pair for pair in _held_out("lol", folder) if pair.low.suffix != ".avif"]
    if name == "sice":
        return _held_out("sice", folder)
    return _folders(folder, (known.parts[0], known.parts[1]))


def _folders(folder: Path, parts: tuple[str, str]) -> list[Pair]:
    """Match pairs by stem; `low00690` and `normal00690` are a pair."""
    for part in parts:
        if not (folder / part).is_dir():
            raise InputError(
                f"{folder / part}: no such folder; a data set is a folder with {parts[0]}/ and {parts[1]}/, or with "
                "dark pictures in folders of other names"
            )
    lows, highs = (by_pair(folder / part) for part in parts)
    if single := sorted(lows.keys() ^ highs.keys()):
        raise InputError(
            f"{folder}: {len(single)} pictures of {parts[0]}/ or {parts[1]}/ have no partner, first {single[0]}"
        )
    return [Pair(stem, lows[stem], highs[stem], (lows[stem].stem,)) for stem in lows]


def _own(folder: Path) -> tuple[str, str] | None:
    """Return the names of the two folders of a user's own paired set; None for dark pictures alone.

    Case does not matter, and LOL v2 calls its references Normal. If only one is there, the other has its usual name.
    """
    there = {path.name.lower(): path.name for path in sorted(folder.glob("*/"))}
    low, high = there.get("low"), there.get("high")
    if low and not high:
        high = there.get("normal")
    return (low or "low", high or "high") if low or high else None


def _deeper(folder: Path, parts: tuple[str, str]) -> tuple[str, ...]:
    """Return a note on the pictures in subfolders, which are left out of a user's own paired set."""
    count = sum(path.parent != folder / part for part in parts for path in _pictures(folder / part))
    return (f"pictures in folders inside {'/ and '.join(parts)}/ are not taken ({count})",) if count else ()


def _alone(folder: Path) -> list[Pair]:
    """List pictures without references, including those in subfolders."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; a data set is a folder with low/ and high/, or with dark pictures")
    return _told_apart(folder, ((path, None) for path in _pictures(folder)))


def _pictures(folder: Path) -> list[Path]:
    """List the pictures in a folder and its subfolders, sorted, without hidden ones."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes() and path.is_file()]
    return [path for path in files if not any(part.startswith(".") for part in _parts(path, folder))]


def _parts(path: Path, folder: Path) -> tuple[str, ...]:
    """Return the parts of a file's path below a folder, without suffix; only the stem if it is elsewhere."""
    return path.relative_to(folder).with_suffix("").parts if path.is_relative_to(folder) else (path.stem,)


def _told_apart(folder: Path, files: Iterable[tuple[Path, Path | None]]) -> list[Pair]:
    """Name pairs by the paths of their low pictures below `folder`, since file names may repeat."""
    found: dict[str, tuple[Path, Path | None]] = {}
    for low, high in files:
        stem = "_".join(_parts(low, folder))
        if stem in found:
            raise InputError(f"{found[stem][0]} and {low} share a stem, {stem}; remove one of them")
        found[stem] = low, high
    shared = Counter(name for stem, (low, _) in found.items() for name in {stem, low.stem})
    return [
        Pair(stem, low, high, ("/".join(_parts(low, folder)), stem, *([low.stem] if shared[low.stem] == 1 else [])))
        for stem, (low, high) in found.items()
    ]


def _held_out(kind: str, folder: Path) -> list[Pair]:
    """List the pairs that training holds out, using training's own reader so that the two cannot diverge."""
    rows = READERS[kind](Source(kind, (folder,)))
    return _told_apart(folder / "low", ((row.low, row.high) for row in rows if row.validation and row.low is not None))


def _order(pair: Pair) -> tuple[int, str]:
    """Sort key: numeric stems by value (22 before 111)."""
    return (int(pair.stem) if pair.stem.isdecimal() else 0, pair.stem)
