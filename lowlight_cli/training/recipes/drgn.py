"""DRGN and LW-DRGN as published: learn the degradation, then refine, also on pairs synthesised with it.

Jiang et al., AAAI 2022, arXiv 2103.10621, Sec. 2. Choices made here where the paper leaves them open:

- psi(I_ref, I_D), "no explicit analytic function" (Eq. 3), is I_ref, the ideal case of Sec. 2.3: a dark picture is the
  reference plus its degradation.
- I_ref comes from `--data bright:PATH`; without such a source it is the reference of another pair.
- The distributions of Eq. 6 are histograms of each channel: positions in two different scenes have nothing in common.
- In Eq. 5 and 6, DeG minimises -log D of the synthesised pictures; I_D, the real sample of Eq. 6, is detached there.
- The adversaries are small patch discriminators (`Judge`).
- Crops get all eight flips and rotations, as for every network; the paper flips and scales pairs (Sec. 3.1).
- No loss of the first stage compares pictures, and I_D = 0 everywhere lowers Eq. 7 as well as real degradations do;
  short runs end there. `--set weights.anchor=10` keeps DeG's pictures dark (`anchor`); the default is 0, as published.
  Any anchor above 0 also replaces I_D by its mean colour where a dark picture is made of another scene's reference, in
  both stages (`placeless` of `synthesised`), and dims LW-DRGN's DeG at the start (`begin_dark`).
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
"""Bins of a degradation's histogram over [-1, 1], each about eight grey levels wide."""


class Judge(nn.Sequential):
    """Patch discriminator for real dark pictures or degradations: (N, 3, H, W) to logits (N, 1, H / 4, W / 4)."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(32, 64, 3, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 3, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(128, 1, 3, padding=1),
        )  # fmt: skip


def adversarial(real: Tensor, made_up: Tensor) -> Tensor:
    """Loss of a judge, from logits: Eq. 5 and the first term of Eq. 6, -log D(real) - log(1 - D(made up))."""
    return taken_for_real(real) + seen_through(made_up)


def histogram(x: Tensor) -> Tensor:
    """Return differentiable histograms over [-1, 1]: (N, C, H, W) to (N, C, BINS), positive and summing to 1.

    Each value is split between the two nearest bins, which gives it a gradient. Values outside count in the end bins.
    """
    place = (x.flatten(2).clamp(-1, 1) + 1) / 2 * (BINS - 1)
    lower = place.detach().floor().clamp(max=BINS - 2)
    upper = place - lower
    index = lower.long()
    counts = x.new_zeros(*x.shape[:2], BINS).scatter_add(2, index, 1 - upper).scatter_add(2, index + 1, upper)
    counts = counts + 1e-3
    return counts / counts.sum(2, keepdim=True)


def consistency(degradation: Tensor, reference: Tensor) -> Tensor:
    """Eq. 6: the KL divergence KL(I_D || I_D,ref) of their histograms, summed over bins, mean over channels."""
    p, q = histogram(degradation), histogram(reference)
    return (p * (p / q).log()).sum(2).mean()


def dimmed(reference: Tensor, low: Tensor) -> Tensor:
    """Dim each reference to the mean linear light of its dark picture, by one gain of at most 1; (N, 3, H, W)."""
    linear = to_linear(reference)
    given, wanted = (light.mean((1, 2, 3), keepdim=True) for light in (linear, to_linear(low)))
    return to_srgb(linear * (wanted / given.clamp(min=1e-6)).clamp(max=1))


def refinement(result: Tensor, target: Tensor, structure: float) -> Tensor:
    """One of the two halves of Eq. 9: Charbonnier, epsilon 1e-3, + `structure` (which is negative) times SSIM."""
    return charbonnier(result, target) + structure * ssim(result, target)


def anchor(dark: Tensor, reference: Tensor, low: Tensor, structure: float) -> Tensor:
    """Our addition, not in the paper: a loss that keeps I_L,ref dark and showing the scene of its reference.

    Same form as Eq. 9, between `dark` (made from `reference` with the degradation of `low`) and `reference` dimmed to
    the light of `low`.
    """
    return refinement(dark, dimmed(reference, low), structure)


def synthesised(deg: nn.Module, low: Tensor, reference: Tensor, *, placeless: bool = False) -> tuple[Tensor, Tensor]:
    """Sec. 2.3: return a reference's dark picture I_L,ref and its degradation I_D,ref.

    All are (N, 3, H, W), H and W multiples of 4. Adding I_D of `low` to the reference gives a first dark picture; DeG
    of that picture is I_D,ref, so that Eq. 3 holds exactly.

    Args:
        deg: the network DeG.
        low: a dark picture of any scene.
        reference: the bright picture.
        placeless: use only the mean of I_D, a colour: I_D has the outlines of another scene, which stay as ghosts.
    """
    first: Tensor = deg(low)
    if placeless:
        first = whole(lambda: first.mean((2, 3), keepdim=True))
    degradation: Tensor = deg(first + reference)
    return degradation + reference, degradation


@torch.no_grad()
def begin_dark(deg: DenseBranch) -> None:
    """Initialise LW-DRGN's DeG near I_D = -0.85 I with other weights small, so that I_L,ref starts dimmed but sharp.

    The identity fits because a branch at a quarter of the resolution has 48 channels: the values of a 4x4 block.
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
        mix.weight[range(width), range(-width, 0), 0, 0] += 2  # attention starts near 1/2


def plan(network: DRGN | LightDRGN, recipe: Recipe, mixed: Mixed) -> Plan:
    """Two stages: Sec. 2.1, DeG against two judges; Sec. 2.2, ReG on given and on synthesised pairs."""
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
