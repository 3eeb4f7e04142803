"""What one run is made of: a TOML file of numbers beside this one, overridden by `--set`."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path

from lowlight_cli.errors import UsageError

__all__ = ["Recipe", "load"]

FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """Every number of a run.

    Attributes:
        input: "exposed" (one gain for the whole picture first) or "as-is".
        optimiser: "adam" or "adamw".
        rate: learning rate at its highest, reached after `warmup` steps; a cosine takes it to `last_rate`.
        betas: of Adam.
        decay: weight decay.
        crop: side of the square crops; `crop_end` from the share `crop_change` of the run on, where it is not 0.
        batch: crops a step; `batch_end` with `crop_end`.
        at_mean: weight of the loss at the reference's mean.
        structure: weight of 1 - SSIM.
        stage: weight of the same loss on a stage picture, where the network has one.
        detail: weight of the squared error of NEID's detail branch against the low picture.
        clip: largest gradient norm.
        ema: decay of the weights' moving average, which is what is validated and shipped.
    """

    input: str = "exposed"
    optimiser: str = "adamw"
    rate: float = 1e-3
    last_rate: float = 0.0
    warmup: int = 50
    betas: tuple[float, float] = (0.9, 0.99)
    decay: float = 1e-4
    crop: int = 160
    crop_end: int = 0
    crop_change: float = 0.75
    batch: int = 8
    batch_end: int = 0
    at_mean: float = 0.5
    structure: float = 0.2
    stage: float = 0.5
    detail: float = 0.1
    clip: float = 1.0
    ema: float = 0.998


def load(network: str, overrides: tuple[str, ...] = ()) -> Recipe:
    """The recipe of a network, with `key=value` overrides in TOML's notation.

    Raises:
        UsageError: an override names no number of the recipe or its value is of another kind.
    """
    file = FOLDER / f"{network}.toml"
    values = tomllib.loads(file.read_text(encoding="utf-8"))
    for override in overrides:
        try:
            values.update(tomllib.loads(override))
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"--set {override!r}: write key=value as in TOML ({error})") from error
    fields = {field.name: field.default for field in dataclasses.fields(Recipe)}
    for key, value in values.items():
        if key not in fields:
            raise UsageError(f"recipe {network}: no setting {key!r}; there are {', '.join(fields)}")
        default = fields[key]
        number = isinstance(default, float) and isinstance(value, int)
        pair = isinstance(default, tuple) and isinstance(value, list) and len(value) == 2
        if not (isinstance(value, type(default)) or number or pair):
            raise UsageError(f"recipe {network}: {key} = {value!r} should be a {type(default).__name__}")
        values[key] = tuple(value) if pair else float(value) if number else value
    return Recipe(**values)
