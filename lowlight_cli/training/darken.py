"""Dark pictures out of bright ones: the same scene at two exposures, with a sensor's noise.

What real nights are, as far as eight bits tell: the scene's own light and colour, a smaller share of the photons, lamps
far above white, shot and read noise that demosaicking has smeared over pixels and colours, a black level, rounding,
often JPEG. Nothing is evened out or neutralised in the reference: only exposure, noise and compression are to be
undone.
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
"""Light that gave an eight-bit code, under the response below; white was at least 3.9 times what gives 63 %."""
CODE_STEPS: Final = 8192
CODES: Final = to_srgb(np.linspace(0, 1, CODE_STEPS, dtype=np.float32) ** 2)
"""sRGB over the square root of linear light: fine steps where the curve is steep."""


_CODEC_DEVIATION: Final = np.array([2.3, 1.5, 2.1], np.float32) * np.sqrt(
    np.minimum((np.arange(256, dtype=np.float32)[:, None, None] + 1.5) / 5.5, 1)
)
"""Of the noise that a lossy codec takes, by level and channel: (256, 1, 3)."""
STRENGTH: Final = (0.004, 0.15)
"""Shares of the reference's light that dark pictures get, evenly in their logarithm."""
COLOURED: Final = 0.4
"""Largest correlation of the noise of two channels, where it is smeared: LOL's have 0.15 (`codec_noise`)."""
HARDLY_DARK: Final = 0.1
"""How many get more than that, 0.3 to 1: a network must learn to leave them alone."""


@dataclass(frozen=True)
class Darkened:
    """A dark picture, its reference, and what was drawn to make them.

    Attributes:
        low: (H, W, 3) uint8 sRGB.
        high: as `low`.
        parameters: `uneven` (light), `lamps`, `reference` (its mean, sRGB-encoded), `light` (the share of the
            reference's that the dark picture got), `shot` and `read` (noise, in linear light), `smeared` (over
            pixels), `coloured` (the correlation of its channels), `gamma`, `black` (level, encoded), `jpeg` (quality,
            or None).
    """

    low: Bytes
    high: Bytes
    parameters: Parameters


def physical(picture: Bytes, random: Generator) -> tuple[Bytes, Bytes]:
    """A dark picture and its reference: two exposures of one well-lit picture's scene. Arguments as of `darkened`."""
    pair = darkened(picture, random)
    return pair.low, pair.high


def darkened(picture: Bytes, random: Generator, strength: tuple[float, float] | None = None) -> Darkened:
    """Expose one well-lit picture's scene twice.

    Args:
        picture: (H, W, 3) uint8 sRGB.
        random: every choice is drawn from it, so that a seed gives the same pair again.
        strength: least and largest share of light, above 0 and up to 1; None is `STRENGTH` and some that are
            hardly dark.
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
    """Give a dark picture the noise back that a lossy codec took from it.

    Fitted on LOL's low pictures: lossless minus AVIF at quality 80. The deviation is 2.3, 1.5 and 2.1 grey levels in
    R, G and B, less below level 4; neighbours correlate by 0.2 over several pixels, channels by 0.15.

    Args:
        low: (H, W, 3) uint8, a crop or a whole picture.
        random: the source of the noise.
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
    """A smooth log-normal field of mean about 1, (H, W)."""
    cells = random.integers(2, 6, size=2)
    coarse = random.standard_normal((cells[0], cells[1]), dtype=np.float32) * np.float32(random.uniform(0.2, 1.4))
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.exp(smooth - smooth.mean()), np.float32)


def _lamps(height: int, width: int, random: Generator) -> tuple[Floats, int]:
    """One to four small warm lamps: a core far above white and a faint wide glow, (H, W, 3) linear light; how many."""
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
    """The factor after which the sRGB-encoded mean is `mean`."""
    small = np.ascontiguousarray(radiance[::4, ::4])
    return np.float32(solved(lambda gain: to_srgb(_response(small * np.float32(gain))).mean(), mean, 1e-3, 1e3, 14))


def _response(radiance: Floats) -> Floats:
    """What the camera makes of light: linear in the dark, with a shoulder, 1 for ever more. Of both exposures alike."""
    return np.asarray(-np.expm1(-radiance), np.float32)


def _encode(linear: Floats) -> Floats:
    """SRGB of linear light clipped to [0, 1], by table."""
    codes: Floats = CODES[(np.sqrt(np.clip(linear, 0, 1)) * (CODE_STEPS - 1) + 0.5).astype(np.int32)]
    return codes


def sensor(linear: Floats, random: Generator) -> tuple[Bytes, Parameters]:
    """What a camera makes of light: noise, tone, black level, rounding, JPEG.

    Args:
        linear: (H, W, 3) in [0, 1].
        random: the source of all that is drawn.

    Returns:
        (H, W, 3) sRGB, and what was drawn: `shot` to `jpeg` of `Darkened`.
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
    """Channels of equal variance, (H, W, 3), to such that correlate by this much, of the same variance.

    By the symmetric square root of their correlation matrix, 1 + 2c along grey and 1 - c across: nothing more is drawn.
    """
    grey, across = np.sqrt(1 + 2 * correlation), np.sqrt(1 - correlation)
    return np.asarray(across * noise + (grey - across) * noise.mean(2, keepdims=True), np.float32)
