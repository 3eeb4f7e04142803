"""Record a network's measurements of a whole picture, to replay them in its tiles or to smooth them over frames.

Pooled means, norms and the exposure gain would differ from tile to tile, which shows as seams. While `recording`,
`whole` stores each measurement of a forward pass; while `replaying`, it returns the stored one. Measurements come in
the same order in every forward pass, so their position identifies them. Each thread has its own state.

In a clip the same measurements differ a little from frame to frame, which shows as flicker. While `settling`, each
recorded measurement is passed to a function that knows the earlier frames, and its result is used instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Settle", "Statistics", "measured", "recording", "replaying", "settled", "settling", "whole"]

Settle = Callable[[int, Tensor], Tensor]
"""Returns the value to use instead of a measurement, given its position in the forward pass and its value."""


@dataclass
class Statistics:
    """Measurements of one picture, in the order of a forward pass; `position` is the next one to replay."""

    values: list[Tensor] = field(default_factory=list)
    replay: bool = False
    position: int = 0


_now: ContextVar[Statistics | None] = ContextVar("statistics", default=None)
_settle: ContextVar[Settle | None] = ContextVar("settle", default=None)


def whole(measure: Callable[[], Tensor]) -> Tensor:
    """A measurement of the whole picture: the result of `measure()`, or in a tile the recorded value."""
    if torch.compiler.is_dynamo_compiling():  # a training step, in which nothing is recorded
        return measure()
    held = _now.get()
    if held is None:
        return measure()
    if held.replay:
        value = held.values[held.position]
        held.position += 1
        return value
    value = measure()
    if settle := _settle.get():
        value = settle(len(held.values), value)
    held.values.append(value)
    return value


def measured() -> bool:
    """Whether measurements are being recorded or replayed."""
    return not torch.compiler.is_dynamo_compiling() and _now.get() is not None


@contextlib.contextmanager
def recording() -> Iterator[Statistics]:
    """Record the measurements of one forward pass inside the block."""
    held = Statistics()
    token = _now.set(held)
    try:
        yield held
    finally:
        _now.reset(token)


@contextlib.contextmanager
def replaying(statistics: Statistics) -> Iterator[None]:
    """Replay `statistics` in one forward pass inside the block, in place of its own measurements."""
    token = _now.set(Statistics(statistics.values, replay=True))
    try:
        yield
    finally:
        _now.reset(token)


def settled() -> bool:
    """Whether recorded measurements go through a `Settle` function."""
    return _settle.get() is not None


@contextlib.contextmanager
def settling(settle: Settle) -> Iterator[None]:
    """Pass the measurements recorded inside the block through `settle`."""
    token = _settle.set(settle)
    try:
        yield
    finally:
        _settle.reset(token)
