"""Settings: what an Enhancer does, as far as it can be told before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

import lowlight_cli
from lowlight_cli import engines
from lowlight_cli.errors import UsageError
from lowlight_cli.look import Look
from lowlight_cli.networks import descriptor

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """What an Enhancer does. Names are checked here, so that a slip costs no loading.

    Attributes:
        model: a name of `lowlight models`.
        weights: None for the model's own; a tag, a file, hf://..., https://...#sha256=...
        engine: `auto`, `torch`, `onnx`, `openvino`.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `cuda:N,M` (each picture on a free one of them), `mps`, `tensorrt`,
            `tensorrt:N`.
        precision: `auto`, `fp32`, `bf16`, `fp16`.
        offline: never use the network.
        look: what is done after the network.
        tiling: when and how large pictures are cut.
        self_ensemble: whether the mean of eight flips and turns is taken.

    Raises:
        UsageError: a name that is unknown, or what is neither True nor False.
    """

    model: str = lowlight_cli.DEFAULT_MODEL
    weights: str | None = None
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    offline: bool = False
    look: Look = field(default_factory=Look)
    tiling: engines.Tiling = field(default_factory=engines.Tiling)
    self_ensemble: bool = False

    def __post_init__(self) -> None:
        descriptor(str(self.model))  # None and the like are told as unknown names
        engines.check_names(str(self.engine), self.device, str(self.precision))
        switches: dict[str, object] = {
            "protect_highlights": self.look.protect_highlights,
            "self_ensemble": self.self_ensemble,
            "offline": self.offline,
        }
        for name, value in switches.items():
            unsaid = value is None and name == "protect_highlights"
            if not unsaid and not isinstance(value, (bool, np.bool_)):  # the command's `off` would be true
                raise UsageError(f"{name} {value!r} is neither True nor False")
