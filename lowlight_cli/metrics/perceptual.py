"""LPIPS: how different two pictures look to a network trained on image recognition. Lower is better.

Zhang, Isola, Efros, Shechtman, Wang: The unreasonable effectiveness of deep features as a perceptual metric, CVPR 2018.
torchmetrics ships the weights of the LPIPS layers. The backbone under them is torchvision's AlexNet; its weights are
downloaded once.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.errors import DeviceError, first_line
from lowlight_cli.metrics.checks import refuse_unfit

__all__ = ["lacking", "lpips"]

Picture = NDArray[np.floating]

BACKBONE: Final = "torchvision's AlexNet (233 MB)"


def lpips(x: Picture, y: Picture) -> float:
    """Return the distance between two (H, W, 3) pictures in [0, 1], at least 32 pixels a side; 0 if they are equal.

    Raises:
        DeviceError: torchvision is not installed, or its weights are not available.
        ValueError: as `refuse_unfit`.
    """
    import torch

    refuse_unfit(x, y)
    tensors = (torch.from_numpy(np.ascontiguousarray(each, np.float32)).permute(2, 0, 1)[None] for each in (x, y))
    with torch.inference_mode():
        return float(_network()(*tensors))


def lacking(offline: bool) -> str:
    """Return why LPIPS is not available, or an empty string if it is. Downloads missing weights unless `offline`."""
    if not all(importlib.util.find_spec(name) for name in ("torchmetrics", "torchvision")):
        return "pip install 'lowlight-cli[metrics]'"
    try:
        if offline and not _fetched().is_file():
            return f"{BACKBONE} is not on this machine, and nothing may be fetched"
        _network()
    except (DeviceError, OSError, RuntimeError, AttributeError) as error:  # also if torchvision does not match torch
        return f"{BACKBONE} is not available: {first_line(error)}"
    return ""


def _fetched() -> Path:
    """Return the path where torchvision stores AlexNet's weights."""
    import torch
    from torchvision.models import AlexNet_Weights

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(AlexNet_Weights.IMAGENET1K_V1.url).name


@functools.cache
def _network() -> Any:
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
    except ImportError as error:
        raise DeviceError("LPIPS is not available: pip install 'lowlight-cli[metrics]'") from error
    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
