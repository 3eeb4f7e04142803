"""Pairs to train on: sources, decoding once, crops.

A source is written `KIND:PATH`, with `@WEIGHT` behind it for its share of the batches:

    lol:PATH          our485/{low,high} and siblings/{low,high} where they are; scenes.csv tells which are one scene
    sice:PATH         low/, high/ and pairs.csv with its split
    pairs:LOW,HIGH    two folders, matched by stem whatever the suffix; of one scene are those that `lowlight darken`
                      made of one photograph, as the manifest beside LOW tells
    bright:PATH       well-lit photographs, darkened anew each time (darken.physical)
    dark:PATH         photographs of real nights, without partners: for recipes that ask for them

Everything is decoded once into one memory-mapped file in the cache and cut from there.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lowlight_cli.errors import InputError, UsageError
from lowlight_cli.exposure import apply_gain, auto_gain, thumbnail
from lowlight_cli.training.darken import codec_noise, physical
from lowlight_cli.weights.disk import replaced

__all__ = [
    "Batch", "Crop", "Pair", "Source", "alone", "batch_of", "blended", "cut", "named", "parse", "read_source", "seen",
    "small",
]  # fmt: skip

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff"})
HELD_OUT: Final = 20
"""Every HELD_OUT-th scene is kept for validation."""


@dataclass(frozen=True)
class Source:
    """One `--data` value: where from, and how often beside the others."""

    kind: str
    paths: tuple[Path, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Pair:
    """One pair, decoded: (H, W, 3) uint8 each; `low` is None where it is to be made from `high`, or `high` is alone.

    `cleaned`: the low picture was kept by a lossy codec, which took its noise away.
    """

    stem: str
    low: Bytes | None
    high: Bytes
    scene: str
    validation: bool
    cleaned: bool


@dataclass(frozen=True)
class Batch:
    """Crops as the network sees them: (N, 3, h, w) float32 in [0, 1], and the whole pictures' thumbnails.

    `unpaired`: as many crops of other photographs, where a recipe asks for such.
    """

    low: Tensor
    high: Tensor
    thumbnail: Tensor
    unpaired: Tensor | None = None

    def pinned(self) -> Batch:
        """In memory from which a GPU reads while the processor goes on."""
        return Batch(*(t if t is None else t.pin_memory() for t in self._tensors()))  # type: ignore[arg-type]

    def to(self, device: str) -> Batch:
        """On the device, channels last; from pinned memory without waiting."""
        moved = (
            t if t is None else t.to(device, memory_format=torch.channels_last, non_blocking=True)
            for t in self._tensors()
        )
        return Batch(*moved)  # type: ignore[arg-type]

    def _tensors(self) -> tuple[Tensor | None, ...]:
        return self.low, self.high, self.thumbnail, self.unpaired


@dataclass(frozen=True)
class Crop:
    """One part of a batch: (h, w, 3) float32 in [0, 1], the thumbnail of the whole picture (64, 64, 3)."""

    low: Floats
    high: Floats
    thumbnail: Floats
    unpaired: Floats | None = None


def parse(text: str) -> Source:
    """`KIND:PATH[,PATH][@WEIGHT]` to a Source.

    Raises:
        UsageError: no such kind, or a weight that is no positive number.
    """
    kind, colon, rest = text.partition(":")
    if not colon or kind not in READERS:
        raise UsageError(f"--data {text!r}: write KIND:PATH, where KIND is one of {', '.join(READERS)}")
    rest, at, number = rest.rpartition("@") if "@" in rest else (rest, "", "1")
    try:
        weight = float(number)
    except ValueError:
        rest, weight = rest + at + number, 1.0
    if weight <= 0:
        raise UsageError(f"--data {text!r}: the weight behind @ must be above 0")
    return Source(kind, tuple(Path(part).expanduser() for part in rest.split(",")), weight)


def read_source(source: Source, cache: Path) -> list[Pair]:
    """Every pair of a source, decoded by way of the cache.

    Raises:
        InputError: a folder or picture is missing, unreadable, or a pair's sizes differ; the message names the first
            such pictures.
    """
    listed = READERS[source.kind](source)
    if not listed:
        raise InputError(f"{source.paths[0]}: no picture found for {source.kind}: (expected its usual folders)")
    pictures = _decode([p for row in listed for p in (row.low, row.high) if p is not None], cache)
    pairs = [
        Pair(
            row.high.stem,
            pictures[row.low] if row.low else None,
            pictures[row.high],
            row.scene,
            row.validation,
            row.low is not None and row.low.suffix == ".avif",
        )
        for row in listed
    ]
    unequal = [p.stem for p in pairs if p.low is not None and p.low.shape != p.high.shape]
    if unequal:
        raise InputError(f"{source.paths[0]}: {len(unequal)} pairs of unequal size: {named(unequal)}")
    return pairs


def named(stems: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(stems[:5]) + (f" and {len(stems) - 5} more" if len(stems) > 5 else "")


_LEVELS: Final = np.repeat(np.arange(256, dtype=np.float32)[:, None] / np.float32(255), 3, 1)
_AS_IS: Final = np.ascontiguousarray(_LEVELS[:, 0])


def seen(
    sample: tuple[Bytes, Bytes, Bytes],
    exposed: bool,
    random: Generator,
    *,
    means: Floats | None = None,
    unpaired: Bytes | None = None,
) -> Crop:
    """Turn a sample and expose it as the network is to see it.

    Args:
        sample: low and high, (H, W, 3) uint8 of equal size, and the whole picture that low is or was cut from.
        exposed: hand the network the low picture exposed by the whole picture's gain.
        random: flips and turns are drawn from it.
        means: `small` of the whole picture, where it is known.
        unpaired: a crop of the same size, to lie beside them.
    """
    low, high, whole = sample
    turned = _turn(np.concatenate((low, high), 2), random)
    means = small(whole) if means is None else means
    table = np.ascontiguousarray(apply_gain(_LEVELS, auto_gain(means))[:, 0]) if exposed else _AS_IS
    return Crop(
        _looked_up(turned[..., :3], table),
        _looked_up(turned[..., 3:], _AS_IS),
        np.asarray(cv2.resize(means, (64, 64)), np.float32),
        None if unpaired is None else _looked_up(_turn(unpaired, random), _AS_IS),
    )


def _looked_up(picture: Bytes, table: Floats) -> Floats:
    """Each byte's entry; a third of the time that indexing takes."""
    return np.asarray(cv2.LUT(np.ascontiguousarray(picture), table), np.float32)


def blended(one: Crop, other: Crop, share: float) -> Crop:
    """Mixup (Zhang et al. 2018), of pictures and their references alike: `share` of `one`, the rest of `other`."""
    part = np.float32(share)

    def mixed(a: Floats, b: Floats) -> Floats:
        return part * a + (1 - part) * b

    thumbnail = mixed(one.thumbnail, other.thumbnail)
    return Crop(mixed(one.low, other.low), mixed(one.high, other.high), thumbnail, one.unpaired)


def batch_of(crops: Sequence[Crop]) -> Batch:
    """Stack crops of equal size."""
    unpaired = [crop.unpaired for crop in crops if crop.unpaired is not None]
    return Batch(
        _stack([crop.low for crop in crops]),
        _stack([crop.high for crop in crops]),
        _stack([crop.thumbnail for crop in crops]),
        _stack(unpaired) if unpaired else None,
    )


def small(whole: Bytes) -> Floats:
    """A whole picture's averages over at most 64 x 64 cells, (h, w, 3) in [0, 1]: what gain and thumbnail come from."""
    return thumbnail(np.divide(whole, 255, dtype=np.float32))


def cut(pair: Pair, crop: int, random: Generator) -> tuple[Bytes, Bytes, Bytes]:
    """A random crop of a pair, and the whole low picture; synthesised or given its noise back where that is due."""
    if pair.low is None:
        low, high = physical(_resized(pair.high, crop, random.uniform(0.45, 0.9)), random)
    else:
        low, high = pair.low, pair.high
    window = _window(high, crop, random)
    piece = low[window]
    if pair.cleaned:
        piece = codec_noise(piece, random)
    return piece, high[window], low


def alone(pair: Pair, crop: int, resized: bool, random: Generator) -> Bytes:
    """A random crop of a photograph that has no partner; of real nights not `resized`, for that averages noise away."""
    picture = pair.high
    if resized or min(picture.shape[:2]) < crop:
        picture = _resized(picture, crop, random.uniform(0.45, 0.9))
    return picture[_window(picture, crop, random)]


def _resized(picture: Bytes, crop: int, share: float) -> Bytes:
    """A share of its size, but at least the crop's."""
    short = min(picture.shape[:2])
    scale = max(crop, short * share) / short
    size = (max(crop, round(picture.shape[1] * scale)), max(crop, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _window(picture: Bytes, crop: int, random: Generator) -> tuple[slice, slice]:
    height, width = picture.shape[:2]
    side = min(crop, height, width)
    y, x = random.integers(height - side + 1), random.integers(width - side + 1)
    return slice(y, y + side), slice(x, x + side)


def _turn(picture: Bytes, random: Generator) -> Bytes:
    """One of the eight flips and quarter turns."""
    picture = np.rot90(picture, int(random.integers(4)))
    return picture[:, ::-1] if random.random() < 0.5 else picture


def _stack(pictures: list[Floats]) -> Tensor:
    stacked = torch.from_numpy(np.ascontiguousarray(np.stack(pictures), np.float32))
    return stacked.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Row:
    low: Path | None
    high: Path
    scene: str
    validation: bool = False


def _folder(path: Path) -> dict[str, Path]:
    """Pictures of a folder by stem."""
    if not path.is_dir():
        raise InputError(f"{path}: no such folder")
    found: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        if file.suffix.lower() in SUFFIXES:
            if file.stem in found:
                both = f"{found[file.stem].name} and {file.name}"
                raise InputError(f"{path}: {both} share a stem: which is the pair's? Move the other away")
            found[file.stem] = file
    return found


def _matched(low: Path, high: Path) -> list[tuple[Path, Path]]:
    lows, highs = _folder(low), _folder(high)
    if single := sorted(lows.keys() ^ highs.keys()):
        raise InputError(f"{low} and {high}: {len(single)} pictures without partner: {named(single)}")
    return [(lows[stem], highs[stem]) for stem in sorted(lows)]


def _lol(source: Source) -> list[_Row]:
    root = source.paths[0]
    scenes: dict[str, str] = {}
    if (root / "scenes.csv").is_file():
        with (root / "scenes.csv").open(newline="") as file:
            scenes = {f"{row['folder']}/{row['stem']}": row["scene"] for row in csv.DictReader(file)}
    folders = [root / name for name in ("our485", "siblings") if (root / name).is_dir()] or [root]
    rows = []
    for folder in folders:
        for low, high in _matched(folder / "low", folder / "high"):
            scene = scenes.get(f"{folder.name}/{high.stem}", high.stem)
            rows.append(_Row(low, high, scene, _held(scene)))
    return rows


def _sice(source: Source) -> list[_Row]:
    root = source.paths[0]
    listing = root / "pairs.csv"
    if not listing.is_file():
        raise InputError(f"{listing}: missing; sice: wants low/, high/ and pairs.csv (low, high, scene, split)")
    with listing.open(newline="") as file:
        return [
            _Row(root / "low" / row["low"], root / "high" / row["high"], f"sice {row['scene']}", row["split"] == "val")
            for row in csv.DictReader(file)
        ]


def _pairs(source: Source) -> list[_Row]:
    if len(source.paths) != 2:
        raise UsageError("--data pairs: wants two folders, pairs:LOW,HIGH")
    made: dict[str, str] = {}
    if (manifest := source.paths[0].parent / "manifest.jsonl").is_file():
        for line in manifest.read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # cut short, or of another command
                made[Path(json.loads(line)["low"]).stem] = str(json.loads(line)["input"])
    matched = [(low, high, made.get(low.stem, low.stem)) for low, high in _matched(*source.paths)]
    return [_Row(low, high, scene, _held(scene)) for low, high, scene in matched]


def _held(scene: str) -> bool:
    """Whether a scene is kept for validation: a matter of its name, so that more pictures change nothing."""
    return int(hashlib.sha256(f"scene {scene}".encode()).hexdigest(), 16) % HELD_OUT == 0


def _single(source: Source) -> list[_Row]:
    return [_Row(None, file, file.stem) for file in _folder(source.paths[0]).values()]


READERS: Final = {"lol": _lol, "sice": _sice, "pairs": _pairs, "bright": _single, "dark": _single}


def _decode(paths: list[Path], cache: Path) -> dict[Path, Bytes]:
    """Pictures as views of one memory-mapped file, which is made on first use."""
    unique = sorted(set(paths))
    missing = [str(p) for p in unique if not p.is_file()]
    if missing:
        raise InputError(f"{len(missing)} pictures are missing: {named(missing)}")
    state = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in unique]
    key = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    flat, index = cache / f"{key}.u8", cache / f"{key}.json"
    if not index.is_file():
        shapes: list[tuple[int, int]] = []
        damaged: list[str] = []
        with replaced(flat) as part, part.open("wb") as file:
            for path in unique:
                try:
                    with Image.open(path) as picture:
                        pixels = np.asarray(picture.convert("RGB"))
                except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow's readers raise
                    damaged.append(str(path))
                    continue
                file.write(pixels.tobytes())
                shapes.append((pixels.shape[0], pixels.shape[1]))
            if damaged:
                raise InputError(f"{len(damaged)} files cannot be read as pictures: {named(damaged)}")
        with replaced(index) as part:
            part.write_text(json.dumps(shapes))
    shapes = [tuple(shape) for shape in json.loads(index.read_text())]
    mapped = np.memmap(flat, np.uint8, "r")
    views, start = {}, 0
    for path, (height, width) in zip(unique, shapes, strict=True):
        end = start + height * width * 3
        views[path] = np.asarray(mapped[start:end]).reshape(height, width, 3)
        start = end
    return views
