"""DGAF as published: train a network to darken like real nights, then DGAF to undo it, weighted by domain distance.

Chen et al., Frontiers in Physics 11:1147031, 2023, Sec. 3 (its equations have no numbers). It follows DASR (Wei et al.,
CVPR 2021), which supplies the details that the paper omits. Choices made here:

- The perceptual loss compares features of FRLIE's encoder (`Perceptual`) instead of the paper's VGG-16 conv5_3: this
  stand-in needs no VGG weights. `--set weights.perceptual=0` turns the loss off.
- The minus signs before the two losses of Sec. 3.1.2 are taken as errors: training minimises the differences.
- The thumbnail for the gain is that of the crop: the pseudo-low-light picture is made from the crop, so there is no
  larger one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlight_cli.errors import WeightsError
from lowlight_cli.networks.dgaf import DGAF, Darkening, averaged
from lowlight_cli.networks.frlie import FRLIE, Encoder
from lowlight_cli.training.data import Batch
from lowlight_cli.training.losses import seen_through, ssim, taken_for_real
from lowlight_cli.training.plan import Mixed, Plan, Stage
from lowlight_cli.training.recipe import Recipe
from lowlight_cli.weights import files
from lowlight_cli.weights.fetch import resolve

__all__ = ["PatchJudge", "Perceptual", "likeness", "plan", "weighted"]


class PatchJudge(nn.Sequential):
    """Patch discriminator for real nights: (N, 3, H, W) to logits (N, 1, H / 4, W / 4).

    Four convolutions as in the paper, widths as in DASR; the first two halve the size, so that each logit sees 29x29
    pixels. Its input is not filtered: DASR removes low frequencies first, but here they are the light to be compared.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 64, 5, 2, 2), nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 5, 2, 2), nn.InstanceNorm2d(128), nn.LeakyReLU(0.2),
            nn.Conv2d(128, 256, 5, 1, 2), nn.InstanceNorm2d(256), nn.LeakyReLU(0.2),
            nn.Conv2d(256, 1, 1),
        )  # fmt: skip


class Perceptual(nn.Module):
    """Phi of L_percept: FRLIE's encoder with installed weights, frozen. (N, 3, H, W) to (N, 128, H / 4, W / 4)."""

    def __init__(self) -> None:
        super().__init__()
        try:
            found = resolve("frlie", None, offline=True)
        except WeightsError as error:
            raise WeightsError(
                "the paper's dgaf compares features by the encoder of frlie, whose weights are not at hand; get them "
                "by `lowlight weights pull frlie`, or do without: --set weights.perceptual=0"
            ) from error
        network = FRLIE()
        network.load_state_dict(files.load(found.path, "frlie")[0])
        self.encoder: Encoder = network.encoder

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of a picture."""
        features: Tensor = self.encoder(x)
        return features


def likeness(logits: Tensor, height: int, width: int) -> Tensor:
    """Return the domain-distance map omega, the probability that a pixel is real: (N, 1, h, w) to (N, 1, H, W).

    As in DASR, each patch's probability is spread over the pixels it saw, seven cells across, and averaged there.
    """
    spread = F.avg_pool2d(torch.sigmoid(logits), 7, 1, 3, count_include_pad=False)
    return F.interpolate(spread, (height, width), mode="bilinear")


def weighted(x: Tensor, y: Tensor, omega: Tensor) -> Tensor:
    """L_w,content and L_w,percept: mean of (1 - omega) |x - y|; x, y (N, C, h, w), omega (N, 1, H, W), any size."""
    return ((1 - averaged(omega, *x.shape[-2:])) * (x - y).abs()).mean()


def plan(network: DGAF, recipe: Recipe, mixed: Mixed) -> Plan:
    """Two stages: Sec. 3.1.1, the Darkening network against a judge of real nights; Sec. 3.1.2, DGAF under RDDG."""
    weights = recipe.weights
    darkening, judge = Darkening(), PatchJudge()
    helpers = nn.ModuleDict({"darkening": darkening, "judge": judge})
    if weights["perceptual"]:
        helpers["perceptual"] = Perceptual()

    def features(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with mixed():
            return helpers["perceptual"](x).float(), helpers["perceptual"](y).float()

    def darken(batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch.unpaired is not None
        with mixed():
            dark = darkening(batch.high).float()
            fooled = taken_for_real(judge(dark).float())  # L_Adv of G
            real, made_up = judge(batch.unpaired).float(), judge(dark.detach()).float()
        loss = (
            weights["content"] * F.l1_loss(dark, batch.low)
            + weights["ssim"] * (1 - ssim(dark, batch.low))
            + weights["adversarial"] * fooled
        )
        if weights["perceptual"]:
            loss = loss + weights["perceptual"] * F.l1_loss(*features(dark, batch.low))
        return loss, taken_for_real(real) + seen_through(made_up)  # L_Adv of D

    def enlighten(batch: Batch) -> tuple[Tensor]:
        with mixed():
            with torch.no_grad():
                dark = darkening(batch.high).float()
                logits = judge(dark).float()
            output = network.training_outputs(dark)["output"].float()
        omega = likeness(logits, *dark.shape[-2:])
        loss = weights["content"] * weighted(output, batch.high, omega)
        if weights["perceptual"]:
            loss = loss + weights["perceptual"] * weighted(*features(output, batch.high), omega)
        return (loss,)

    return Plan(
        (
            Stage("darkening", ((darkening,), (judge,)), darken),
            Stage("enlightening", ((network,),), enlighten),
        ),
        helpers,
        {"dgaf-darkening": darkening},
    )
