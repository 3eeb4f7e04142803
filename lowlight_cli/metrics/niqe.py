"""NIQE: how far a picture's statistics are from those of good photographs, without a reference. Lower is better.

Mittal, Soundararajan, Bovik: Making a completely blind image quality analyzer, SPL 2013. A model of good photographs is
the mean and covariance of 36 features. There are two models: the authors', which the package basicsr ships, for figures
that compare with published ones; and our own, fitted by docs/fit_niqe.py, which is always available but whose figures
compare only with each other.

Flat blocks are left out. The authors' code counts part of their features: it takes 0.2, its first candidate, for their
exponents, and their scales as 0 or not at all, which depends on how its blur rounds and moves the figure by up to 2. So
it cannot be reproduced for pictures with large areas of one colour: a port of it gave 2 to 4 more where half was flat.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.disk import packaged
from lowlight_cli.errors import DeviceError
from lowlight_cli.metrics import natural
from lowlight_cli.metrics.checks import refuse_unfit
from lowlight_cli.metrics.once import once

__all__ = ["HINT", "OWN", "Model", "distance", "features", "fit", "niqe", "niqe_own", "published_model"]

Picture = NDArray[np.floating]

BLOCK: Final = 96
"""Side of a block, in pixels of the finer scale."""
SHIFTS: Final = ((0, 1), (1, 0), (1, 1), (1, -1))
LUMA: Final = np.array([65.481, 128.553, 24.966])
"""Weights of Y in YCbCr; its offset of 16 is added separately."""
OWN: Final = Path(__file__).with_name("niqe_own.npz")
HINT: Final = "the authors' model is in the package basicsr: pip install --no-deps basicsr"
SHARPEST: Final = 0.75
"""`fit` ignores blocks less sharp than this share of their picture's sharpest block (section II.B)."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model of good photographs: mean (36,) and covariance (36, 36) of their `features`."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


def niqe(x: Picture) -> float:
    """Return NIQE of (H, W, 3) in [0, 1] by the authors' model; NaN for fewer than two non-flat blocks of 96 pixels.

    Raises:
        DeviceError: basicsr, which ships the model, is not installed.
        ValueError: as `refuse_unfit`.
    """
    path = published_model()
    if path is None:
        raise DeviceError(f"NIQE is not available: {HINT}")
    return distance(x, _read(path, "mu_pris_param", "cov_pris_param"))


def niqe_own(x: Picture) -> float:
    """Like `niqe`, with our own model."""
    return distance(x, _read(OWN, "mean", "covariance"))


def distance(x: Picture, model: Model) -> float:
    """Return the distance of an (H, W, 3) picture in [0, 1] from a model; NaN for fewer than two non-flat blocks.

    Example:
        >>> noise = np.random.default_rng(0).random((192, 192, 3))
        >>> round(distance(noise, fit([noise])), 6), distance(noise[:100, :100], fit([noise]))
        (0.0, nan)

    Raises:
        ValueError: as `refuse_unfit`.
    """
    found = _every(x)
    if len(found) < 2:
        return math.nan
    away = found.mean(0) - model.mean
    covariance = (np.cov(found, rowvar=False) + model.covariance) / 2
    return math.sqrt(max(float(away @ np.linalg.pinv(covariance) @ away), 0.0))


def fit(pictures: list[Picture]) -> Model:
    """Fit a model to the sharp blocks of good photographs, (H, W, 3) in [0, 1].

    Raises:
        ValueError: there are fewer than two such blocks.
    """
    found = np.concatenate([features(picture, SHARPEST) for picture in pictures])
    if len(found) < 2:
        raise ValueError(f"{len(found)} sharp blocks are too few: give more, or larger, pictures")
    return Model(found.mean(0), np.cov(found, rowvar=False))


def features(x: Picture, sharpest: float = 0.0) -> NDArray[np.float64]:
    """Return a row of 36 features for each block of an (H, W, 3) picture in [0, 1]; flat blocks are left out.

    Args:
        x: sRGB-encoded; partial blocks at the right and bottom are left out.
        sharpest: leave out blocks less sharp than this share of the sharpest one.

    Example:
        >>> features(np.random.default_rng(0).random((200, 300, 3))).shape
        (6, 36)

    Raises:
        ValueError: as `refuse_unfit`.
    """
    refuse_unfit(x)
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
    """Return the file with the authors' model. basicsr is not imported: it needs more packages than it declares."""
    return packaged("basicsr", "metrics/niqe_pris_params.npz")


def _blocks(plane: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    """Split a plane into blocks, (rows * columns, H, W)."""
    height, width = plane.shape[0] // rows, plane.shape[1] // columns
    return plane.reshape(rows, height, columns, width).swapaxes(1, 2).reshape(-1, height, width)


def _block(block: NDArray[np.float64]) -> list[float]:
    """Return the 18 features of a block: of its values, and of the products of neighbours in four directions."""
    alpha, left, right = _scaled(block)
    found = [alpha, (left + right) / 2]
    for shift in SHIFTS:
        alpha, left, right = _scaled(block * np.roll(block, shift, (0, 1)))
        found += [alpha, (right - left) * natural.mean_shift(alpha), left, right]
    return found


def _scaled(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the exponent and the left and right scales of an asymmetric generalised Gaussian."""
    alpha, left, right = natural.asymmetric(values)
    return alpha, left * natural.spread(alpha), right * natural.spread(alpha)


@functools.cache
def _read(path: Path, mean: str, covariance: str) -> Model:
    with np.load(path, allow_pickle=False) as arrays:
        return Model(arrays[mean].ravel(), arrays[covariance])
