"""PSNR, and the scaling to the reference's mean that half of the published tables apply before it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.metrics.checks import refuse_unfit
from lowlight_cli.metrics.once import once

__all__ = ["gt_mean", "psnr"]

Picture = NDArray[np.floating]


def psnr(x: Picture, y: Picture) -> float:
    """Return the peak signal-to-noise ratio in dB over all pixels and channels; infinite for equal pictures.

    Example:
        >>> import numpy as np
        >>> round(psnr(np.zeros((4, 4, 3)), np.full((4, 4, 3), 0.1)), 2)
        20.0

    Raises:
        ValueError: as `refuse_unfit`.
    """
    refuse_unfit(x, y)
    difference = x.astype(np.float64)
    difference -= y
    difference *= difference
    error = float(difference.mean())
    return float("inf") if error == 0 else -10 * float(np.log10(error))


@once
def gt_mean(x: Picture, y: Picture) -> NDArray[np.float32]:
    """Scale `x` so that its mean grey equals that of the reference `y`, then clip to [0, 1].

    This uses knowledge of the reference, so figures after it need a marked column of their own.

    Example:
        >>> import numpy as np
        >>> float(gt_mean(np.full((4, 4, 3), 0.25), np.full((4, 4, 3), 0.5)).mean())
        0.5

    Raises:
        ValueError: as `refuse_unfit`.
    """
    refuse_unfit(x, y)
    grey = np.array([0.299, 0.587, 0.114])
    factor = float((y @ grey).mean() / max(float((x @ grey).mean()), 1e-6))
    return np.asarray(np.clip(x * factor, 0, 1), np.float32)
