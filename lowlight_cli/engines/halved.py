"""Keep in half precision the weights that autocast would convert anew in every pass.

A GPU takes as long for such a conversion as for any small kernel, and there is one for each layer.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["halve"]

LAYERS = nn.Conv2d, nn.ConvTranspose2d, nn.Linear


@torch.inference_mode()
def halve(network: nn.Module, device: str, kind: torch.dtype) -> None:
    """Convert, in place, the weights of each layer that runs under autocast, to what autocast computes it in.

    Which layers those are, one pass over a small picture tells: networks compute some parts in float32.

    Args:
        network: on `device`, for inference.
        device: a torch device.
        kind: what autocast converts to, float16 or bfloat16.
    """
    place = torch.device(device).type
    found: dict[nn.Module, torch.dtype] = {}

    def note(layer: nn.Module, _: object) -> None:
        if torch.is_autocast_enabled(place):
            found[layer] = torch.get_autocast_dtype(place)

    hooks = [layer.register_forward_pre_hook(note) for layer in network.modules() if isinstance(layer, LAYERS)]
    try:
        with torch.autocast(place, kind):
            network(torch.zeros(1, 3, 64, 64, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    for layer, own in found.items():
        layer.to(own)
