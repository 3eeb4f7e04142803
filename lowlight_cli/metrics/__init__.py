"""Metrics: pure functions of a picture, or of a result and its reference, (H, W, 3) float in [0, 1].

`table` lists them.
"""

from lowlight_cli.metrics.psnr import gt_mean, psnr
from lowlight_cli.metrics.ssim import ssim

__all__ = ["gt_mean", "psnr", "ssim"]
