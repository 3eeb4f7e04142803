"""The look-up baseline: for a test picture of LOL, return the reference of the most similar training picture.

It shows how far memory alone goes. It is not for use, but a method should beat it clearly: 14 of the 15 scenes of
eval15 are in LOL's training set too.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.bench.methods import LOOKUP, Method
from lowlight_cli.bench.sets import DataSet, Pair
from lowlight_cli.pictures import read
from lowlight_cli.training.scenes import signature
from lowlight_cli.training.sources import by_stem

__all__ = ["lookup"]

Picture = NDArray[np.float32]

FOLDERS: Final = ("our485", "siblings")
SIZE: Final = (24, 16)
"""Width and height of the thumbnails that are compared."""


def lookup(dataset: DataSet) -> Method | None:
    """Return the method for eval15; None for other sets, or if LOL's training pairs are not beside it.

    Raises:
        InputError: two training pictures share a stem.
    """
    beside = dataset.pairs[0].low.parent.parent.parent
    folders = [beside / name for name in FOLDERS if all((beside / name / part).is_dir() for part in ("low", "high"))]
    pairs = _pairs(folders) if dataset.name == "lol" else []
    if not pairs:
        return None
    remembered = functools.cache(lambda: _remembered(pairs))

    def make(_: Pair, low: Picture) -> Picture:
        signatures, references = remembered()
        found = read(references[int(np.argmax(signatures @ signature(low, SIZE)))]).pixels
        if found.shape == low.shape:
            return found
        size = (low.shape[1], low.shape[0])
        return np.asarray(cv2.resize(found, size, interpolation=cv2.INTER_AREA), np.float32)

    seen = functools.cache(lambda: _seen(pairs))
    return Method(LOOKUP, "baseline", make, identity=lambda _: f"{LOOKUP} {seen()}")


def _pairs(folders: list[Path]) -> list[tuple[Path, Path]]:
    """Return the training pairs, (low, reference); pictures without a reference are left out."""
    pairs = []
    for folder in folders:
        lows, highs = by_stem(folder / "low"), by_stem(folder / "high")
        pairs += [(lows[stem], highs[stem]) for stem in lows if stem in highs]
    return pairs


def _seen(pairs: list[tuple[Path, Path]]) -> str:
    """Hash all training files, which takes far less time than decoding them."""
    digest = hashlib.sha256()
    for file in (file for pair in pairs for file in pair):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _remembered(pairs: list[tuple[Path, Path]]) -> tuple[Picture, list[Path]]:
    """Return the signatures of the training pictures, one a row, and the paths of their references."""
    return np.stack([signature(read(low).pixels, SIZE) for low, _ in pairs]), [high for _, high in pairs]
