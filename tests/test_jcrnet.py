"""JCRNet against its paper: the equations by hand, what bounds the picture, how an untrained network behaves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlight_cli.networks import build, descriptor
from lowlight_cli.networks.jcrnet import (
    HalfInstanceNorm,
    JCRNet,
    Offset,
    Projection,
    Refinement,
    SpatialTransform,
)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def photograph(side: int = 32, batch: int = 1) -> Tensor:
    """A smooth random picture in [0, 1]."""
    return F.interpolate(torch.rand(batch, 3, side // 8, side // 8), size=(side, side), mode="bilinear")


def fill(layer: nn.Module, weight: float, bias: float) -> None:
    nn.init.constant_(layer.get_parameter("weight"), weight)
    nn.init.constant_(layer.get_parameter("bias"), bias)


def test_budgets_of_table_vii() -> None:
    network = JCRNet().eval()
    work = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal work
        source = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        work += source.shape[-2:].numel() * layer.get_parameter("weight").numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.rand(1, 3, 96, 96))

    published = descriptor("jcrnet")
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    assert parameters == pytest.approx(published.parameters, rel=0.03)
    assert work * 16 / 1e9 == pytest.approx(published.gmacs, rel=0.03)  # 384 x 384 is 16 times the area


def test_half_instance_norm_touches_the_first_half_only() -> None:
    layer = HalfInstanceNorm(6)
    nn.init.constant_(layer.norm.weight, 2.0)
    nn.init.constant_(layer.norm.bias, 0.5)
    x = 3 + 4 * torch.randn(2, 6, 8, 9)
    y = layer(x)

    assert torch.equal(y[:, 3:], x[:, 3:])
    for picture in range(2):
        for channel in range(3):
            values = x[picture, channel]
            expected = 2 * (values - values.mean()) / (values.var(unbiased=False) + 1e-5).sqrt() + 0.5
            torch.testing.assert_close(y[picture, channel], expected, atol=1e-5, rtol=1e-5)


def test_projection_is_equation_1() -> None:
    layer = Projection()
    x, low = photograph(16), photograph(16)

    def res(block: nn.Module, picture: Tensor) -> Tensor:
        get = block.get_parameter
        hidden = F.conv2d(picture, get("body.0.weight"), get("body.0.bias"), padding=1)
        hidden = torch.where(hidden > 0, hidden, 0.25 * hidden)
        return picture + F.conv2d(hidden, get("body.2.weight"), get("body.2.bias"), padding=1)

    expected = x - 0.5 * res(layer.restore, res(layer.degrade, x) - low)
    torch.testing.assert_close(layer(x, low), expected)


def test_spatial_transform_is_equation_5() -> None:
    layer = SpatialTransform()
    features, condition = torch.randn(2, 64, 8, 8), torch.randn(2, 32, 8, 8)
    scale, shift = layer.scale(condition), layer.shift(condition)
    assert scale.shape == shift.shape == features.shape
    torch.testing.assert_close(layer(features, condition), features * scale + shift)


def test_darkening_subtracts_what_lightening_adds() -> None:
    lighten, darken = Offset(1), Offset(-1)
    darken.load_state_dict(lighten.state_dict())
    for block in (lighten, darken):
        fill(block.offset[0], 0.0, 0.25)  # an offset of a quarter, whatever the input
        block.decode = nn.Sequential()
    x = torch.randn(1, 64, 8, 8)
    torch.testing.assert_close(lighten(x), lighten.encode(x) + 0.25)
    torch.testing.assert_close(darken(x), lighten.encode(x) - 0.25)


@pytest.mark.parametrize(
    ("logit", "expected"),
    [(0.0, 2.0), (2.1972246, 1 / 0.9), (100.0, 1.0)],
    ids=["half", "starting-value", "one"],
)
def test_refinement_divides_by_the_estimate(logit: float, expected: float) -> None:
    """Eq. 6."""
    stage = 0.9 * photograph()
    layer = Refinement().eval()
    fill(layer.ratio[-1], 0.0, logit)
    torch.testing.assert_close(layer(stage), stage * expected)


def test_quotient_and_its_gradient_are_bounded() -> None:
    layer = Refinement().eval()
    fill(layer.ratio[-1], 0.0, -1000.0)  # R underflows to zero
    stage = torch.cat((photograph() - 0.5, torch.zeros(1, 3, 32, 32))).requires_grad_()
    refined = layer(stage)
    refined.sum().backward()

    assert refined.min() == -1
    assert refined.max() == 2
    assert refined[1].abs().max() == 0
    assert stage.grad is not None
    assert stage.grad.abs().max() <= 50 * 1.001  # 1 / 0.02


def test_untrained_gives_its_input_back() -> None:
    """Short training runs start from the picture, not from noise."""
    network = JCRNet()
    x = photograph(64, batch=2)
    for mode in (True, False):
        with torch.no_grad():
            outputs = network.train(mode).training_outputs(x)
        for name, picture in outputs.items():
            assert (picture - x).abs().mean() < 0.05, (name, mode)


def test_training_sees_stage_and_output() -> None:
    network = JCRNet().eval()
    x = photograph(24)[..., :19, :21]
    with torch.no_grad():
        outputs = network.training_outputs(x)
        picture = network(x)
    assert list(outputs) == ["output", "stage"]
    assert outputs["stage"].shape == outputs["output"].shape == x.shape
    assert torch.equal(outputs["output"], picture)
    assert not torch.equal(outputs["stage"], picture)


@pytest.mark.parametrize("seed", range(5))
def test_no_draw_leaves_a_narrow_relu_dead(seed: int) -> None:
    """E ends in one channel and the aggregation squeezes to two: at zero they would learn nothing."""
    torch.manual_seed(seed)
    network = JCRNet()
    alive: dict[str, float] = {}

    def watch(name: str, layer: nn.Module) -> None:
        def hook(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            alive[name] = (output > 0).float().mean().item()

        layer.register_forward_hook(hook)

    watch("detail", network.refinement.detail)
    watch("squeeze", network.adjustment.back.attention.gate[1])
    with torch.no_grad():
        network(0.2 * photograph())
    assert alive["detail"] > 0.9
    assert alive["squeeze"] == 1.0


def test_stays_finite_and_learns_in_bfloat16() -> None:
    network = JCRNet()
    bright = photograph(16, batch=2)
    dark = 0.3 * bright
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = network.training_outputs(dark)
        loss = sum(((picture.float() - bright).abs().mean() for picture in outputs.values()), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(torch.isfinite(p).all() for p in network.parameters())
    assert losses[-1] < 0.6 * losses[0]


def test_double_precision_agrees() -> None:
    network = build("jcrnet").eval()
    x = photograph(16)
    with torch.no_grad():
        single = network(x)
        double = network.double()(x.double())
    assert double.dtype is torch.float64
    torch.testing.assert_close(single.double(), double, atol=1e-5, rtol=0)
