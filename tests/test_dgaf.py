"""What only DGAF's Enlightening network has: one gain for the whole picture."""

import numpy as np
import pytest
import torch

from lowlight_cli.exposure import to_linear as to_linear_array
from lowlight_cli.networks.dgaf import DGAF, Exposure, averaged, expose, headroom, to_linear, to_srgb
from lowlight_cli.training.recipes import dgaf as recipe


def test_transfer_functions_agree_with_the_array_ones() -> None:
    values = np.linspace(0, 1, 1001, dtype=np.float32)
    there = to_linear(torch.from_numpy(values))
    assert np.abs(there.numpy() - to_linear_array(values)).max() < 1e-6
    assert torch.allclose(to_srgb(there), torch.from_numpy(values), atol=1e-6)


def test_the_gain_starts_at_the_log_average_rule() -> None:
    torch.manual_seed(0)
    exposure = Exposure().eval()
    dark = exposure(torch.full((1, 3, 64, 64), 0.05)).item()
    light = exposure(torch.full((1, 3, 64, 64), 0.5)).item()
    # 0.05 is 0.0039 of linear light, 0.5 is 0.214; the rule adds 0.001 against black.
    assert 0.6 < dark / (0.13 / 0.0049) < 1.6
    assert 0.6 < light / (0.13 / 0.215) < 1.6


def test_a_crop_is_exposed_by_the_whole_pictures_gain() -> None:
    torch.manual_seed(0)
    network = DGAF().eval()
    whole = torch.rand(1, 3, 128, 128) * 0.1
    whole[..., :64] *= 8
    thumbnail = torch.nn.functional.interpolate(whole, size=(64, 64), mode="area")
    with torch.inference_mode():
        exposed = network.training_outputs(whole)["exposed"]
        crop = network.training_outputs(whole[..., 64:, 64:], thumbnail)["exposed"]
        alone = network.training_outputs(whole[..., 64:, 64:])["exposed"]
    assert torch.allclose(crop, exposed[..., 64:, 64:], atol=1e-6)
    assert (alone - crop).abs().mean() > 0.02


@pytest.mark.parametrize(
    ("size", "cells"),
    [
        ((61, 83), (64, 64)),
        ((1, 7), (64, 64)),
        ((200, 30), (64, 64)),
        ((33, 50), (9, 13)),
        ((24, 24), (24, 24)),
        ((1024, 640), (64, 64)),
    ],
)
def test_averages_are_those_of_torch(size: tuple[int, int], cells: tuple[int, int]) -> None:
    picture = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.functional.interpolate(picture, cells, mode="area")
    for given in (picture, picture.to(memory_format=torch.channels_last)):
        assert torch.allclose(averaged(given, *cells), wanted, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(averaged(picture, *cells), wanted, atol=1e-6)
    assert torch.allclose(averaged(picture.bfloat16(), *cells), wanted, atol=2**-8)


def test_apples_gpu_takes_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its adaptive pooling refuses sides of which neither divides the other."""
    network, picture = DGAF(), torch.rand(1, 3, 61, 83, generator=torch.Generator().manual_seed(0)) * 0.2
    omega, features = picture[:, :1], torch.rand(1, 8, 16, 21, generator=torch.Generator().manual_seed(1))
    pooled = torch.nn.functional.adaptive_avg_pool2d
    expected = (1 - pooled(omega, features.shape[-2:])) * features
    given = pooled(picture, (64, 64))

    def refusing(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        for sides in zip(x.shape[-2:], size, strict=True):
            if max(sides) % min(sides):
                raise NotImplementedError("Adaptive pool MPS: input sizes must be divisible by output sizes.")
        return pooled(x, size)

    monkeypatch.setattr(torch.nn.functional, "adaptive_avg_pool2d", refusing)
    with torch.no_grad():
        exposed = network.training_outputs(picture)["exposed"]
        assert torch.allclose(exposed, network.training_outputs(picture, given)["exposed"], atol=1e-5)
    weighed = recipe.weighted(features, torch.zeros_like(features), omega)
    assert torch.allclose(weighed, expected.mean(), atol=1e-6)


def test_lamps_stay_white_and_warm_and_never_pass_white() -> None:
    torch.manual_seed(0)
    picture = torch.full((1, 3, 64, 64), 0.02)
    picture[:, :, 30:34, 30:34] = torch.tensor([1.0, 0.9, 0.7]).view(1, 3, 1, 1)
    with torch.inference_mode():
        exposed = DGAF().eval().training_outputs(picture)["exposed"]
    red, green, blue = exposed[0, :, 32, 32].tolist()
    assert exposed.max() <= 1 and red >= green >= blue > 0.95


@pytest.mark.parametrize("gain", [0.7, 1.0, 8.0, 60.0])
def test_without_a_gradient_the_curve_is_read_from_a_table(gain: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for every value of 16 bits, and so of 8; between them half a step off, times a slope.

    That is the gain in the dark, and about 3 near white where the gain is below 1.
    """
    network = DGAF().eval()
    monkeypatch.setattr(network.exposure, "forward", lambda small: torch.full((len(small), 1, 1, 1), gain))
    levels = torch.linspace(0, 1, 2**16, dtype=torch.float64).float().reshape(1, 1, 256, 256).repeat(2, 3, 1, 1)
    levels[1] = levels[1].flip(-1)
    between = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) ** 3
    for picture, most in ((levels, 2e-6), (between, max(gain, 4) / 2**17)):
        exact = expose(headroom(picture), torch.tensor(gain))
        with torch.inference_mode():
            assert (network.training_outputs(picture)["exposed"] - exact).abs().max() < most
        assert torch.equal(network.training_outputs(picture)["exposed"], exact)


def test_training_sees_through_the_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    network, picture = DGAF(), torch.full((1, 3, 32, 32), 0.2, requires_grad=True)
    monkeypatch.setattr(network.exposure, "forward", lambda small: torch.full((1, 1, 1, 1), 4.0))
    network.training_outputs(picture)["exposed"].sum().backward()
    below, above = expose(headroom(torch.tensor([0.199, 0.201])), torch.tensor(4.0))
    assert picture.grad is not None
    assert torch.allclose(picture.grad, ((above - below) / 0.002).expand_as(picture), rtol=0.01)


def test_values_that_no_picture_has_find_a_level() -> None:
    """Beyond black and white they are black and white; what is no number spoils the picture, and nothing else."""
    network = DGAF().eval()
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    thumbnail = torch.full((1, 3, 64, 64), 0.2)
    with torch.inference_mode():
        beyond, clamped = (network.training_outputs(x, thumbnail)["exposed"] for x in (picture, picture.clamp(0, 1)))
        assert torch.equal(beyond, clamped)
        picture[..., 3, 3] = torch.nan
        assert network(picture).shape == picture.shape
