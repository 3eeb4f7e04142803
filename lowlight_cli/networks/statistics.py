"""What a network measures over a whole picture, taken once and replayed in every tile of it, or settled over frames.

Pooled means, norms and the exposure gain would differ from tile to tile and show as seams. While `recording`, `whole`
keeps what each place in a forward pass measured; while `replaying`, it gives that back. The order of a forward pass is
always the same, so the order is the only name that is needed. Each thread has its own.

In a clip the same measurements differ a little from frame to frame, which shows as flicker. While `settling`, what is
recorded is first handed to a function that knows the frames before, and what that gives back is used.
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
"""What to use in place of a measurement: its position in the forward pass and its value, to a value of that shape."""


@dataclass
class Statistics:
    """Measurements of one picture in the order of a forward pass; `position` is how far a replay has come."""

    values: list[Tensor] = field(default_factory=list)
    replay: bool = False
    position: int = 0


_now: ContextVar[Statistics | None] = ContextVar("statistics", default=None)
_settle: ContextVar[Settle | None] = ContextVar("settle", default=None)


def whole(measure: Callable[[], Tensor]) -> Tensor:
    """What `measure` says of the whole picture: measured here, or replayed where this is a tile."""
    if torch.compiler.is_dynamo_compiling():  # a step of training, where nothing is recorded
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
    """One forward pass inside the block fills the statistics."""
    held = Statistics()
    token = _now.set(held)
    try:
        yield held
    finally:
        _now.reset(token)


@contextlib.contextmanager
def replaying(statistics: Statistics) -> Iterator[None]:
    """One forward pass inside the block uses the statistics in place of its own."""
    token = _now.set(Statistics(statistics.values, replay=True))
    try:
        yield
    finally:
        _now.reset(token)


def settled() -> bool:
    """Whether what is recorded is settled."""
    return _settle.get() is not None


@contextlib.contextmanager
def settling(settle: Settle) -> Iterator[None]:
    """What is recorded inside the block goes through `settle`."""
    token = _settle.set(settle)
    try:
        yield
    finally:
        _settle.reset(token)
