"""Keep highlights that a network turns white although the input shows them: skies, windows, signs, lit faces.

One exposure cannot hold both a dark room and the sky in its window. Where brightening clips, the input itself is used,
brightened as far as its surroundings allow: two exposures of one picture, mixed region by region, as phones mix frames
(Hasinoff et al., "Burst photography for high dynamic range and low-light imaging on mobile cameras", 2016, section 6).
A guided filter (He et al., PAMI 2013) makes the regions follow the edges of the input, so that there is no halo around
a roof. Its linear coefficients are computed on a reduced copy and upsampled (He and Sun, "Fast Guided Filter", 2015),
so that a picture of any size is processed in bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.exposure import apply_gain, largest, smallest, smoothstep, to_linear, to_srgb

__all__ = ["Highlights", "find", "guided", "keep", "turned_white"]

Picture = NDArray[np.float32]
Plane = NDArray[np.float32]

SIDE: Final = 320
"""The longer side of the reduced copy, in pixels."""

REACH: Final = 0.04
"""Radius of the filter, as a fraction of the longer side."""

EDGE: Final = 0.25
"""Contrast in stops from which an edge is kept in the mask of where the input is used."""

REGION: Final = 1.0
"""Contrast in stops from which an edge is kept in the map of how bright the input is made: roofs are edges, clouds are
not."""

CLIPS: Final = (0.7, 2.0)
"""Linear light after the gain of the dark parts, 1 being white: below the range the output is used, above the input."""

SHOWN: Final = (0.25, 0.8)
"""Largest channel of the input, sRGB-encoded: below the range it shows less than the output, above it is reliable."""

TURNED: Final = (0.85, 0.97)
"""Largest channel of the output, sRGB-encoded: below the range nothing turned white, whatever the gain."""

WHITE: Final = 0.95
"""Linear light that the brightest part of a region is brought to."""

LITTLE: Final = 0.05
"""Largest share that counts as none: what the filter leaks across an edge."""

LOST: Final = 0.9
"""Smallest channel from which a pixel looks white: a sky that clips in blue alone does not."""

BLACK: Final = 1 / 255
"""Light added before taking logarithms, so that noise in the dark is no edge."""


@dataclass(frozen=True)
class Highlights:
    """How much of the input to use at each place of a picture, and how far to brighten it.

    Attributes:
        lines: (h, w, 4) guided filter coefficients on the reduced copy: slope and offset that map the logarithm of the
            input's largest channel to the input's share, then to the logarithm of the local peak.
        height: of the full picture, in pixels.
        gain: how much the dark parts were brightened, in linear light.
        share: mean share of the input, 0 to 1.
    """

    lines: NDArray[np.float32]
    height: int
    gain: float
    share: float


def find(before: Picture, after: Picture, gain: float = 1.0) -> Highlights | None:
    """Find the highlights of `before` that `after`, exposed by `gain`, lost; None if it lost none.

    Args:
        before: (H, W, 3) RGB, sRGB-encoded, [0, 1].
        after: of the same shape.
        gain: as for `exposure.apply_gain`.
    """
    height, width, _ = before.shape
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = [np.asarray(cv2.resize(each, size, interpolation=cv2.INTER_AREA), np.float32) for each in (before, after)]
    dark, bright = (to_linear(largest(each)) for each in (small[0], apply_gain(small[1], gain)))
    times = _times(dark, bright)
    share = smoothstep(np.log(np.maximum(dark * times, 1e-6)), *np.log(CLIPS)) * smoothstep(to_srgb(dark), *SHOWN)
    share *= smoothstep(to_srgb(bright), *TURNED)
    if share.max() <= LITTLE:
        return None
    radius = max(1, round(REACH * max(size)))
    # A wider square would measure the slope of a reflection by its top, and make it darker than its foot.
    peak = np.asarray(cv2.dilate(cv2.blur(dark, (3, 3)), np.ones((3, 3), np.uint8)), np.float32)
    guide = _stops(dark)
    lines = np.dstack([*guided(guide, share, radius, EDGE), *guided(guide, _stops(peak), radius, REGION)])
    return Highlights(lines, height, times, float(share.mean()))


def keep(highlights: Highlights, before: Picture, after: Picture, top: int = 0) -> Picture:
    """Restore the highlights in a band of rows; returns `after` itself if it has none.

    Args:
        highlights: from `find`, for the whole picture.
        before: (h, W, 3), a band of the input.
        after: the same band of the output, exposed already.
        top: index of its first row in the picture.
    """
    lines = _drawn(highlights, before.shape[0], before.shape[1], top)
    guide = _stops(to_linear(largest(before)))
    share = np.clip((lines[..., 0] * guide + lines[..., 1] - LITTLE) / (1 - 2 * LITTLE), 0, 1)
    where = np.flatnonzero(share > 0)  # indices: a mask takes ten times as long
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
    """Share of pixels that are white in `after` and were not in `before`, (H, W, 3) each; 0 to 1.

    Unlike `Highlights.share`, this counts only what is visible: pixels white before, or merely bright, do not count.

    Example:
        >>> lamp = np.zeros((2, 2, 3), np.float32); lamp[0, 0] = 1
        >>> turned_white(lamp, np.ones((2, 2, 3), np.float32))
        0.75
    """
    white = _white(after)
    before_too = np.count_nonzero(_white(before) & white) if white.any() else 0
    return float((np.count_nonzero(white) - before_too) / white.size)


def _white(picture: Picture) -> NDArray[np.bool_]:
    """Mask (H, W) of the pixels whose channels are all at least `LOST`."""
    return np.asarray(smallest(picture) >= LOST, np.bool_)


def _stops(light: Plane) -> Plane:
    """Base-2 logarithm of light, about 0 for white."""
    return np.asarray(np.log2(light + np.float32(BLACK)), np.float32)


def _times(dark: Plane, bright: Plane) -> float:
    """The median gain of linear light where nothing clips; if everything clips, a lower bound of it. At least 1."""
    shown = dark > 0.001
    whole = shown & (bright > 0.02) & (bright < 0.6)
    told = whole if whole.any() else shown
    return max(1.0, float(np.median(bright[told] / dark[told]))) if told.any() else 1.0


def guided(guide: Plane, plane: Plane, radius: int, edge: float) -> tuple[Plane, Plane]:
    """The guided filter's (slope, offset) at each pixel: around it, `plane` is about slope * guide + offset."""

    def mean(values: Plane) -> Plane:
        side = 2 * radius + 1
        return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT), np.float32)

    average, level = mean(guide), mean(plane)
    slope = (mean(guide * plane) - average * level) / (mean(guide * guide) - average**2 + np.float32(edge**2))
    return mean(slope), mean(level - slope * average)


def _drawn(highlights: Highlights, rows: int, width: int, top: int) -> NDArray[np.float32]:
    """The coefficients upsampled bilinearly to `rows` rows of the full picture from `top` on, (rows, width, 4)."""
    lines = highlights.lines
    at = np.clip((np.arange(top, top + rows) + 0.5) * lines.shape[0] / highlights.height - 0.5, 0, lines.shape[0] - 1)
    above = at.astype(int)
    part = (at - above).astype(np.float32)[:, None, None]
    tall = lines[above] * (1 - part) + lines[np.minimum(above + 1, lines.shape[0] - 1)] * part
    return np.asarray(cv2.resize(tall, (width, rows), interpolation=cv2.INTER_LINEAR), np.float32)
