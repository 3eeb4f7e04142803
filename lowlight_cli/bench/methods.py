"""What is measured: networks with their weights, classical baselines, folders of any other program's results."""

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
from lowlight_cli.networks import descriptor
from lowlight_cli.pictures import read
from lowlight_cli.weights.catalog import Checkpoint, catalog, named

if TYPE_CHECKING:
    from lowlight_cli.enhancer import Enhancer

__all__ = [
    "INPUT", "LOOKUP", "REFERENCE", "Choice", "Loaded", "Method", "baselines", "choose", "external", "network",
    "refuse_one_folder",
]  # fmt: skip

Picture = NDArray[np.float32]

INPUT: Final = "input"
"""What the untouched picture is called, which `BASELINES` has too."""
REFERENCE: Final = "reference"
"""What a page calls the picture that results are compared with."""
LOOKUP: Final = "look-up in our485"
"""What the look-up is called, which stands in some tables."""


@dataclass(frozen=True)
class Choice:
    """A network and the weights to measure it with: a tag, a file or an address."""

    network: str
    weights: str


@dataclass(frozen=True)
class Loaded:
    """What really ran."""

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
        name: what the table calls it.
        kind: what it is.
        make: enhances a pair's low picture, (H, W, 3) in [0, 1]; the pair itself tells which one it is.
        timed: whether its time is told.
        loaded: what ran, where it is a network.
        identity: what its result on a pair depends on beside the pair's pixels; without it results are not kept.
        files: where it is read, not made, the files by stem.
    """

    name: str
    kind: Literal["network", "baseline", "external"]
    make: Callable[[Pair, Picture], Picture]
    timed: bool = True
    loaded: Loaded | None = None
    identity: Callable[[Pair], str] | None = None
    files: Mapping[str, Path] = field(default_factory=dict)


def choose(models: Sequence[str], weights: Sequence[str]) -> list[Choice]:
    """Which weights of which networks.

    Args:
        models: `network` or `network.tag` each; none means every shipped checkpoint.
        weights: tags, files or addresses, for the one model that was named.

    Raises:
        UsageError: no such network; or weights without exactly one model.
        WeightsError: no such checkpoint.
    """
    if weights:
        if len(models) != 1 or "." in models[0]:
            raise UsageError("-w names weights of one network: name it with one -m")
        return [Choice(descriptor(models[0]).name, each) for each in dict.fromkeys(weights)]
    wanted = [named(name) for name in dict.fromkeys(models)] or [each for each in catalog() if each.file]
    return [Choice(each.network, each.tag) for each in wanted]


def network(choice: Choice, enhancer: Enhancer) -> Method:
    """A network as a method; it is loaded now, so that no picture pays for it.

    Raises:
        WeightsError: weights that are missing, wrong or unreachable.
        DeviceError: a device that is not available.
    """
    engine, resolved = enhancer.load()
    checkpoint = resolved.checkpoint
    loaded = Loaded(choice.network, checkpoint, resolved.sha256, engine.name, engine.device, engine.precision)
    name = checkpoint.name if checkpoint else f"{choice.network} ({choice.weights})"
    ran = " ".join((choice.network, resolved.sha256, engine.name, engine.device, engine.precision))
    return Method(name, "network", lambda _, low: enhancer.enhance_picture(low), loaded=loaded, identity=lambda _: ran)


def baselines() -> list[Method]:
    """Every classical method."""

    def method(name: str, function: Callable[[Picture], Picture]) -> Method:
        return Method(name, "baseline", lambda _, low: function(low), identity=lambda _: f"baseline {name}")

    return [method(name, function) for name, function in BASELINES.items()]


def refuse_one_folder(found: Sequence[DataSet]) -> None:
    """Raise where the results of two sets would be looked for in one folder.

    Raises:
        UsageError: two of the sets have folders of one name.
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
    """`NAME=DIR`: what another program made of the low pictures, named as they are, whatever the suffix.

    Args:
        text: as it was typed.
        dataset: of which the pictures are.
        alone: whether this is the only set; else the results are in DIR, in a folder that is called as the set's.

    Raises:
        UsageError: not of that form, or a name that tables or the page use themselves.
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
        if made.shape != low.shape:
            size, wanted = (f"{each.shape[1]}x{each.shape[0]}" for each in (made, low))
            raise InputError(f"{files[pair.stem]} is {size}, its pair {wanted}: results are compared at full size")
        return made

    def identity(pair: Pair) -> str:
        return f"file {hashlib.sha256(files[pair.stem].read_bytes()).hexdigest()}"

    return Method(name, "external", make, timed=False, identity=identity, files=files)
