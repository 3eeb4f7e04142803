"""Fill fully transparent pixels with nearby visible colours, so that a network does not see what is hidden there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["filled"]

Picture = NDArray[np.float32]


def filled(picture: Picture, visible: NDArray[np.bool_]) -> Picture:
    """Replace invisible pixels by the average of visible ones nearby; a picture without visible pixels is black.

    Args:
        picture: (H, W, 3).
        visible: (H, W).
    """
    weight = visible.astype(np.float32)
    return np.where(visible[..., None], picture, _spread(picture * weight[..., None], weight))


def _spread(sums: Picture, weight: Picture) -> Picture:
    """Averages (h, w, 3) of visible colours from sums and counts; an empty cell takes that of a cell twice as large."""
    mean = np.divide(sums, np.maximum(weight, 1)[..., None], dtype=np.float32)
    height, width = weight.shape
    if weight.all() or (height == 1 and width == 1):
        return mean
    down, across = np.arange(0, height, 2), np.arange(0, width, 2)
    coarse = _spread(
        np.add.reduceat(np.add.reduceat(sums, down, 0), across, 1),
        np.add.reduceat(np.add.reduceat(weight, down, 0), across, 1),
    )
    wide = coarse.repeat(2, 0)[:height].repeat(2, 1)[:, :width]
    return np.where(weight[..., None] > 0, mean, wide)
