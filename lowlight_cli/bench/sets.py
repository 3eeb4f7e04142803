"""Data sets: where their pairs lie, what is held out, what must be said beside their figures.

    lol          the 15 published test pairs of LOL v1 (eval15)
    lol-scenes   pairs of LOL v1's scenes that `lowlight train` holds out, where the low picture still has its noise
    sice         the validation scenes of SICE's exposures
    PATH         any folder with low/ and high/

Pairs are matched by stem, whatever the suffix.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.errors import InputError, UsageError
from lowlight_cli.metrics.ssim import SMALLEST
from lowlight_cli.pictures import FORMATS, read

__all__ = ["SETS", "DataSet", "Pair", "by_stem", "find", "read_pair", "same"]

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """The files of a dark picture and its reference."""

    stem: str
    low: Path
    high: Path


@dataclass(frozen=True)
class DataSet:
    """What to measure on.

    Attributes:
        name: what the user typed.
        title: what tables call it.
        pairs: in the order of their stems.
        limited: whether there are more pairs that were left out.
        notes: what must stand under every table.
    """

    name: str
    title: str
    pairs: tuple[Pair, ...]
    limited: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Known:
    """A set with a name: how it is called elsewhere, where it is looked for, what to say where it is missing."""

    title: str
    aliases: tuple[str, ...]
    places: tuple[str, ...]
    parts: tuple[str, ...]
    missing: str
    notes: tuple[str, ...] = ()


LOL: Final = "LOL v1 (Wei et al., BMVC 2018, https://daooshee.github.io/BMVC2018website/)"
OVERLAP: Final = (
    "14 of the 15 eval15 scenes also occur in our485, LOL's training pairs, at other exposures: "
    "a figure on eval15 measures memory as much as skill"
)
SCENES: Final = (
    "of LOL's training scenes, `lowlight train` holds out one in twenty, chosen by hash, and these are they; weights "
    "that were trained elsewhere may have seen them"
)

SETS: Final[dict[str, _Known]] = {
    "lol": _Known(
        "LOL v1 eval15",
        ("eval15", "lol eval15", "lol v1 eval15"),
        ("lol/eval15", "LOL/eval15", "LOLdataset/eval15", "lol_dataset/eval15", "eval15"),
        ("low", "high"),
        f"get {LOL} and unpack it so that eval15/low and eval15/high hold its 15 test pairs, 600x400",
        (OVERLAP,),
    ),
    "lol-scenes": _Known(
        "LOL v1, held-out scenes",
        ("lol scenes", "lol held-out scenes", "lol v1 held-out scenes"),
        ("lol", "LOL", "LOLdataset", "lol_dataset", "."),
        ("our485/low", "our485/high", "scenes.csv"),
        f"get {LOL}, unpack it so that our485/low and our485/high hold its training pairs, and put a scenes.csv beside "
        "our485 with the columns folder, stem and scene, which tells the pictures that show one scene "
        "(our485,2,0: picture 2 shows scene 0)",
        (SCENES, OVERLAP),
    ),
    "sice": _Known(
        "SICE, validation scenes",
        ("sice val", "sice validation"),
        ("sice", "SICE", "."),
        ("low", "high", "pairs.csv"),
        "get SICE (Cai et al., TIP 2018, https://github.com/csjcai/SICE) and lay out low/, high/ and a pairs.csv with "
        "the columns low, high (file names), scene and split, where split is val for what is measured",
    ),
}  # fmt: skip
"""Name to what is known of it."""


def find(name: str, root: Path, limit: int | None = None) -> DataSet:
    """The set that is meant, its pairs listed and matched; no picture is opened.

    Args:
        name: one of `SETS`, or a folder with low/ and high/.
        root: where named sets are looked for.
        limit: take only so many pairs.

    Raises:
        UsageError: neither a known name nor a path.
        InputError: it is not there, or pictures have no partner; the message tells what it must look like.
    """
    if known := SETS.get(name):
        folder = _place(name, known, root)
        pairs = {"lol": _folders, "lol-scenes": _scenes, "sice": _sice}[name](folder)
        title, notes = known.title, known.notes
    else:
        folder = Path(name).expanduser()
        if not folder.exists() and not {"/", "\\"} & set(name):
            near = difflib.get_close_matches(name, SETS, n=1)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else f"there are {', '.join(SETS)}, or a folder with low/ and high/"
            )
            raise UsageError(f"no data set {name!r}: {hint}")
        pairs, title, notes = _folders(folder), name, ()
    if not pairs:
        raise InputError(f"{folder}: no pair for {title}")
    kept = tuple(sorted(pairs, key=_order)[:limit])
    return DataSet(name, title, kept, len(kept) < len(pairs), notes)


def same(text: str, dataset: str) -> bool:
    """Whether `text`, as figures are labelled in weights.toml, means the set `dataset`."""
    plain = " ".join(text.lower().replace(",", " ").split())
    return plain == dataset or (dataset in SETS and plain in SETS[dataset].aliases)


def read_pair(pair: Pair) -> tuple[Picture, Picture]:
    """The low picture and its reference, (H, W, 3) each.

    Raises:
        InputError: one of them cannot be read, their sizes differ, or they are too small for SSIM.
    """
    low, high = read(pair.low).pixels, read(pair.high).pixels
    if low.shape != high.shape:
        sizes = " and ".join(f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in (low, high))
        raise InputError(f"{pair.low} and {pair.high} differ in size ({sizes}): a pair shows the same pixels")
    if min(low.shape[:2]) < SMALLEST:
        raise InputError(f"{pair.low} is too small to be measured: SSIM wants {SMALLEST} pixels a side")
    return low, high


def by_stem(folder: Path) -> dict[str, Path]:
    """The pictures of a folder.

    Raises:
        InputError: there is no such folder, or two pictures share a stem.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in FORMATS and not file.name.startswith("."):
            if file.stem in found:
                raise InputError(f"{folder}: {found[file.stem].name} and {file.name} share a stem; remove one of them")
            found[file.stem] = file
    return found


def _place(name: str, known: _Known, root: Path) -> Path:
    """The first usual place below `root` that holds all parts of a set."""
    for place in known.places:
        if all((root / place / part).exists() for part in known.parts):
            return root / place
    parts = ", ".join(known.parts)
    raise InputError(
        f"data set {name} is not under {root} (looked for {parts} in {', '.join(known.places)}): {known.missing}; "
        "then --root or LOWLIGHT_DATA names the folder above it"
    )


def _folders(folder: Path) -> list[Pair]:
    for part in ("low", "high"):
        if not (folder / part).is_dir():
            raise InputError(f"{folder / part}: no such folder; a data set is a folder with low/ and high/")
    lows, highs = by_stem(folder / "low"), by_stem(folder / "high")
    if single := sorted(lows.keys() ^ highs.keys()):
        raise InputError(f"{folder}: {len(single)} pictures of low/ or high/ have no partner, first {single[0]}")
    return [Pair(stem, lows[stem], highs[stem]) for stem in lows]


def _scenes(folder: Path) -> list[Pair]:
    return [pair for pair in _held_out("lol", folder) if pair.low.suffix != ".avif"]


def _sice(folder: Path) -> list[Pair]:
    return list(_held_out("sice", folder))


def _held_out(kind: str, folder: Path) -> Iterator[Pair]:
    """What training keeps for validation: asked of training itself, so that the two never drift apart."""
    from lowlight_cli.training.data import READERS, Source

    for row in READERS[kind](Source(kind, (folder,))):
        if row.validation and row.low is not None:
            yield Pair(row.low.stem, row.low, row.high)


def _order(pair: Pair) -> tuple[int, str]:
    """22 before 111."""
    return (int(pair.stem) if pair.stem.isdecimal() else 0, pair.stem)
