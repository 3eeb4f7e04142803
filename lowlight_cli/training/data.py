"""Training pairs, listed by `sources` and decoded by `decoded`, and the crops and batches that networks see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from lowlight_cli.errors import InputError
from lowlight_cli.exposure import apply_gain, auto_gain, thumbnail
from lowlight_cli.training.darken import codec_noise, physical
from lowlight_cli.training.decoded import decode
from lowlight_cli.training.scenes import first_alike
from lowlight_cli.training.sources import Source, held, listed, named, scenes_told

__all__ = [
    "Batch", "Crop", "Pair", "alone", "batch_of", "blended", "cut", "read_source", "seen", "small",
]  # fmt: skip

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
DARKENED: Final = 3
"""Before darkening, photographs are reduced to at most this many crops on the shorter side: enough to measure the whole
picture, without darkening twelve megapixels for one crop."""


@dataclass(frozen=True)
class Pair:
    """A decoded pair, (H, W, 3) uint8 each; `low` is None if it is to be made from `high`, or if `high` is unpaired.

    `cleaned`: the low picture is one of LOL's, stored with a lossy codec that removed its noise.
    """

    stem: str
    low: Bytes | None
    high: Bytes
    scene: str
    validation: bool
    cleaned: bool


@dataclass(frozen=True)
class Batch:
    """Crops as the network sees them, (N, 3, h, w) float32 in [0, 1], and thumbnails of the whole pictures.

    `unpaired`: the same number of crops of other photographs, if the recipe uses them.
    """

    low: Tensor
    high: Tensor
    thumbnail: Tensor
    unpaired: Tensor | None = None

    def pinned(self) -> Batch:
        """Return a copy in pinned memory, which a GPU can read asynchronously."""
        return Batch(*(t if t is None else t.pin_memory() for t in self._tensors()))  # type: ignore[arg-type]

    def to(self, device: str) -> Batch:
        """Return a copy on the device, channels last; from pinned memory without waiting."""
        moved = (
            t if t is None else t.to(device, memory_format=torch.channels_last, non_blocking=True)
            for t in self._tensors()
        )
        return Batch(*moved)  # type: ignore[arg-type]

    def _tensors(self) -> tuple[Tensor | None, ...]:
        return self.low, self.high, self.thumbnail, self.unpaired


@dataclass(frozen=True)
class Crop:
    """One sample of a batch: crops (h, w, 3) float32 in [0, 1], and the thumbnail of the whole picture, (64, 64, 3)."""

    low: Floats
    high: Floats
    thumbnail: Floats
    unpaired: Floats | None = None


def read_source(source: Source, cache: Path) -> list[Pair]:
    """Return every pair of a source, decoded through the cache.

    Raises:
        InputError: a folder or picture is missing or unreadable, or the sizes of a pair differ; the message names the
            first such pictures.
    """
    rows = listed(source)
    pictures = decode([p for row in rows for p in (row.low, row.high) if p is not None], cache)
    if not scenes_told(source):
        firsts = first_alike([pictures[row.high] for row in rows])
        rows = [
            replace(row, scene=rows[n].scene, validation=held(rows[n].scene))
            for row, n in zip(rows, firsts, strict=True)
        ]
    pairs = [
        Pair(
            row.high.stem,
            pictures[row.low] if row.low else None,
            pictures[row.high],
            row.scene,
            row.validation,
            source.kind == "lol" and row.low is not None and row.low.suffix == ".avif",
        )
        for row in rows
    ]
    unequal = [p.stem for p in pairs if p.low is not None and p.low.shape != p.high.shape]
    if unequal:
        raise InputError(f"{source.paths[0]}: {len(unequal)} pairs of unequal size: {named(unequal)}")
    return pairs


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
    """Flip or rotate a sample at random, and expose it as the network is to see it.

    Args:
        sample: low and high, (H, W, 3) uint8 of equal size, and the whole picture from which low was cut.
        exposed: whether to apply the gain of the whole picture to low.
        random: source of the flips and rotations.
        means: `small` of the whole picture, if known.
        unpaired: a crop of the same size from another photograph.
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
    """Map each byte through a table, in a third of the time of NumPy indexing."""
    return np.asarray(cv2.LUT(np.ascontiguousarray(picture), table), np.float32)


def blended(one: Crop, other: Crop, share: float) -> Crop:
    """Blend two crops and their references alike (mixup, Zhang et al. 2018): `share` of `one`, the rest of `other`."""
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
    """Average a whole picture over at most 64 x 64 cells, (h, w, 3) in [0, 1], for the gain and the thumbnail."""
    return thumbnail(np.divide(whole, 255, dtype=np.float32))


def cut(pair: Pair, crop: int, random: Generator) -> tuple[Bytes, Bytes, Bytes]:
    """Return a random crop of a pair (low, high) and the whole low picture.

    The low picture is synthesised if the pair has none, and gets its noise back if it is `cleaned`.
    """
    if pair.low is None:
        low, high = physical(_resized(pair.high, crop, random.uniform(0.45, 0.9), DARKENED), random)
    else:
        low, high = pair.low, pair.high
    window = _window(high, crop, random)
    piece = low[window]
    if pair.cleaned:
        piece = codec_noise(piece, random)
    return piece, high[window], low


def alone(pair: Pair, crop: int, resized: bool, random: Generator) -> Bytes:
    """Return a random crop of a single photograph; `resized` must be off for real nights, as it averages noise away."""
    picture = pair.high
    if resized or min(picture.shape[:2]) < crop:
        picture = _resized(picture, crop, random.uniform(0.45, 0.9))
    return picture[_window(picture, crop, random)]


def _resized(picture: Bytes, crop: int, share: float, most: int | None = None) -> Bytes:
    """Scale to a share of the size, which is first capped at `most` crops on the shorter side; at least to the crop."""
    short = min(picture.shape[:2])
    scale = max(crop, (short if most is None else min(short, most * crop)) * share) / short
    size = (max(crop, round(picture.shape[1] * scale)), max(crop, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _window(picture: Bytes, crop: int, random: Generator) -> tuple[slice, slice]:
    height, width = picture.shape[:2]
    side = min(crop, height, width)
    y, x = random.integers(height - side + 1), random.integers(width - side + 1)
    return slice(y, y + side), slice(x, x + side)


def _turn(picture: Bytes, random: Generator) -> Bytes:
    """Apply one of the eight combinations of quarter turns and a flip."""
    picture = np.rot90(picture, int(random.integers(4)))
    return picture[:, ::-1] if random.random() < 0.5 else picture


def _stack(pictures: list[Floats]) -> Tensor:
    stacked = torch.from_numpy(np.ascontiguousarray(np.stack(pictures), np.float32))
    return stacked.permute(0, 3, 1, 2)
