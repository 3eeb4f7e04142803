"""Metrics: pure functions of one picture, or of a result and its reference, (H, W, 3) float in [0, 1].

`table` lists them all.
"""

from lowlight_cli.metrics.psnr import gt_mean, psnr
from lowlight_cli.metrics.ssim import ssim

__all__ = ["gt_mean", "psnr", "ssim"]
