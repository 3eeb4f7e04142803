"""Take a picture through the network: prepared, whole or in tiles, once or in the eight views of a self-ensemble."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.banding import debanded
from lowlight_cli.errors import WeightsError
from lowlight_cli.exposure import apply_gain

if TYPE_CHECKING:
    from lowlight_cli.engines import Engine
    from lowlight_cli.engines.tiling import Prepare
    from lowlight_cli.steady import Steady

__all__ = ["prepare", "run"]

Picture = NDArray[np.float32]


def prepare(gain: float, coarse: bool) -> Prepare | None:
    """What a picture, or a part of one, goes through before the network; None if that is nothing.

    Args:
        gain: exposure, for `exposure.apply_gain`.
        coarse: the source has 8 bits a channel: smooth their steps, see `banding`.
    """
    if coarse:
        return lambda part: apply_gain(debanded(part), gain)
    return None if gain == 1 else functools.partial(apply_gain, gain=gain)


def run(
    engine: Engine,
    picture: Picture,
    prepare: Prepare | None,
    on_tiles: Callable[[int], None] | None = None,
    steady: Steady | None = None,
    *,
    ensemble: bool = False,
) -> Picture:
    """The network's output for a picture, a contiguous array that the caller may change.

    Args:
        engine: runs the network.
        picture: (H, W, 3) float32 RGB, sRGB-encoded, in [0, 1]; it is not changed.
        prepare: from `prepare`.
        on_tiles: see `engines.Engine.run`.
        steady: smooths what the network measures, over the frames of a clip.
        ensemble: average over the eight flips and quarter turns.

    Raises:
        WeightsError: the output is not finite.
        ResourceError: the device does not have enough memory.
    """
    once = functools.partial(_once, engine, prepare=prepare, on_tiles=on_tiles, steady=steady)
    bright = np.require(_ensemble(once, picture) if ensemble else once(picture), np.float32, ["C", "W"])
    _refuse_no_picture(bright, engine)
    return bright


def _once(
    engine: Engine,
    picture: Picture,
    view: str = "",
    *,
    prepare: Prepare | None,
    on_tiles: Callable[[int], None] | None,
    steady: Steady | None,
) -> Picture:
    settle = (lambda at, value: steady.settle(f"{view}{at}", value)) if steady else None
    lit: Picture = engine.run(np.require(picture, np.float32, ["C", "W"])[None], on_tiles, prepare, settle)[0]
    return lit


def _ensemble(once: Callable[[Picture, str], Picture], picture: Picture) -> Picture:
    """The mean over the eight flips and quarter turns of a picture, each result transformed back."""
    mean = np.zeros_like(picture)
    for turns in range(4):
        for flip in (1, -1):
            lit = once(np.rot90(picture, turns)[:, ::flip], f"{turns}{flip:+d}/")
            mean += np.rot90(lit[:, ::flip], -turns)
    mean /= 8
    return mean


def _refuse_no_picture(bright: Picture, engine: Engine) -> None:
    """Raise WeightsError if the network's output is not finite: such values would be written as black."""
    with np.errstate(all="ignore"):
        total = bright.sum()  # a fraction of the time of checking each value
    if not np.isfinite(total):
        reduced = engine.precision != "fp32"
        way = f"try the precision fp32, this is {engine.precision}" if reduced else "take others"
        raise WeightsError(f"the weights compute no picture, but values that are not finite: {way}")
