"""FRLIE as published: train a reconstructor of normal-light pictures, then feature restoration between its halves.

Yang, Zhang, Guo, ICASSP 2022, Sec. 2. Norms are computed as means, as in the authors' code. That code departs from the
paper in two places, where this file follows the paper: it takes the feature target from the low-light picture, and it
divides the hue loss by 360.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lowlight_cli.networks.frlie import FRLIE
from lowlight_cli.networks.layers import pad
from lowlight_cli.training.data import Batch
from lowlight_cli.training.losses import hue_and_saturation, ssim
from lowlight_cli.training.plan import Mixed, Plan, Stage
from lowlight_cli.training.recipe import Recipe

__all__ = ["hue", "plan"]


def hue(output: Tensor, high: Tensor) -> Tensor:
    """1 - Eq. 6: mean angle between hues, divided by 180 degrees; (N, 3, H, W) in [0, 1] to a scalar in [0, 1].

    As printed, |180 - |H - H'|| / 180 is 1 for equal hues and 0 for opposite ones; as a loss it must be subtracted
    from 1.
    """
    difference = 360 * (hue_and_saturation(output)[0] - hue_and_saturation(high)[0]).abs()
    return (1 - (180 - difference).abs() / 180).mean()


def plan(network: FRLIE, recipe: Recipe, mixed: Mixed) -> Plan:
    """Two stages: Sec. 2.1, then Sec. 2.2 with encoder and decoder frozen, including their batch norms."""
    weights = recipe.weights

    def reconstruct(batch: Batch) -> tuple[Tensor]:
        with mixed():
            decoded = network.reconstruct(batch.high)
        return (weights["reconstruction"] * F.mse_loss(decoded.float(), batch.high),)  # Eq. 1

    def restore(batch: Batch) -> tuple[Tensor]:
        with mixed():
            with torch.no_grad():
                target = network.encoder(pad(batch.high, 4))
            outputs = network.training_outputs(batch.low)
        output = outputs["output"].float()
        loss = (  # Eq. 7
            weights["decode"] * F.mse_loss(output, batch.high)  # Eq. 4
            + weights["feature"] * F.l1_loss(outputs["features"].float(), target.float())  # Eq. 3
            + weights["ssim"] * (1 - ssim(output, batch.high))  # Eq. 5
            + weights["hue"] * hue(output, batch.high)
        )
        return (loss,)

    return Plan(
        (
            Stage("reconstructor", ((network.encoder, network.decoder),), reconstruct),
            Stage("features", ((network.feature_processor,),), restore),
        )
    )
