"""Settings: everything an Enhancer is configured with, checked before anything is loaded."""

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
    """The configuration of an Enhancer. Names are checked here, so that a typo fails before anything is loaded.

    Attributes:
        model: a name listed by `lowlight models`.
        weights: None for the model's own; a tag, a file, hf://..., https://...#sha256=...
        engine: `auto`, `torch`, `onnx`, `openvino`.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `cuda:N,M` (each picture goes to a free GPU), `mps`, `tensorrt`,
            `tensorrt:N`.
        precision: `auto`, `fp32`, `bf16`, `fp16`.
        offline: never use the network.
        look: what is done to the network's output.
        tiling: when pictures are cut into tiles, and how large those are.
        self_ensemble: whether to average over eight flips and rotations.
        compiled: whether to compile the network for sizes that come again; only torch on an NVIDIA GPU does.

    Raises:
        UsageError: a name is unknown, or a switch is neither True nor False.
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
    compiled: bool = False

    def __post_init__(self) -> None:
        descriptor(str(self.model))  # `str`, so that None and the like are reported as unknown names
        engines.check_names(str(self.engine), self.device, str(self.precision))
        switches: dict[str, object] = {
            "protect_highlights": self.look.protect_highlights,
            "self_ensemble": self.self_ensemble,
            "compiled": self.compiled,
            "offline": self.offline,
        }
        for name, value in switches.items():
            if not isinstance(value, (bool, np.bool_)):  # the string `off` of the command line is truthy
                raise UsageError(f"{name} {value!r} is neither True nor False")
