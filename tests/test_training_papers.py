"""The papers' losses against values worked out by hand."""

import colorsys
import math
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from lowlight_cli.errors import WeightsError
from lowlight_cli.networks import build
from lowlight_cli.training import recipes
from lowlight_cli.training.data import Batch
from lowlight_cli.training.losses import hue_and_saturation, seen_through, ssim, supervised, taken_for_real
from lowlight_cli.training.plan import Plan
from lowlight_cli.training.recipe import load
from lowlight_cli.training.recipes import dgaf, drgn, frlie, jcrnet, neid


def picture(seed: int, *shape: int) -> Tensor:
    return torch.rand(*(shape or (2, 3, 16, 16)), generator=torch.Generator().manual_seed(seed))


def colour(hue: float, saturation: float = 1.0, value: float = 1.0) -> Tensor:
    """One pixel, hue in degrees."""
    return torch.tensor(colorsys.hsv_to_rgb(hue / 360, saturation, value)).view(1, 3, 1, 1)


def planned(name: str) -> tuple[nn.Module, Plan]:
    torch.manual_seed(0)
    network = build(name)
    settings = ("weights.perceptual=0",) if name == "dgaf" else ()
    return network, recipes.plan(name, network, load(name, settings, "paper"), nullcontext)


BATCH = Batch(picture(1) * 0.2, picture(2), picture(3, 2, 3, 64, 64) * 0.2, picture(4) * 0.2)


# ------------------------------------------------------------------------------------------------- what two share


def test_hue_and_saturation_are_those_of_colorsys() -> None:
    pixels = picture(5, 1, 3, 20, 20)
    hue, saturation = hue_and_saturation(pixels)
    for (r, g, b), h, s in zip(pixels[0].flatten(1).T.tolist(), hue.flatten(), saturation.flatten(), strict=True):
        assert (h.item(), s.item()) == pytest.approx(colorsys.rgb_to_hsv(r, g, b)[:2], abs=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_hue_of_grey_pulls_nowhere(level: float) -> None:
    grey = torch.full((1, 3, 4, 4), level, requires_grad=True)
    (frlie.hue(grey, picture(6, 1, 3, 4, 4)) + neid.colour(grey, picture(6, 1, 3, 4, 4))).backward()
    assert grey.grad is not None and torch.isfinite(grey.grad).all()


def test_what_adversaries_think() -> None:
    assert taken_for_real(torch.zeros(3)).item() == pytest.approx(math.log(2))
    assert seen_through(torch.tensor([math.log(3)])).item() == pytest.approx(math.log(4))  # D = 3/4


# ---------------------------------------------------------------------------------------------------------- jcrnet


def test_laplacian_of_a_dot() -> None:
    """0.4^2 stays after the blur; 4 * 0.16, 4 * 0.02 and 4 * 0.0025 go round it, and come back by the same taps."""
    dot = torch.zeros(1, 1, 17, 17)
    dot[..., 8, 8] = 1
    back = 0.64 * 0.16 + 4 * 0.08 * 0.02 + 4 * 0.01 * 0.0025
    assert jcrnet.laplacian(dot)[0, 0, 8, 8].item() == pytest.approx(1 - back, abs=1e-6)
    flat = jcrnet.laplacian(torch.full((1, 3, 16, 16), 0.7))[..., 4:-4, 4:-4]
    assert flat.abs().max() < 1e-6


def test_edges_of_jcrnet() -> None:
    x = picture(7)
    assert jcrnet.edge(x, x).item() == pytest.approx(1e-3)
    by_hand = torch.sqrt(jcrnet.laplacian(x) ** 2 + 1e-6).mean().item()
    zero = torch.zeros_like(x)
    assert jcrnet.edge(x, zero).item() == pytest.approx(by_hand, rel=1e-5)
    assert jcrnet.total(x, zero, 0.05).item() == pytest.approx(
        torch.sqrt(x**2 + 1e-6).mean().item() + 0.05 * by_hand, rel=1e-5
    )


def test_jcrnet_compares_both_pictures() -> None:
    network, plan = planned("jcrnet")
    outputs = network.training_outputs(BATCH.low)
    by_hand = sum(jcrnet.total(outputs[name], BATCH.high, 0.05) for name in ("output", "stage"))
    assert plan.stages[0].losses(BATCH)[0].item() == pytest.approx(by_hand.item(), rel=1e-5)


# ------------------------------------------------------------------------------------------------------------ neid


def test_colour_of_neid() -> None:
    """Hues (1/3, 2/3) and (2/3, 1/3): their cosine is 4/5. Saturations (1, 1/2) and (1, 1): 3 / sqrt(10)."""
    output = torch.cat([colour(120), colour(240)], 3)
    swapped = torch.cat([colour(240), colour(120)], 3)
    assert neid.colour(output, swapped).item() == pytest.approx(0.2, abs=1e-6)
    assert neid.colour(output, output).item() == pytest.approx(0, abs=1e-6)
    paler = torch.cat([colour(120), colour(240, 0.5)], 3)
    assert neid.colour(paler, output).item() == pytest.approx(1 - 1.5 / math.sqrt(1.25 * 2), abs=1e-6)


def test_neid_is_eq_7() -> None:
    network, plan = planned("neid")
    outputs = network.training_outputs(BATCH.low)
    off = (outputs["output"] - BATCH.high).abs()
    by_hand = (
        torch.where(off <= 0.1, off**2 / 2, 0.1 * off - 0.005).mean()  # Eq. 2
        + 0.1 * ((outputs["detail"] - BATCH.low) ** 2).mean()
        + 0.1 * neid.colour(outputs["output"], BATCH.high)
    )
    assert plan.stages[0].losses(BATCH)[0].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_neid_starts_as_published() -> None:
    network, _ = planned("neid")
    deviations = [
        m.weight.std().item() for m in network.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 9999
    ]
    assert deviations == pytest.approx([0.02] * len(deviations), rel=0.05)


# ----------------------------------------------------------------------------------------------------------- frlie


@pytest.mark.parametrize(("one", "other", "angle"), [(0, 0, 0), (0, 180, 180), (0, 60, 60), (350, 10, 20)])
def test_hue_of_frlie(one: float, other: float, angle: float) -> None:
    assert frlie.hue(colour(one), colour(other)).item() == pytest.approx(angle / 180, abs=1e-5)


def test_the_second_stage_of_frlie_is_eq_7_with_the_normal_light_target() -> None:
    network, plan = planned("frlie")
    network.eval()
    restored = network.feature_processor(network.encoder(BATCH.low))
    output = network.decoder(restored)
    by_hand = (
        100 * ((output - BATCH.high) ** 2).mean()
        + 0.2 * (restored - network.encoder(BATCH.high)).abs().mean()
        + 0.5 * (1 - ssim(output, BATCH.high))
        + 0.05 * frlie.hue(output, BATCH.high)
    )
    assert plan.stages[1].losses(BATCH)[0].item() == pytest.approx(by_hand.item(), rel=1e-5)


# ------------------------------------------------------------------------------------------------------------ drgn


def test_adversary_of_drgn() -> None:
    assert drgn.adversarial(torch.tensor([math.log(3)]), torch.zeros(1)).item() == pytest.approx(
        math.log(4 / 3) + math.log(2)
    )


def test_histogram_of_drgn() -> None:
    """Zero lies half-way between bins 31 and 32; four values of 1 are in the last."""
    counts = drgn.histogram(torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 2, 2))[0, 0] * (4 + 0.064)
    assert counts[31].item() == pytest.approx(1.001, rel=1e-4) == counts[32].item()
    assert counts[63].item() == pytest.approx(2.001, rel=1e-4)
    value = torch.tensor(0.1, requires_grad=True)
    drgn.histogram(value.view(1, 1, 1, 1))[0, 0, 40:].sum().backward()
    assert value.grad is not None


def test_consistency_of_drgn() -> None:
    """All four values in the first bin against all in the last: (4.001 - 0.001) / 4.064 of log 4001."""
    one = torch.ones(1, 1, 2, 2)
    assert drgn.consistency(one, one).item() == pytest.approx(0, abs=1e-6)
    assert drgn.consistency(-one, one).item() == pytest.approx(4 / 4.064 * math.log(4001), rel=1e-4)


def test_refinement_of_drgn() -> None:
    x = picture(8)
    assert drgn.refinement(x, x, -0.2).item() == pytest.approx(1e-3 - 0.2, abs=1e-5)


class Halve(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return -x / 2


def test_synthesis_of_drgn() -> None:
    """I_D = -0.1, the first dark picture 0.7, I_D,ref -0.35, I_L,ref 0.45."""
    dark, degradation = drgn.synthesised(Halve(), torch.tensor(0.2), torch.tensor(0.8))
    assert (dark.item(), degradation.item()) == pytest.approx((0.45, -0.35))


def test_the_stages_of_drgn_are_eq_7_and_eq_9() -> None:
    network, plan = planned("lw-drgn")
    dark, of_dark = drgn.synthesised(network.deg, BATCH.low, BATCH.unpaired)
    of_pictures, of_degradations = plan.helpers["judge_of_pictures"], plan.helpers["judge_of_degradations"]
    fooled = taken_for_real(of_pictures(dark)) + taken_for_real(of_degradations(of_dark))
    by_hand = 1e-5 * fooled + drgn.consistency(network.deg(BATCH.low), of_dark)
    assert plan.stages[0].losses(BATCH)[0].item() == pytest.approx(by_hand.item(), rel=1e-5)
    outputs = [network.training_outputs(low)["output"] for low in (BATCH.low, dark.clamp(0, 1))]
    targets = (BATCH.high, BATCH.unpaired)
    by_hand = sum(drgn.refinement(x, y, -0.2) for x, y in zip(outputs, targets, strict=True))
    assert plan.stages[1].losses(BATCH)[0].item() == pytest.approx(by_hand.item(), rel=1e-5)


class Overdone(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return -5 * x


def test_what_drgn_makes_up_is_shown_as_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """I_L,ref = 25 low - 4 reference is below black and above white in places."""
    network, plan = planned("lw-drgn")
    network.deg, shown, real = Overdone(), list[Tensor](), network.training_outputs
    monkeypatch.setattr(network, "training_outputs", lambda low: [shown.append(low), real(low)][1])
    plan.stages[1].losses(BATCH)
    wanted = (25 * BATCH.low - 4 * BATCH.unpaired).clamp(0, 1)
    assert torch.allclose(shown[1], wanted, atol=1e-5) and wanted.min() == 0 and wanted.max() == 1


def test_synthesis_of_drgn_without_the_outlines_of_the_night() -> None:
    low = torch.tensor([0.0, 0.4]).expand(1, 3, 4, 2)
    reference = torch.full((1, 3, 4, 2), 0.8)
    assert drgn.synthesised(Halve(), low, reference)[0][0, 0, 0].tolist() == pytest.approx([0.4, 0.5])
    assert drgn.synthesised(Halve(), low, reference, placeless=True)[0][0, 0, 0].tolist() == pytest.approx([0.45, 0.45])


def test_deg_of_lw_drgn_begins_with_dark_and_sharp_pictures_where_it_is_held_to_them() -> None:
    torch.manual_seed(0)
    network = build("lw-drgn")
    recipes.plan("lw-drgn", network, load("lw-drgn", ("weights.anchor=1",), "paper"), nullcontext)
    x = picture(9, 1, 3, 64, 64)
    with torch.no_grad():
        assert (network.deg(x) + 0.85 * x).std().item() < 0.1


def test_anchor_of_drgn() -> None:
    """A reference of 0.8 is dimmed to the light of 0.2; one that is darker than its night stays."""
    low, reference = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.8)
    assert drgn.dimmed(reference, low) == pytest.approx(low, abs=1e-6)
    assert drgn.dimmed(low, reference) == pytest.approx(low, abs=1e-6)
    half = torch.cat([reference, torch.zeros_like(reference)], 3)  # twice the light where there is any: 0.2 is 0.0331
    lit = 1.055 * (2 * ((0.2 + 0.055) / 1.055) ** 2.4) ** (1 / 2.4) - 0.055
    assert drgn.dimmed(half, low)[0, 0, 0, [0, -1]].tolist() == pytest.approx([lit, 0], abs=1e-5)
    assert drgn.anchor(low, reference, low, -0.2).item() == pytest.approx(1e-3 - 0.2, abs=1e-5)
    alike = (2 * 0.2 * 0.3 + 1e-4) / (0.2**2 + 0.3**2 + 1e-4)
    assert drgn.anchor(low + 0.1, reference, low, -0.2).item() == pytest.approx(0.1 - 0.2 * alike, abs=1e-4)


def test_the_first_stage_of_drgn_is_eq_7_and_the_anchor_where_it_is_wanted() -> None:
    found = []
    for weight in (0, 10):
        torch.manual_seed(0)
        network = build("lw-drgn")
        recipe = load("lw-drgn", (f"weights.anchor={weight}",), "paper")
        plan = recipes.plan("lw-drgn", network, recipe, nullcontext)
        found.append(plan.stages[0].losses(BATCH)[0].item())
    pictures = drgn.synthesised(network.deg, BATCH.low, BATCH.unpaired, placeless=True)
    kl = drgn.consistency(network.deg(BATCH.low), pictures[1]).item()
    by_hand = kl + 10 * drgn.anchor(pictures[0], BATCH.unpaired, BATCH.low, -0.2).item()
    assert found[0] < 0.1 and found[1] == pytest.approx(by_hand, abs=1e-3)  # the adversaries' share is 1e-5


# ------------------------------------------------------------------------------------------------------------ dgaf


def test_losses_of_dgaf() -> None:
    x, y = torch.full((1, 3, 4, 4), 0.7), torch.full((1, 3, 4, 4), 0.5)
    omega = torch.full((1, 1, 8, 8), 0.25)
    assert dgaf.weighted(x, y, omega).item() == pytest.approx(0.15)


def test_the_darkening_of_dgaf_is_its_three_losses() -> None:
    _, plan = planned("dgaf")
    dark = plan.helpers["darkening"](BATCH.high)
    by_hand = (
        (dark - BATCH.low).abs().mean()
        + (1 - ssim(dark, BATCH.low))
        + 0.02 * taken_for_real(plan.helpers["judge"](dark))
    )
    assert plan.stages[0].losses(BATCH)[0].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_likeness_of_dgaf() -> None:
    logits = torch.full((1, 1, 8, 8), math.log(3))
    assert dgaf.likeness(logits, 32, 30).shape == (1, 1, 32, 30)
    assert dgaf.likeness(logits, 32, 32).mean().item() == pytest.approx(0.75)
    logits[..., :4] = -100  # 0: the middle of seven cells across a border sees four of 3/4
    assert dgaf.likeness(logits, 8, 8)[0, 0, 4, 4].item() == pytest.approx(0.75 * 4 / 7, rel=1e-4)


def test_where_the_pseudo_night_looks_real_dgaf_pays_no_attention() -> None:
    _, plan = planned("dgaf")
    last = plan.helpers["judge"][-1]
    nn.init.zeros_(last.weight)
    found = []
    for logit in (-100.0, 0.0, 100.0):
        nn.init.constant_(last.bias, logit)
        found.append(plan.stages[1].losses(BATCH)[0].item())
    assert found[0] > 0 and found[1] == pytest.approx(found[0] / 2, rel=1e-4) and found[2] == pytest.approx(0, abs=1e-6)


def test_the_perceptual_stand_in_is_frlies_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        path = "here"

    state = build("frlie").state_dict()
    monkeypatch.setattr(dgaf, "resolve", lambda *_, **__: Found)
    monkeypatch.setattr(dgaf.files, "load", lambda *_: (state, {}))
    plan = recipes.plan("dgaf", build("dgaf"), load("dgaf", (), "paper"), nullcontext)
    features = plan.helpers["perceptual"].eval()(BATCH.high)
    assert features.shape == (2, 128, 4, 4)
    _, without = planned("dgaf")
    for helper in ("darkening", "judge"):
        plan.helpers[helper].load_state_dict(without.helpers[helper].state_dict())
    added = plan.stages[0].losses(BATCH)[0] - without.stages[0].losses(BATCH)[0]
    perceptual = plan.helpers["perceptual"]
    dark = plan.helpers["darkening"](BATCH.high)
    by_hand = 0.02 * (perceptual(dark) - perceptual(BATCH.low)).abs().mean()
    assert added.item() == pytest.approx(by_hand.item(), rel=1e-2, abs=1e-5)


def test_without_frlies_weights_dgaf_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise WeightsError("there are none")

    monkeypatch.setattr(dgaf, "resolve", none)
    with pytest.raises(WeightsError, match=r"--set weights\.perceptual=0"):
        recipes.plan("dgaf", build("dgaf"), load("dgaf", (), "paper"), nullcontext)


# ------------------------------------------------------------------------------------------------------------ ours


@pytest.mark.parametrize(("name", "beside"), [("jcrnet", "stage"), ("neid", "detail")])
def test_ours_compares_what_the_paper_does_beside_the_result(name: str, beside: str) -> None:
    torch.manual_seed(0)
    network = build(name)
    plan = recipes.plan(name, network, load(name), nullcontext)
    outputs = network.training_outputs(BATCH.low)
    by_hand = supervised(outputs["output"], BATCH.high, at_mean=0.5, structure=0.2)
    by_hand = by_hand + (
        0.5 * supervised(outputs["stage"], BATCH.high, at_mean=0.5, structure=0.2)
        if beside == "stage"
        else 0.1 * ((outputs["detail"] - BATCH.low) ** 2).mean()
    )
    assert plan.stages[0].losses(BATCH)[0].item() == pytest.approx(by_hand.item(), rel=1e-5)
