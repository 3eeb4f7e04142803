"""Synthesise dark pictures from bright ones: the same scene at two exposures, with sensor noise.

The model covers what 8-bit pictures show of real nights: the scene's own light and colour, a smaller share of the
photons, lamps far above white, shot and read noise that demosaicking has smeared over pixels and channels, a black
level, rounding, often JPEG. Lighting and colour are not corrected in the reference: networks are to undo only exposure,
noise and compression.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from lowlight_cli.exposure import solved, to_linear, to_srgb

__all__ = ["Darkened", "Parameters", "codec_noise", "darkened", "physical", "sensor"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Parameters = dict[str, float | int | bool | str | None]

RADIANCE: Final = -np.log1p(-0.98 * to_linear(np.arange(256, dtype=np.float32) / 255))
"""Radiance of each 8-bit code, by the inverse of `_response`. White (taken as 98 %) is 3.9; radiance 1 gives 63 %."""
CODE_STEPS: Final = 8192
CODES: Final = to_srgb(np.linspace(0, 1, CODE_STEPS, dtype=np.float32) ** 2)
"""sRGB values tabulated over the square root of linear light, which gives fine steps where the curve is steep."""


_CODEC_DEVIATION: Final = np.array([2.3, 1.5, 2.1], np.float32) * np.sqrt(
    np.minimum((np.arange(256, dtype=np.float32)[:, None, None] + 1.5) / 5.5, 1)
)
"""Standard deviation of the noise that a lossy codec removes, by level and channel: (256, 1, 3)."""
STRENGTH: Final = (0.004, 0.15)
"""Range of the share of the reference's light that dark pictures get, drawn log-uniformly."""
COLOURED: Final = 0.4
"""Largest correlation between the channels of smeared noise; in LOL it is 0.15 (`codec_noise`)."""
HARDLY_DARK: Final = 0.1
"""Share of pictures that get 0.3 to 1 of the light instead: a network must learn to leave them alone."""


@dataclass(frozen=True)
class Darkened:
    """A dark picture, its reference, and what was drawn to make them.

    Attributes:
        low: (H, W, 3) uint8 sRGB.
        high: as `low`.
        parameters: `uneven` (whether the light is), `lamps` (how many), `reference` (its sRGB-encoded mean), `light`
            (the dark picture's share of the reference's light), `shot` and `read` (noise, in linear light), `smeared`
            (whether the noise is, over pixels), `coloured` (correlation of its channels), `gamma`, `black` (black
            level, encoded), `jpeg` (quality, or None).
    """

    low: Bytes
    high: Bytes
    parameters: Parameters


def physical(picture: Bytes, random: Generator) -> tuple[Bytes, Bytes]:
    """Return the dark picture and the reference of `darkened`, without the parameters."""
    pair = darkened(picture, random)
    return pair.low, pair.high


def darkened(picture: Bytes, random: Generator, strength: tuple[float, float] | None = None) -> Darkened:
    """Make two exposures, dark and bright, of the scene of one well-lit picture.

    Args:
        picture: (H, W, 3) uint8 sRGB.
        random: source of every random choice, so that a seed reproduces the pair.
        strength: smallest and largest share of light, above 0 and up to 1; None means `STRENGTH`, with a share
            `HARDLY_DARK` of brighter ones.
    """
    uneven, lamps = False, 0
    radiance = RADIANCE[picture]
    height, width = picture.shape[:2]
    if random.random() < 0.5:
        uneven = True
        radiance = radiance * _light_field(height, width, random)[..., None]
    if random.random() < 1 / 3:
        light, lamps = _lamps(height, width, random)
        radiance = radiance + light
    mean = random.uniform(0.32, 0.54)
    radiance = radiance * _exposure_for(radiance, mean)
    high = (_encode(_response(radiance)) * 255 + 0.5).astype(np.uint8)
    if strength is None and random.random() < HARDLY_DARK:
        factor = random.uniform(0.3, 1.0)
    else:
        factor = float(np.exp(random.uniform(*np.log(strength or STRENGTH))))
    low, made = sensor(_response(radiance * np.float32(factor)), random)
    drawn: Parameters = {"uneven": uneven, "lamps": lamps, "reference": mean, "light": factor}
    return Darkened(low, high, drawn | made)


def codec_noise(low: Bytes, random: Generator) -> Bytes:
    """Add noise like that which a lossy codec removed from a dark picture.

    Fitted on LOL's low pictures: lossless minus AVIF at quality 80. The standard deviation is 2.3, 1.5 and 2.1 grey
    levels in R, G and B, less below level 4; the correlation is 0.2 over several pixels and 0.15 between channels.

    Args:
        low: (H, W, 3) uint8, a crop or a whole picture.
        random: source of the noise.
    """
    height, width = low.shape[:2]
    fine = random.standard_normal((height, width, 3), dtype=np.float32)
    coarse = random.standard_normal((height // 4 + 2, width // 4 + 2, 3), dtype=np.float32)
    wide = cv2.resize(coarse, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)[:height, :width]
    shared = random.standard_normal((height, width, 1), dtype=np.float32)
    noise = cv2.addWeighted(fine, 0.8, wide, 0.62, 0) + np.float32(0.36) * shared
    deviation = cv2.LUT(low, _CODEC_DEVIATION * np.float32(random.uniform(0.75, 1.2)))
    return np.asarray(cv2.add(deviation * noise, low, dtype=cv2.CV_8U), np.uint8)


def _light_field(height: int, width: int, random: Generator) -> Floats:
    """Return a smooth log-normal light field with a mean of about 1, (H, W)."""
    cells = random.integers(2, 6, size=2)
    coarse = random.standard_normal((cells[0], cells[1]), dtype=np.float32) * np.float32(random.uniform(0.2, 1.4))
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.exp(smooth - smooth.mean()), np.float32)


def _lamps(height: int, width: int, random: Generator) -> tuple[Floats, int]:
    """Return the linear light (H, W, 3) of one to four small warm lamps, and their number.

    Each lamp has a core far above white and a faint wide glow.
    """
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None, :]
    light = np.zeros((height, width, 3), np.float32)
    size = min(height, width)
    count = int(random.integers(1, 5))
    for _ in range(count):
        y, x = random.uniform(0, height), random.uniform(0, width)
        squared = ((rows - y) ** 2 + (columns - x) ** 2) / np.float32((size * random.uniform(0.006, 0.03)) ** 2)
        core = np.exp(-np.minimum(squared, 60)) * np.float32(random.uniform(5, 60))
        glow = np.float32(random.uniform(0.05, 0.6)) / (1 + squared / np.float32(random.uniform(20, 120))) ** 1.5
        colour = np.array([1, random.uniform(0.6, 1), random.uniform(0.25, 1)], np.float32)
        light += (core + glow)[..., None] * colour
    return light, count


def _exposure_for(radiance: Floats, mean: float) -> np.float32:
    """Return the gain that brings the sRGB-encoded mean of the response to `mean`."""
    small = np.ascontiguousarray(radiance[::4, ::4])
    return np.float32(solved(lambda gain: to_srgb(_response(small * np.float32(gain))).mean(), mean, 1e-3, 1e3, 14))


def _response(radiance: Floats) -> Floats:
    """Return the camera's response to light, for both exposures: linear in the dark, a shoulder, then towards 1."""
    return np.asarray(-np.expm1(-radiance), np.float32)


def _encode(linear: Floats) -> Floats:
    """Convert linear light to sRGB by table lookup, clipped to [0, 1]."""
    codes: Floats = CODES[(np.sqrt(np.clip(linear, 0, 1)) * (CODE_STEPS - 1) + 0.5).astype(np.int32)]
    return codes


def sensor(linear: Floats, random: Generator) -> tuple[Bytes, Parameters]:
    """Simulate a camera: noise, tone, black level, rounding, JPEG.

    Args:
        linear: linear light, (H, W, 3) in [0, 1].
        random: source of every random choice.

    Returns:
        (H, W, 3) uint8 sRGB, and the parameters drawn: `shot` to `jpeg` of `Darkened`.
    """
    shot = float(np.exp(random.uniform(np.log(1e-5), np.log(2e-3))))
    read = float(np.exp(random.uniform(np.log(5e-5), np.log(2e-3))))
    noise = random.standard_normal(linear.shape, dtype=np.float32)
    coloured = 0.0
    if smeared := random.random() < 0.6:
        noise = np.asarray(cv2.GaussianBlur(noise, (3, 3), random.uniform(0.5, 0.9)), np.float32)
        coloured = random.uniform(0, COLOURED)
        noise = _mixed(noise, coloured)
        noise /= noise.std()
    linear = linear + noise * np.sqrt(np.float32(shot) * linear + np.float32(read**2))
    gamma, black = random.uniform(0.9, 1.1), random.uniform(-0.008, 0.008)
    code = np.power(_encode(linear), np.float32(gamma)) + np.float32(black)
    low = (np.clip(code, 0, 1) * 255 + 0.5).astype(np.uint8)
    quality = None
    if random.random() < 0.4:
        held, quality = io.BytesIO(), int(random.integers(60, 97))
        Image.fromarray(low).save(held, "JPEG", quality=quality)
        low = np.asarray(Image.open(held))
    drawn: Parameters = {"shot": shot, "read": read, "smeared": smeared, "coloured": coloured}
    return low, drawn | {"gamma": gamma, "black": black, "jpeg": quality}


def _mixed(noise: Floats, correlation: float) -> Floats:
    """Correlate channels of equal variance, (H, W, 3), by this much; their variance stays the same.

    Multiplies by the symmetric square root of the correlation matrix, whose eigenvalues are 1 + 2c along grey and 1 - c
    across it, so no further random numbers are needed.
    """
    grey, across = np.sqrt(1 + 2 * correlation), np.sqrt(1 - correlation)
    return np.asarray(across * noise + (grey - across) * noise.mean(2, keepdims=True), np.float32)
