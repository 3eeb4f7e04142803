"""DRGN and LW-DRGN as published: learn the degradation, then refine, also on pairs that the degradation makes.

Jiang et al., AAAI 2022, arXiv 2103.10621, Sec. 2. Left open by the paper and fixed here:

- psi(I_ref, I_D), "no explicit analytic function" (Eq. 3), is I_ref, as Sec. 2.3 says of its ideal case: a dark picture
  is the reference plus its degradation.
- I_ref comes from `--data bright:PATH`; without such a source it is the reference of another pair.
- The distributions of Eq. 6 are histograms of each channel: positions in two different scenes have nothing in common.
- DeG takes part in Eq. 5 and 6 by -log D of what it made up; I_D, which Eq. 6 calls real, is held constant there.
- The adversaries are small and see patches (`Judge`).
- Crops are flipped and turned in all eight ways, as of every network; the paper flips, and scales pairs (Sec. 3.1).
- No loss of the first stage compares pictures, and I_D = 0 everywhere lowers Eq. 7 as well as a night does: short runs
  end there. `--set weights.anchor=10` holds DeG to dark pictures (`anchor`); 0, as published, is the default.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lowlight_cli.networks.dgaf import to_linear, to_srgb
from lowlight_cli.networks.drgn import DRGN, RCAB, DenseBranch, LightDRGN
from lowlight_cli.networks.layers import ChannelAttention
from lowlight_cli.networks.statistics import whole
from lowlight_cli.training.data import Batch
from lowlight_cli.training.losses import charbonnier, seen_through, ssim, taken_for_real
from lowlight_cli.training.plan import Mixed, Plan, Stage
from lowlight_cli.training.recipe import Recipe

__all__ = [
    "Judge", "adversarial", "anchor", "begin_dark", "consistency", "dimmed", "histogram", "plan", "refinement",
    "synthesised",
]  # fmt: skip

BINS = 64
"""Of a degradation's histogram over [-1, 1]: eight grey levels each."""


class Judge(nn.Sequential):
    """Whether patches are of a real dark picture (or degradation): (N, 3, H, W) to logits (N, 1, H / 4, W / 4)."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(32, 64, 3, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 3, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(128, 1, 3, padding=1),
        )  # fmt: skip


def adversarial(real: Tensor, made_up: Tensor) -> Tensor:
    """Eq. 5, and the first of Eq. 6, which the judge lowers: -log D(real) - log(1 - D(made up)), of logits."""
    return taken_for_real(real) + seen_through(made_up)


def histogram(x: Tensor) -> Tensor:
    """How a picture's values spread over [-1, 1]: (N, C, H, W) to (N, C, BINS), summing to 1, none of them 0.

    Each value is shared between the two nearest bins, which gives it a gradient. Values outside go to the last bins.
    """
    place = (x.flatten(2).clamp(-1, 1) + 1) / 2 * (BINS - 1)
    lower = place.detach().floor().clamp(max=BINS - 2)
    upper = place - lower
    index = lower.long()
    counts = x.new_zeros(*x.shape[:2], BINS).scatter_add(2, index, 1 - upper).scatter_add(2, index + 1, upper)
    counts = counts + 1e-3
    return counts / counts.sum(2, keepdim=True)


def consistency(degradation: Tensor, reference: Tensor) -> Tensor:
    """Eq. 6: the KL divergence of I_D,ref's distribution from I_D's, summed over bins, mean over channels."""
    p, q = histogram(degradation), histogram(reference)
    return (p * (p / q).log()).sum(2).mean()


def dimmed(reference: Tensor, low: Tensor) -> Tensor:
    """Each reference with the mean light of its dark picture: one gain in linear light, at most 1; (N, 3, H, W)."""
    linear = to_linear(reference)
    given, wanted = (light.mean((1, 2, 3), keepdim=True) for light in (linear, to_linear(low)))
    return to_srgb(linear * (wanted / given.clamp(min=1e-6)).clamp(max=1))


def refinement(result: Tensor, target: Tensor, structure: float) -> Tensor:
    """One of the two halves of Eq. 9: Charbonnier, epsilon 1e-3, + `structure` (which is negative) times SSIM."""
    return charbonnier(result, target) + structure * ssim(result, target)


def anchor(dark: Tensor, reference: Tensor, low: Tensor, structure: float) -> Tensor:
    """Ours, of no equation: what keeps I_L,ref the reference's scene, and dark.

    The form of Eq. 9 between `dark`, which `low` made of `reference`, and that reference dimmed to the light of `low`.
    """
    return refinement(dark, dimmed(reference, low), structure)


def synthesised(deg: nn.Module, low: Tensor, reference: Tensor, *, placeless: bool = False) -> tuple[Tensor, Tensor]:
    """Sec. 2.3: a reference's dark picture I_L,ref and its degradation I_D,ref; all (N, 3, H, W), 4 dividing H, W.

    I_D of `low` gives a first dark picture; what DeG finds in that is its own degradation, which fits Eq. 3 strictly.

    Args:
        deg: DeG.
        low: the dark picture, of whatever scene.
        reference: the bright one.
        placeless: hand on the mean of I_D alone, a colour: its outlines are another scene's, and stay as ghosts.
    """
    first: Tensor = deg(low)
    if placeless:
        first = whole(lambda: first.mean((2, 3), keepdim=True))
    degradation: Tensor = deg(first + reference)
    return degradation + reference, degradation


@torch.no_grad()
def begin_dark(deg: DenseBranch) -> None:
    """Let LW-DRGN's DeG begin near I_D = -0.85 I, all other weights small: I_L,ref is the reference dimmed, and sharp.

    A branch at a quarter of the resolution has as many channels, 48, as it has values of a pixel's block.
    """
    first, last = deg.initial, deg.reconstruct
    width = last.in_channels
    identity = torch.zeros_like(last.weight)
    identity[range(width), range(width), 1, 1] = 1
    first.weight.mul_(0.1).add_(identity)
    last.weight.add_(identity, alpha=-0.85)
    for module in deg.modules():
        if isinstance(module, RCAB):
            module.second.weight.mul_(0.1)
    for fusion in deg.fusions:
        attention, mix = fusion.children()
        assert isinstance(attention, ChannelAttention) and isinstance(mix, nn.Conv2d)
        list(attention.gate.parameters())[2].mul_(0.1)
        mix.weight.mul_(0.1)
        mix.weight[range(width), range(-width, 0), 0, 0] += 2  # attention begins about one half


def plan(network: DRGN | LightDRGN, recipe: Recipe, mixed: Mixed) -> Plan:
    """Sec. 2.1, DeG against two judges; then Sec. 2.2, ReG on given and on synthesised pairs."""
    weights = recipe.weights
    placeless = weights["anchor"] > 0
    of_pictures, of_degradations = Judge(), Judge()
    if placeless and isinstance(network.deg, DenseBranch):
        begin_dark(network.deg)

    def degrade(batch: Batch) -> tuple[Tensor, Tensor]:
        reference = batch.unpaired
        assert reference is not None
        with mixed():
            degradation = network.deg(batch.low)
            dark, of_dark = synthesised(network.deg, batch.low, reference, placeless=placeless)
            fooled = taken_for_real(of_pictures(dark).float()) + taken_for_real(of_degradations(of_dark).float())
            pictures = adversarial(of_pictures(batch.low).float(), of_pictures(dark.detach()).float())
            degradations = adversarial(
                of_degradations(degradation.detach()).float(), of_degradations(of_dark.detach()).float()
            )
        loss = weights["adversarial"] * fooled + consistency(degradation.float(), of_dark.float())  # Eq. 7
        if placeless:
            loss = loss + weights["anchor"] * anchor(dark.float(), reference, batch.low, weights["ssim"])
        return loss, pictures + degradations

    def refine(batch: Batch) -> tuple[Tensor]:
        reference = batch.unpaired
        assert reference is not None
        with mixed():
            with torch.no_grad():
                dark = synthesised(network.deg, batch.low, reference, placeless=placeless)[0].clamp(0, 1)
            given = network.training_outputs(batch.low)["output"]
            made = network.training_outputs(dark)["output"]
        loss = refinement(given.float(), batch.high, weights["ssim"]) + refinement(
            made.float(), reference, weights["ssim"]
        )
        return (loss,)

    return Plan(
        (
            Stage("degradation", ((network.deg,), (of_pictures, of_degradations)), degrade),
            Stage("refinement", ((network.reg,),), refine),
        ),
        nn.ModuleDict({"judge_of_pictures": of_pictures, "judge_of_degradations": of_degradations}),
        {"drgn-degradation" if isinstance(network, DRGN) else "lw-drgn-degradation": network.deg},
    )
