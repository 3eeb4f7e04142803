"""Darken a folder of well-lit photographs into a folder of dark pictures, optionally with their references.

    OUT/low/NAME.png          the dark pictures
    OUT/high/NAME.png         their references, if pairs are requested
    OUT/manifest.jsonl        a line for each dark picture: its source, seed and parameters

A result depends only on the photograph's content and name, the wish with its seed, and the weights and nights of
`learnt`: more files, fewer files or another order change nothing, and any part can be made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli.disk import appended, replaced
from lowlight_cli.errors import InputError, LowlightError, OutputError, UsageError
from lowlight_cli.pictures import FORMATS, Photo, read, suffix_of, write
from lowlight_cli.targets import occupied
from lowlight_cli.training.darken import Darkened, darkened
from lowlight_cli.training.decoded import eight_bits

__all__ = ["MANIFEST", "METHODS", "SCHEMA", "Made", "Wish", "synthesise"]

Bytes = NDArray[np.uint8]

Darken = Callable[[Bytes, np.random.Generator, tuple[float, float] | None], Darkened]
"""Maps (picture, random, strength) to a dark picture and its reference."""

METHODS: Final = ("physical", "drgn", "dgaf")

MANIFEST: Final = "manifest.jsonl"
SCHEMA: Final = "lowlight-darken-2"
"""The `schema` of the manifest's lines; it changes when the same seed gives another picture."""


@dataclass(frozen=True)
class Wish:
    """What to make of each photograph.

    Attributes:
        method: one of `METHODS`.
        seed: seed of all random choices.
        strength: smallest and largest share of light to keep, above 0 and up to 1; None for the method's default.
        pairs: whether to write references too.
        per_picture: how many dark pictures to make from each photograph.
        side: reduce photographs to at most this many pixels on the longer side; None keeps their size.
        format: file format; a lossy one adds its own artefacts to the pictures.
        weights: weights of a learnt method, as for `learnt.load`.
        like: the folder of dark photographs that `drgn` takes its degradation from.

    Raises:
        UsageError: unknown method or format, a number out of range, or an option that the method does not use.
    """

    method: str = "physical"
    seed: int = 0
    strength: tuple[float, float] | None = None
    pairs: bool = False
    per_picture: int = 1
    side: int | None = None
    format: str = "png"
    weights: str | None = None
    like: Path | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"unknown method {self.method!r}: there is {', '.join(METHODS)}")
        if self.strength and not 0 < self.strength[0] <= self.strength[1] <= 1:
            low, high = self.strength
            raise UsageError(f"strength {low:g},{high:g} is out of range; choose LOW,HIGH with 0 < LOW <= HIGH <= 1")
        if self.seed < 0 or self.per_picture < 1 or (self.side is not None and self.side < 1):
            raise UsageError("a seed is at least 0, pictures a photograph and pixels a side are at least 1")
        if self.method == "physical" and (self.weights or self.like):
            raise UsageError("--method physical has neither --weights nor --like: they are for drgn and dgaf")
        suffix_of(self.format)


@dataclass(frozen=True)
class Made:
    """The outcome for one photograph.

    Attributes:
        path: the photograph.
        lines: lines for the manifest, one for each dark picture.
        error: why there are none.
        skipped: whether everything was there already.
    """

    path: Path
    lines: tuple[Mapping[str, Any], ...] = ()
    error: LowlightError | None = None
    skipped: bool = False


def synthesise(
    folder: Path,
    output: Path,
    wish: Wish,
    *,
    exist: str = "error",
    on_message: Callable[[str], None] | None = None,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> Generator[Made, None, None]:
    """Darken every photograph in a folder and its subfolders.

    The manifest keeps the lines of dark pictures that still exist and were not remade, even if the work ends early.

    Args:
        folder: the folder with the photographs.
        output: the folder for `low/`, `high/` and the manifest; created if missing.
        wish: what to make.
        exist: what to do about an existing manifest or picture: `error`; `skip` keeps pictures that would be made the
            same way and replaces others; `overwrite`.
        on_message: called with a line before weights are fetched.
        on_progress: called as bytes of weights arrive.

    Yields:
        The outcome for each photograph, sorted by name. One that cannot be read does not stop the others.

    Raises:
        InputError: no such folder, or no photograph in it.
        UsageError: two photographs would share a name, both folders are the same, or the method lacks an option.
        WeightsError: the weights of a learnt method are missing, damaged or for another method.
        OutputError: a manifest or picture exists and `exist` is `error`; or a file cannot be written.
        ResourceError: the disk is full.
    """
    photographs = _photographs(folder, output)
    darken: Darken = darkened
    about: dict[str, Any] = {"weights": None, "like": None}
    if wish.method != "physical":
        from lowlight_cli.training import learnt  # imports torch: a second that `physical` need not spend

        learned = learnt.load(wish.method, wish.weights, wish.like, on_message=on_message, on_progress=on_progress)
        darken, about = learned, {"weights": learned.weights, "like": learned.like}
    manifest = output / MANIFEST
    if exist == "error":
        planned = [_files(stem, number, wish) for stem in photographs for number in range(wish.per_picture)]
        for target in (manifest, *(output / name for files in planned for name in files if name)):
            if occupied(target):
                raise OutputError(f"{target} exists: choose --exist skip or overwrite, or another folder")
    before = {} if exist == "error" else _lines(manifest, strict=exist == "skip")
    try:
        for name in ("low", "high") if wish.pairs else ("low",):
            (output / name).mkdir(parents=True, exist_ok=True)
        file = appended(manifest)
        if not before:
            file.truncate(0)
    except OSError as error:
        raise OutputError(f"{output}: cannot be written to ({error.strerror}); choose another folder") from error
    going_on, made_now = bool(before), dict[str, Mapping[str, Any]]()
    try:
        with file:  # append as lines come, so that a kill loses none; of two for a picture the later counts
            file.write(b"\n" if going_on else b"")  # the last line may have been truncated
            for stem, path in photographs.items():
                name = path.relative_to(folder).as_posix()
                lines = [_planned(stem, name, number, wish) | about for number in range(wish.per_picture)]
                made = _darken(path, lines, output, wish, darken, before, replace=exist == "overwrite")
                for line in made.lines:
                    file.write(json.dumps(line).encode() + b"\n")
                    made_now[line["low"]] = line
                file.flush()
                yield made
    finally:
        if going_on:
            left = {low: line for low, line in before.items() if (output / low).is_file()}
            with replaced(manifest) as part:
                whole = (made_now | {low: line for low, line in left.items() if low not in made_now}).values()
                part.write_text("".join(json.dumps(line) + "\n" for line in whole), encoding="utf-8")


def _darken(
    path: Path,
    planned: list[dict[str, Any]],
    output: Path,
    wish: Wish,
    darken: Darken,
    before: dict[str, Mapping[str, Any]],
    replace: bool,
) -> Made:
    """Make all dark pictures of one photograph, each with its own seed; removes replaced lines from `before`."""
    try:
        data = path.read_bytes()
        content = hashlib.sha256(data).hexdigest()
        planned = [line | {"sha256": content} for line in planned]
        kept = [before.get(line["low"], {}) for line in planned]
        if not replace and all(
            line.items() <= old.items()
            and all((output / line[kind]).is_file() for kind in ("low", "high") if line[kind])
            for line, old in zip(planned, kept, strict=True)
        ):
            return Made(path, tuple(kept), skipped=True)
        picture = _reduced(read(data, name=str(path)), wish.side)
    except OSError as error:
        return Made(path, error=InputError(f"{path}: cannot be read ({error.strerror})"))
    except LowlightError as error:
        return Made(path, error=error)
    lines = []
    for line in planned:
        try:
            pair = darken(picture, _random(wish.seed, line["input"], line["number"]), wish.strength)
        except LowlightError as error:
            return Made(path, error=error)
        before.pop(line["low"], None)
        _write(output / line["low"], pair.low, wish.format)
        if line["high"]:
            _write(output / line["high"], pair.high, wish.format)
        height, width = pair.low.shape[:2]
        lines.append(line | {"width": width, "height": height, "parameters": pair.parameters})
    return Made(path, tuple(lines))


def _files(stem: str, number: int, wish: Wish) -> tuple[str, str | None]:
    """Return the paths of a dark picture and its reference, relative to the output folder."""
    file = f"{stem}{'' if wish.per_picture == 1 else f'_{number + 1}'}{suffix_of(wish.format)}"
    return f"low/{file}", f"high/{file}" if wish.pairs else None


def _planned(stem: str, name: str, number: int, wish: Wish) -> dict[str, Any]:
    """Return the part of a manifest line that is known before the photograph is read."""
    low, high = _files(stem, number, wish)
    return {
        "schema": SCHEMA,
        "input": name,
        "sha256": None,
        "low": low,
        "high": high,
        "method": wish.method,
        "seed": wish.seed,
        "number": number,
        "strength": list(wish.strength) if wish.strength else None,
        "side": wish.side,
    }


def _random(seed: int, name: str, number: int) -> np.random.Generator:
    """Return the random generator for one dark picture."""
    digest = hashlib.sha256(f"{seed}\0{number}\0{name}".encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def _photographs(folder: Path, output: Path) -> dict[str, Path]:
    """List the photographs below `folder` by the stem of their results, sorted, without `output` and hidden ones."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name one with well-lit photographs")
    avoid = output.resolve()
    if folder.resolve() == avoid:
        raise UsageError(f"{output} is the folder of the photographs: give another one with -o")
    found: dict[str, Path] = {}
    for where, folders, files in os.walk(folder, onerror=_refuse):
        here = Path(where)
        folders[:] = [each for each in folders if not each.startswith(".") and (here / each).resolve() != avoid]
        for each in files:
            path = here / each
            if each.startswith(".") or path.suffix.lower() not in FORMATS:
                continue
            stem = "_".join(path.relative_to(folder).with_suffix("").parts)
            if stem in found:
                raise UsageError(f"{found[stem]} and {path} would share the name {stem}: rename one of them")
            found[stem] = path
    if not found:
        raise InputError(f"no picture in folder {folder}: looked for {', '.join(sorted(FORMATS))}")
    return dict(sorted(found.items()))


def _refuse(error: OSError) -> NoReturn:
    raise InputError(f"folder {error.filename} cannot be read ({error.strerror}): change its rights") from error


def _reduced(photo: Photo, side: int | None) -> Bytes:
    """Convert to (H, W, 3) uint8, reduced to at most `side` pixels on the longer side."""
    pixels = photo.pixels
    longest = max(photo.height, photo.width)
    if side is not None and longest > side:
        size = [max(1, math.floor(length * side / longest + 0.5)) for length in (photo.width, photo.height)]
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.float32)
    return eight_bits(pixels)


def _write(target: Path, picture: Bytes, format: str) -> None:
    write(target, Photo(np.divide(picture, np.float32(255), dtype=np.float32), name=target.name), format=format)


def _lines(manifest: Path, strict: bool) -> dict[str, Mapping[str, Any]]:
    """Return a manifest's lines by dark picture; truncated lines are ignored.

    Raises:
        InputError: it cannot be read and `strict` is set.
    """
    lines: dict[str, Mapping[str, Any]] = {}
    try:
        text = manifest.read_text("utf-8")
    except FileNotFoundError:
        return lines
    except (OSError, ValueError) as error:
        if strict:
            raise InputError(f"{manifest}: cannot be read ({error}); choose --exist overwrite") from error
        return lines
    for each in text.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            line = json.loads(each)
            lines[str(line["low"])] = line
    return lines
