"""A cache for intermediate results that several metrics share; it lives only inside a `sharing` block."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, TypeVarTuple

from numpy.typing import NDArray

__all__ = ["once", "sharing"]

T = TypeVar("T")
Pictures = TypeVarTuple("Pictures")

Held = dict[tuple[object, ...], tuple[tuple[object, ...], Any]]
"""Key to the arrays and the result. Keys contain array ids; keeping the arrays alive stops their ids being reused."""

_held: ContextVar[Held | None] = ContextVar("held", default=None)


def once(function: Callable[[*Pictures], T]) -> Callable[[*Pictures], T]:
    """Make a pure function of pictures compute only once for the same arrays inside a `sharing` block."""

    @functools.wraps(function)
    def asked(*pictures: *Pictures) -> T:
        held = _held.get()
        if held is None:
            return function(*pictures)
        key = (function, *map(id, pictures))
        if key not in held:
            held[key] = pictures, function(*pictures)
        found: T = held[key][1]
        return found

    return asked


@contextmanager
def sharing(reference: NDArray[Any]) -> Iterator[Callable[[], None]]:
    """Cache the results of functions marked `once` inside the block; no array may be modified meanwhile.

    Args:
        reference: the picture that many results are compared with.

    Yields:
        A function to call after each result: it drops everything except what depends on `reference` alone.

    Example:
        >>> @once
        ... def mean(picture):
        ...     print("asked")
        ...     return float(picture.mean())
        >>> import numpy as np
        >>> picture = np.ones((4, 4, 3))
        >>> with sharing(picture):
        ...     mean(picture) + mean(picture)
        asked
        2.0
    """
    held: Held = {}

    def forget() -> None:
        for key in [key for key, (pictures, _) in held.items() if any(each is not reference for each in pictures)]:
            del held[key]

    token = _held.set(held)
    try:
        yield forget
    finally:
        _held.reset(token)
