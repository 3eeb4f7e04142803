"""NEID as published: Huber on the result, squared error on the detail branch, hue and saturation.

Jiang et al. 2021, arXiv 2101.08039, Sec. 2.3 and 3.2. The detail branch is compared with the dark picture at full size,
which it reconstructs by Sec. 2.2; Eq. 3 uses the same symbol for its target as the other losses.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lowlight_cli.networks.neid import NEID
from lowlight_cli.training.data import Batch
from lowlight_cli.training.losses import hue_and_saturation
from lowlight_cli.training.plan import Mixed, Plan, Stage
from lowlight_cli.training.recipe import Recipe

__all__ = ["colour", "plan"]


def colour(output: Tensor, high: Tensor) -> Tensor:
    """Eq. 4 to 6: cosine distance of the hue channels plus that of the saturation channels, each picture as one vector.

    Maps (N, 3, H, W), clamped to [0, 1], to a scalar in [0, 2]. Hue is in turns, so red is at both ends as in the
    paper's HSV. Grey has hue 0 and black has saturation 0, both without a gradient.
    """
    channels = zip(hue_and_saturation(output), hue_and_saturation(high), strict=True)
    alike = [F.cosine_similarity(p.flatten(1), g.flatten(1), eps=1e-6).mean() for p, g in channels]
    return 2 - alike[0] - alike[1]


def plan(network: NEID, recipe: Recipe, mixed: Mixed) -> Plan:
    """One stage, from the paper's initial weights."""
    network.initialise_as_published()
    weights = recipe.weights

    def compared(batch: Batch) -> tuple[Tensor]:
        with mixed():
            outputs = network.training_outputs(batch.low)
        output = outputs["output"].float()
        loss = (  # Eq. 7
            F.huber_loss(output, batch.high, delta=weights["delta"])  # Eq. 2
            + weights["detail"] * F.mse_loss(outputs["detail"].float(), batch.low)  # Eq. 3
            + weights["colour"] * colour(output, batch.high)
        )
        return (loss,)

    return Plan((Stage("all", ((network,),), compared),))
