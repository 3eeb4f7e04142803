"""Classical enhancement methods without a network, measured beside the networks in the same run.

Each is a pure function that maps a picture, (H, W, 3) float32 RGB, sRGB-encoded, in [0, 1], to one of the same form.
None sees the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.bench.sets import in_levels
from lowlight_cli.exposure import solved, to_linear, to_srgb
from lowlight_cli.highlights import guided

__all__ = [
    "BASELINES", "auto_levels", "clahe", "encoded_gain_to_mean", "equalised", "gain_to_mean", "gamma", "gamma_to_mean",
    "lime", "unchanged",
]  # fmt: skip

Picture = NDArray[np.float32]
Curve = Callable[[Picture, float], Picture]

MEAN: Final = 0.45
"""Mean that the `..._to_mean` methods aim at: about that of the references of paired sets."""

CLIPPED: Final = 0.005
"""Share of values that auto-levels clips at either end."""

LARGEST: Final = 1e4
"""Upper bound of the search for a gain, or for the inverse of an exponent."""


def unchanged(picture: Picture) -> Picture:
    """Return the input itself."""
    return picture


def gamma(picture: Picture) -> Picture:
    """Apply the exponent 1 / 2.2 to every picture."""
    return picture ** np.float32(1 / 2.2)


def gamma_to_mean(picture: Picture) -> Picture:
    """Apply the exponent, at most 1, that brings the picture's mean to `MEAN`."""
    return _to_mean(lambda values, amount: values ** np.float32(1 / amount), picture)


def gain_to_mean(picture: Picture) -> Picture:
    """Apply the gain in linear light, at least 1, that brings the sRGB mean to `MEAN`; clip at 1 like a sensor."""
    return _to_mean(lambda values, amount: to_srgb(np.minimum(to_linear(values) * np.float32(amount), 1)), picture)


def encoded_gain_to_mean(picture: Picture) -> Picture:
    """Like `gain_to_mean`, but on sRGB-encoded values, as is common: dark colours come out wrong."""
    return _to_mean(lambda values, amount: np.minimum(values * np.float32(amount), 1), picture)


def auto_levels(picture: Picture) -> Picture:
    """Stretch each channel by itself, so that a share `CLIPPED` of its values ends below 0 and as many above 1."""
    low, high = np.quantile(picture.reshape(-1, 3), (CLIPPED, 1 - CLIPPED), axis=0).astype(np.float32)
    return np.asarray(np.clip((picture - low) / np.maximum(high - low, np.float32(1 / 255)), 0, 1), np.float32)


def equalised(picture: Picture) -> Picture:
    """Equalise the histogram of luma (Y of YCrCb, 8 bits)."""
    planes = cv2.cvtColor(in_levels(picture), cv2.COLOR_RGB2YCrCb)
    planes[..., 0] = cv2.equalizeHist(planes[..., 0])
    return _floats(cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB))


def clahe(picture: Picture) -> Picture:
    """Apply contrast-limited adaptive histogram equalisation to L (CIELAB, 8 bits): limit 3, 8x8 tiles."""
    planes = cv2.cvtColor(in_levels(picture), cv2.COLOR_RGB2LAB)
    planes[..., 0] = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply(planes[..., 0])
    return _floats(cv2.cvtColor(planes, cv2.COLOR_LAB2RGB))


def lime(picture: Picture) -> Picture:
    """Divide by the illumination to the power of 0.8, after LIME (Guo et al., TIP 2017).

    Illumination is the largest channel, smoothed by a guided filter with itself as guide (LIME solves an optimisation
    problem instead), and at least 0.03. Nothing is denoised.
    """
    brightest = picture.max(axis=2)
    slope, offset = guided(brightest, brightest, radius=30, edge=0.01)
    illumination = slope * brightest + offset
    lit = picture / np.maximum(illumination, 0.03)[..., None] ** np.float32(0.8)
    return np.asarray(np.clip(lit, 0, 1), np.float32)


BASELINES: Final[dict[str, Callable[[Picture], Picture]]] = {
    "input": unchanged,
    "gamma 2.2": gamma,
    f"gamma to mean {MEAN}": gamma_to_mean,
    f"linear gain to mean {MEAN}": gain_to_mean,
    f"encoded gain to mean {MEAN}": encoded_gain_to_mean,
    "auto-levels": auto_levels,
    "equalisation (Y)": equalised,
    "CLAHE (L)": clahe,
    "LIME-like": lime,
}
"""Functions by their names in tables."""


def _to_mean(curve: Curve, picture: Picture) -> Picture:
    """Apply `curve` with the amount, from 1 (no change) to `LARGEST`, that brings the mean closest to `MEAN`.

    A curve acts on single values, so the search needs only the 256 levels and how often each occurs.
    """
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    share = np.bincount(in_levels(picture).ravel(), minlength=256) / picture.size
    return curve(picture, solved(lambda amount: np.float64(curve(levels, amount) @ share), MEAN, 1.0, LARGEST, 40))


def _floats(picture: object) -> Picture:
    return np.asarray(picture, np.float32) / np.float32(255)
