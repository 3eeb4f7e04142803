"""JCRNet as published: Charbonnier and edge loss, on the result and on the first stage's picture.

Yu, Shi, Han 2023, arXiv 2309.16128, Sec. III-D. Eq. 10 compares one picture only; comparing x_A of the self-supervised
block too follows DGUNet, on which the authors built.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lowlight_cli.networks.jcrnet import JCRNet
from lowlight_cli.training.data import Batch
from lowlight_cli.training.losses import charbonnier, constant
from lowlight_cli.training.plan import Mixed, Plan, Stage
from lowlight_cli.training.recipe import Recipe

__all__ = ["edge", "laplacian", "plan", "total"]


def laplacian(x: Tensor) -> Tensor:
    """Return what one step down and up a Laplacian pyramid removes from a picture; (N, C, H, W) to the same shape.

    Blur with five taps (.05 .25 .4 .25 .05), borders replicated; keep every second pixel times 4 with zeros between;
    blur with the same taps again; subtract from the picture.
    """
    blurred = _blur(x)
    kept = blurred.new_zeros(blurred.shape)
    kept[..., ::2, ::2] = 4 * blurred[..., ::2, ::2]
    return x - _blur(kept)


def edge(x: Tensor, y: Tensor) -> Tensor:
    """Eq. 9: Charbonnier, epsilon 1e-3, between the Laplacians of two pictures (N, C, H, W)."""
    return charbonnier(laplacian(x), laplacian(y))


def total(x: Tensor, y: Tensor, edges: float) -> Tensor:
    """Eq. 10: Charbonnier (Eq. 8) + `edges` times Eq. 9."""
    return charbonnier(x, y) + edges * edge(x, y)


def plan(network: JCRNet, recipe: Recipe, mixed: Mixed) -> Plan:
    """One stage."""
    edges = recipe.weights["edge"]

    def compared(batch: Batch) -> tuple[Tensor]:
        with mixed():
            outputs = network.training_outputs(batch.low)
        return (
            total(outputs["output"].float(), batch.high, edges) + total(outputs["stage"].float(), batch.high, edges),
        )

    return Plan((Stage("all", ((network,),), compared),))


def _blur(x: Tensor) -> Tensor:
    taps = constant((0.05, 0.25, 0.4, 0.25, 0.05), x.device, x.dtype)
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), kernel, groups=x.shape[1])
