"""Decide how many pictures of a folder are enhanced at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lowlight_cli.engines import hardware, memory
from lowlight_cli.enhancer import Enhancer, Settings
from lowlight_cli.networks import descriptor
from lowlight_cli.pictures import pixel_count

__all__ = ["at_once", "callers"]

MOST: Final = 8
"""Most pictures at the same time."""

LARGEST: Final = 400.0
"""Most multiply-adds, in 1e9, of a picture that one core is given: some ten seconds."""

SAMPLE: Final = 64
"""Roughly how many pictures of a folder are sampled for their size."""

SMALL: Final = 2**22
"""Most pixels of pictures that wait for a stream of OpenVINO or for a GPU: they take memory."""

CAMERA: Final = 24_000_000
"""Pixels of a typical photograph."""


def at_once(settings: Settings, pictures: Sequence[Path]) -> int:
    """One picture per core if they are small, as far as memory allows; else 1.

    Cores that each work on a small picture get more done than all cores together on one. Large pictures come one by
    one: a single core would take long over each, and a user who stops the batch would have to wait for all of them.

    Args:
        settings: how they are enhanced.
        pictures: all that are to come.
    """
    pixels = _most_pixels(pictures)
    passes = 8 if settings.self_ensemble else 1
    if passes * pixels * descriptor(settings.model).gmacs > LARGEST * 384**2:
        return 1
    cores, left = hardware.cores(), memory.left(settings.tiling.memory)
    # Twice: a picture is also copied outside the network, and others may be larger than those in the sample.
    room = cores if left is None else left // (2 * memory.needed(settings.model, "fp32", pixels, "onnx"))
    return max(1, min(cores, MOST, room, len(pictures)))


def callers(enhancer: Enhancer, pictures: Sequence[Path]) -> int:
    """Number of threads that keep a loaded enhancer busy.

    Small pictures have more of them than passes at once, so that neither streams nor GPUs are idle. OpenVINO runs each
    pass on a stream that stays on its cores, whatever its caller does meanwhile: two callers for each stream. Around a
    pass on a GPU, a core takes many times as long as the pass, so half of the cores do that.

    Args:
        enhancer: loaded, and told of `at_once`.
        pictures: all that are to come.
    """
    engine, _ = enhancer.load()
    threads = enhancer.at_once
    on_gpu = engine.name == "torch" and engine.device.startswith("cuda")
    if not (on_gpu or (engine.name == "openvino" and threads > 1)) or _most_pixels(pictures) > SMALL:
        return threads
    return max(threads, min(MOST, hardware.cores() // 2)) if on_gpu else 2 * threads


def _most_pixels(pictures: Sequence[Path]) -> int:
    """Pixels of the largest of a sample of the pictures."""
    return max(map(_pixels, pictures[:: max(1, len(pictures) // SAMPLE)]), default=0)


def _pixels(path: Path) -> int:
    """Pixels of a picture by its header; `CAMERA` if its format hides them, 0 if it is damaged."""
    found = pixel_count(path)  # damage is reported when its turn comes
    return CAMERA if found is None else found
