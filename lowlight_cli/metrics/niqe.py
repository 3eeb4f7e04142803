"""NIQE: how far a picture's statistics are from those of good photographs, without a reference. Less is better.

Mittal, Soundararajan, Bovik: Making a completely blind image quality analyzer, SPL 2013. What good photographs are like
is 36 means and their covariances. Two such models: the authors', as the package basicsr carries it, for figures to be held
against published ones; and our own, of docs/fit_niqe.py, which is always there and compares with nothing but itself.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.errors import DeviceError
from lowlight_cli.metrics.natural import features

__all__ = ["HINT", "OWN", "Model", "distance", "fit", "niqe", "niqe_own", "published_model"]

Picture = NDArray[np.floating]

OWN: Final = Path(__file__).with_name("niqe_own.npz")
HINT: Final = "the authors' model is in the package basicsr: pip install --no-deps basicsr"
SHARPEST: Final = 0.75
"""Blocks less sharp than this share of their picture's sharpest teach nothing (section II.B)."""


@dataclass(frozen=True, eq=False)
class Model:
    """What good photographs are like: mean (36,) and covariance (36, 36) of `natural.features`."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


def niqe(x: Picture) -> float:
    """Of (H, W, 3) in [0, 1] by the authors' model; not a number where less than two blocks of 96 pixels are there.

    Raises:
        DeviceError: basicsr, which carries the model, is not installed.
    """
    path = published_model()
    if path is None:
        raise DeviceError(f"NIQE is not available: {HINT}")
    return distance(x, _read(path, "mu_pris_param", "cov_pris_param"))


def niqe_own(x: Picture) -> float:
    """As `niqe`, by our own model."""
    return distance(x, _read(OWN, "mean", "covariance"))


def distance(x: Picture, model: Model) -> float:
    """Between the statistics of (H, W, 3) in [0, 1] and a model's.

    Example:
        >>> noise = np.random.default_rng(0).random((192, 192, 3))
        >>> round(distance(noise, fit([noise])), 6), distance(noise[:100, :100], fit([noise]))
        (0.0, nan)
    """
    found = features(x)
    if len(found) < 2:
        return math.nan
    away = found.mean(0) - model.mean
    covariance = (np.cov(found, rowvar=False) + model.covariance) / 2
    return math.sqrt(max(float(away @ np.linalg.pinv(covariance) @ away), 0.0))


def fit(pictures: list[Picture]) -> Model:
    """The model of good photographs (H, W, 3) in [0, 1]: of their sharp blocks.

    Raises:
        ValueError: there are fewer than two such blocks.
    """
    found = np.concatenate([features(picture, SHARPEST) for picture in pictures])
    if len(found) < 2:
        raise ValueError(f"{len(found)} sharp blocks are too few: give more, or larger, pictures")
    return Model(found.mean(0), np.cov(found, rowvar=False))


def published_model() -> Path | None:
    """The file with the authors' model; basicsr itself, which wants more than it says, is not imported."""
    spec = importlib.util.find_spec("basicsr")
    places = (spec.submodule_search_locations if spec else None) or ()
    files = (Path(place) / "metrics" / "niqe_pris_params.npz" for place in places)
    return next((file for file in files if file.is_file()), None)


@functools.cache
def _read(path: Path, mean: str, covariance: str) -> Model:
    with np.load(path, allow_pickle=False) as arrays:
        return Model(arrays[mean].ravel(), arrays[covariance])
