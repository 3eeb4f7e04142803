"""Work done ahead: how much of it, and that it ends with whoever asked for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from lowlight_cli.overlap import ahead, overlapped


def counted(given: list[int], closed: threading.Event | None = None) -> Iterator[int]:
    try:
        for number in range(20):
            given.append(number)
            yield number
    finally:
        if closed:
            closed.set()


def settled(given: list[int]) -> int:
    """How many have been given, once no more are."""
    before = -1
    while before != len(given):
        before = len(given)
        time.sleep(0.05)
    return before


def test_two_are_ready_while_the_caller_has_one() -> None:
    given: list[int] = []
    items = ahead(counted(given))
    assert next(items) == 0
    assert settled(given) in (2, 3)
    assert list(items) == list(range(1, 20))


@pytest.mark.parametrize(("threads", "spare"), [(1, 0), (3, 0), (2, 2)])
def test_there_is_a_bound(threads: int, spare: int) -> None:
    given: list[int] = []
    results = overlapped(lambda number: 2 * number, counted(given), threads, spare=spare)
    assert next(results) == 0
    assert settled(given) <= threads + spare + 1
    assert list(results) == list(range(2, 40, 2))


def test_a_caller_that_stops_ends_it() -> None:
    given: list[int] = []
    closed = threading.Event()
    items = ahead(counted(given, closed))
    next(items)
    items.close()
    assert closed.wait(5) and len(given) < 20


def test_an_error_comes_where_its_item_would() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError):
        next(items)
