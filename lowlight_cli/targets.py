"""Plan the outputs: turn inputs and `-o` into (source, target) pairs before any work. No file is opened here.

    photo.jpg                 photo_lit.jpg
    photo.jpg  -o out.png     out.png
    photo.jpg  -o out/        out/photo.jpg          also without the slash, where out is a folder or has no suffix
    holiday/                  holiday_lit/...        the tree mirrored
    holiday/   -o out         out/...
    a.jpg b/   -o out         out/a.jpg, out/b/...
    -                         -                      a picture's bytes from stdin to stdout

A target that is also an input, or that two inputs share, is refused, so that a typing mistake destroys no file.
With `--exist skip`, results may be among the inputs, as in a second run over *.jpg: they are skipped.
A file that appears at a target while its picture is being made is not lost either; see `landed`.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import stat
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from lowlight_cli.errors import InputError, OutputError, UsageError

__all__ = [
    "EXIST", "PIPE", "Job", "Search", "exists", "is_dir", "landed", "landing", "lit_folder", "occupied", "plan", "same",
]  # fmt: skip

PIPE: Final = Path("-")
"""As a source stdin, as a target stdout."""

EXIST: Final = ("error", "skip", "overwrite", "number")
"""What to do if a target already exists."""

_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""How an address begins once it is a path, which holds no two slashes in a row; the letter of a drive is one alone."""


Search = Callable[[Path, Collection[str], Path], Iterator[Path]]
"""Finds the pictures in a folder. Takes the folder, the suffixes of pictures, and a folder to leave out."""


@dataclass(frozen=True)
class Job:
    """One picture to make.

    Attributes:
        source: the file to read, or `PIPE`.
        target: the file to write, or `PIPE`.
        skip: leave the existing target in place; if it equals the source, the source is the result of another input.
        error: why this job cannot be done, if that is known already: the input is missing, the target exists, or the
            target collides with another input or target (`plan` with `apart`).
        exist: one of `EXIST`: what to do if the target exists by the time that the result is written.
        wanted: the target without the number that was added to its name; None if none was added.
    """

    source: Path
    target: Path
    skip: bool = False
    error: InputError | OutputError | UsageError | None = None
    exist: str = "error"
    wanted: Path | None = None

    @property
    def anew(self) -> bool:
        """Whether the target must be a new file, so that an existing one is not replaced."""
        return self.exist != "overwrite"


def landed(job: Job, put: Callable[[Job], None]) -> Job:
    """Write a result to its target; if a file has appeared there since the plan was made, do what `job.exist` says.

    Args:
        job: the job as planned.
        put: writes the result to a job's target; raises FileExistsError if the job is `anew` and the target exists.

    Returns:
        The job as it was done, perhaps with another number in its target or skipped.

    Raises:
        OutputError: the target exists and `exist` is `error`, or it is a folder.
    """
    while not job.skip:
        try:
            put(job)
            break
        except FileExistsError:
            wanted = job.wanted or job.target
            target, skip, error = landing(wanted, job.exist, set())
            if error:
                raise error from None
            job = replace(job, target=target, skip=skip, wanted=wanted)
    return job


def plan(
    inputs: Sequence[Path],
    output: Path | str | None,
    *,
    formats: Mapping[str, str],
    become: Mapping[str, str] = MappingProxyType({}),
    suffix: str | None = None,
    exist: str = "error",
    search: Search | None = None,
    apart: bool = False,
) -> list[Job]:
    """Decide every target.

    Args:
        inputs: files, folders, or `PIPE`.
        output: the value of `-o`; text that ends in a slash means a folder; None writes beside the inputs.
        formats: maps suffixes (lower case, with the dot) to formats; the suffixes to search for and to write.
        become: maps suffixes that are read but not written to the suffix in `formats` that their targets get.
        suffix: write the format of this suffix of `formats`; None keeps the format of each input.
        exist: one of `EXIST`.
        search: finds the pictures in a folder; None if folders are not allowed as inputs.
        apart: put the error of a colliding target into the jobs concerned, and plan the others, instead of raising it.

    Raises:
        UsageError: the inputs and the output do not fit together, or targets collide and `apart` is false.
        InputError: a folder holds no picture, or cannot be read.
    """
    if not inputs:
        raise UsageError("nothing to do: name a picture, a folder, or - for stdin")
    folder = isinstance(output, str) and output.endswith(("/", os.sep))
    output = None if output is None else Path(output)
    wish = _Wish(output, folder, len(inputs), formats, become, suffix, search)
    pairs = [pair for each in inputs for pair in _pairs(each, wish)]
    if exist == "skip":
        results = _results(pairs)
        pairs = [(source, source if _key(source) in results else target) for source, target in pairs]
    else:
        results = set()
    collisions = _collisions(pairs, results)
    if collisions and not apart:
        raise next(iter(collisions.values()))
    taken = {_key(target) for _, target in pairs}
    return [
        Job(source, target, error=collisions[at]) if at in collisions else _settle(source, target, exist, taken)
        for at, (source, target) in enumerate(pairs)
    ]


@dataclass(frozen=True)
class _Wish:
    """The arguments of `plan` that hold for all inputs; `inputs` is their number."""

    output: Path | None
    folder: bool
    inputs: int
    formats: Mapping[str, str]
    become: Mapping[str, str]
    suffix: str | None
    search: Search | None

    def named(self, path: Path) -> Path:
        """Return `path` with a suffix of the wanted format; it is unchanged if its own suffix is of that format."""
        own = path.suffix.lower()
        suffix = self.suffix or self.become.get(own)
        if suffix is None or self.formats.get(own) == self.formats[suffix]:
            return path
        return path.with_suffix(suffix)

    @property
    def searched(self) -> Collection[str]:
        """The suffixes to search folders for."""
        return {*self.formats, *self.become}

    @property
    def told(self) -> str:
        """`searched` as text for messages; the many suffixes in `become` are just called HEIC and RAW."""
        return ", ".join([*sorted(self.formats), *(["HEIC and RAW"] if self.become else [])])

    def is_picture(self, output: Path) -> bool:
        """Whether `-o` names a single picture."""
        return output.suffix.lower() in self.formats and not self.is_folder(output)

    def is_folder(self, output: Path) -> bool:
        """Whether `-o` is an existing folder or was given with a trailing slash."""
        return self.folder or is_dir(output)


def _pairs(source: Path, wish: _Wish) -> Iterator[tuple[Path, Path]]:
    """Yield the (source, target) pairs of one input."""
    output, alone = wish.output, wish.inputs == 1
    if source == PIPE or output == PIPE:
        yield _piped(source, wish)
    elif is_dir(source):
        if output is not None and wish.is_picture(output):
            raise UsageError(f"{source} is a folder, but -o {output} names one picture: name a folder")
        if wish.search is None:
            raise UsageError(f"{source} is a folder: name a file")
        root = lit_folder(source) if output is None else output if alone else output / source.resolve().name
        found = False
        for file in wish.search(source, wish.searched, root):
            found = True
            yield file, root / wish.named(file.relative_to(source))
        if not found:
            raise InputError(f"no picture in folder {source}: looked for {wish.told}")
    elif output is None:
        yield source, wish.named(source.with_name(f"{source.stem}_lit{source.suffix}"))
    elif alone and output.suffix and not wish.is_folder(output):
        yield source, _checked(output, wish)
    elif wish.is_picture(output):
        raise UsageError(f"there are {wish.inputs} inputs, but -o {output} names one picture: name a folder")
    else:
        yield source, output / wish.named(Path(source.name))


def _piped(source: Path, wish: _Wish) -> tuple[Path, Path]:
    """Return the pair of an input that uses stdin, stdout or both."""
    output = wish.output
    if wish.inputs > 1:
        raise UsageError("- is one picture: give it as the only input and the only output")
    if output is None or output == PIPE:
        if source != PIPE and is_dir(source):
            raise UsageError(f"{source} is a folder and stdout takes one picture: name a folder with -o")
        return source, PIPE
    if wish.is_folder(output) or not output.suffix:
        raise UsageError(f"a picture from stdin has no name: give a file name with -o, such as {output / 'photo.png'}")
    return source, _checked(output, wish)


def _checked(output: Path, wish: _Wish) -> Path:
    """Check the suffix of an output file, and return the file.

    Raises:
        UsageError: no format has the suffix, or it contradicts the format that was asked for.
    """
    own = output.suffix.lower()
    if own not in wish.formats:
        near = difflib.get_close_matches(own, sorted(wish.formats), n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(wish.formats))}"
        raise UsageError(f"cannot write {output}: no format has the suffix {own!r}; {hint}")
    if wish.named(output) != output:
        raise UsageError(
            f"-o {output} and the format {wish.formats[wish.suffix or own]} contradict each other: leave one out"
        )
    return output


def lit_folder(folder: Path) -> Path:
    """Return FOLDER_lit beside FOLDER, with the path as the user wrote it; `.` and `..` are resolved first."""
    if folder.name and folder.name != "..":
        return folder.with_name(f"{folder.name}_lit")
    there = folder.resolve()
    if not there.name:
        raise UsageError(f"{there} has no folder beside it: name one with -o")
    return there.with_name(f"{there.name}_lit")


def _results(pairs: Sequence[tuple[Path, Path]]) -> set[str]:
    """Return the keys of inputs that are the target of another input."""
    sources = {_key(source) for source, _ in pairs if exists(source)}
    keys = ((_key(source), _key(target)) for source, target in pairs if target != PIPE)
    return {target for source, target in keys if target in sources and target != source}


def _collisions(pairs: Sequence[tuple[Path, Path]], stay: Collection[str]) -> dict[int, UsageError]:
    """Map the index of each pair whose target is an input, or the target of another pair, to its error.

    Inputs whose keys are in `stay` will not be replaced, so they do not collide.
    """
    sources = {_key(source) for source, _ in pairs if source != PIPE}
    claimed: dict[str, int] = {}
    found: dict[int, UsageError] = {}
    for at, (source, target) in enumerate(pairs):
        if target == PIPE:
            continue
        key = _key(target)
        if key in stay and source == target:
            continue
        if key in sources and key not in stay:
            whose = "its own input" if key == _key(source) else f"also an input, and {source} would replace it"
            found[at] = UsageError(f"output {target} is {whose}: give another name or folder with -o")
        elif (first := claimed.setdefault(key, at)) != at:
            found.setdefault(first, _shared(pairs[first][0], source, target))
            found[at] = _shared(source, pairs[first][0], target)
    return found


def _shared(one: Path, other: Path, target: Path) -> UsageError:
    return UsageError(f"{one} and {other} would both become {target}: enhance them apart, with -o")


def same(one: Path, other: Path) -> bool:
    """Whether two paths name the same file or folder, which need not exist."""
    return _key(one) == _key(other)


def _key(path: Path) -> str:
    """Return a key that all names of a file share: device and inode if it exists, else the path with links resolved."""
    if (status := _status(path)) is None:
        resolved = os.path.normcase(os.path.realpath(path))
        return resolved.casefold() if sys.platform == "darwin" else resolved
    return f"{status.st_dev}:{status.st_ino}"


def _status(path: Path) -> os.stat_result | None:
    """Return the `stat` of a file, following links; None if that fails."""
    try:
        return path.stat()
    except OSError:
        return None


def exists(path: Path) -> bool:
    """Whether a file or folder exists. One that cannot be accessed counts as missing and raises nothing."""
    return _status(path) is not None


def occupied(path: Path) -> bool:
    """Like `exists`, but true for a dangling link too, as its destination may only be unmounted for now."""
    return os.path.lexists(path)


def is_dir(path: Path) -> bool:
    """Whether the path is a folder or a link to one. Raises nothing, like `exists`."""
    status = _status(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _settle(source: Path, target: Path, exist: str, taken: set[str]) -> Job:
    """Make the job of one pair, considering which files exist."""
    if source != PIPE and not exists(source):
        return Job(source, target, error=InputError(_why_not(source)))
    if target == PIPE:
        return Job(source, target)
    there, skip, error = landing(target, exist, taken)
    return Job(source, there, skip, error, exist, None if there == target else target)


def _why_not(source: Path) -> str:
    """Return the message for an input that was not found."""
    try:
        source.stat()
    except PermissionError as error:
        return f"{source}: cannot be read ({error.strerror}); check the permissions of its folder"
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return f"{source}: {error.strerror}; check its spelling"
    if _ADDRESS.match(source.as_posix()):
        address = source.as_posix().replace(":/", "://", 1)
        return f"{address} is an address: `lowlight video` takes those of clips; fetch a picture first"
    return f"{source}: no such file or folder"


def landing(target: Path, exist: str, taken: set[str]) -> tuple[Path, bool, OutputError | None]:
    """Decide where a result goes, considering which files exist.

    Args:
        target: the wanted file.
        exist: one of `EXIST`.
        taken: keys (see `_key`) of the files that other jobs will write; the key of a numbered name is added.

    Returns:
        `target`, `skip` and `error`, as in `Job`.
    """
    if not occupied(target):
        return target, False, None
    if is_dir(target):
        return target, False, OutputError(f"{target} is a folder: give another name with -o")
    if exist == "number":
        return _numbered(target, taken), False, None
    if exist in ("skip", "overwrite"):
        return target, exist == "skip", None
    found = "exists" if exists(target) else "is a link to nothing"
    return target, False, OutputError(f"{target} {found}: choose --exist skip, overwrite or number")


def _numbered(target: Path, taken: set[str]) -> Path:
    """Return the first free name of photo_lit_2.jpg, photo_lit_3.jpg, ..."""
    number = 2
    while True:
        candidate = target.with_name(f"{target.stem}_{number}{target.suffix}")
        if not occupied(candidate) and _key(candidate) not in taken:
            taken.add(_key(candidate))
            return candidate
        number += 1
