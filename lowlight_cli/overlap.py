"""Process items ahead in threads while the caller uses earlier results: in order, with a bounded queue."""

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
    work: Callable[[In], Out], items: Iterable[In], threads: int, *, prompt: bool = False, spare: int = 0
) -> Generator[Out, None, None]:
    """Yield `work(item)` for each item, in order, computed by threads while the caller handles earlier results.

    At most `threads` + `spare` items, besides the one that the caller has, are in progress or done, so memory is
    bounded. If the caller stops, work that has begun is finished and the rest is dropped.

    Args:
        work: called for each item; an exception is raised in place of its result.
        items: taken one by one, in the caller's thread.
        threads: number of threads.
        prompt: yield a finished result at once, before taking more items.
        spare: how many results may wait while the caller is busy.

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
            while more and len(waiting) <= threads + spare and not (prompt and waiting and waiting[0].done()):
                more = begin()
            if waiting:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(items: Iterable[Out], spare: int = 1) -> Generator[Out, None, None]:
    """Yield the same items, prefetched by a thread: one in progress, and `spare` waiting."""
    source = iter(items)
    try:
        for item in overlapped(lambda _: next(source, _END), itertools.repeat(None), 1, spare=spare):
            if item is _END:
                return
            yield item
    finally:
        if isinstance(source, Generator):
            source.close()
