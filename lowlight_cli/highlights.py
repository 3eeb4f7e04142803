"""What a network turns white although the input shows it: skies, windows, signs, lit faces.

One exposure cannot hold a dark room and the sky in its window. Where brightening clips, the input itself is taken, as
much brighter as its surroundings allow: two exposures of one picture, mixed region by region, as phones mix frames
(Hasinoff et al., "Burst photography for high dynamic range and low-light imaging on mobile cameras", 2016, section 6).
The regions follow the edges of the input by a guided filter (He et al., PAMI 2013), whose lines are found on a reduced
copy and drawn on the whole (He and Sun, "Fast Guided Filter", 2015), so that no halo stands round a roof, and a
picture of any size is worked on in bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.exposure import apply_gain, smoothstep, to_linear, to_srgb

__all__ = ["Highlights", "find", "keep", "turned_white"]

Picture = NDArray[np.float32]
Plane = NDArray[np.float32]

SIDE: Final = 320
"""The longer side of the reduced copy, in pixels."""

REACH: Final = 0.04
"""Radius of the filter, in parts of the longer side."""

EDGE: Final = 0.25
"""Stops of light from which on an edge is one, for where the input is taken."""

REGION: Final = 1.0
"""Stops of light from which on an edge is one, for how bright it is taken: clouds are no edges, roofs are."""

CLIPS: Final = (0.7, 2.0)
"""Light that the gain of the dark parts would give, 1 being white: the output is kept below, the input taken above."""

SHOWN: Final = (0.25, 0.8)
"""Largest channel of the input, sRGB-encoded: below it shows less than the network's picture, above it is sound."""

TURNED: Final = (0.85, 0.97)
"""Largest channel of the output, sRGB-encoded: below it nothing turned white, whatever the gain."""

WHITE: Final = 0.95
"""Light that the brightest of a region is brought to."""

LITTLE: Final = 0.05
"""A share that is none: what the filter leaks over an edge."""

LOST: Final = 0.9
"""Smallest channel from which on a pixel is white to the eye: a blue sky that clips in blue alone is none."""

BLACK: Final = 1 / 255
"""Light added before logarithms: noise in the dark is no edge."""


@dataclass(frozen=True)
class Highlights:
    """Where of a picture to take how much of the input, and by how much brighter.

    Attributes:
        lines: (h, w, 4), of the reduced copy: slope and offset over the logarithm of the input's largest channel, first
            of the share, then of the logarithm of the brightest around.
        height: of the picture, in pixels.
        gain: what the dark parts were brightened by, in linear light.
        share: how much of the picture is concerned, 0 to 1.
    """

    lines: NDArray[np.float32]
    height: int
    gain: float
    share: float


def find(before: Picture, after: Picture, gain: float = 1.0) -> Highlights | None:
    """Where `after`, exposed by `gain`, lost what `before` shows; None where it lost nothing.

    Args:
        before: (H, W, 3) RGB, sRGB-encoded, [0, 1].
        after: of the same shape.
        gain: of `exposure.apply_gain`.
    """
    height, width, _ = before.shape
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = [np.asarray(cv2.resize(each, size, interpolation=cv2.INTER_AREA), np.float32) for each in (before, after)]
    dark, bright = (to_linear(_largest(each)) for each in (small[0], apply_gain(small[1], gain)))
    times = _times(dark, bright)
    share = smoothstep(np.log(np.maximum(dark * times, 1e-6)), *np.log(CLIPS)) * smoothstep(to_srgb(dark), *SHOWN)
    share *= smoothstep(to_srgb(bright), *TURNED)
    if share.max() <= LITTLE:
        return None
    radius = max(1, round(REACH * max(size)))
    # Over a wider square, the slope of a reflection would be measured by its top, and come out darker than its foot.
    peak = np.asarray(cv2.dilate(cv2.blur(dark, (3, 3)), np.ones((3, 3), np.uint8)), np.float32)
    guide = _stops(dark)
    lines = np.dstack([*_lines(guide, share, radius, EDGE), *_lines(guide, _stops(peak), radius, REGION)])
    return Highlights(lines, height, times, float(share.mean()))


def keep(highlights: Highlights, before: Picture, after: Picture, top: int = 0) -> Picture:
    """The rows of a picture from `top` on with their highlights; where none are, `after` as it is.

    Args:
        highlights: of `find`, for the whole picture.
        before: (h, W, 3), some rows of the input.
        after: the same rows of the output, exposed already.
        top: the first one's number.
    """
    lines = _drawn(highlights, before.shape[0], before.shape[1], top)
    guide = _stops(to_linear(_largest(before)))
    share = np.clip((lines[..., 0] * guide + lines[..., 1] - LITTLE) / (1 - 2 * LITTLE), 0, 1)
    where = np.flatnonzero(share > 0)  # by number: a mask takes ten times as long
    if not where.size:
        return after
    dark, bright = (each.reshape(-1, 3).take(where, 0) for each in (before, after))
    share, guide, lines = share.take(where)[:, None], guide.take(where)[:, None], lines.reshape(-1, 4).take(where, 0)
    peak = np.exp2(np.minimum(lines[:, 2:3] * guide + lines[:, 3:], 0))
    light = np.minimum(to_linear(dark) * np.clip(WHITE / peak, 1, highlights.gain), 1)
    kept = np.array(after, np.float32, order="C")
    kept.reshape(-1, 3)[where] = to_srgb(light * share + to_linear(bright) * (1 - share))
    return kept


def turned_white(before: Picture, after: Picture) -> float:
    """Share of the pixels that are white in `after` and were not in `before`, (H, W, 3) each; 0 to 1.

    Unlike a mask's share, this is what can be seen: what came white has not turned, and what is bright is not white.

    Example:
        >>> lamp = np.zeros((2, 2, 3), np.float32); lamp[0, 0] = 1
        >>> turned_white(lamp, np.ones((2, 2, 3), np.float32))
        0.75
    """
    turned = _white(after) & ~_white(before)
    return float(np.count_nonzero(turned) / turned.size)


def _white(picture: Picture) -> NDArray[np.bool_]:
    """Where all channels are bright, (H, W)."""
    red, green, blue = np.moveaxis(picture, 2, 0)
    return np.asarray((red >= LOST) & (green >= LOST) & (blue >= LOST), np.bool_)


def _largest(picture: Picture) -> Plane:
    """The largest channel: (H, W, 3) to (H, W), in a thirtieth of what `max` takes."""
    red, green, blue = np.moveaxis(picture, 2, 0)
    return np.asarray(np.maximum(np.maximum(red, green), blue), np.float32)


def _stops(light: Plane) -> Plane:
    """Light as its logarithm, 0 for white."""
    return np.asarray(np.log2(light + np.float32(BLACK)), np.float32)


def _times(dark: Plane, bright: Plane) -> float:
    """What light was multiplied by where it clips nothing; where all is clipped, by how much at least."""
    shown = dark > 0.001
    whole = shown & (bright > 0.02) & (bright < 0.6)
    told = whole if whole.any() else shown
    return max(1.0, float(np.median(bright[told] / dark[told]))) if told.any() else 1.0


def _lines(guide: Plane, plane: Plane, radius: int, edge: float) -> tuple[Plane, Plane]:
    """The guided filter's line at each pixel: `plane` is about slope * guide + offset around it."""

    def mean(values: Plane) -> Plane:
        side = 2 * radius + 1
        return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT), np.float32)

    average, level = mean(guide), mean(plane)
    slope = (mean(guide * plane) - average * level) / (mean(guide * guide) - average**2 + np.float32(edge**2))
    return mean(slope), mean(level - slope * average)


def _drawn(highlights: Highlights, rows: int, width: int, top: int) -> NDArray[np.float32]:
    """The lines at the picture's size, of some of its rows, (rows, width, 4): straight between the copy's pixels."""
    lines = highlights.lines
    at = np.clip((np.arange(top, top + rows) + 0.5) * lines.shape[0] / highlights.height - 0.5, 0, lines.shape[0] - 1)
    above = at.astype(int)
    part = (at - above).astype(np.float32)[:, None, None]
    tall = lines[above] * (1 - part) + lines[np.minimum(above + 1, lines.shape[0] - 1)] * part
    return np.asarray(cv2.resize(tall, (width, rows), interpolation=cv2.INTER_LINEAR), np.float32)
