"""Which references show one scene, where nobody has said so.

LOL's 485 pairs are of 235 scenes, and its files do not tell which. Held out one by one, most validation pictures
would be of scenes that are trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["first_alike", "signature"]

SIZE: Final = (48, 32)
"""Width and height of what is compared."""
ALIKE: Final = 0.9
"""Correlation from which two pictures are one scene: finds LOL's 235 scenes without a fault, as 0.95 does; 0.85
puts two pairs of them together."""


def first_alike(pictures: Sequence[NDArray[np.uint8]]) -> list[int]:
    """For each picture, (H, W, 3) uint8, the number of the first one of its scene, which may be its own."""
    signatures = np.stack([signature(picture, SIZE) for picture in pictures])
    scenes = list(range(len(pictures)))
    for number, likeness in enumerate(signatures @ signatures.T):
        alike = {scenes[other] for other in np.flatnonzero(likeness >= ALIKE)} | {scenes[number]}
        if len(alike) > 1:  # scenes that this picture joins
            scenes = [min(alike) if scene in alike else scene for scene in scenes]
    return scenes


def signature(picture: NDArray[np.uint8 | np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """What a picture shows, whatever its exposure: a copy of `size` (width, height), less its mean, of length 1."""
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-9), np.float32)
