"""Work done ahead by a thread: what comes before and after goes on meanwhile, with a bound on what waits."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Final, TypeVar

__all__ = ["ahead"]

Item = TypeVar("Item")
_END: Final = object()


def ahead(items: Iterable[Item], waiting: int = 2) -> Generator[Item, None, None]:
    """The same items, taken by a thread of its own before they are asked for.

    Where the caller stops, the thread ends with the item that it has begun. What is raised there is raised here.

    Args:
        items: all their work is done in the thread.
        waiting: how many items wait at most.
    """
    line: queue.Queue[object] = queue.Queue(waiting)
    stopped = threading.Event()
    failed: list[BaseException] = []

    def put(item: object) -> None:
        while not stopped.is_set():
            try:
                line.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    break
        except BaseException as error:  # handed over, whatever it is
            failed.append(error)
        finally:
            put(_END)

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while (item := line.get()) is not _END:
            yield item  # type: ignore[misc]
        if failed:
            raise failed[0]
    finally:
        stopped.set()
        thread.join()
        close = getattr(items, "close", None)
        if close:
            close()
