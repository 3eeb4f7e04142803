"""Measure how bright a picture is, and how much of it is white or black, for manifests and JSON output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.exposure import bands, largest
from lowlight_cli.look import mean_luma

__all__ = ["Light", "figures", "light"]

BLACK: Final = 0.5 / 255
"""Level up to which a channel counts as black: a level or two above 0 still holds light."""

WHITE: Final = 249.5 / 255
"""Level from which a channel counts as white: networks come close to 255 but seldom reach it."""


@dataclass(frozen=True)
class Light:
    """A picture's brightness: mean luma, and the shares of pixels black in all channels and white in at least one."""

    luma: float
    black: float
    white: float


def light(picture: NDArray[np.float32]) -> Light:
    """The brightness of (H, W, 3) float32 RGB in [0, 1]."""
    height, width, _ = picture.shape
    black = white = 0
    for band in bands(height, width):
        most = largest(picture[band])
        black += int(np.count_nonzero(most <= np.float32(BLACK)))
        white += int(np.count_nonzero(most >= np.float32(WHITE)))
    return Light(mean_luma(picture), black / (height * width), white / (height * width))


def figures(before: Light | None, after: Light | None) -> dict[str, Any]:
    """The fields `luma` and `clipped` of a manifest and of JSON output: what was measured `before` and `after`."""
    both = {when: each for when, each in (("before", before), ("after", after)) if each}
    if not both:
        return {}
    return {
        "luma": {when: round(each.luma, 4) for when, each in both.items()},
        "clipped": {
            when: {"black": round(each.black, 4), "white": round(each.white, 4)} for when, each in both.items()
        },
    }
