"""Finish the network's output: strength, exposure, hues, highlights, and what is kept from the input.

Most functions take two pictures, before and after the network; three change the second in place, and say so. A picture
is (H, W, 3) float32 RGB, sRGB-encoded, in [0, 1]; luma is the Rec. 709 weighting of the encoded channels.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli import highlights, hues
from lowlight_cli.errors import UsageError
from lowlight_cli.exposure import (
    LARGEST_GAIN,
    LUMA,
    apply_gain,
    bands,
    largest,
    smallest,
    smoothstep,
    solved,
    thumbnail,
    to_linear,
    to_srgb,
)

__all__ = [
    "EDITION", "EXPOSURES", "Exposure", "Look", "exposing_gain", "finish", "finishing", "gain_for", "is_coloured",
    "is_grey", "keep_white", "left_alone", "make_grey", "mean_luma",
]  # fmt: skip

Picture = NDArray[np.float32]
Exposure = float | Literal["auto"]

EDITION: Final = 7
"""Number of the look's arithmetic: work that is resumed does again what an earlier edition made."""

EXPOSURES: Final = (0.2, 0.8)
"""Range of mean luma that may be requested: beyond it, a picture is lost in black or white."""

_LEVEL: Final = 0.42
_SLOPE: Final = 0.2
_LEEWAY: Final = 0.06
"""Target mean luma of a picture whose key is 0, its growth with the key, and how far a network may be off before `auto`
corrects its result. docs/measure_exposure.py measures what they gain."""

_STOPS: Final = 4.0
"""The key counts less if a picture spans fewer stops than this: on a uniform wall it would measure noise."""

_DARKEST: Final = 1 / (4 * 255 * 12.92)
"""Linear light treated as black: a quarter of the first 8-bit level."""

_SAMPLE: Final = 2**18
"""Evenly spread pixels that an exposure is computed from: more of them change the mean by less than a thousandth."""

_FEW: Final = 2**16
"""Pixels, evenly spread, on which it is checked what highlights and hues make of an exposure."""

_THREADS: Final = 4
"""Bands that are finished at a time, at most: each takes up to 20 MiB."""

_TRIES: Final = 6
"""How often an exposure is corrected for what follows it; mostly one or two are enough."""

_LEVELS: Final = 16 * 255
"""Histogram bins for finding an exposure, aligned with 8-bit levels: twenty times as fast as using the pixels."""

_WHITE: Final = 0.98
"""Smallest channel of an input pixel, sRGB-encoded, above which it is nearly white; networks stop at 250 to 254."""

_DARKER: Final = 1 / 512
"""How far a result's mean luma may fall below its input's: half an 8-bit level."""

_LIFTED: Final = 1.5
"""How many times as long an exposure may be to make up for the highlights that are kept: more turns blacks to fog."""

_FAR: Final = 2.0
"""How much brighter an output must be than its input that nothing which follows can make it darker than that."""

_TINT: Final = 4 / 255
_TINTED: Final = 0.001
"""A difference between channels that no codec makes of grey, and the share of pixels that must have it to be colour."""

_NEUTRAL: Final = 0.01 / 255
"""Largest difference between the channels of a grey pixel, just under three 16-bit steps: colour profiles round."""


@dataclass(frozen=True)
class Look:
    """What is done to a network's output.

    Attributes:
        strength: 0 gives the input, 1 the output, values between a blend in linear light.
        exposure: target mean luma of the output, 0.2 to 0.8; `auto` corrects only outputs that are too bright or too
            dark for what the input shows; None leaves it to the network.
        protect_highlights: whether to keep what brightening would wash out, see `highlights`.
        gate: an input whose mean luma is at least this is bright enough and left alone; None is off.

    Raises:
        UsageError: a value is out of range, or not a number.
    """

    strength: float = 1.0
    exposure: Exposure | None = None
    protect_highlights: bool = True
    gate: float | None = None

    def __post_init__(self) -> None:
        _check("strength", self.strength, 0, 1)
        if self.gate is not None:
            _check("gate", self.gate, 0, 1, ", or None")
        if self.exposure is not None and not (isinstance(self.exposure, str) and self.exposure == "auto"):
            _check("exposure", self.exposure, *EXPOSURES, ", auto or None")


def _check(name: str, value: Any, low: float, high: float, words: str = "") -> None:
    """Raise UsageError for a value that is no number, such as the string `off` or False, or that is out of range."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        slip = "out of range" if number else "not a number"
        raise UsageError(f"{name} {value if number else repr(value)} is {slip}; choose {low:g} to {high:g}{words}")


def finish(before: Picture, after: Picture, look: Look, gain: float) -> Picture:
    """Turn `after` into the final picture, in [0, 1]; in place, since a second copy may be too large.

    Sets the exposure, restores the hue of saturated lights and the detail of highlights, then blends with `before`
    by the strength. The gate is not applied here.

    Args:
        before: the network's input.
        after: its output, of the same shape; contiguous, and changed.
        look: what to do.
        gain: the exposure gain from `exposing_gain`.

    Raises:
        ValueError: the shapes differ.
    """
    return finishing(before, after, look, gain)()


def finishing(
    before: Picture, after: Picture, look: Look, gain: float, held: Callable[[float], float] | None = None
) -> Callable[[], Picture]:
    """Measure the highlights, and return what is left of `finish`: the work on each pixel, for any thread.

    Args:
        before: as for `finish`.
        after: as for `finish`.
        look: as for `finish`.
        gain: as for `finish`.
        held: makes of the power at which this picture's highlights are compressed the one to use, as in a clip.

    Raises:
        ValueError: the shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"pictures of shape {before.shape} and {after.shape}")
    lost = highlights.find(highlights.measured(before, after), gain, held) if look.protect_highlights else None

    def develop(band: slice) -> None:
        lit = _exposed(before[band], after[band], gain, lost, band.start)
        after[band] = _blend(before[band], lit, look.strength)

    def developed() -> Picture:
        cut = list(bands(*before.shape[:2]))
        threads = min(len(cut), cv2.getNumThreads(), _THREADS)
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(develop, cut))  # raises what a call raises
        else:
            for band in cut:
                develop(band)
        return after

    return developed


def _exposed(before: Picture, after: Picture, gain: float, lost: highlights.Highlights | None, top: int = 0) -> Picture:
    """A band of the output, exposed, with its highlights, hues and white."""
    lit = apply_gain(after, gain)
    if lost is not None:
        highlights.keep(lost, before, after, lit, top)
    hues.keep_hues(before, lit)
    keep_white(before, lit, gain)
    return lit


def left_alone(before: Picture, gate: float | None) -> bool:
    """Whether the mean luma of a picture reaches the gate, so that it is not enhanced; never for a gate of None."""
    return gate is not None and mean_luma(before) >= gate


def mean_luma(picture: Picture) -> float:
    """Mean luma, in [0, 1]."""
    return float(np.dot(cv2.mean(picture)[:3], LUMA))  # in double precision, and in a tenth of the time of NumPy's mean


def is_grey(picture: Picture) -> bool:
    """Whether all pixels are grey; colour pictures mostly fail at the first rows."""
    for band in bands(*picture.shape[:2]):
        red, green, blue = np.moveaxis(picture[band], 2, 0)
        if max(np.abs(red - green).max(), np.abs(blue - green).max()) > _NEUTRAL:
            return False
    return True


def is_coloured(picture: Picture) -> bool:
    """Whether a picture shows colour for certain: more than a stray sample, and more than codecs are off by."""
    few = _every(picture, _step(picture, _FEW))
    return float((largest(few) - smallest(few) > _TINT).mean()) > _TINTED


def make_grey(picture: Picture, share: float = 1.0) -> None:
    """Move all three channels towards the luma, in place: networks tint grey pictures with colours they learnt.

    Args:
        picture: the network's output; it is changed.
        share: 0 changes nothing, 1 leaves no colour.
    """
    for band in bands(*picture.shape[:2]):
        luma = np.float32(share) * (picture[band] @ LUMA)
        picture[band] *= np.float32(1 - share)
        picture[band] += luma[..., None]


def keep_white(before: Picture, after: Picture, gain: float = 1.0) -> None:
    """Raise an exposed output to the input where that is white, in place.

    Values only rise, more so the nearer the input is to white, so that the order of brightness is kept.

    Args:
        before: the network's input, or a band of it.
        after: the same of its output, exposed; contiguous, and changed.
        gain: the exposure gain that it got. Its curve keeps white, so one that darkens would reduce a white page to
            black and white; the effect therefore fades as the gain falls below 1, and is off at 0.5.
    """
    if gain <= 0.5 or before.max() <= _WHITE:
        return
    least = smallest(before)
    where = np.flatnonzero(least > _WHITE)  # indices: faster than a mask, as in `highlights`
    share = (np.float32(min(2 * gain - 1, 1)) * smoothstep(least.ravel().take(where), _WHITE, 1))[:, None]
    lit = after.reshape(-1, 3)
    shown = lit.take(where, 0)
    lit[where] = shown + share * np.maximum(before.reshape(-1, 3).take(where, 0) - shown, 0)


def exposing_gain(before: Picture, after: Picture, look: Look) -> float:
    """The gain for `exposure.apply_gain` that brings a network's output to an exposure; 1 changes nothing.

    Unless a brightness is asked for, no picture becomes darker than its input.

    Args:
        before: the network's input.
        after: its output.
        look: what `finish` is going to do.
    """
    step = _step(before, _FEW)
    few = _every(before, step), _every(after, step)

    came = mean_luma(few[0])
    if look.exposure is None and mean_luma(few[1]) > _FAR * came:
        return 1.0
    told = highlights.measured(before, after) if look.protect_highlights else None
    told = told and replace(told, height=few[0].shape[0])

    def level(gain: float) -> float:
        return mean_luma(_exposed(few[0], np.array(few[1]), gain, highlights.find(told, gain)))

    if look.exposure is None or look.exposure == "auto":
        made = level(1.0)
        wanted = made if look.exposure is None else _auto_level(before, made)
        if came - wanted > _DARKER:
            wanted = came
        if wanted == made:
            return 1.0
    else:
        wanted = look.exposure
    gain, aim = gain_for(after, wanted), wanted
    most = _LIFTED * gain if look.protect_highlights else LARGEST_GAIN
    for _ in range(_TRIES):  # highlights and hues darken
        short = wanted - level(gain)
        if abs(short) < _DARKER:
            break
        aim = min(max(aim + short, 0.0), 1.0)
        gain = min(gain_for(after, aim), most)
    return gain


def _auto_level(before: Picture, level: float) -> float:
    """The target mean luma: `level`, the output's own, clamped to a band around what the input's key suggests."""
    wanted = _LEVEL + _SLOPE * _key(before)
    return min(max(level, wanted - _LEEWAY), wanted + _LEEWAY)


def _step(picture: Picture, pixels: int = _SAMPLE) -> int:
    """The step between rows and columns at which about so many pixels are left."""
    return max(1, int(np.ceil(np.sqrt(picture.shape[0] * picture.shape[1] / pixels))))


def _every(picture: Picture, step: int) -> Picture:
    """Every `step`-th row and column, contiguous, which makes the work on them quicker."""
    return np.ascontiguousarray(picture[::step, ::step])


def _key(picture: Picture) -> float:
    """Whether most of a picture lies near its lights (towards 1) or its blacks (towards -1), whatever its exposure.

    A night scene with lamps is low-key, an evenly dim room is not. Reinhard, Parameter Estimation for Photographic Tone
    Reproduction, Journal of Graphics Tools 7(1), 2002: the log-average relative to the 1st and 99th percentiles.
    """
    stops = np.log2(np.maximum(to_linear(thumbnail(picture, 256)) @ LUMA, _DARKEST))
    low, high = np.percentile(stops, (1, 99))
    return float((2 * stops.mean() - low - high) / max(high - low, _STOPS))


def gain_for(picture: Picture, target: float) -> float:
    """The gain for `exposure.apply_gain` after which the mean luma is `target`.

    The curve is monotonic and keeps black and white, so nothing is clipped and order is kept. For an all-black or
    all-white picture no such gain exists; it gets the largest or the smallest, which leave it unchanged.
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
    """Blend by `strength` in linear light; a strength of 1 returns `after` itself."""
    if strength == 1:
        return after
    start = to_linear(before)
    return to_srgb(np.clip(start + np.float32(strength) * (to_linear(after) - start), 0, 1))
