"""Smooth the steps of eight bits in dark gradients before exposure turns them into bands across the sky.

A dark sky spans a handful of codes, and twenty times the exposure shows the contour where one code ends and the next
begins. Where a picture is flat but for one such step, every pixel moves to the mean of its surroundings, by half a code
at most: the smoothed picture still rounds to the codes of the file. Noise and texture span more than one code and stay;
so does what is rare around it, such as faint letters, and all that lies beside pure black, where the sparse first code
is the picture. In clips, `video.deblock` does this and more.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli import tiles

__all__ = ["debanded"]

Picture = NDArray[np.float32]

REACHES: Final = (2, 6, 18)
"""Distances in pixels over which a picture may be flat; the mean is taken over the widest at which it is."""

HALF: Final = np.float32(0.499 / 255)
"""The most that a value moves: less than half a code, so that it rounds to the code that it was."""

RARE: Final = np.float32(0.75 / 255)
"""Distance from the mean at which a value is rare in its surroundings and stays: across a contour it is half a code."""

SIDE: Final = 640
"""Side of the tiles that threads take in turn, in pixels: a thread needs 16 MB."""

_FINE: Final = 4
"""Steps of a code by which flatness is judged: those of a wide-gamut profile are up to 1.2 codes of sRGB. They reach
255 at code 64, from which a step of one is too small to be seen after any exposure."""


def debanded(picture: Picture) -> Picture:
    """Smooth steps of one code in dark flat areas; returns the picture itself if it has none.

    Args:
        picture: (H, W, 3) RGB, sRGB-encoded, [0, 1], from a source with 8 bits a channel; it is not changed.
    """
    height, width, _ = picture.shape
    result, copying = picture, threading.Lock()

    def smooth(tile: tiles.Tile) -> None:
        nonlocal result
        smoothed = _smooth(tile.cut(picture))
        if smoothed is not None:
            with copying:
                result = picture.copy() if result is picture else result
            tile.keep(smoothed, result)

    cut = tiles.plan(height, width, SIDE, REACHES[-1], 1)
    if len(cut) == 1:
        smooth(cut[0])
    else:
        with ThreadPoolExecutor(max(1, cv2.getNumThreads())) as pool:
            list(pool.map(smooth, cut))  # raises what a call raises
    return result


def _smooth(picture: Picture) -> Picture | None:
    """The same for a part; None if nothing in it is dark and flat. OpenCV masks in a tenth of NumPy's time."""
    codes = cv2.convertScaleAbs(picture, alpha=255 * _FINE)
    if codes.min() == 255:
        return None
    low, high, reached, mean = codes, codes, 0, picture.copy()
    for reach in REACHES:
        square = np.ones((2 * (reach - reached) + 1,) * 2, np.uint8)
        low, high, reached = cv2.erode(low, square), cv2.dilate(high, square), reach
        flat = (cv2.subtract(high, low) <= _FINE * 3 // 2) & (high < 255) & (low >= _FINE // 2)
        if not flat.any():
            break
        side = 2 * reach + 1
        cv2.copyTo(cv2.blur(picture, (side, side), borderType=cv2.BORDER_REFLECT), flat.view(np.uint8), mean)
    where = np.flatnonzero(mean != picture)
    if not where.size:
        return None
    here = picture.ravel().take(where)
    move = mean.ravel().take(where) - here
    move *= np.clip((RARE - np.abs(move)) / (RARE - HALF), 0, 1)
    mean.reshape(-1)[where] = here + np.clip(move, -HALF, HALF)
    return mean
