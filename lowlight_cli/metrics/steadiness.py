"""Whether a clip flickers: how its mean luma jumps, and how frames differ from those before, moved along the flow.

Flow-warped error: W.-S. Lai, J.-B. Huang, O. Wang, E. Shechtman, E. Yumer, M.-H. Yang: Learning Blind Video Temporal
Consistency, ECCV 2018, equation 9; occluded pixels after M. Ruder, A. Dosovitskiy, T. Brox: Artistic Style Transfer for
Videos, GCPR 2016, equation 5. The flow is OpenCV's DIS (T. Kroeger et al., ECCV 2016).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["flow", "jitter", "warped", "warped_error"]

Picture = NDArray[np.float32]
Flow = NDArray[np.float32]


def jitter(lumas: Sequence[float]) -> float:
    """Root mean square of the change of mean luma from one frame to the next, in levels of 255.

    >>> jitter([0.5, 0.5, 0.5])
    0.0
    >>> round(jitter([0.4, 0.5, 0.4]), 1)
    25.5
    """
    return float(np.sqrt(np.mean(np.diff(np.asarray(lumas, np.float64)) ** 2))) * 255 if len(lumas) > 1 else 0.0


def flow(before: Picture, after: Picture) -> tuple[Flow, NDArray[np.bool_]]:
    """Where each pixel of `after` was in `before`, and whether it was seen there.

    Args:
        before: (H, W, 3) float32 RGB in [0, 1], bright enough to see something in; at least 32 pixels a side.
        after: as `before`.

    Returns:
        (H, W, 2) pixels to the right and down; (H, W), false where the pixel was hidden or the flow is in doubt.
    """
    import cv2  # a tenth of a second that other metrics need not spend

    one, other = (np.rint(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) * 255).astype(np.uint8) for each in (before, after))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    still = np.zeros((*one.shape, 2), np.float32)
    back = np.asarray(search.calc(other, one, still.copy()), np.float32)
    forth = np.asarray(search.calc(one, other, still), np.float32)
    returned = warped(forth, back)
    apart = ((back + returned) ** 2).sum(2)
    return back, apart <= 0.01 * ((back**2).sum(2) + (returned**2).sum(2)) + 0.5


def warped_error(before: Picture, after: Picture, back: Flow, seen: NDArray[np.bool_]) -> float:
    """Mean square of what `after` differs by from `before` moved along the flow, over pixels seen in both.

    Args:
        before: (H, W, 3) float32 RGB in [0, 1].
        after: as `before`.
        back: of `flow`.
        seen: of `flow`.
    """
    if not seen.any():
        return 0.0
    return float(((after - warped(before, back))[seen] ** 2).mean())


def warped(picture: NDArray[np.float32], back: Flow) -> NDArray[np.float32]:
    """What lies where `back` of `flow` points to, interpolated; (H, W) or (H, W, C), as `picture` is."""
    import cv2

    rows, columns = np.mgrid[: back.shape[0], : back.shape[1]].astype(np.float32)
    place = columns + back[..., 0], rows + back[..., 1]
    return np.asarray(cv2.remap(picture, *place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
