"""After the network: how much of it, how bright, and what stays as it was.

Functions of two pictures, the one before and the one after; three change the one after, and say so. A picture is
(H, W, 3) float32 RGB, sRGB-encoded, in [0, 1]; luma is the Rec. 709 weighting of the encoded channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from lowlight_cli import highlights, hues
from lowlight_cli.errors import UsageError
from lowlight_cli.exposure import (
    BAND,
    LARGEST_GAIN,
    LUMA,
    apply_gain,
    smoothstep,
    solved,
    thumbnail,
    to_linear,
    to_srgb,
)

__all__ = [
    "EXPOSURES", "Exposure", "Look", "exposing_gain", "finish", "gain_for", "is_grey", "keep_white", "left_alone",
    "make_grey", "mean_luma",
]  # fmt: skip

Picture = NDArray[np.float32]
Exposure = float | Literal["auto"]

EXPOSURES: Final = (0.2, 0.8)
"""Mean lumas that may be asked for: outside of them a picture is lost in the dark or in the light."""

_LEVEL: Final = 0.42
_SLOPE: Final = 0.2
_LEEWAY: Final = 0.06
"""Mean luma of a picture whose key is 0, its growth with the key, and how far a network may be off before `auto` moves
its result. docs/measure_exposure.py says what was gained by them."""

_STOPS: Final = 4.0
"""A key counts less where all of a picture lies in fewer stops: of an even wall it would tell noise."""

_DARKEST: Final = 1 / (4 * 255 * 12.92)
"""Linear light taken for none: a quarter of the first step of eight bits."""

_SAMPLE: Final = 2**18
"""Pixels, evenly spread, from which an exposure is found: the mean of more is the same to a thousandth."""

_LEVELS: Final = 16 * 255
"""Steps on which an exposure is found, those of eight bits among them: a twentieth of the time that pixels take."""

_WHITE: Final = 0.98
"""Least channel of the input, sRGB-encoded, above which it is all but white; networks stop at 250 to 254 of 255."""

_MUCH: Final = 0.05
"""Share of the pixels that turned white from which on highlights are protected unasked: a sky, a window."""

_BRIGHTENED: Final = 2.0
"""Gain of the dark parts below which what turned white was nearly white before."""

_DARKER: Final = 1 / 512
"""Mean luma that a result may be below its input's: half a level of eight bits."""

_NEUTRAL: Final = 0.01 / 255
"""What channels of one grey may differ by, not quite three steps of 16 bits: a profile's numbers are rounded."""


@dataclass(frozen=True)
class Look:
    """What is done to a network's output.

    Attributes:
        strength: 0 is the input, 1 the output, between them a blend in linear light.
        exposure: mean luma that the output is brought to, 0.2 to 0.8; `auto` moves only outputs that are too bright or
            too dark for what the input shows; None leaves it to the network.
        protect_highlights: what the output turned white is taken from the input, `highlights`; None does so where that
            is a twentieth of the picture or more.
        gate: an input whose mean luma is at least this is bright already and left alone; None is off.

    Raises:
        UsageError: a number outside its range, or what is no number.
    """

    strength: float = 1.0
    exposure: Exposure | None = None
    protect_highlights: bool | None = None
    gate: float | None = None

    def __post_init__(self) -> None:
        _check("strength", self.strength, 0, 1)
        if self.gate is not None:
            _check("gate", self.gate, 0, 1, ", or None")
        if self.exposure is not None and not (isinstance(self.exposure, str) and self.exposure == "auto"):
            _check("exposure", self.exposure, *EXPOSURES, ", auto or None")


def _check(name: str, value: Any, low: float, high: float, words: str = "") -> None:
    """Raise UsageError for what is no number, such as the command's `off`, or one out of its range."""
    number = isinstance(value, Real)
    if not number or not low <= value <= high:
        slip = "out of range" if number else "not a number"
        raise UsageError(f"{name} {value if number else repr(value)} is {slip}; choose {low:g} to {high:g}{words}")


def finish(before: Picture, after: Picture, look: Look, gain: float) -> Picture:
    """The picture to write, in [0, 1]: `after`, which is changed in place, since two copies may be too large.

    The exposure is set, saturated lights get their hue back and highlights what they showed, and the strength decides
    how much of that is taken. The gate is not asked here.

    Args:
        before: the network's input.
        after: its output, of the same shape.
        look: what to do.
        gain: what the exposure takes, of `exposing_gain`.

    Raises:
        ValueError: the shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"pictures of shape {before.shape} and {after.shape}")
    lost = _lost(before, after, look, gain)
    rows = max(1, BAND // max(before.shape[1], 1))
    for top in range(0, before.shape[0], rows):
        band = slice(top, top + rows)
        lit = apply_gain(after[band], gain)
        hues.keep_hues(before[band], lit)
        if lost is not None:
            lit = highlights.keep(lost, before[band], lit, top)
        after[band] = _blend(before[band], lit, look.strength)
    return after


def _lost(before: Picture, after: Picture, look: Look, gain: float) -> highlights.Highlights | None:
    """Which highlights are to be protected."""
    if look.protect_highlights is None:
        step = _step(before)
        few = before[::step, ::step], apply_gain(after[::step, ::step], gain)
        if highlights.turned_white(*few) < _MUCH:
            return None
    elif not look.protect_highlights:
        return None
    lost = highlights.find(before, after, gain)
    unasked = look.protect_highlights is None
    return None if lost and unasked and lost.gain < _BRIGHTENED else lost


def left_alone(before: Picture, gate: float | None) -> bool:
    """Whether a picture is bright already: its mean luma is at least the gate. A gate of None is never reached."""
    return gate is not None and mean_luma(before) >= gate


def mean_luma(picture: Picture) -> float:
    """Mean of the luma, [0, 1]."""
    height, width, _ = picture.shape
    step = max(1, BAND // width)
    parts = (picture[top : top + step] @ LUMA for top in range(0, height, step))  # a tenth of what mean((0, 1)) takes
    return float(sum(part.sum(dtype=np.float64) for part in parts) / (height * width))


def is_grey(picture: Picture) -> bool:
    """Whether no pixel has a colour; mostly told by the first rows."""
    rows = max(1, BAND // 16 // picture.shape[1])
    for top in range(0, picture.shape[0], rows):
        red, green, blue = np.moveaxis(picture[top : top + rows], 2, 0)
        if max(np.abs(red - green).max(), np.abs(blue - green).max()) > _NEUTRAL:
            return False
    return True


def make_grey(picture: Picture) -> None:
    """Put the luma into all three channels, in place: of a grey picture, networks make one of the tints they learnt."""
    rows = max(1, BAND // picture.shape[1])
    for top in range(0, picture.shape[0], rows):
        picture[top : top + rows] = (picture[top : top + rows] @ LUMA)[..., None]


def keep_white(before: Picture, after: Picture, gain: float = 1.0) -> None:
    """Make a network's output as white as its input where that is white; in place, since two copies may be too large.

    It only rises, the more the nearer the input is to white, so that what was in order stays in order.

    Args:
        before: the network's input.
        after: its output, whole in memory; it is changed.
        gain: what the exposure will take. One that darkens would leave of a white page nothing but white and black, as
            its curve keeps white; so the further it is below 1 the less is kept, from a half on nothing.
    """
    much = np.float32(np.clip(2 * gain - 1, 0, 1))
    height, width, _ = before.shape
    rows = max(1, BAND // 16 // width)
    for top in range(0, height, rows):
        band = before[top : top + rows]
        if band.max() <= _WHITE:
            continue
        red, green, blue = np.moveaxis(band, 2, 0)
        least = np.minimum(np.minimum(red, green), blue)
        where = np.flatnonzero(least > _WHITE)  # by number, as in `highlights`
        share = (much * smoothstep(least.ravel().take(where), _WHITE, 1))[:, None]
        lit = after[top : top + rows].reshape(-1, 3)
        shown = lit.take(where, 0)
        lit[where] = shown + share * np.maximum(band.reshape(-1, 3).take(where, 0) - shown, 0)


def exposing_gain(before: Picture, after: Picture, exposure: Exposure | None) -> float:
    """The gain of `exposure.apply_gain` that brings a network's output to an exposure; 1 where it is to stay.

    Unless a brightness is asked for, no picture is made darker than it came.

    Args:
        before: the network's input.
        after: its output.
        exposure: as in `Look`.
    """
    if exposure is not None and exposure != "auto":
        return gain_for(after, exposure)
    step = _step(before)
    came, level = (mean_luma(each[::step, ::step]) for each in (before, after))
    wanted = level if exposure is None else _auto_level(before, level)
    if came - wanted > _DARKER:
        wanted = came
    return 1.0 if wanted == level else gain_for(after, wanted)


def _auto_level(before: Picture, level: float) -> float:
    """The mean luma for an output whose own is `level`: near what the input's key suggests, else as it is."""
    wanted = _LEVEL + _SLOPE * _key(before)
    return min(max(level, wanted - _LEEWAY), wanted + _LEEWAY)


def _step(picture: Picture) -> int:
    """Every which row and column gives about `_SAMPLE` pixels."""
    return max(1, int(np.ceil(np.sqrt(picture.shape[0] * picture.shape[1] / _SAMPLE))))


def _key(picture: Picture) -> float:
    """Whether most of a picture lies near its lights (towards 1) or its blacks (towards -1), however it is exposed.

    Night with lamps is low, an evenly dim room is not. Reinhard, Parameter Estimation for Photographic Tone
    Reproduction, Journal of Graphics Tools 7(1), 2002: log-average between the darkest and the brightest hundredth.
    """
    stops = np.log2(np.maximum(to_linear(thumbnail(picture, 256)) @ LUMA, _DARKEST))
    low, high = np.percentile(stops, (1, 99))
    return float((2 * stops.mean() - low - high) / max(high - low, _STOPS))


def gain_for(picture: Picture, target: float) -> float:
    """The gain of `exposure.apply_gain` after which the mean luma is `target`.

    The curve rises everywhere and keeps black and white: nothing is clipped, order stays. A black or white picture
    has no such gain and gets the largest or the least, which change nothing there.
    """
    step = _step(picture)
    found = np.rint(picture[::step, ::step] * _LEVELS).astype(np.int32)
    counts = [np.bincount(found[..., channel].ravel(), minlength=_LEVELS + 1) for channel in range(3)]
    share = LUMA @ np.asarray(counts, np.float32) / (found.size // 3)
    levels = np.linspace(0, 1, _LEVELS + 1, dtype=np.float32)[None, :, None]

    def mean(gain: float) -> np.float32:
        return np.float32(apply_gain(levels, gain)[0, :, 0] @ share)

    return solved(mean, target, 1 / LARGEST_GAIN, LARGEST_GAIN, 24)


def _blend(before: Picture, after: Picture, strength: float) -> Picture:
    """So much of `after`, in linear light; all of it is `after` itself."""
    if strength == 1:
        return after
    start = to_linear(before)
    return to_srgb(np.clip(start + np.float32(strength) * (to_linear(after) - start), 0, 1))
