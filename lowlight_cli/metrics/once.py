"""What metrics compute of the same pictures, computed once: while a measurement goes on that says so, and no longer."""

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
"""What was computed, with the pictures it is of: kept beside it, so that nothing else can get their place in memory."""

_held: ContextVar[Held | None] = ContextVar("held", default=None)


def once(function: Callable[[*Pictures], T]) -> Callable[[*Pictures], T]:
    """A pure function of pictures that, while somebody is `sharing`, is asked once of the same arrays."""

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
    """Inside, metrics compute what is marked `once` only once of each array; nobody may write into one meanwhile.

    Args:
        reference: what many results are compared with.

    Yields:
        A function that forgets everything but what is of `reference` alone: to be called after each result.

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
