"""NEID: half the size and back, two branches, and what only training has."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlight_cli.networks.neid import NEID


@pytest.fixture(scope="module")
def network() -> NEID:
    torch.manual_seed(0)
    return NEID().eval()


def smooth(height: int, width: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.5 * F.interpolate(torch.rand(batch, 3, 4, 4, generator=generator), size=(height, width), mode="bilinear")


def test_the_unet_sees_the_halved_picture(network: NEID) -> None:
    seen: list[Tensor] = []
    hook = network.encoder[0].register_forward_pre_hook(lambda _, given: seen.extend(given))
    x = smooth(64, 48)
    with torch.inference_mode():
        assert network(x).shape == x.shape
    hook.remove()
    torch.testing.assert_close(seen, [F.interpolate(x, scale_factor=0.5, mode="bicubic", antialias=True)])


def test_untrained_network_is_nearly_the_identity(network: NEID) -> None:
    x = smooth(64, 64)
    with torch.inference_mode():
        outputs = network.training_outputs(x)
    for key in ("output", "detail"):
        assert (outputs[key] - x).abs().mean() < 0.15, key


def test_detail_decoder_is_only_for_training() -> None:
    torch.manual_seed(0)
    network = NEID().eval()
    for parameter in network.detail_decoder.parameters():
        nn.init.constant_(parameter, float("nan"))
    x = smooth(32, 32)
    with torch.inference_mode():
        assert network(x).isfinite().all()
        assert network.training_outputs(x)["detail"].isnan().any()


def test_fusion_weighs_the_two_branches(network: NEID) -> None:
    light, detail = torch.rand(2, 256, 4, 4), torch.rand(2, 256, 4, 4)
    with torch.inference_mode():
        fused = network.fusion(light, detail)
    assert fused.shape == light.shape
    assert (fused <= torch.maximum(light, detail) + 1e-6).all()
    assert (fused >= torch.minimum(light, detail) - 1e-6).all()


def test_published_start() -> None:
    torch.manual_seed(0)
    network = NEID()
    network.initialise_as_published()
    weights = torch.cat(
        [m.weight.flatten() for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    )
    assert weights.mean().abs() < 1e-3
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)


def test_trains_in_bfloat16() -> None:
    torch.manual_seed(0)
    network = NEID()
    optimiser = torch.optim.Adam(network.parameters(), 5e-4)
    bright = smooth(48, 48, batch=2)
    losses = []
    for _ in range(15):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = network.training_outputs(0.2 * bright)
        loss = (outputs["output"] - bright).abs().mean() + 0.1 * (outputs["detail"] - 0.2 * bright).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.5 * losses[0], losses
