"""The metrics against scikit-image, their doctests, and what they refuse."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import rgb2gray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lowlight_cli.exposure import to_linear, to_srgb
from lowlight_cli.metrics import gt_mean, psnr, ssim
from lowlight_cli.metrics.alone import colour_shift, luma, whitened

Picture = NDArray[np.float32]
SIZES = [(11, 11), (11, 40), (32, 48), (61, 37)]


def pair(size: tuple[int, int], kind: str) -> tuple[Picture, Picture]:
    """A picture and a reference, 8-bit values as float32."""
    random = np.random.default_rng(3)
    slope = np.linspace(0, 1, size[0] * size[1] * 3).reshape(*size, 3)
    noise = random.random((*size, 3))
    made = {"noise": noise, "slope": slope, "dark": slope * 0.05, "flat": np.full((*size, 3), 0.4)}[kind]
    high = np.clip(slope + 0.1 * (random.random((*size, 3)) - 0.5), 0, 1)
    return tuple((np.rint(each * 255) / 255).astype(np.float32) for each in (made, high))  # type: ignore[return-value]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["noise", "slope", "dark", "flat"])
def test_as_scikit_image(size: tuple[int, int], kind: str) -> None:
    made, high = pair(size, kind)
    wanted = structural_similarity(
        made, high, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1, data_range=1
    )
    assert ssim(made, high) == pytest.approx(wanted, abs=1e-6)
    assert psnr(made, high) == pytest.approx(peak_signal_noise_ratio(high, made, data_range=1), abs=1e-6)


def test_the_borders_are_left_out() -> None:
    # scikit-image crops 5 pixels from its map before the mean, so only there may a change at the rim be seen
    made, high = pair((40, 40), "slope")
    _, whole = structural_similarity(
        made,
        high,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1,
        data_range=1,
        full=True,
    )
    assert ssim(made, high) == pytest.approx(whole[5:-5, 5:-5].mean(), abs=1e-6)
    assert abs(ssim(made, high) - whole.mean()) > 1e-4


def test_equal_pictures() -> None:
    _, high = pair((20, 20), "slope")
    assert psnr(high, high) == float("inf")
    assert ssim(high, high) == pytest.approx(1, abs=1e-12)


def test_gt_mean_matches_the_grey_mean() -> None:
    _, high = pair((30, 30), "slope")
    grey = np.array([0.299, 0.587, 0.114])
    matched = gt_mean(high * np.float32(0.2), high * np.float32(0.5))
    assert matched.dtype == np.float32
    assert float((matched @ grey).mean()) == pytest.approx(float((high * 0.5 @ grey).mean()), abs=1e-5)
    assert np.isfinite(gt_mean(np.zeros_like(high), high)).all()  # black stays black, and divides by nothing
    assert gt_mean(high * np.float32(0.9), high).max() <= 1


def test_without_reference() -> None:
    _, bright = pair((30, 30), "slope")
    dark = bright * np.float32(0.4) + np.float32(0.07)
    assert luma(bright) == pytest.approx(rgb2gray(bright).mean(), abs=1e-3)  # scikit-image's weights are Rec. 709's too
    assert colour_shift(to_srgb(3 * to_linear(dark)), dark) < 0.05  # a gain in linear light turns no colour
    assert colour_shift(dark[..., ::-1], dark) > 1
    assert whitened(np.minimum(dark * 100, 1), dark) == 1 and whitened(dark, dark) == 0
    assert colour_shift(bright, np.zeros_like(bright)) == 0


def test_shapes_are_not_broadcast() -> None:
    x, y = np.zeros((20, 20, 3), np.float32), np.zeros((20, 20, 1), np.float32)
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match="one shape"):
            metric(x, y)
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(x[:10], x[:10])


@pytest.mark.parametrize("module", ["metrics.psnr", "metrics.ssim", "metrics.alone", "bench.intervals"])
def test_doctests(module: str) -> None:
    outcome = doctest.testmod(importlib.import_module(f"lowlight_cli.{module}"))
    assert outcome.attempted and not outcome.failed
