"""Do the next one's work while the last one's is still going on: threads, in order, with a bound."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

__all__ = ["ahead", "overlapped"]

In = TypeVar("In")
Out = TypeVar("Out")
_END: Final[Any] = object()


def overlapped(
    work: Callable[[In], Out], items: Iterable[In], threads: int, *, prompt: bool = False
) -> Generator[Out, None, None]:
    """`work(item)` for each item, in order, done by threads while the caller is busy with the results before.

    At most `threads` + 1 items are under way or wait as results: memory stays what it is, however many there are.
    Where the caller stops, what has begun is finished, and the rest is dropped.

    Args:
        work: what to do; what it raises is raised where its result would be.
        items: taken one by one, in the caller's thread.
        threads: how many.
        prompt: give results as soon as they are there, rather than take more items first.

    Yields:
        The results.
    """
    source, waiting = iter(items), deque[Future[Out]]()
    pool = ThreadPoolExecutor(threads)

    def begin() -> bool:
        for item in source:
            waiting.append(pool.submit(work, item))
            return True
        return False

    more = True
    try:
        while more or waiting:
            while more and len(waiting) <= threads and not (prompt and waiting and waiting[0].done()):
                more = begin()
            if waiting:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(items: Iterable[Out]) -> Generator[Out, None, None]:
    """The same items, taken by one thread before they are asked for: one is under way, one waits."""
    source = iter(items)
    try:
        for item in overlapped(lambda _: next(source, _END), itertools.repeat(None), 1):
            if item is _END:
                return
            yield item
    finally:
        if isinstance(source, Generator):
            source.close()
