"""The table of metrics: each one's name, meaning and function, in the order of columns.

A metric takes a result and its reference, (H, W, 3) float32 RGB of 8-bit levels in [0, 1], and gives a number. Those
that want no reference take the dark picture in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.metrics.alone import colour_shift, luma, whitened
from lowlight_cli.metrics.psnr import gt_mean, psnr
from lowlight_cli.metrics.ssim import ssim

__all__ = ["CEILING", "METRICS", "Metric"]

Picture = NDArray[np.float32]

CEILING: Final = 100.0
"""What equal pictures count as, in dB: an infinite one would make every mean infinite."""


@dataclass(frozen=True)
class Metric:
    """A column.

    Attributes:
        key: its name on the command line and in JSON.
        title: of the column; a star marks those that see the reference beyond comparing with it.
        meaning: its definition, which is printed and stored.
        measure: (result, reference) to number.
        digits: behind the point.
        higher: whether more is better; None where the number only describes.
        reference: whether it compares with one.
    """

    key: str
    title: str
    meaning: str
    measure: Callable[[Picture, Picture], float]
    digits: int = 2
    higher: bool | None = True
    reference: bool = True


def _level(x: Picture, y: Picture) -> float:
    return min(psnr(x, y), CEILING)


def _matched(metric: Callable[[Picture, Picture], float]) -> Callable[[Picture, Picture], float]:
    return lambda x, y: metric(gt_mean(x, y), y)


METRICS: Final[dict[str, Metric]] = {
    metric.key: metric
    for metric in (
        Metric(
            "psnr",
            "PSNR",
            "dB, over all pixels and channels of 8-bit sRGB at full resolution, mean over pictures; "
            f"equal pictures count as {CEILING:g}",
            _level,
        ),
        Metric(
            "psnr_gt_mean",
            "GT-mean PSNR*",
            "PSNR after scaling the result so that its mean grey equals the reference's: it takes knowledge of the "
            "reference, and is for colour and noise alone",
            _matched(_level),
        ),
        Metric(
            "ssim",
            "SSIM",
            "scikit-image's structural_similarity, Gaussian window of sigma 1.5 (11x11), population variances, per RGB "
            "channel, K 0.01 and 0.03, borders of 5 pixels left out",
            ssim,
            4,
        ),
        Metric(
            "luma",
            "luma",
            "mean luma of the result (Rec. 709 weights on encoded sRGB), in shares of white: how bright, not how good",
            lambda x, _: luma(x),
            3,
            None,
            False,
        ),
        Metric(
            "whitened",
            "whitened",
            "share of pixels, in percent, of which a channel is at 254 or 255 and was not in the dark picture: light "
            "that is lost",
            lambda x, y: 100 * whitened(x, y),
            2,
            None,
            False,
        ),
        Metric(
            "colour_shift",
            "colour shift",
            "mean angle, in degrees, by which a pixel's RGB in linear light turns from the dark picture's, where that "
            "is bright enough to have a colour (a channel above 16 of 255): casts, and noise that is taken away",
            colour_shift,
            2,
            None,
            False,
        ),
    )
}
"""Key to metric."""
