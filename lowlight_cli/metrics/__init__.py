"""Metrics: pure functions of two pictures, (H, W, 3) float in [0, 1] each, one a file."""

from lowlight_cli.metrics.psnr import gt_mean, psnr
from lowlight_cli.metrics.ssim import ssim

__all__ = ["gt_mean", "psnr", "ssim"]
