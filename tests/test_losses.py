"""Losses against values worked out by hand and against scikit-image."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from lowlight_cli.training.losses import charbonnier, charbonnier_at_mean, ssim, supervised


def test_charbonnier_by_hand() -> None:
    x, y = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.3)
    assert charbonnier(x, y).item() == pytest.approx(math.sqrt(0.09 + 1e-6), rel=1e-6)
    assert charbonnier(x, x).item() == pytest.approx(1e-3)


def test_at_equal_mean_a_gain_costs_nothing() -> None:
    y = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.1
    assert charbonnier_at_mean(y * 0.5, y).item() == pytest.approx(1e-3, rel=1e-2)


def test_the_factor_to_the_mean_is_held_constant() -> None:
    x = torch.full((1, 3, 4, 4), 0.25, requires_grad=True)
    charbonnier_at_mean(x, torch.full((1, 3, 4, 4), 0.5)).backward()
    # Were the factor differentiated, scaling x would change nothing; here the residual is zero and so is the slope.
    assert x.grad is not None and x.grad.abs().max() < 1e-6
    lifted = torch.full((1, 3, 4, 4), 0.25, requires_grad=True)
    target = torch.full((1, 3, 4, 4), 0.5)
    target[..., :1] = 0.9
    charbonnier_at_mean(lifted, target).backward()
    slope = 0.6 / 0.25 / 48  # of each of 48 values, towards a target of mean 0.6
    assert lifted.grad is not None
    assert lifted.grad[0, 0, 0].tolist() == pytest.approx([-slope, slope, slope, slope], rel=1e-3)


@pytest.mark.parametrize(("level", "target", "left"), [(0.01, 0.5, 0.46), (0.9, 0.1, 0.125), (0.2, 0.79, 0.001)])
def test_the_factor_to_the_mean_is_a_quarter_to_four(level: float, target: float, left: float) -> None:
    x, y = torch.full((1, 3, 4, 4), level), torch.full((1, 3, 4, 4), target)
    assert charbonnier_at_mean(x, y).item() == pytest.approx(left, rel=1e-4)


def test_ssim_is_that_of_scikit_image() -> None:
    random = np.random.default_rng(2)
    x = random.uniform(size=(40, 50, 3))
    y = np.clip(x + random.normal(0, 0.1, x.shape), 0, 1)
    arguments = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    theirs = structural_similarity(x, y, channel_axis=2, **arguments)
    ours = ssim(*(torch.from_numpy(p).permute(2, 0, 1)[None] for p in (x, y))).item()
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_supervised_adds_its_parts() -> None:
    x, y = (torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(i)) for i in (3, 4))
    whole = supervised(x, y, at_mean=0.5, structure=0.2)
    parts = charbonnier(x, y) + 0.5 * charbonnier_at_mean(x, y) + 0.2 * (1 - ssim(x, y))
    assert whole.item() == pytest.approx(parts.item(), rel=1e-6)
