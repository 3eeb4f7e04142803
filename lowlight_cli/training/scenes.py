"""Group references by scene, by similarity, for data without scene labels.

LOL's 485 pairs show 235 scenes, and its files do not say which. If pairs were held out one by one, most validation
pictures would show scenes that are also trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["first_alike", "signature"]

SIZE: Final = (48, 32)
"""Width and height of the thumbnails that are compared."""
ALIKE: Final = 0.9
"""Least correlation between pictures of one scene: it finds LOL's 235 scenes without a fault, as does 0.95; 0.85 merges
two pairs of scenes."""


def first_alike(pictures: Sequence[NDArray[np.uint8]]) -> list[int]:
    """Return for each picture, (H, W, 3) uint8, the index of the first one of its scene (maybe its own)."""
    signatures = np.stack([signature(picture, SIZE) for picture in pictures])
    scenes = list(range(len(pictures)))
    for number, likeness in enumerate(signatures @ signatures.T):
        alike = {scenes[other] for other in np.flatnonzero(likeness >= ALIKE)} | {scenes[number]}
        if len(alike) > 1:  # scenes that this picture joins
            scenes = [min(alike) if scene in alike else scene for scene in scenes]
    return scenes


def signature(picture: NDArray[np.uint8 | np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a signature that ignores gain: a thumbnail of `size` (width, height) minus its mean, as a unit vector."""
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-9), np.float32)
