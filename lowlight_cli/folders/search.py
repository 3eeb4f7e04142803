"""Choose files of a folder by globs over their paths below it; links to folders are followed, each folder seen once.

    *.jpg        any file of that name, at any depth
    raw          a file or a folder of that name, at any depth, and all that is in it
    2024/*/raw   from the top: 2024/may/raw and all that is in it
    2024/**/x    `**` is any number of folders

Case is ignored, because cameras write IMG_1.JPG. So is how accents are encoded: macOS writes é as e and an accent.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from stat import S_ISREG
from unicodedata import normalize

from lowlight_cli.errors import InputError
from lowlight_cli.targets import Search, same

__all__ = ["chosen", "matches"]


def chosen(
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    on_unreadable: Callable[[str], None] | None = None,
    on_other: Callable[[Path], None] | None = None,
) -> Search:
    """Make a search for `targets.plan` that finds what matches `include`, if given, and nothing of `exclude`.

    Hidden files and folders are left out. Links to folders are followed after all real folders, except to a folder that
    was seen or to one that contains the searched folder: loops end, and nothing is found twice.

    Args:
        include: globs, of which one must match; all files match if there are none.
        exclude: globs, of which none may match.
        on_unreadable: called with one line, once for each folder that cannot be read, however often the search runs;
            the folder is left out. None ends the search with an `InputError`.
        on_other: called with each file that is left out because its suffix is not a picture's.
    """
    told: set[str] = set()

    def unreadable(error: OSError) -> None:
        found = f"folder {error.filename} cannot be read ({error.strerror})"
        if on_unreadable is None:
            raise InputError(f"{found}: `lowlight batch --exclude` leaves it out") from error
        if error.filename not in told:
            told.add(error.filename)
            on_unreadable(f"{found}: it is left out until it can be")

    def search(folder: Path, suffixes: Collection[str], skip: Path) -> Iterator[Path]:
        found = taken = 0
        for path in _walk(folder, exclude, skip, unreadable):
            if path.suffix.lower() not in suffixes:
                if on_other is not None:
                    on_other(path)
                continue
            found += 1
            if not include or _any(include, path.relative_to(folder)):
                taken += 1
                yield path
        if found and not taken:
            raise InputError(
                f"no picture in folder {folder} fits --include {' '.join(include)}; {found} others are there"
            )

    return search


def matches(pattern: str, path: Path) -> bool:
    """Whether a glob, in the syntax of this module, matches `path`, which is relative, or a folder that contains it.

    >>> matches("*.jpg", Path("may/A.JPG")), matches("may", Path("may/a.png")), matches("may/*.jpg", Path("a.jpg"))
    (True, True, False)
    >>> matches("**/raw/*", Path("a/raw/c.png")), matches("b/", Path("a/b/c.png")), matches("./b", Path("a/b/c.png"))
    (True, True, False)
    """
    wanted = [part for part in _folded(pattern).replace("\\", "/").split("/") if part not in ("", ".")]
    anywhere = len(wanted) == 1 and not pattern.startswith(("/", "./"))
    return _fits(["**", *wanted] if anywhere else wanted, [_folded(part) for part in path.parts])


def _folded(text: str) -> str:
    """Normalised so that names that look alike are equal: lower case, and accents composed with their letters."""
    return normalize("NFC", text.casefold())


def _fits(wanted: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether `wanted` matches the beginning of `parts`."""
    if not wanted:
        return True
    if wanted[0] == "**":
        return any(_fits(wanted[1:], parts[skipped:]) for skipped in range(len(parts)))
    return bool(parts) and fnmatchcase(parts[0], wanted[0]) and _fits(wanted[1:], parts[1:])


def _any(patterns: Sequence[str], path: Path) -> bool:
    return any(matches(pattern, path) for pattern in patterns)


def _walk(folder: Path, exclude: Sequence[str], skip: Path, unreadable: Callable[[OSError], None]) -> Iterator[Path]:
    """The files below `folder` that are not excluded, sorted within each folder; links to folders come last."""
    root = folder.resolve()
    above = {root, *root.parents}
    seen: set[Path] = set()
    waiting = deque([folder])
    while waiting:
        start = waiting.popleft()
        for name, folders, files in os.walk(start, onerror=unreadable):
            where = Path(name)
            real = where.resolve()
            if real in seen or (where != folder and (real in above or same(where, skip))):
                folders.clear()
                continue
            seen.add(real)
            kept = [f for f in sorted(folders) if _wanted(where / f, folder, exclude)]
            waiting.extend(where / f for f in kept if (where / f).is_symlink())
            folders[:] = [f for f in kept if not (where / f).is_symlink()]
            yield from (where / f for f in sorted(files) if _wanted(where / f, folder, exclude) and _is_data(where / f))


def _wanted(path: Path, folder: Path, exclude: Sequence[str]) -> bool:
    return not path.name.startswith(".") and not _any(exclude, path.relative_to(folder))


def _is_data(path: Path) -> bool:
    """Whether the file can be read to an end, unlike pipes and devices; a missing one counts, and is reported later."""
    try:
        return S_ISREG(path.stat().st_mode)
    except OSError:
        return True
