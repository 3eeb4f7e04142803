"""What GPUs compute in other words is the same function; here on a CPU, in float32."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lowlight_cli.engines.halved import halve
from lowlight_cli.networks import NETWORKS, build, drgn, gpu, jcrnet
from lowlight_cli.networks.fusing import fused

sides = st.integers(3, 17)


def features(height: int, width: int, channels: int = 4) -> Tensor:
    torch.manual_seed(height * 100 + width)
    return torch.randn(2, channels, height, width).to(memory_format=torch.channels_last)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (gpu, jcrnet):
        monkeypatch.setattr(module, "eager", lambda x: True)
    for module in (gpu, drgn):
        monkeypatch.setattr(module, "halves", lambda x: True)


@settings(deadline=None)
@given(sides, sides)
def test_doubling_is_bilinear(height: int, width: int) -> None:
    x = features(height, width)
    doubled = gpu.double(x)
    torch.testing.assert_close(doubled, F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
    assert doubled.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("margin", [1, 2, (2, 0, 1, 2)])
def test_reflection_keeps_the_layout(margin: int | tuple[int, int, int, int]) -> None:
    for size in ((3, 3), (5, 9)):
        x = features(*size)
        layer = gpu.Reflect(margin)
        reflected = layer(x)
        assert torch.equal(reflected, F.pad(x, layer.padding, mode="reflect"))
        assert reflected.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_pointwise_convolution_is_a_matrix_product() -> None:
    layer, x = gpu.Pointwise(4, 6, 1), features(5, 7)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias))


@pytest.mark.parametrize("scale", [2, 4])
def test_a_transposed_convolution_is_one_by_phases(scale: int) -> None:
    up, x = drgn.Upsample(4, 5, scale), features(5, 7)
    phases = F.pixel_shuffle(F.conv2d(x, up._phases(up.weight), padding=1), scale)
    torch.testing.assert_close(phases, F.conv_transpose2d(x, up.weight, None, scale, padding=1))


@pytest.mark.usefixtures("as_on_a_gpu")
def test_half_of_the_channels_normalised_at_once() -> None:
    layer, x = jcrnet.HalfInstanceNorm(4), features(9, 7)[:1]
    nn.init.normal_(layer.norm.weight)
    nn.init.normal_(layer.norm.bias)
    first, second = x.chunk(2, 1)
    torch.testing.assert_close(layer(x), torch.cat((layer.norm(first), second), 1))


def test_convolution_and_relu() -> None:
    layer, x, added = gpu.ConvReLU(4, 6, 3, stride=2, padding=1), features(9, 7), features(5, 4, 6)
    convolved = F.conv2d(x, layer.weight, layer.bias, 2, 1)
    assert torch.equal(layer(x), convolved.relu())
    assert torch.equal(gpu.add_relu(layer, x, added), (convolved + added).relu())


def test_a_residual_is_joined_once_its_norm_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build("jcrnet").eval()
    x, joined = torch.rand(1, 3, 20, 24), list[bool]()
    once = gpu.add_relu

    def counted(convolution: nn.Conv2d, x: Tensor, added: Tensor | None = None) -> Tensor:
        joined.append(added is not None)
        return once(convolution, x, added)

    monkeypatch.setattr(gpu, "add_relu", counted)
    with torch.no_grad():
        expected = network(x)
        assert not joined
        torch.testing.assert_close(fused(network)(x), expected, rtol=1e-4, atol=1e-5)
    assert sum(joined) == 2 and len(joined) > 10


@pytest.mark.parametrize("name", ["drgn", "jcrnet"])
@torch.no_grad()
def test_a_wide_network_is_the_same_function(name: str) -> None:
    """Also where every channel counts: initial weights alone would leave biases at 0."""
    torch.manual_seed(0)
    network = build(name).eval()
    for parameter in network.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.02)
    wide = network.wide()
    widths = [module.out_channels for module in wide.modules() if isinstance(module, nn.Conv2d)]
    assert 40 not in widths and 64 in widths
    x = torch.rand(1, 3, 36, 44)
    expected = network(x)
    torch.testing.assert_close(wide(x), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(fused(wide)(x), expected, rtol=1e-3, atol=1e-4)


def test_others_are_as_wide_as_they_were_built() -> None:
    for name in NETWORKS.keys() - {"drgn", "jcrnet"}:
        network = build(name)
        assert network.wide() is network


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_weights_in_half_precision_are_what_autocast_makes_of_them(name: str) -> None:
    torch.manual_seed(0)
    network = fused(build(name).eval())
    halved = copy.deepcopy(network)
    halve(halved, "cpu", torch.bfloat16)
    kinds = {parameter.dtype for parameter in halved.parameters()}
    assert torch.bfloat16 in kinds
    x = torch.rand(1, 3, 36, 44)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(halved(x), network(x))
