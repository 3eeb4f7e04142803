"""The methods to measure: networks with their weights, classical baselines, folders with another program's results."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.bench.baselines import BASELINES
from lowlight_cli.bench.sets import DataSet, Pair, results
from lowlight_cli.errors import InputError, UsageError
from lowlight_cli.look import EDITION
from lowlight_cli.networks import descriptor
from lowlight_cli.pictures import read
from lowlight_cli.weights.catalog import Checkpoint, catalog, named

if TYPE_CHECKING:
    from lowlight_cli.enhancer import Enhancer

__all__ = [
    "INPUT", "LOOKUP", "REFERENCE", "Choice", "Loaded", "Method", "baselines", "choose", "external", "network",
    "refuse_one_folder", "unfit",
]  # fmt: skip

Picture = NDArray[np.float32]

INPUT: Final = "input"
"""Name of the untouched picture; also a key of `BASELINES`."""
REFERENCE: Final = "reference"
"""Name of the reference picture in a page."""
LOOKUP: Final = "look-up in our485"
"""Name of the look-up baseline (`lookup`), which is in the tables of eval15 only."""


@dataclass(frozen=True)
class Choice:
    """A network and the weights to measure it with: a tag, a file or an address."""

    network: str
    weights: str


@dataclass(frozen=True)
class Loaded:
    """What actually ran: the network, its weights and the engine."""

    network: str
    checkpoint: Checkpoint | None
    sha256: str
    engine: str
    device: str
    precision: str


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name: its name in the table.
        kind: the kind of method.
        make: takes a pair and its low picture, (H, W, 3) in [0, 1], and returns the enhanced picture.
        timed: whether its time is reported.
        loaded: what ran, if it is a network.
        identity: returns what the result on a pair depends on besides its pixels; if None, the journal skips it.
        files: for finished results, the files by stem.
    """

    name: str
    kind: Literal["network", "baseline", "external"]
    make: Callable[[Pair, Picture], Picture]
    timed: bool = True
    loaded: Loaded | None = None
    identity: Callable[[Pair], str] | None = None
    files: Mapping[str, Path] = field(default_factory=dict)


def choose(models: Sequence[str], weights: Sequence[str]) -> list[Choice]:
    """Return the networks and weights to measure.

    Args:
        models: each a `network` or `network.tag`; empty means every shipped checkpoint.
        weights: tags, files or addresses for the one network in `models`.

    Raises:
        UsageError: no such network, or weights without exactly one network.
        WeightsError: no such checkpoint.
    """
    if weights:
        if len(models) != 1 or "." in models[0]:
            raise UsageError("-w names weights of one network: name it with one -m")
        return [Choice(descriptor(models[0]).name, each) for each in dict.fromkeys(weights)]
    wanted = [named(name) for name in dict.fromkeys(models)] or [each for each in catalog() if each.file]
    return [Choice(each.network, each.tag) for each in wanted]


def network(choice: Choice, enhancer: Enhancer) -> Method:
    """Return a network as a method; it is loaded now, so that loading is not part of any picture's time.

    Raises:
        WeightsError: the weights are missing, wrong or unreachable.
        DeviceError: the device is not available.
    """
    engine, resolved = enhancer.load()
    checkpoint = resolved.checkpoint
    loaded = Loaded(choice.network, checkpoint, resolved.sha256, engine.name, engine.device, engine.precision)
    name = checkpoint.name if checkpoint else f"{choice.network} ({choice.weights})"
    ran = " ".join((choice.network, resolved.sha256, engine.name, engine.device, engine.precision, f"look {EDITION}"))
    return Method(name, "network", lambda _, low: enhancer.enhance_picture(low), loaded=loaded, identity=lambda _: ran)


def baselines() -> list[Method]:
    """Return every classical method."""

    def method(name: str, function: Callable[[Picture], Picture]) -> Method:
        return Method(name, "baseline", lambda _, low: function(low), identity=lambda _: f"baseline {name}")

    return [method(name, function) for name, function in BASELINES.items()]


def refuse_one_folder(found: Sequence[DataSet]) -> None:
    """Refuse sets whose external results would be read from the same folder.

    Raises:
        UsageError: two of the sets have result folders of the same name.
    """
    others: dict[str, DataSet] = {}
    for dataset in found:
        if other := others.get(dataset.folder):
            raise UsageError(
                f"--external looks for the results on {other.name} and on {dataset.name} in one folder, "
                f"{dataset.folder!r}: measure one after the other, or rename one"
            )
        others[dataset.folder] = dataset


def external(text: str, dataset: DataSet, alone: bool = True) -> Method:
    """Return the method for `NAME=DIR`: another program's results, named like the low pictures, with any suffix.

    Args:
        text: the argument as typed.
        dataset: the set that the results belong to.
        alone: whether this is the only set; otherwise the results are in the subfolder `dataset.folder` of DIR.

    Raises:
        UsageError: not of that form, or a name that tables or the page use for something else.
        InputError: no such folder, or a picture is missing from it.
    """
    name, equals, folder = text.partition("=")
    name = name.strip()
    if not equals or not name or not folder:
        raise UsageError(f"--external {text!r}: write NAME=DIR")
    if name in (REFERENCE, LOOKUP, *BASELINES):
        raise UsageError(f"--external {text!r}: tables or the page call something else {name!r}; choose another name")
    place = Path(folder).expanduser() / ("" if alone else dataset.folder)
    files = results(place, dataset)
    if missing := [pair.stem for pair in dataset.pairs if pair.stem not in files]:
        raise InputError(f"{place}: {len(missing)} of {len(dataset.pairs)} results are missing, first {missing[0]}")

    def make(pair: Pair, low: Picture) -> Picture:
        made = read(files[pair.stem]).pixels
        if why := unfit(files[pair.stem], made.shape, low.shape):
            raise InputError(why)
        return made

    def identity(pair: Pair) -> str:
        return f"file {hashlib.sha256(files[pair.stem].read_bytes()).hexdigest()}"

    return Method(name, "external", make, timed=False, identity=identity, files=files)


def unfit(result: Path, made: tuple[int, ...], low: tuple[int, ...]) -> str:
    """Return why a finished result is not of its pair, by the shapes (H, W, 3) of both; an empty string if it is."""
    size, wanted = (f"{shape[1]}x{shape[0]}" for shape in (made, low))
    return "" if made == low else f"{result} is {size}, its pair {wanted}: results are compared at full size"
