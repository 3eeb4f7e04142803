"""How many pictures of a folder a CPU is to brighten at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lowlight_cli.engines import hardware, memory
from lowlight_cli.enhancer import Settings
from lowlight_cli.errors import InputError
from lowlight_cli.networks import descriptor
from lowlight_cli.pictures import header

__all__ = ["at_once"]

MOST: Final = 8
"""Pictures at the same time, at most."""

LARGEST: Final = 400.0
"""Multiply-adds of a picture, in 1e9, that one core is given: some ten seconds."""

SAMPLE: Final = 64
"""Pictures of a folder that are looked at for their size."""

CAMERA: Final = 24_000_000
"""Pixels that a photograph commonly has."""


def at_once(settings: Settings, pictures: Sequence[Path]) -> int:
    """One a core where the pictures are small, as far as the memory goes; else 1.

    A core by itself is done with more small pictures than its share of what all do together. Large ones come one by
    one: on one core each would take its time, and whoever wants to stop would have to wait for all of them.

    Args:
        settings: with what they are brightened.
        pictures: all that are to come.
    """
    pixels = max(map(_pixels, pictures[:: max(1, len(pictures) // SAMPLE)]), default=0)
    passes = 8 if settings.self_ensemble else 1
    if passes * pixels * descriptor(settings.model).gmacs > LARGEST * 384**2:
        return 1
    cores, left = hardware.cores(), memory.left(settings.tiling.memory)
    # Twice: a picture has copies outside of the network, and others may be larger than those that were looked at.
    room = cores if left is None else left // (2 * memory.needed(settings.model, "fp32", pixels, "onnx"))
    return max(1, min(cores, MOST, room, len(pictures)))


def _pixels(path: Path) -> int:
    """Of a picture, from its first bytes; of a kind that hides them, as many as cameras make; of a damaged one 0."""
    try:
        found = header(path)
    except InputError:  # what is wrong with it is told when its turn comes
        return 0
    return found.width * found.height if found else CAMERA
