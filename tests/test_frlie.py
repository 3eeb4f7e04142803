"""FRLIE beside its authors' weights, and how far its output sees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import skimage.data
import torch
from torch import Tensor, nn

from lowlight_cli.networks import descriptor
from lowlight_cli.networks.frlie import FRLIE, RADIUS

ROOT = Path(__file__).parents[1]
OFFICIAL = Path(os.environ.get("LOWLIGHT_OFFICIAL", ROOT.parent / "shared" / "data" / "official"))
RECONSTRUCTOR = OFFICIAL / "frlie_weights_reconstruct.pth"


@pytest.mark.skipif(not RECONSTRUCTOR.exists(), reason=f"the authors' weights are not at {RECONSTRUCTOR}")
@pytest.mark.parametrize("picture, least", [("astronaut", 33), ("coffee", 30), ("chelsea", 36)])
def test_authors_reconstructor_loads_and_reconstructs(picture: str, least: float) -> None:
    states = torch.load(RECONSTRUCTOR, map_location="cpu", weights_only=True)
    network = FRLIE().eval()
    network.encoder.load_state_dict(states["encoder"], strict=True)
    network.decoder.load_state_dict(states["decoder"], strict=True)
    x = torch.from_numpy(getattr(skimage.data, picture)()[:243, :330]).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        y = network.reconstruct(x)
        with torch.autocast("cpu", torch.bfloat16):
            near = network.reconstruct(x)
    assert y.shape == x.shape
    assert -10 * (y - x).square().mean().log10() > least
    assert (near - y).abs().mean() * 255 < 0.5


def test_key_names_are_the_authors() -> None:
    """Of all three states; the authors' file has the first two, and may be absent."""

    def layers(module: nn.Module) -> list[str]:
        return [key.removesuffix(".weight") for key in module.state_dict() if key.endswith(".weight")]

    network = FRLIE()
    assert layers(network.encoder) == ["conv1.1", "conv2.1", "conv2.2", "conv3.1", "conv3.2", "conv4.1", "conv4.2"]
    assert layers(network.decoder) == ["up1.2", "up1.3", "conv1.1", "conv1.2", "up2.2", "up2.3", "conv2.1"]
    block = ["0.conv0", "0.conv1", "0.conv2", "0.conv3", "0.conv4", "0.fusion", "1.res.0", "1.res.2", "2.res.0"]
    block.append("2.res.2")
    assert layers(network.feature_processor) == [f"main_blocks.{i}.{layer}" for i in range(4) for layer in block]


@pytest.fixture(scope="module")
def open_network() -> FRLIE:
    """In which no value can hide another: all weights positive and even, in float64, nothing saturated."""
    network = FRLIE().double().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.fill_(1 / module.weight[0].numel())
                assert module.bias is not None
                module.bias.zero_()
        network.decoder.conv2.get_submodule("1").get_parameter("weight").mul_(1e-4)
    return network


@pytest.mark.parametrize("along", [2, 3], ids=["down", "across"])
def test_radius_is_exact(open_network: FRLIE, along: int) -> None:
    """Eight neighbouring outputs, every phase of both doublings: none sees beyond, one sees just so far."""
    middle = 160
    x = torch.rand(1, 3, *((320, 16) if along == 2 else (16, 320)), dtype=torch.float64, requires_grad=True)
    y = open_network(x)
    reaches = []
    for place in range(middle, middle + 8):
        (gradient,) = torch.autograd.grad(y.select(along, place).sum(), x, retain_graph=True)
        seen = gradient.transpose(along, 0).flatten(1).any(1).nonzero()
        reaches.append(max(place - int(seen.min()), int(seen.max()) - place))
    assert max(reaches) == RADIUS == descriptor("frlie").radius


def test_tile_with_its_margin_is_what_the_whole_picture_is() -> None:
    torch.manual_seed(0)
    network = FRLIE().eval()
    x: Tensor = torch.rand(1, 3, 24, 480)
    left, right, margin = 180, 240, RADIUS + -RADIUS % 4
    with torch.inference_mode():
        whole = network(x)[..., left:right]
        tile = network(x[..., left - margin : right + margin])[..., margin : margin + right - left]
    torch.testing.assert_close(tile, whole, atol=1e-5, rtol=0)


def test_restored_features_decode_to_the_output() -> None:
    torch.manual_seed(0)
    network = FRLIE().eval()
    x = torch.rand(2, 3, 32, 24)
    with torch.inference_mode():
        outputs = network.training_outputs(x)
        assert outputs["features"].shape == network.encoder(x).shape == (2, 128, 8, 6)
        assert torch.equal(network.decoder(outputs["features"]), outputs["output"])


def test_output_is_a_picture_even_in_bfloat16() -> None:
    torch.manual_seed(0)
    network = FRLIE().eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        y = network(torch.rand(1, 3, 32, 32))
    assert y.dtype == torch.float32
    assert y.min() >= 0 and y.max() <= 1
