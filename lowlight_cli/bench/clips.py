"""Flicker of video clips with and without temporal smoothing, measured on the same frames and the same flow."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.bench.report import Table
from lowlight_cli.bench.sets import rounded
from lowlight_cli.enhancer import Enhancer
from lowlight_cli.errors import InputError
from lowlight_cli.exposure import apply_gain, auto_gain
from lowlight_cli.look import mean_luma
from lowlight_cli.metrics.steadiness import flow, jitter, warped_error

__all__ = ["DEFINITIONS", "Steadiness", "measure_clip", "table"]

Picture = NDArray[np.float32]

DEFINITIONS: Final = {
    "jitter": "root mean square of the change of mean luma from one frame to the next, in levels of 255",
    "warped error": "mean square of what a frame differs by from the one before, moved along the flow, over pixels "
    "seen in both (Lai et al. 2018), times 10000; the flow is DIS on the input at one exposure, one for all rows",
    "s": "seconds a frame, mean, without reading and writing",
}
"""What the columns mean."""


@dataclass(frozen=True)
class Steadiness:
    """The measurements of one method on one clip; `seconds` is None for the input itself."""

    clip: str
    method: str
    jitter: float
    warped: float
    luma: float
    seconds: float | None


def measure_clip(
    path: Path, enhancers: Sequence[tuple[str, Enhancer]], frames: int, on_done: Callable[[float], None] | None = None
) -> list[Steadiness]:
    """Measure the input, and each enhancer with every mode of smoothing, on the first frames of a clip.

    Args:
        path: the clip.
        enhancers: enhancers with their names.
        frames: how many frames at most; all are held in memory as float32.
        on_done: called with 1 after each frame of each method.

    Raises:
        InputError: no clip, or less than two frames.
    """
    from lowlight_cli.video.lighting import Lighting
    from lowlight_cli.video.making import Making
    from lowlight_cli.video.streams import opened
    from lowlight_cli.video.temporal import MODES

    shown: list[tuple[Picture, float]] = []
    with opened(path, str(path)) as clip:
        for frame in clip.decoded():
            shown.append((frame.picture, float(frame.pts * clip.base)))
            if len(shown) == frames:
                break
    if len(shown) < 2:
        raise InputError(f"{path}: one frame cannot flicker; take a clip of two or more")
    gain = auto_gain(shown[0][0])
    lit = [apply_gain(picture, gain) for picture, _ in shown]
    flows = [flow(one, other) for one, other in itertools.pairwise(lit)]

    def measured(method: str, make: Callable[[Picture, float], Picture] | None) -> Steadiness:
        lumas, errors, spent = [], [], 0.0
        before: Picture | None = None
        for number, (picture, when) in enumerate(shown):
            start = time.perf_counter()
            made = make(picture, when) if make else picture
            spent += time.perf_counter() - start
            made = rounded(made)
            lumas.append(mean_luma(made))
            if before is not None:
                errors.append(warped_error(before, made, *flows[number - 1]))
            before = made
            if on_done:
                on_done(1)
        seconds = spent / len(shown) if make else None
        return Steadiness(path.name, method, jitter(lumas), float(np.mean(errors)), float(np.mean(lumas)), seconds)

    rows = [measured("input", None)]
    for name, enhancer in enhancers:
        enhancer.load()
        for mode, even in (*((mode, False) for mode in MODES), ("on", True)):
            lighting = Lighting(enhancer, Making(temporal=mode, deblock=even))
            rows.append(measured(f"{name}, {mode}{', deblock' if even else ''}", lighting.frame))
    return rows


def table(rows: Sequence[Steadiness]) -> Table:
    """Format the rows for printing."""
    return Table(
        ("clip", "method", "jitter", "warped error", "luma", "s"),
        tuple(
            (
                row.clip,
                row.method,
                f"{row.jitter:.4f}",
                f"{row.warped * 1e4:.4f}",
                f"{row.luma:.4f}",
                "-" if row.seconds is None else f"{row.seconds:.3f}",
            )
            for row in rows
        ),
    )
