"""Recipes: all numbers of a training run, from a TOML file for each network, with overrides by `--set`."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from lowlight_cli.errors import UsageError
from lowlight_cli.metrics.ssim import SMALLEST

__all__ = ["KINDS", "Recipe", "load", "multiple"]

FOLDER = Path(__file__).parent / "recipes"
KINDS = ("best", "paper")


@dataclass(frozen=True)
class Recipe:
    """Every number of a run.

    Attributes:
        kind: "best" (ours, the same losses for all networks) or "paper" (as published).
        input: "exposed" (the network gets the picture after one gain for the whole of it) or "as-is".
        optimiser: "adam" or "adamw".
        rate: peak learning rate, reached after `warmup` steps.
        schedule: "cosine" or "linear" decay to `last_rate`, or "drops": multiply by `factor` at each share in `drops`.
        last_rate: final rate of a cosine or linear schedule.
        drops: shares of the run, ascending.
        factor: multiplier of the rate at each drop.
        restart: whether the schedule restarts with each stage instead of spanning the whole run.
        shares: share of the run for each stage; their sum is 1.
        unpaired: "dark" or "bright": the kind of source that has no pairs and fills `Batch.unpaired`; "" for none.
        warmup: steps over which the rate rises.
        betas: Adam's betas.
        decay: weight decay.
        crop: side of the square crops; `crop_end`, if not 0, replaces it from the share `crop_change` of the run on.
        batch: crops a step; `batch_end`, if not 0, replaces it at the same point.
        mixup: share of the crops that are blended with a crop of another pair, references likewise.
        lit: share of the crops whose low picture is the reference itself, so that bright pictures stay unchanged.
        noise: share of the crops of dark pictures with their original noise that get extra `darken.codec_noise`.
        at_mean: best: weight of the loss at the reference's mean.
        structure: best: weight of 1 - SSIM.
        stage: best: weight of the same loss on the intermediate stage picture, if the network has one.
        detail: best: weight of the squared error of NEID's detail branch against the low picture.
        weights: paper: weights of its losses, by name.
        clip: largest gradient norm.
        ema: decay of the moving average of the weights, which is validated and shipped; 0 for no averaging.
    """

    kind: str = "best"
    input: str = "exposed"
    optimiser: str = "adamw"
    rate: float = 1e-3
    schedule: str = "cosine"
    last_rate: float = 0.0
    drops: tuple[float, ...] = ()
    factor: float = 0.5
    restart: bool = False
    shares: tuple[float, ...] = (1.0,)
    unpaired: str = ""
    warmup: int = 50
    betas: tuple[float, ...] = (0.9, 0.99)
    decay: float = 1e-4
    crop: int = 160
    crop_end: int = 0
    crop_change: float = 0.75
    batch: int = 8
    batch_end: int = 0
    mixup: float = 0.0
    lit: float = 0.0
    noise: float = 0.0
    at_mean: float = 0.5
    structure: float = 0.2
    stage: float = 0.5
    detail: float = 0.1
    weights: Mapping[str, float] = field(default_factory=dict)
    clip: float = 1.0
    ema: float = 0.998

    def stage_at(self, share: float) -> int:
        """Return the number of the stage at a share of the run."""
        ends = list(accumulate(self.shares))[:-1]
        return sum(share >= end for end in ends)

    def rate_at(self, step: int, share: float) -> float:
        """Return the learning rate of a step at a share of the run."""
        if self.restart:
            stage = self.stage_at(share)
            share = min(1.0, (share - sum(self.shares[:stage])) / self.shares[stage])
        if self.schedule == "drops":
            rate = self.rate * self.factor ** sum(share >= drop for drop in self.drops)
        elif self.schedule == "linear":
            rate = self.rate + (self.last_rate - self.rate) * share
        else:
            rate = self.last_rate + (self.rate - self.last_rate) * (1 + math.cos(math.pi * share)) / 2
        return rate * min(1.0, (step + 1) / self.warmup)


CHOICES = {
    "input": ("exposed", "as-is"),
    "optimiser": ("adam", "adamw"),
    "schedule": ("cosine", "linear", "drops"),
    "unpaired": ("", "dark", "bright"),
}

Range = tuple[float, float, str]
"""Smallest and largest value, and the range in words."""

TINY, LARGE = math.nextafter(0, 1), math.nextafter(math.inf, 0)
SHARE: Range = (0, 1, "from 0 to 1")
WEIGHT: Range = (0, LARGE, "from 0, and finite")
ANY: Range = (-LARGE, LARGE, "finite")
MANY = 2**16
"""Upper bound for pixels a side and for crops a step, beyond what any machine trains with."""

RANGES: dict[str, Range] = {
    "rate": SHARE,
    "last_rate": SHARE,
    "drops": SHARE,
    "factor": SHARE,
    "warmup": (1, 10**9, "from 1 to 1000000000"),
    "betas": (0, math.nextafter(1, 0), "from 0 to below 1"),
    "decay": WEIGHT,
    "crop": (SMALLEST, MANY, f"from {SMALLEST} to {MANY}"),
    "crop_end": (SMALLEST, MANY, f"0, or from {SMALLEST} to {MANY}"),
    "crop_change": SHARE,
    "batch": (1, MANY, f"from 1 to {MANY}"),
    "batch_end": (0, MANY, f"from 0 to {MANY}"),
    "mixup": SHARE,
    "lit": SHARE,
    "noise": SHARE,
    "at_mean": WEIGHT,
    "structure": WEIGHT,
    "stage": WEIGHT,
    "detail": WEIGHT,
    "weights.delta": (TINY, LARGE, "above 0, and finite"),
    "clip": (TINY, math.inf, "above 0"),
    "ema": SHARE,
}
"""Range of each setting, or of each number in a list. Other weights of the papers' losses may be any finite number."""

OFF = ("crop_end",)
"""Settings that may also be 0, which turns them off."""

UNPADDED = {"drgn": 4, "lw-drgn": 4}
"""Networks whose paper's losses feed crops to submodules without padding: crops must be multiples of this."""


def multiple(network: str, kind: str) -> int:
    """Return the number that the sides of a network's crops are multiples of under a recipe."""
    return UNPADDED.get(network, 1) if kind == "paper" else 1


def load(
    network: str, overrides: tuple[str, ...] = (), kind: str = "best", had: Mapping[str, Any] | None = None
) -> Recipe:
    """Load the recipe of a network and apply `key=value` overrides in TOML syntax.

    When resuming, `had` has the numbers of the earlier run, which replace those of the file.

    Raises:
        UsageError: there is no such recipe, an override names no setting of it, or its value has the wrong type or is
            out of range.
    """
    tables = tomllib.loads((FOLDER / f"{network}.toml").read_text(encoding="utf-8"))
    kinds = [each for each in KINDS if each == "best" or each in tables]  # `best` needs no table: `Recipe` has defaults
    if kind not in kinds:
        raise UsageError(f"--recipe {kind}: {network} has {' and '.join(kinds)}")
    values: dict[str, Any] = {key: value for key, value in (had or tables.get(kind, {})).items() if key != "kind"}
    weights: dict[str, float] = dict(values.pop("weights", {}))
    stages, wanted = len(values.get("shares", (1.0,))), values.get("unpaired", "")
    for override in overrides:
        try:
            given = tomllib.loads(override)
        except ValueError as error:  # invalid TOML, or a number with thousands of digits
            raise UsageError(f"--set {override!r}: write key=value as in TOML ({error})") from error
        changed = given.pop("weights", {})
        if not isinstance(changed, dict) or changed.keys() - weights.keys():
            there = ", ".join(f"weights.{name}" for name in weights) or "none"
            raise UsageError(f"--set {override!r}: no such weight in recipe {network} {kind}; there are: {there}")
        weights.update({name: _fitting(network, f"weights.{name}", 0.0, value) for name, value in changed.items()})
        values.update(given)
    fields = {f.name: f.default for f in dataclasses.fields(Recipe) if f.name not in ("kind", "weights")}
    for key, value in values.items():
        if key not in fields:
            raise UsageError(f"recipe {network}: no setting {key!r}; there are {', '.join(fields)}")
        values[key] = _fitting(network, key, fields[key], value)
    shares = values.get("shares", (1.0,))
    if len(shares) != stages or min(shares) <= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-3):
        raise UsageError(f"recipe {network}: shares wants {stages} numbers above 0 whose sum is 1, one a stage")
    step = multiple(network, kind)
    for key in ("crop", "crop_end"):
        if (side := values.get(key, fields[key])) % step:
            raise UsageError(f"recipe {network}: {key} = {side} should be a multiple of {step}")
    own = values.get("unpaired", "")
    if own != wanted:
        raise UsageError(f"recipe {network}: unpaired = {own!r} should be {wanted!r}: its losses are made for that")
    return Recipe(kind=kind, weights=weights, **values)


def _fitting(network: str, key: str, default: Any, value: Any) -> Any:
    """Convert `value` to the type of `default` (integers to floats, lists of numbers to tuples) and check its range."""
    if isinstance(default, float) and type(value) is int:
        value = _decimal(value)
    if isinstance(default, tuple) and isinstance(value, list) and all(type(v) in (int, float) for v in value):
        value = tuple(_decimal(v) for v in value)
    length = isinstance(value, tuple) and key == "betas" and len(value) != 2
    if type(value) is not type(default) or length:
        raise UsageError(f"recipe {network}: {key} = {value!r} should be a {type(default).__name__}")
    least, largest, words = RANGES.get(key, ANY)
    numbers = value if isinstance(value, tuple) else (value,) if isinstance(value, int | float) else ()
    if not all(least <= number <= largest for number in numbers) and not (key in OFF and value == 0):
        raise UsageError(f"recipe {network}: {key} = {value!r} should be {words}")
    if value not in CHOICES.get(key, (value,)):
        raise UsageError(f"recipe {network}: {key} = {value!r} should be one of {', '.join(CHOICES[key])}")
    return value


def _decimal(value: float) -> float:
    """Convert an integer of any size to float; infinite if it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
