"""Where models fail, as pictures with a reference: free photographs, made dark by lowlight itself.

The photographs are those that scikit-image carries in its package and that nobody holds rights in: coffee (Rachel
Michetti) and chelsea (Stefan van der Walt) are CC0, astronaut (NASA) and rocket (SpaceX) are in the public domain. Each
case is a strength and a seed of `darkened`, the method `physical` of `lowlight darken`, so that it is the same on every
machine; one has its light changed before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

from lowlight_cli.exposure import to_linear, to_srgb
from lowlight_cli.training.darken import darkened

Bytes = NDArray[np.uint8]

SIZE: Final = (300, 200)
"""Width and height of each."""


@dataclass(frozen=True)
class Case:
    """A photograph, how it is made dark, and what happens there.

    Attributes:
        name: for the sheet.
        said: what the picture is, for the card.
        photograph: (200, 300, 3) uint8 sRGB.
        light: the share that is left; None leaves the picture bright, its own reference.
        seed: of everything else.
    """

    name: str
    said: str
    photograph: Callable[[], Bytes]
    light: float | None
    seed: int = 0

    def pair(self) -> tuple[Bytes, Bytes]:
        """The dark picture and its reference, (200, 300, 3) uint8 each."""
        picture = self.photograph()
        if self.light is None:
            return picture, picture
        pair = darkened(picture, np.random.default_rng(self.seed), (self.light, self.light))
        return pair.low, pair.high


def _fitted(picture: Bytes) -> Bytes:
    """The middle of a picture, at `SIZE`."""
    height, width = picture.shape[:2]
    scale = max(SIZE[0] / width, SIZE[1] / height)
    size = (round(width * scale), round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    top, left = (small.shape[0] - SIZE[1]) // 2, (small.shape[1] - SIZE[0]) // 2
    return np.ascontiguousarray(small[top : top + SIZE[1], left : left + SIZE[0]], np.uint8)


def _mixed(picture: Bytes) -> Bytes:
    """Lit by a warm lamp from the left and by a blue evening from the right."""
    warm, cold = np.array([1.0, 0.62, 0.25], np.float32), np.array([0.35, 0.6, 1.0], np.float32)
    across = np.linspace(0, 1, picture.shape[1], dtype=np.float32)[None, :, None]
    light = to_linear(picture.astype(np.float32) / 255) * ((1 - across) * warm + across * cold)
    return np.asarray(np.rint(to_srgb(np.clip(light, 0, 1)) * 255), np.uint8)


CASES: Final = (
    Case(
        "deepest shadow",
        "1/250 of the light: most of the picture lies within the first levels of eight bits",
        lambda: _fitted(skimage.data.coffee()),
        0.004,
        3,
    ),
    Case(
        "strong noise",
        "a fiftieth of the light and a sensor at its limit",
        lambda: _fitted(skimage.data.chelsea()),
        0.02,
        6,
    ),
    Case(
        "lamps and a black sky",
        "lamps far brighter than white against a night sky, which should stay dark",
        lambda: _fitted(skimage.data.rocket()),
        0.03,
        10,
    ),
    Case(
        "mixed light",
        "a warm lamp at the left, blue evening at the right; both belong to the scene",
        lambda: _mixed(_fitted(skimage.data.astronaut())),
        0.03,
        3,
    ),
    Case(
        "not dark at all",
        "a well-lit photograph, which should come back unchanged",
        lambda: _fitted(skimage.data.astronaut()),
        None,
    ),
)
