"""The table of metrics: name, meaning and function of each, in column order.

A metric takes a result and its reference, (H, W, 3) float32 RGB of 8-bit levels in [0, 1], and returns a number.
Metrics that need no reference are given the dark picture instead.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.errors import UsageError
from lowlight_cli.metrics import brisque, niqe, perceptual
from lowlight_cli.metrics.alone import colour_shift, luma, whitened
from lowlight_cli.metrics.colour import delta_e, luma_error
from lowlight_cli.metrics.fsim import fsim
from lowlight_cli.metrics.psnr import gt_mean, psnr
from lowlight_cli.metrics.ssim import ms_ssim, ssim, ssim_matlab

__all__ = ["CEILING", "METRICS", "PLAIN", "Metric", "check", "chosen"]

Picture = NDArray[np.float32]

CEILING: Final = 100.0
"""PSNR of equal pictures, in dB: an infinite value would make every mean infinite."""


@dataclass(frozen=True)
class Metric:
    """A column of the table.

    Attributes:
        key: its name on the command line and in JSON.
        title: column heading; a star marks metrics that use the reference to adjust the result before comparing.
        meaning: its definition, which is printed and stored.
        measure: maps (result, reference) to a number.
        digits: decimal places.
        higher: whether higher is better; None if the number only describes.
        reference: whether it needs a reference.
        lacking: called with whether fetching is forbidden; returns why the metric is not available, or "".
    """

    key: str
    title: str
    meaning: str
    measure: Callable[[Picture, Picture], float]
    digits: int = 2
    higher: bool | None = True
    reference: bool = True
    lacking: Callable[[bool], str] = lambda _: ""

    @property
    def version(self) -> str:
        """A label that changes with the definition: values of different versions do not compare."""
        return f"{self.key}-{hashlib.sha256(self.meaning.encode()).hexdigest()[:8]}"


def _extra(package: str) -> Callable[[bool], str]:
    """Return a `Metric.lacking` for a metric that needs a package of the extra `metrics`."""
    return lambda _: "" if importlib.util.find_spec(package) else "pip install 'lowlight-cli[metrics]'"


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
        Metric("ssim_gt_mean", "GT-mean SSIM*", "SSIM after the same scaling", _matched(ssim), 4),
        Metric(
            "ssim_matlab",
            "SSIM (Matlab)",
            "ssim_index.m of Wang et al. on grey levels as rgb2gray rounds them, 11x11 Gaussian of sigma 1.5, "
            "valid part",
            ssim_matlab,
            4,
        ),
        Metric(
            "ms_ssim",
            "MS-SSIM",
            "Wang et al. 2003: five scales, each half the one before by 2x2 means, per RGB channel, with the window of "
            "SSIM; pictures of 176 pixels a side or more",
            ms_ssim,
            4,
        ),
        Metric(
            "fsim",
            "FSIM",
            "Zhang et al. 2011, of the luminance of YIQ, with the numbers of FeatureSIM.m; pictures are averaged down "
            "to about 256 pixels on their shorter side first, as there",
            fsim,
            4,
        ),
        Metric(
            "lpips",
            "LPIPS",
            "Zhang et al. 2018, version 0.1 on AlexNet, at full resolution (torchmetrics, with torchvision's backbone)",
            perceptual.lpips,
            4,
            False,
            lacking=perceptual.lacking,
        ),
        Metric(
            "delta_e",
            "dE 2000",
            "mean CIEDE2000 over pixels, from sRGB by CIELAB under D65 (scikit-image)",
            delta_e,
            higher=False,
            lacking=_extra("skimage"),
        ),
        Metric(
            "luma_error",
            "luma error",
            "difference of the mean luma (Rec. 709 of encoded sRGB) from the reference's, without its sign, in shares "
            "of white",
            luma_error,
            4,
            higher=False,
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
        Metric(
            "niqe",
            "NIQE",
            "Mittal et al. 2013, blocks of 96 pixels of Y of YCbCr, with the authors' model of good photographs as the "
            "package basicsr carries it; how natural the statistics are, not whether colours are right; flat blocks, "
            "which the authors' code counts in part, are left out",
            lambda x, _: niqe.niqe(x),
            2,
            False,
            False,
            lambda _: "" if niqe.published_model() else niqe.HINT,
        ),
        Metric(
            "niqe_own",
            "NIQE (own fit)",
            "as NIQE, with a model of our own (docs/fit_niqe.py, of 147 well-lit photographs): it "
            "does not compare with published figures",
            lambda x, _: niqe.niqe_own(x),
            2,
            False,
            False,
        ),
        Metric(
            "brisque",
            "BRISQUE",
            "Mittal et al. 2012, with the authors' model as the package brisque carries it, learnt from opinions on "
            "photographs that were compressed, blurred or made noisy",
            lambda x, _: brisque.brisque(x),
            2,
            False,
            False,
            lambda _: "" if brisque.published_model() else brisque.HINT,
        ),
    )
}
"""Metrics by key."""

PLAIN: Final = ("psnr", "psnr_gt_mean", "ssim", "luma", "whitened", "colour_shift")
"""Metrics that are always measured: those with a reference on paired sets, the others on unpaired ones."""


def chosen(names: Sequence[str], paired: bool, offline: bool = False) -> tuple[tuple[Metric, ...], tuple[str, ...]]:
    """Return the metrics to measure, in table order, and a line for each one requested but not available.

    Args:
        names: keys of metrics to add to those always measured, with - or _; `all` selects every metric.
        paired: whether there are references.
        offline: whether fetching what a metric needs is forbidden.

    Raises:
        UsageError: no such metric.
    """
    wanted = {name.lower().replace("-", "_") for name in names}
    every = "all" in wanted
    check(names)
    kept, lines = list[Metric](), list[str]()
    for metric in METRICS.values():
        plain = metric.key in PLAIN
        if plain and metric.reference == paired:
            kept.append(metric)
        elif not plain and (every or metric.key in wanted):
            if metric.reference and not paired:
                lines += [f"{metric.title}: not available: it wants a reference"] * (not every)
            elif why := metric.lacking(offline):
                lines.append(f"{metric.title}: not available: {why}")
            else:
                kept.append(metric)
    return tuple(kept), tuple(lines)


def check(names: Sequence[str]) -> None:
    """Check that every name is a metric or `all`.

    Raises:
        UsageError: no such metric; the message suggests the nearest one.
    """
    for name in names:
        key = name.lower().replace("-", "_")
        if key not in METRICS and key != "all":
            known = [each.replace("_", "-") for each in METRICS]
            near = difflib.get_close_matches(key.replace("_", "-"), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}, all"
            raise UsageError(f"no metric {name!r}: {hint}")
