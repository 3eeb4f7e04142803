"""Watch a folder for pictures: each is reported when it is complete, and again when it was replaced.

The folder is polled, because network shares and many containers do not send file system events.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from lowlight_cli.errors import InputError
from lowlight_cli.targets import Search

__all__ = ["EVERY", "arrivals", "there"]

EVERY: Final = 2.0
"""Seconds between two polls. A file that has not changed from one to the next counts as complete."""

SHARE: Final = 10
"""A poll that finds nothing is followed by a pause this many times as long: large trees are not read all the time."""


def there(folder: Path, search: Search, suffixes: Collection[str], skip: Path) -> list[Path]:
    """The pictures that exist now, complete or not; the arguments are those of `arrivals`."""
    return [path for path, _ in _look(folder, search, suffixes, skip)]


def arrivals(folder: Path, search: Search, suffixes: Collection[str], skip: Path) -> Iterator[Search]:
    """Wait for pictures, forever.

    Args:
        folder: where to look.
        search: finds the pictures; it must leave out unreadable folders, since an error would hide what comes after.
        suffixes: of pictures, for `search`.
        skip: a folder to leave out, for `search`.

    Yields:
        A search, to use in place of `search`, for the pictures that have become complete since the last time.
    """
    before: dict[Path, tuple[int, int]] = {}
    given: dict[Path, tuple[int, int]] = {}
    while True:
        start = time.monotonic()
        now = dict(_look(folder, search, suffixes, skip))
        ripe = [path for path, mark in now.items() if mark[0] and before.get(path) == mark != given.get(path)]
        given = {path: mark for path, mark in given.items() if path in now} | {path: now[path] for path in ripe}
        before = now
        if ripe:
            yield _only(ripe)
        time.sleep(max(EVERY, SHARE * (time.monotonic() - start)) if not ripe else EVERY)


def _look(
    folder: Path, search: Search, suffixes: Collection[str], skip: Path
) -> Iterator[tuple[Path, tuple[int, int]]]:
    """The pictures that exist now, each with its size and modification time, which change while it is written."""
    try:
        for path in search(folder, suffixes, skip):
            try:
                status = path.stat()
            except OSError:  # gone again, or a link to nothing
                continue
            yield path, (status.st_size, status.st_mtime_ns)
    except InputError:  # no picture matches yet
        return


def _only(paths: Collection[Path]) -> Search:
    return lambda *_: iter(paths)
