"""Image sequences: numbered pictures in one folder, named `frames/%05d.png` as FFmpeg and renderers do."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from lowlight_cli.errors import InputError
from lowlight_cli.targets import same

__all__ = ["Pattern", "gaps", "in_folder", "pattern"]

_PLACE = re.compile(r"%(0\d+)?d")
_NUMBERED = re.compile(r"(.*?)(\d+)(\.[^.]+)")


@dataclass(frozen=True)
class Pattern:
    """File names of an image sequence.

    Attributes:
        folder: where the pictures are.
        before: text before the number.
        digits: least number of digits, padded with zeros.
        after: text after the number, including the suffix.
    """

    folder: Path
    before: str
    digits: int
    after: str

    @property
    def name(self) -> str:
        """The pattern as the user writes it, without the folder: `%05d.png`."""
        return f"{self.before}%{f'0{self.digits}' if self.digits > 1 else ''}d{self.after}"

    @property
    def suffix(self) -> str:
        """Lower case, with the dot."""
        return Path(self.after).suffix.lower() or self.after.lower()

    @property
    def mark(self) -> Path:
        """The hidden file beside the pictures that records how far an interrupted run has come."""
        return self.folder / f".lowlight-{self.name}.json"

    def __str__(self) -> str:
        return str(self.folder / self.name)

    def path(self, number: int) -> Path:
        """The path of the picture with this number."""
        return self.folder / f"{self.before}{number:0{self.digits}d}{self.after}"

    def found(self) -> dict[int, Path]:
        """The pictures that exist, by number, in order; case is ignored if the file system ignores it.

        Raises:
            InputError: the folder cannot be read.
        """
        form = re.compile(re.escape(self.before) + r"(\d+)" + re.escape(self.after), re.IGNORECASE)
        there: dict[int, Path] = {}
        for path in _files(self.folder):
            if digits := form.fullmatch(path.name):
                number = int(digits[1])
                named = self.path(number)
                alike = named.name.casefold() == path.name.casefold()
                if named.name == path.name or (alike and number not in there and same(named, path)):
                    there[number] = path
        return dict(sorted(there.items()))


def pattern(path: Path) -> Pattern | None:
    """Parse a name such as `frames/%05d.png`; None unless it has exactly one place for a number."""
    places = list(_PLACE.finditer(path.name))
    if len(places) != 1:
        return None
    place = places[0]
    return Pattern(path.parent, path.name[: place.start()], int(place[1] or 1), path.name[place.end() :])


def in_folder(folder: Path, suffixes: Collection[str]) -> Pattern:
    """The one image sequence that a folder holds; subfolders and hidden files are ignored.

    Args:
        folder: where to look.
        suffixes: of pictures, lower case, with the dot.

    Raises:
        InputError: the folder holds no sequence, several, or pictures without a number.
    """
    rows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in _files(folder):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes:
            continue
        named = _NUMBERED.fullmatch(path.name)
        if not named:
            raise InputError(f"{path} has no number: name the frames alone, such as {folder / '%05d.png'}")
        rows[named[1], named[3]].append(named[2])
    if not rows:
        raise InputError(f"no frames in folder {folder}: wanted numbered pictures, such as {folder / '00001.png'}")
    made = [Pattern(folder, before, min(map(len, numbers)), after) for (before, after), numbers in rows.items()]
    if len(made) > 1:
        names = " and ".join(each.name for each in made[:2])
        raise InputError(f"{folder} holds {len(made)} rows of frames, {names}: name one, such as {made[0]}")
    return made[0]


def gaps(numbers: Collection[int], row: Pattern) -> list[str]:
    """Names of the missing pictures between the first and the last: `00003.png` or `00003.png to 00007.png`."""
    return [
        row.path(one + 1).name + (f" to {row.path(other - 1).name}" if other - one > 2 else "")
        for one, other in itertools.pairwise(sorted(numbers))
        if other - one > 1
    ]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except FileNotFoundError as error:
        raise InputError(f"{folder}: no such folder") from error
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror or error})") from error
