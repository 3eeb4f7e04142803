"""DRGN and LW-DRGN: what the paper's equations promise, and what our choices for short training runs promise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lowlight_cli.networks.drgn import DRGN, RCAB, LightDRGN, MultiResolutionFusion, gaussian_half

BOTH = pytest.mark.parametrize("network_class", [DRGN, LightDRGN])
GREY = 1 / 255


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _picture(height: int = 32, width: int = 32, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, height, width)


@BOTH
@torch.no_grad()
def test_the_base_is_the_picture_less_its_degradation(network_class: type[DRGN | LightDRGN]) -> None:
    x = _picture(23, 30)  # padded inside, so the crop is checked too
    pictures = network_class().training_outputs(x)
    assert list(pictures) == ["output", "degradation", "base"]
    assert {picture.shape for picture in pictures.values()} == {x.shape}
    assert torch.equal(pictures["base"], x - pictures["degradation"])


@BOTH
@torch.no_grad()
def test_the_generators_can_be_used_apart(network_class: type[DRGN | LightDRGN]) -> None:
    """The paper's stages call DeG on synthesised pictures, and ReG on what it leaves of them (Eq. 8)."""
    network, x = network_class(), _picture()
    pictures = network.training_outputs(x)
    assert torch.equal(network.deg(x), pictures["degradation"])
    assert torch.equal(network.reg(x - network.deg(x)), pictures["output"])
    assert torch.equal(network(x), pictures["output"])


@BOTH
def test_a_loss_on_the_degradation_trains_only_deg(network_class: type[DRGN | LightDRGN]) -> None:
    network = network_class()
    error: Tensor = network.training_outputs(_picture())["degradation"].square().mean()
    error.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in network.deg.parameters())
    assert all(parameter.grad is None for parameter in network.reg.parameters())


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_the_first_step_reaches_every_parameter(network_class: type[DRGN | LightDRGN], seed: int) -> None:
    """The narrow gates of the attention could start with all their hidden units dead; more seeds than one show it."""
    torch.manual_seed(seed)
    network, x = network_class(), 0.1 * _picture()
    (network(x) - 5 * x).abs().mean().backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


@BOTH
@torch.no_grad()
def test_an_untrained_network_returns_about_its_input(network_class: type[DRGN | LightDRGN]) -> None:
    network, x = network_class(), _picture()
    pictures = network.training_outputs(x)
    assert 0 < pictures["degradation"].abs().mean() < 8 * GREY
    assert 0 < (pictures["output"] - x).abs().mean() < 12 * GREY


@BOTH
@torch.no_grad()
def test_refinement_is_a_residual_and_degradation_is_not(network_class: type[DRGN | LightDRGN]) -> None:
    network, x = network_class(), _picture()
    for generator in (network.deg, network.reg):
        nn.init.zeros_(generator.reconstruct.weight)
    assert torch.equal(network.deg(x), torch.zeros_like(x))
    assert torch.equal(network.reg(x), x)


@pytest.mark.parametrize(("network_class", "millions", "gmacs"), [(DRGN, 4.773, 110.59), (LightDRGN, 0.660, 18.15)])
@torch.no_grad()
def test_budgets_of_table_2(network_class: type[DRGN | LightDRGN], millions: float, gmacs: float) -> None:
    """Table 2 is at 384x384; the work is proportional to the pixels, so a quarter of each side is enough."""
    network = network_class()
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)
    with FlopCounterMode(display=False) as counter:
        network(_picture(96, 96))
    assert 16 * counter.get_total_flops() / 2e9 == pytest.approx(gmacs, rel=0.03)


def test_depths_of_section_3_1() -> None:
    """[2, 3, 4] groups of [3, 3, 3] RCABs, in each generator."""
    network = DRGN()
    for generator in (network.deg, network.reg):
        depths = [sum(isinstance(module, RCAB) for module in level.modules()) for level in generator.groups]
        assert depths == [2 * 3, 3 * 3, 4 * 3]


def test_each_level_sees_itself_and_all_of_higher_resolution() -> None:
    """Eq. 11, j in [1, i]: never a level of lower resolution."""
    network = MultiResolutionFusion(residual=False)
    for level, exchange in enumerate(network.exchange):
        first = [torch.rand(1, width, 32 >> i, 32 >> i, requires_grad=True) for i, width in enumerate((40, 40, 88))]
        shared = exchange(first)
        assert shared.shape == first[level].shape
        shared.square().sum().backward()
        assert [features.grad is not None for features in first] == [i <= level for i in range(3)]


def test_every_level_reaches_the_picture() -> None:
    """Eq. 13 fuses all three levels."""
    network = MultiResolutionFusion(residual=False)
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    for group in network.groups:
        group.register_forward_hook(keep)
    network(_picture()).abs().mean().backward()
    assert [tuple(deep.shape[1:]) for deep in kept] == [(40, 32, 32), (40, 16, 16), (88, 8, 8)]
    assert all(deep.grad is not None and deep.grad.abs().max() > 0 for deep in kept)


@torch.no_grad()
def test_upsampling_and_fusing_at_once_is_equation_13() -> None:
    network = MultiResolutionFusion(residual=False).double()
    nn.init.normal_(network.get_parameter("up.0.bias"))
    nn.init.normal_(network.get_parameter("fuse.bias"))
    deep = [torch.rand(2, width, 24 >> i, 32 >> i, dtype=torch.float64) for i, width in enumerate((40, 40, 88))]
    apart = network.fuse(torch.cat([deep[0], *(up(x) for up, x in zip(network.up, deep[1:], strict=True))], 1))
    torch.testing.assert_close(network._upsample_and_fuse(*deep), apart)


def test_the_pyramid_keeps_flat_pictures_and_drops_what_would_alias() -> None:
    flat = torch.full((2, 3, 18, 16), 0.3)
    assert torch.allclose(gaussian_half(flat), torch.full((2, 3, 9, 8), 0.3))
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    checkerboard = ((rows + columns) % 2).expand(1, 3, 16, 16).double()
    assert torch.allclose(gaussian_half(checkerboard), torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64))


def test_the_pyramid_is_the_binomial_filter() -> None:
    impulse = torch.zeros(1, 1, 16, 16)
    impulse[..., 8, 8] = 1
    assert torch.allclose(gaussian_half(impulse)[0, 0, 4, 3:6], torch.tensor([1.0, 6.0, 1.0]) * 6 / 256)


@torch.no_grad()
def test_upsampling_starts_without_a_checkerboard() -> None:
    """Flat features stay flat away from the border, at the amplitude of a random mix of channels."""
    for up, width in zip(MultiResolutionFusion(residual=False).up, (40, 88), strict=True):
        inner = up(torch.randn(1, width, 1, 1).expand(-1, -1, 8, 8))[..., 4:-4, 4:-4]
        assert torch.allclose(inner.amax((2, 3)), inner.amin((2, 3)), atol=1e-5)
        assert 0.5 < inner.std() < 2


@torch.no_grad()
def test_light_fusion_is_dense() -> None:
    """After each group the attention weighs the first features and the output of every group so far."""
    network = LightDRGN()
    seen: list[tuple[int, ...]] = []
    for fusion in (*network.deg.fusions, *network.reg.fusions):
        fusion.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape[1:])))
    network(_picture())
    assert seen == [(2 * 48, 8, 8), (3 * 48, 8, 8), (2 * 48, 16, 16), (3 * 48, 16, 16)]


@BOTH
def test_a_few_steps_in_bfloat16_brighten(network_class: type[DRGN | LightDRGN]) -> None:
    """At the paper's learning rate (Sec. 3.1), the error of one dark picture falls steadily enough to halve."""
    network, bright = network_class(), 0.5 + 0.3 * _picture(16, 16, batch=2)
    optimizer = torch.optim.Adam(network.parameters(), 5e-4)
    errors: list[float] = []
    for _ in range(10):
        with torch.autocast("cpu", torch.bfloat16):
            output = network(bright / 4)
        error = (output.float() - bright).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.5 * errors[0]
