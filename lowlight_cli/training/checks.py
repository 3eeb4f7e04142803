"""Checks across decoded pairs: duplicates, validation pictures that leak into training, swapped folders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lowlight_cli.training.data import Bytes, Pair
from lowlight_cli.training.sources import named

__all__ = ["equal", "look_at", "swapped"]


def look_at(pairs: Sequence[Pair]) -> tuple[list[Pair], list[str]]:
    """Compare the pixels of all pairs of a run with each other.

    Pairs that only share a reference are not duplicates: a set may have several exposures of a scene. A validation pair
    has leaked if either of its pictures is in the training data: it would measure memory, not skill.

    Returns:
        The leaked validation pairs, and a line for each thing the user should know.
    """
    given = [pair for pair in pairs if pair.low is not None]
    numbers = equal([pair.low for pair in given if pair.low is not None] + [pair.high for pair in pairs])
    lows, of_pair = numbers[: len(given)], dict(zip(map(id, pairs), numbers[len(given) :], strict=True))
    highs = [of_pair[id(pair)] for pair in given]
    learnt = {low for pair, low in zip(given, lows, strict=True) if not pair.validation}
    learnt |= {of_pair[id(pair)] for pair in pairs if not pair.validation}

    own = [pair for pair, low, high in zip(given, lows, highs, strict=True) if low == high]
    again = [pair for number, (pair, low) in enumerate(zip(given, lows, strict=True)) if low != number]
    leaked = [
        pair
        for pair, low, high in zip(given, lows, highs, strict=True)
        if pair.validation and (low in learnt or high in learnt)
    ]
    told = (
        (own, "dark pictures are the same as their reference"),
        (again, "dark pictures are there more than once"),
        (leaked, "validation pictures are in the training data too, and are left out of validation"),
    )
    return leaked, [f"{len(found)} {what}: {named([pair.stem for pair in found])}" for found, what in told if found]


def swapped(pairs: Sequence[Pair]) -> bool:
    """Return whether most dark pictures are brighter than their reference."""
    given = [(pair.low[::16, ::16], pair.high[::16, ::16]) for pair in pairs if pair.low is not None]
    return 2 * sum(bool(low.mean() > high.mean()) for low, high in given) > len(given)


def equal(pictures: Sequence[Bytes]) -> list[int]:
    """Return for each picture, (H, W, 3) uint8, the index of the first one with the same pixels (maybe its own)."""
    known: dict[tuple[tuple[int, ...], int], list[int]] = {}
    found = []
    for number, picture in enumerate(pictures):
        alike = known.setdefault((picture.shape, hash(picture[::16].tobytes())), [])  # then compare all pixels
        same = next((other for other in alike if np.array_equal(pictures[other], picture)), number)
        if same == number:
            alike.append(number)
        found.append(same)
    return found
