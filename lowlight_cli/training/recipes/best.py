"""Our recipe for every network: one stage, one loss on the result and on the network's auxiliary outputs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lowlight_cli.networks.layers import Network
from lowlight_cli.training import losses
from lowlight_cli.training.data import Batch
from lowlight_cli.training.plan import Mixed, Plan, Stage
from lowlight_cli.training.recipe import Recipe

__all__ = ["plan"]


def plan(network: Network, recipe: Recipe, mixed: Mixed) -> Plan:
    """Return a plan of one stage that trains the whole network."""

    def compared(batch: Batch) -> tuple[Tensor]:
        with mixed():
            arguments = (batch.low, batch.thumbnail) if network.wants_thumbnail else (batch.low,)
            outputs = {key: value.float() for key, value in network.training_outputs(*arguments).items()}
        loss = losses.supervised(outputs["output"], batch.high, at_mean=recipe.at_mean, structure=recipe.structure)
        if "stage" in outputs:
            stage = losses.supervised(outputs["stage"], batch.high, at_mean=recipe.at_mean, structure=recipe.structure)
            loss = loss + recipe.stage * stage
        if "detail" in outputs:
            loss = loss + recipe.detail * F.mse_loss(outputs["detail"], batch.low)
        return (loss,)

    return Plan((Stage("all", ((network,),), compared),))
