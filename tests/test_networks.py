"""What holds for every network of the table."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from counting import count
from torch import Tensor, nn

from lowlight_cli import exposure
from lowlight_cli.errors import UsageError, WeightsError
from lowlight_cli.networks import NETWORKS, build, descriptor
from lowlight_cli.networks.fusing import fused
from lowlight_cli.networks.layers import Network, pad
from lowlight_cli.weights import fetch, files

every = pytest.mark.parametrize("name", NETWORKS)


@cache
def network(name: str) -> Network:
    """With seeded initial weights, for inference; tests share it and leave it as it is."""
    torch.manual_seed(1)
    return build(name).eval()


def photograph(height: int, width: int, *, batch: int = 1, seed: int = 0) -> Tensor:
    """Dark, smooth and a little noisy, as pictures are; (batch, 3, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    smooth = F.interpolate(torch.rand(batch, 3, 5, 5, generator=generator), size=(height, width), mode="bilinear")
    noise = torch.randn(smooth.shape, generator=generator)
    return (0.4 * smooth + 0.01 * noise).clamp(0, 1)


def run(name: str, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(name)(x)


@every
def test_budgets(name: str) -> None:
    work, published = count(name), descriptor(name)
    assert work.parameters == pytest.approx(published.parameters, rel=0.03)
    assert work.gmacs == pytest.approx(published.gmacs, rel=0.03)


@every
def test_every_height_and_width_comes_back(name: str) -> None:
    """Heights rise as widths fall, so that all remainders meet."""
    for height, width in zip(range(16, 68), range(67, 15, -1), strict=True):
        y = run(name, photograph(height, width))
        assert y.shape == (1, 3, height, width)
        assert y.isfinite().all(), (height, width)


@every
def test_fused_for_inference_it_gives_the_same_picture(name: str) -> None:
    """Also with norms and slopes that training has moved."""
    whole = build(name).eval()
    torch.manual_seed(3)
    for module in whole.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -0.1, 0.1)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.5, 0.5)
    x = photograph(48, 64, batch=2)
    with torch.inference_mode():
        wanted = whole(x)
        found = fused(copy.deepcopy(whole))
        torch.testing.assert_close(found(x), wanted, atol=1e-4, rtol=1e-3)
    kinds = {type(module) for module in found.modules()}
    assert not kinds & {nn.BatchNorm2d, nn.PReLU}


@every
def test_tiny_pictures_come_back(name: str) -> None:
    for side in range(1, 16):
        for height, width in ((side, 16 - side), (side, 20)):
            y = run(name, photograph(height, width))
            assert y.shape == (1, 3, height, width)
            assert y.isfinite().all(), (height, width)


@every
def test_pictures_of_a_batch_do_not_meet(name: str) -> None:
    x = photograph(36, 29, batch=3)
    together = run(name, x)
    alone = torch.cat([run(name, one) for one in x.split(1)])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)


@every
def test_inference_repeats_itself(name: str) -> None:
    x = photograph(33, 48)
    assert torch.equal(run(name, x), run(name, x))


@every
def test_forward_is_the_output_of_training(name: str) -> None:
    x = photograph(30, 41)
    with torch.inference_mode():
        outputs = network(name).training_outputs(x)
    assert next(iter(outputs)) == "output"
    assert torch.equal(outputs["output"], run(name, x))


@every
def test_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(2)
    trained = build(name)
    outputs = trained.training_outputs(photograph(48, 48, batch=2))
    torch.stack([output.square().mean() for output in outputs.values()]).sum().backward()
    unreached = [key for key, p in trained.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.parameters())


@pytest.mark.parametrize("name", [line.name for line in NETWORKS.values() if line.bf16])
def test_bfloat16_stays_near(name: str) -> None:
    """Within 0.5 grey levels on average, as the descriptor says, with shipped weights where there are any."""
    torch.manual_seed(1)
    enhancer = build(name).eval()
    x = photograph(96, 96)
    try:
        resolved = fetch.resolve(name, None, offline=True)
    except (UsageError, WeightsError):
        pass  # none shipped, or not on this machine: the initial ones
    else:
        state, metadata = files.load(resolved.path, name)
        enhancer.load_state_dict(state)
        if metadata["input"] == "exposed":
            picture = x[0].permute(1, 2, 0).numpy()
            exposed = exposure.apply_gain(picture, exposure.auto_gain(picture))
            x = torch.from_numpy(exposed).permute(2, 0, 1)[None]
    with torch.inference_mode():
        exact = enhancer(x)
        with torch.autocast("cpu", torch.bfloat16):
            near = enhancer(x)
    error = (near.float().clamp(0, 1) - exact.clamp(0, 1)).abs() * 255
    assert error.mean() < 0.5, f"mean {error.mean():.3f}, 99 % {error.quantile(0.99):.3f}, most {error.max():.3f}"


@every
def test_float64_agrees(name: str) -> None:
    x = photograph(40, 35)
    torch.manual_seed(1)
    exact = build(name).double().eval()
    with torch.inference_mode():
        y = exact(x.double())
    assert y.dtype == torch.float64
    torch.testing.assert_close(run(name, x).double(), y, atol=1e-4, rtol=0)


@every
def test_descriptor_is_true(name: str) -> None:
    line = descriptor(name)
    assert line.name == name
    assert line.stride > 0
    assert line.radius is None or line.radius > 0
    assert line.thumbnail == network(name).wants_thumbnail
    assert line.title and line.paper and line.url.startswith("https://") and line.good_at and line.bad_at


def test_an_unknown_network_is_named_with_its_neighbour() -> None:
    with pytest.raises(UsageError, match=r"'frlei'.*'frlie'"):
        build("frlei")


@pytest.mark.parametrize("height, width", [(1, 1), (2, 40), (16, 16), (17, 31), (40, 9)])
def test_padding(height: int, width: int) -> None:
    x = torch.rand(1, 3, height, width)
    y = pad(x, 8)
    assert y.shape[-2] % 8 == 0 and y.shape[-1] % 8 == 0 and min(y.shape[-2:]) >= 16
    assert torch.equal(y[..., :height, :width], x)
    assert torch.equal(pad(y, 8), y)
