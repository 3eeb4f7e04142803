"""Keep highlights that brightening would wash out: skies, windows, signs, lit faces, wet streets.

One exposure cannot hold both a dark street and the shop window beside it. Three steps hold both:

1. Light. What the network shows is taken as film that was exposed (see `exposure`), and turned back into light. Where
   it is nearly white, the input still tells the light, so it is used there, times the lift that the network gave the
   surroundings.
2. Regions. Light is split into a base and details by a guided filter (He et al., PAMI 2013), so that regions follow the
   edges of the picture and there is no halo around a roof. Its linear coefficients are computed on a reduced copy and
   upsampled (He and Sun, "Fast Guided Filter", 2015), so that a picture of any size is processed in bands.
3. Range. Above `KNEE`, the logarithm of the base is compressed until the brightest regions fit; details keep their
   contrast (Durand and Dorsey, "Fast Bilateral Filtering for the Display of High-Dynamic-Range Images", SIGGRAPH 2002).
   Then the light is exposed again.

A picture whose lights fit, and every dark part, come out as the network made them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.exposure import largest, smoothstep, to_light, to_linear, to_srgb

__all__ = ["Highlights", "Measured", "find", "guided", "keep", "measured"]

Picture = NDArray[np.float32]
Plane = NDArray[np.float32]

SIDES: Final = (80, 320)
"""The longer side of the reduced copy, in pixels: a quarter of the picture's, but at least and at most this, if it has
as many."""

REACH: Final = 0.04
"""Radius of the filter, as a fraction of the longer side."""

REGION: Final = 0.7
"""Contrast, as a logarithm, from which an edge separates two regions: roofs do, clouds do not."""

ALL: Final = 0.998
"""Power from which nothing is compressed that could be seen."""

FULL: Final = (0.84, 0.94)
"""Largest channel of the output, sRGB-encoded: below the range it tells the light, above it the input does. Networks
differ in how white they get: `frlie` to 0.92."""

KNEE: Final = 0.45
"""Light, in exposures of film, up to which nothing is compressed: 1 - exp(-0.45), that is, 0.64 sRGB-encoded."""

SHOWN: Final = 1.8
"""Light that the brightest regions are brought to: 0.92 sRGB-encoded."""

BRIGHTEST: Final = 99.5
"""The percentile of the base that counts as brightest: lamps may turn white."""

COUNTED: Final = ((0.3, 0.9, 2.0, 2.6), (0.05, 0.3, 2.0, 2.6), (0.003, 0.02, 2.0, 2.6))
"""Light of the output at which the network's lift is measured: counted more from the first value to the second, less
from the third to the fourth. The next row is for pictures that have next to nothing in the range of the one before."""

AROUND: Final = 2
"""The surroundings of a pixel in which the lift is measured, in radii of the filter."""

LEAST: Final = 0.0005
"""Light of the input from which it tells a lift: the second 8-bit level."""

ENOUGH: Final = 20
"""Pixels of the reduced copy that a measurement needs."""

STRAY: Final = 2.0
"""How many times as large or small the lift around a pixel may be as that of the picture."""

TOLD: Final = (0.2, 0.65)
"""Largest channel of the input, sRGB-encoded: below the range its colour is noise or a cast, above it is reliable."""

CONTRAST: Final = 0.75
"""Power of details around a compressed base. Film would nearly level those of the brightest: clouds, lettering."""

SATURATED: Final = 0.5
"""Largest share of the input's ratio of channels, beside film's, which is paler: more shows where it begins."""

LIGHTER: Final = (0.3, 0.8)
"""How many times the input's light is exposed: up to the first its white is not used, from the second on it is."""

PRIOR: Final = 0.2
"""Share of the surroundings that the lift of the whole picture counts as."""

DIM: Final = 0.02
"""Light added before taking logarithms, so that noise in the dark is no edge."""

_LOG_KNEE: Final = math.log(KNEE + DIM)
_LOG_SHOWN: Final = math.log(SHOWN + DIM)


@dataclass(frozen=True)
class Measured:
    """The light of a picture, on a reduced copy.

    Attributes:
        light: (h, w), of the largest channel, as far as output and input tell it.
        lift: (h, w), how many times more light the output shows than the input.
        full: whether the output is nearly white anywhere.
        radius: of the filter.
        height: of the full picture, in pixels.
    """

    light: Plane
    lift: Plane
    full: bool
    radius: int
    height: int


@dataclass(frozen=True)
class Highlights:
    """Where a picture is how bright, and how its range is compressed.

    Attributes:
        lines: (2, h, w) on the reduced copy: the guided filter's slope and offset, which map the logarithm of a pixel's
            light to that of its base.
        lift: (h, w), how many times more light the output shows than the input.
        height: of the full picture, in pixels.
        gain: the exposure gain that the output gets.
        power: what a stop of the base above the knee becomes, in stops, 0 to 1.
    """

    lines: NDArray[np.float32]
    lift: Plane
    height: int
    gain: float
    power: float


def measured(before: Picture, after: Picture) -> Measured | None:
    """Measure the light of a picture; None if nothing in it tells how much the network lifted it.

    Args:
        before: (H, W, 3) RGB, sRGB-encoded, [0, 1].
        after: the network's output, of the same shape, before it is exposed.
    """
    height, width, _ = before.shape
    longer = max(height, width)
    scale = min(longer, max(SIDES[0], min(longer / 4, SIDES[1]))) / longer
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = [np.asarray(cv2.resize(each, size, interpolation=cv2.INTER_AREA), np.float32) for each in (before, after)]
    most = largest(small[1])
    came, made, full = to_light(largest(small[0])), to_light(most), smoothstep(most, *FULL)
    radius = max(1, round(REACH * max(size)))
    lift = _lift(came, made, AROUND * radius)
    if lift is None:
        return None
    light = np.asarray(made + full * (_at_least(came * lift) - made), np.float32)
    return Measured(light, lift, bool(full.any()), radius, height)


def find(told: Measured | None, gain: float = 1.0, held: Callable[[float], float] | None = None) -> Highlights | None:
    """Find what an exposure washes out of a picture; None if that is nothing.

    Args:
        told: from `measured`.
        gain: of the exposure, as for `exposure.apply_gain`.
        held: makes of the power that this picture needs the one to use, as in a clip. It is always called, since light
            that needs none must not end at once what is held for it.
    """
    held = held or (lambda power: power)
    if told is None:
        held(1.0)
        return None
    levels = _log(told.light * np.float32(gain))
    slope, offset = guided(levels, levels, told.radius, REGION)
    brightest = float(np.percentile(slope * levels + offset, BRIGHTEST))
    power = held(min(1.0, (_LOG_SHOWN - _LOG_KNEE) / max(brightest - _LOG_KNEE, 1e-6)))
    if power > ALL and not told.full:
        return None
    return Highlights(np.stack([slope, offset]), told.lift, told.height, gain, power)


def keep(highlights: Highlights, before: Picture, after: Picture, lit: Picture, top: int = 0) -> None:
    """Restore the highlights in a band of rows, in place.

    Args:
        highlights: from `find`, for the whole picture.
        before: (h, W, 3), a band of the input.
        after: the same band of the output.
        lit: the same band of the output, exposed by `exposure.apply_gain`; contiguous, and changed. It may be `after`.
        top: index of its first row in the picture.
    """
    slope, offset, lift = _drawn(highlights, before.shape[0], before.shape[1], top)
    before, after, kept = before.reshape(-1, 3), after.reshape(-1, 3), lit.reshape(-1, 3)
    gain = np.float32(highlights.gain)
    most = largest(after)
    light = to_light(most)
    white = np.flatnonzero(most > FULL[0])  # indices: a mask takes ten times as long
    restored = _restored(before.take(white, 0), after.take(white, 0), lift.take(white), gain)
    light[white] = largest(restored)
    base = slope * _log(light * gain) + offset
    lowered = np.maximum(base - np.float32(_LOG_KNEE), 0) * np.float32(highlights.power - 1)
    rest = np.flatnonzero((lowered < 0) & (most <= FULL[0]))
    for where, shown in (white, restored), (rest, to_light(after.take(rest, 0))):
        came = before.take(where, 0)
        least = np.minimum(1 / (lift.take(where) * gain), 1)  # no darker than the input: what was bright is not lost
        times = np.maximum(np.exp(lowered.take(where)), least)
        colour = smoothstep(most.take(where), *FULL) * smoothstep(largest(came), *TOLD)
        light_now, base_now = shown * (times * gain)[:, None], np.exp(base.take(where)) * times
        kept[where] = to_srgb(_developed(light_now, base_now, 1 - times, to_linear(came), colour))


def _restored(before: Picture, after: Picture, lift: Plane, gain: np.float32) -> Picture:
    """The light of pixels that are nearly white in `after`, (N, 3): the whiter, the more is that of `before` used.

    Where the input is dark, it tells how much light there was, but not of which colour: that is noise, or a cast that
    the network took away. Where the result is to be darker than the input, the input's own white tells nothing.
    """
    came, made = to_light(before), to_light(after)
    pale = (_ratio(made) + _ratio(to_linear(after))) / 2  # the light of full channels is not known: others fall behind
    shown = pale + smoothstep(largest(before), *TOLD)[:, None] * (_ratio(came) - pale)
    full = smoothstep(largest(after), *FULL) * smoothstep(lift * gain, *LIGHTER)
    return np.asarray(made + full[:, None] * (shown * _at_least(largest(came) * lift)[:, None] - made), np.float32)


def _at_least(light: Plane) -> Plane:
    """A soft maximum of light and of what `FULL` begins with, which a nearly white output has, whatever its lift."""
    least = to_light(np.array([FULL[0]]))[0]
    return np.asarray(np.cbrt(light**3 + least**3), np.float32)


def _ratio(light: Picture) -> Picture:
    """Each channel by the largest, (N, 3)."""
    return np.asarray(light / np.maximum(largest(light), LEAST)[:, None], np.float32)


def _developed(light: Picture, base: Plane, share: Plane, came: Picture, colour: Plane) -> Picture:
    """Linear values, (N, 3), of compressed light: film's, but of its base alone as far as `share` says.

    Film shows details of bright regions flat, and bright colours pale.

    Args:
        light: (N, 3).
        base: (N,), that of the region around.
        share: (N,), 0 to 1: how far the details keep their contrast, as if it were film that shows the base.
        came: (N, 3), linear values of the input.
        colour: (N,), 0 to 1: how much of that share the channels get the ratio that they have in the input.
    """
    most = largest(light)
    film = np.asarray(1 - np.exp(-light), np.float32)
    shown = largest(film)
    level = np.minimum((1 - np.exp(-base)) * (most / np.maximum(base, LEAST)) ** np.float32(CONTRAST), 1)
    level = shown + share * (level - shown)
    level = np.maximum(level, np.minimum(shown, largest(came)))
    film *= (level / np.maximum(shown, LEAST))[:, None]
    return np.asarray(film + (SATURATED * share * colour)[:, None] * (_ratio(came) * level[:, None] - film), np.float32)


def _lift(came: Plane, made: Plane, radius: int) -> Plane | None:
    """How many times more light the output shows around each pixel, (h, w); None if it can be measured nowhere."""
    for darkest, dark, bright, brightest in COUNTED:
        counted = smoothstep(made, darkest, dark) * (1 - smoothstep(made, bright, brightest)) * (came > LEAST)
        if counted.sum() >= ENOUGH:
            break
    else:
        return None
    came, made = came * counted, made * counted
    whole = made.sum() / came.sum()
    prior = PRIOR * came.sum() / counted.sum()
    around = (_soft(made, radius) + prior * whole) / (_soft(came, radius) + prior)
    return np.asarray(np.clip(around, whole / STRAY, whole * STRAY), np.float32)


def _log(light: Plane) -> Plane:
    """Logarithm of light; 1 is about 1.4 stops."""
    return np.asarray(np.log(light + np.float32(DIM)), np.float32)


def guided(guide: Plane, plane: Plane, radius: int, edge: float) -> tuple[Plane, Plane]:
    """The guided filter's (slope, offset) at each pixel: around it, `plane` is about slope * guide + offset."""
    average, level = _mean(guide, radius), _mean(plane, radius)
    slope = (_mean(guide * plane, radius) - average * level) / (
        _mean(guide * guide, radius) - average**2 + np.float32(edge**2)
    )
    return _mean(slope, radius), _mean(level - slope * average, radius)


def _mean(values: Plane, radius: int) -> Plane:
    """The mean over a square around each pixel, of (h, w)."""
    side = 2 * radius + 1
    return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT), np.float32)


def _soft(values: Plane, radius: int) -> Plane:
    """A nearly Gaussian mean, whose standard deviation is 0.6 of the radius: that of a square has edges of its own."""
    for _ in range(3):
        values = _mean(values, max(1, round(0.6 * radius)))
    return values


def _drawn(highlights: Highlights, rows: int, width: int, top: int) -> list[Plane]:
    """Lines and lift upsampled bilinearly to `rows` rows of the full picture from `top` on, each (rows * width)."""
    small = np.stack([*highlights.lines, highlights.lift])
    at = np.clip((np.arange(top, top + rows) + 0.5) * small.shape[1] / highlights.height - 0.5, 0, small.shape[1] - 1)
    above = at.astype(int)
    part = (at - above).astype(np.float32)[:, None]
    tall = small[:, above] * (1 - part) + small[:, np.minimum(above + 1, small.shape[1] - 1)] * part
    drawn = [cv2.resize(each, (width, rows), interpolation=cv2.INTER_LINEAR) for each in tall]
    return [np.asarray(each, np.float32).ravel() for each in drawn]
