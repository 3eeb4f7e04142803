"""FSIM: similarity of two pictures by phase congruency and gradient magnitude of their luminance.

Zhang, Zhang, Mou, Zhang: FSIM, a feature similarity index for image quality assessment, TIP 2011, with the constants of
the authors' FeatureSIM.m. Phase congruency: Kovesi 1999, log-Gabor filters at four scales and four orientations.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.metrics.checks import refuse_unfit
from lowlight_cli.metrics.once import once

__all__ = ["fsim"]

Picture = NDArray[np.floating]
Planes = NDArray[np.float64]

SCALES: Final = 4
TURNS: Final = 4
SHORTEST: Final = 6
"""Wavelength of the finest filter, in pixels; it doubles with each scale."""
BANDWIDTH: Final = 0.55
SPREAD: Final = math.pi / TURNS / 1.2
"""Angular standard deviation of a filter, in radians."""
CUTOFF: Final = 0.45
NOISE: Final = 2.0
"""Noise threshold: this many standard deviations above the mean energy of the noise."""
T1: Final = 0.85
T2: Final = 160.0
SIDE: Final = 256
"""Pictures are averaged down until their shorter side is about this long."""
TINY: Final = 1e-4


def fsim(x: Picture, y: Picture) -> float:
    """Return the similarity of two (H, W, 3) pictures in [0, 1] by their YIQ luminance; 1 if they are equal.

    Example:
        >>> picture = np.random.default_rng(0).random((40, 50, 3))
        >>> round(fsim(picture, picture), 6)
        1.0

    Raises:
        ValueError: as `refuse_unfit`.
    """
    refuse_unfit(x, y)
    (phase_a, slope_a), (phase_b, slope_b) = _features(x), _features(y)
    same = _similarity(phase_a, phase_b, T1) * _similarity(slope_a, slope_b, T2)
    weight = np.maximum(phase_a, phase_b)
    return float((same * weight).sum() / max(float(weight.sum()), TINY)) if weight.any() else 1.0


@once
def _features(picture: Picture) -> tuple[Planes, Planes]:
    """Return phase congruency and gradient magnitude of the reduced luminance."""
    plane = _reduced(255 * (picture.astype(np.float64) @ (0.299, 0.587, 0.114)))
    return _congruency(plane), _gradient(plane)


def _reduced(plane: Planes) -> Planes:
    """Average blocks; rows and columns that do not fill a block are dropped."""
    factor = max(1, round(min(plane.shape) / SIDE))
    height, width = (side // factor for side in plane.shape)
    blocks = plane[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return np.asarray(blocks.mean((1, 3)), np.float64)


def _similarity(a: Planes, b: Planes, constant: float) -> Planes:
    return (2 * a * b + constant) / (a**2 + b**2 + constant)


def _gradient(plane: Planes) -> Planes:
    """Return the gradient magnitude by Scharr filters, with zeros beyond the border."""
    kernel = np.array([[3, 0, -3], [10, 0, -10], [3, 0, -3]]) / 16
    across, down = (cv2.filter2D(plane, -1, each, borderType=cv2.BORDER_CONSTANT) for each in (kernel, kernel.T.copy()))
    return np.hypot(across, down)


def _congruency(plane: Planes) -> Planes:
    """Return phase congruency, 0 to 1: how well the phases of all scales agree, over all orientations."""
    filters, power, cross = _filters(*plane.shape)
    spectrum = np.fft.fft2(plane)
    energies, amplitudes = np.zeros(plane.shape), np.zeros(plane.shape)
    for turn in range(TURNS):
        # one plane at a time takes a third of the time of one batched transform
        responses = np.stack([np.fft.ifft2(spectrum * each) for each in filters[turn]])
        total = responses.sum(0)
        mean = total / (np.abs(total) + TINY)
        along = responses * mean.conj()  # real part: in phase with the mean; imaginary: in quadrature
        energy = (along.real - np.abs(along.imag)).sum(0)
        # for pure noise, the squared amplitude at the finest scale is chi-squared with 2 degrees of freedom
        noise = np.median(np.abs(responses[0]) ** 2) / math.log(2) / (filters[turn, 0] ** 2).sum()
        tau = math.sqrt(noise * (power[turn] + 2 * cross[turn]))
        floor = tau * (math.sqrt(math.pi / 2) + NOISE * math.sqrt(2 - math.pi / 2)) / 1.7
        energies += np.maximum(energy - floor, 0)
        amplitudes += np.abs(responses).sum(0)
    return energies / (amplitudes + TINY)


@functools.lru_cache(maxsize=4)
def _filters(height: int, width: int) -> tuple[Planes, list[float], list[float]]:
    """Return frequency-domain filters (turns, scales, H, W), and for each turn the two sums for the noise estimate."""
    v, u = np.meshgrid(_frequencies(height), _frequencies(width), indexing="ij")
    radius, angle = np.hypot(u, v), np.arctan2(-v, u)
    low = 1 / (1 + (radius / CUTOFF) ** 30)
    radius[0, 0] = 1
    bands = []
    for scale in range(SCALES):
        band = np.exp(-(np.log(radius * SHORTEST * 2**scale) ** 2) / (2 * math.log(BANDWIDTH) ** 2)) * low
        band[0, 0] = 0
        bands.append(band)
    fans = []
    for turn in range(TURNS):
        away = angle - turn * math.pi / TURNS
        fans.append(np.exp(-(np.arctan2(np.sin(away), np.cos(away)) ** 2) / (2 * SPREAD**2)))
    filters = np.stack([np.stack([band * fan for band in bands]) for fan in fans])
    waves = np.fft.ifft2(filters).real * math.sqrt(height * width)
    power = [float((wave**2).sum()) for wave in waves]
    cross = [float((wave.sum(0) ** 2).sum() - (wave**2).sum()) / 2 for wave in waves]
    return filters, power, cross


def _frequencies(size: int) -> Planes:
    """Return frequencies from -0.5 to 0.5 in FFT order; odd sizes include both ends, as in the authors' code."""
    half = size // 2
    steps = np.arange(-half, half + 1) / (size - 1) if size % 2 else np.arange(-half, half) / size
    return np.asarray(np.fft.ifftshift(steps), np.float64)
