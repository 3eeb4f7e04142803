"""Flicker of a clip: changes of mean luma, and the difference of each frame from the previous one warped by the flow.

Flow-warped error: W.-S. Lai, J.-B. Huang, O. Wang, E. Shechtman, E. Yumer, M.-H. Yang: Learning Blind Video Temporal
Consistency, ECCV 2018, equation 9. Occlusions: M. Ruder, A. Dosovitskiy, T. Brox: Artistic Style Transfer for Videos,
GCPR 2016, equation 5. The flow is OpenCV's DIS (T. Kroeger et al., ECCV 2016).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["flow", "jitter", "warped", "warped_error"]

Picture = NDArray[np.float32]
Flow = NDArray[np.float32]


def jitter(lumas: Sequence[float]) -> float:
    """Return the root mean square change of mean luma from one frame to the next, on a scale of 0 to 255.

    >>> jitter([0.5, 0.5, 0.5])
    0.0
    >>> round(jitter([0.4, 0.5, 0.4]), 1)
    25.5
    """
    return float(np.sqrt(np.mean(np.diff(np.asarray(lumas, np.float64)) ** 2))) * 255 if len(lumas) > 1 else 0.0


def flow(before: Picture, after: Picture) -> tuple[Flow, NDArray[np.bool_]]:
    """Find where each pixel of `after` was in `before`, and whether it was visible there.

    Args:
        before: (H, W, 3) float32 RGB in [0, 1], bright enough to show content; at least 32 pixels a side.
        after: as `before`.

    Returns:
        The flow, (H, W, 2), in pixels to the right and down; and a mask, (H, W), false where the pixel was occluded or
        the forward and backward flows disagree.
    """
    one, other = (np.rint(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) * 255).astype(np.uint8) for each in (before, after))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    still = np.zeros((*one.shape, 2), np.float32)
    back = np.asarray(search.calc(other, one, still.copy()), np.float32)
    forth = np.asarray(search.calc(one, other, still), np.float32)
    returned = warped(forth, back)
    apart = ((back + returned) ** 2).sum(2)
    return back, apart <= 0.01 * ((back**2).sum(2) + (returned**2).sum(2)) + 0.5


def warped_error(before: Picture, after: Picture, back: Flow, seen: NDArray[np.bool_]) -> float:
    """Return the mean squared difference between `after` and `before` warped by the flow, over pixels seen in both.

    Args:
        before: (H, W, 3) float32 RGB in [0, 1].
        after: as `before`.
        back: the flow that `flow` returns.
        seen: the mask that `flow` returns.
    """
    if not seen.any():
        return 0.0
    return float(((after - warped(before, back))[seen] ** 2).mean())


def warped(picture: NDArray[np.float32], back: Flow) -> NDArray[np.float32]:
    """Sample `picture`, (H, W) or (H, W, C), where the flow `back` points, with bilinear interpolation."""
    rows, columns = np.mgrid[: back.shape[0], : back.shape[1]].astype(np.float32)
    place = columns + back[..., 0], rows + back[..., 1]
    return np.asarray(cv2.remap(picture, *place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
