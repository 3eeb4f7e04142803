"""NIQE: how far a picture's statistics are from those of good photographs, without a reference. Less is better.

Mittal, Soundararajan, Bovik: Making a completely blind image quality analyzer, SPL 2013. What good photographs are like
is 36 means and their covariances. There are two such models: the authors', as the package basicsr carries it, for
figures to be held against published ones; and our own, of docs/fit_niqe.py, which is always there, and compares with
nothing but itself.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.errors import DeviceError
from lowlight_cli.metrics import natural
from lowlight_cli.metrics.once import once

__all__ = ["HINT", "OWN", "Model", "distance", "features", "fit", "niqe", "niqe_own", "published_model"]

Picture = NDArray[np.floating]

BLOCK: Final = 96
"""Side of the blocks that are looked at, in pixels of the finer scale."""
SHIFTS: Final = ((0, 1), (1, 0), (1, 1), (1, -1))
LUMA: Final = np.array([65.481, 128.553, 24.966])
"""Y of YCbCr, above 16."""
OWN: Final = Path(__file__).with_name("niqe_own.npz")
HINT: Final = "the authors' model is in the package basicsr: pip install --no-deps basicsr"
SHARPEST: Final = 0.75
"""Blocks less sharp than this share of their picture's sharpest teach nothing (section II.B)."""


@dataclass(frozen=True, eq=False)
class Model:
    """What good photographs are like: mean (36,) and covariance (36, 36) of `features`."""

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
    found = _every(x)
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


def features(x: Picture, sharpest: float = 0.0) -> NDArray[np.float64]:
    """36 numbers a row for each block of (H, W, 3) in [0, 1]; blocks that are flat have none.

    Args:
        x: sRGB-encoded; what fills no block at the right and bottom is left out.
        sharpest: leave out blocks less sharp than this share of the sharpest.

    Example:
        >>> features(np.random.default_rng(0).random((200, 300, 3))).shape
        (6, 36)
    """
    luma = np.rint(16 + x.astype(np.float64) @ LUMA)
    rows, columns = (side // BLOCK for side in luma.shape)
    if not rows * columns:
        return np.empty((0, 36))
    luma = luma[: rows * BLOCK, : columns * BLOCK]
    fine, deviation = natural.normalised(luma, cv2.BORDER_REPLICATE)
    coarse, _ = natural.normalised(natural.halved(luma), cv2.BORDER_REPLICATE)
    scales = [np.array([_block(block) for block in _blocks(plane, rows, columns)]) for plane in (fine, coarse)]
    found = np.concatenate(scales, 1)
    sharpness = _blocks(deviation, rows, columns).mean((1, 2))
    kept = np.isfinite(found).all(1) & (sharpness >= sharpest * sharpness.max())
    return np.asarray(found[kept], np.float64)


@once
def _every(x: Picture) -> NDArray[np.float64]:
    return features(x)


def published_model() -> Path | None:
    """The file with the authors' model; basicsr itself, which wants more than it says, is not imported."""
    spec = importlib.util.find_spec("basicsr")
    places = (spec.submodule_search_locations if spec else None) or ()
    files = (Path(place) / "metrics" / "niqe_pris_params.npz" for place in places)
    return next((file for file in files if file.is_file()), None)


def _blocks(plane: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    """(blocks, H, W)."""
    height, width = plane.shape[0] // rows, plane.shape[1] // columns
    return plane.reshape(rows, height, columns, width).swapaxes(1, 2).reshape(-1, height, width)


def _block(block: NDArray[np.float64]) -> list[float]:
    """Of a block, and of its products with its neighbours in four directions."""
    alpha, left, right = _scaled(block)
    found = [alpha, (left + right) / 2]
    for shift in SHIFTS:
        alpha, left, right = _scaled(block * np.roll(block, shift, (0, 1)))
        found += [alpha, (right - left) * natural.mean_shift(alpha), left, right]
    return found


def _scaled(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Exponent and scales to both sides."""
    alpha, left, right = natural.asymmetric(values)
    return alpha, left * natural.spread(alpha), right * natural.spread(alpha)


@functools.cache
def _read(path: Path, mean: str, covariance: str) -> Model:
    with np.load(path, allow_pickle=False) as arrays:
        return Model(arrays[mean].ravel(), arrays[covariance])
