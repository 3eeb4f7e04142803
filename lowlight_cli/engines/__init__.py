"""What runs a network: an Engine takes and gives (N, H, W, 3) float32 in [0, 1].

NCHW, half precision and devices live inside an engine; so does running out of memory, which leaves it as one error.
This file imports neither torch nor a runtime: `load` does, when it knows which.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral
from types import ModuleType
from typing import TYPE_CHECKING, Final, Protocol

from lowlight_cli.errors import LowlightError, UsageError
from lowlight_cli.networks import descriptor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lowlight_cli.weights.fetch import Resolved

    Settle = Callable[[int, NDArray[np.float32]], NDArray[np.float32]]

__all__ = [
    "ENGINES", "NEEDED", "PRECISIONS", "SMALLEST_SIDE", "Choice", "Engine", "Tiling", "check_names",
    "choose", "has_graph", "load", "prepare",
]  # fmt: skip

ENGINES: Final = {
    "torch": "lowlight_cli.engines.pytorch",
    "onnx": "lowlight_cli.engines.onnx",
    "openvino": "lowlight_cli.engines.openvino",
}
"""Engine to the module that has its `load`; importing it says where a package is missing."""

FASTEST: Final = {
    "bf16": ("openvino", "torch"),
    "fp32": ("openvino", "onnx", "torch"),
    "light fp32": ("onnx", "openvino", "torch"),
}
"""Engines on a CPU, the fastest first, by what they compute in: docs/usage.md has why."""

LIGHT: Final = 5.0
"""Below so many multiply-adds at 384x384, in 1e9, a network is light: ONNX Runtime is ready sooner, and as fast."""

NEEDED: Final = {
    "openvino": ("openvino", "onnx", "onnxscript", "onnxruntime"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}
"""Packages that an engine needs to export and to run."""

PAYS: Final = 10_000.0
"""How many multiply-adds at 384x384, in 1e9 and over all pictures, are worth an export of ten to twenty seconds."""

PRECISIONS: Final = ("auto", "fp32", "bf16", "fp16")

SMALLEST_SIDE: Final = 384
"""Pixels of a tile's side: below, the widest overlap (`frlie`: 148 on either side) would leave next to nothing."""


@dataclass(frozen=True)
class Tiling:
    """When and how a large picture is cut, and how many pictures a CPU is to take at once.

    Attributes:
        side: what a tile may measure, with its overlap; 0 never cuts; None cuts what does not fit, as large as fits.
        memory: bytes that may be used in all, the program and its pictures included; on a GPU, of the GPU's memory.
            None is what is free.
        at_once: on a CPU, how many threads call `run` at the same time: each has its part of the memory and of the
            cores, so that many small pictures take less time, and a single one more.

    Raises:
        UsageError: a number that makes no sense.
    """

    side: int | None = None
    memory: int | None = None
    at_once: int = 1

    def __post_init__(self) -> None:
        given: dict[str, object] = {"tile": self.side, "memory": self.memory}
        for name, value in given.items():
            if value is not None and not isinstance(value, Integral):  # the command's `auto` and `4GB` are no numbers
                unit = "pixels, 0 for off" if name == "tile" else "bytes"
                raise UsageError(f"{name} {value!r} is not a number; choose a number of {unit}, or None")
        if self.side and self.side < SMALLEST_SIDE:
            raise UsageError(f"tile {self.side} is out of range; choose auto, off or at least {SMALLEST_SIDE}")
        if self.memory is not None and self.memory <= 0:
            raise UsageError(f"memory {self.memory} is out of range; choose a number of bytes above 0")


@dataclass(frozen=True)
class Choice:
    """Which engine is to run a network.

    Attributes:
        engine: one of `ENGINES`.
        why: what decided it, in a few words; empty where it was named.
    """

    engine: str
    why: str = ""


class Engine(Protocol):
    """A network with its weights, ready on a device. Several threads may call `run` at once.

    Attributes:
        name: one of `ENGINES`.
        provider: what of that engine really runs, in its own words: `eager`, `CPUExecutionProvider`, `CPU`.
        device: where it really runs: `cpu`, `cuda:0`, `mps`.
        precision: what it really computes in: `fp32`, `bf16`, `fp16`.
        why: what decided device and precision, in a few words.
        metadata: the checkpoint's; `input` says whether it wants an exposed picture.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def provider(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102
    @property
    def why(self) -> str: ...  # noqa: D102
    @property
    def metadata(self) -> Mapping[str, str]: ...  # noqa: D102

    def run(
        self,
        batch: NDArray[np.float32],
        on_tiles: Callable[[int], None] | None = None,
        gain: float = 1.0,
        settle: Settle | None = None,
    ) -> NDArray[np.float32]:
        """Enhance (N, H, W, 3) sRGB-encoded RGB in [0, 1], float32, to the same shape, clamped to [0, 1].

        Args:
            batch: pictures.
            on_tiles: told, at each attempt, into how many tiles a picture is cut; 1 is whole, and 0 follows where the
                memory gave out in it.
            gain: what the network sees is exposed by this first (`exposure.apply_gain`), tile by tile where there are
                tiles: no second picture of that size is held.
            settle: what replaces each measurement of the whole picture, by its position in the forward pass.

        Raises:
            ResourceError: the device has not the memory.
        """
        ...


def load(
    network: str,
    resolved: Resolved,
    *,
    engine: str | Choice = "auto",
    device: str = "auto",
    precision: str = "auto",
    tiling: Tiling | None = None,
) -> Engine:
    """Build `network`, fill it with the weights of `resolved`, put it on a device.

    Args:
        network: a name of `networks.NETWORKS`.
        resolved: where the weights are.
        engine: `auto`, one of `ENGINES`, or what `choose` said; one that was not named and fails leaves it to torch.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `cuda:N,M` (each picture on one of them), `mps`, `tensorrt` or
            `tensorrt:N`; a device that was named is had or an error, never replaced.
        precision: one of `PRECISIONS`; `auto` is the fastest that is safe for the network on what `device` names.
        tiling: when and how large pictures are cut.

    Raises:
        UsageError: no such engine or precision, or a device that is none.
        DeviceError: the device, engine or precision is not available here.
        WeightsError: the weights do not fit.
        ResourceError: the memory does not suffice.
    """
    if isinstance(engine, str):
        check_names(engine, device, precision)
        engine = choose(engine, network, resolved.sha256, device, precision)

    def made(choice: Choice) -> list[Engine]:
        return [
            prepare(choice.engine).load(
                network, resolved, device=place, precision=precision, tiling=tiling or Tiling(), why=choice.why
            )
            for place in _places(device)
        ]

    try:
        loaded = made(engine)
    except LowlightError as error:
        if not engine.why:  # it was asked for by name
            raise
        loaded = made(Choice("torch", str(error)))
    if len(loaded) == 1:
        return loaded[0]
    if len({each.precision for each in loaded}) > 1:  # `auto`, on GPUs of which some have no bf16
        return load(network, resolved, engine=engine, device=device, precision="fp16", tiling=tiling)
    from lowlight_cli.engines import several

    return several.together(loaded, device)


def choose(engine: str, network: str, weights: str, device: str, precision: str, *, pictures: int = 1) -> Choice:
    """Which engine to take; `auto` is the fastest that is installed for the device and ready.

    An engine that runs exported graphs is ready where the graph of these weights is kept already, or where so many
    pictures are to come that making it pays.

    Args:
        engine: `auto` or one of `ENGINES`, which is then taken.
        network: its name.
        weights: their sha256.
        device: as for `load`.
        precision: as for `load`.
        pictures: how many are to come.
    """
    if engine != "auto":
        return Choice(engine)
    from lowlight_cli.engines import hardware

    traits = descriptor(network)
    half = traits.bf16 and precision in ("auto", "bf16") and hardware.bf16() is not False
    if device not in ("auto", "cpu", "cpu:0") or (device == "auto" and hardware.gpu()):
        return Choice("torch")
    if precision == "fp16" or (precision == "bf16" and not hardware.bf16()):
        return Choice("torch")  # it alone emulates what a CPU has not
    kind = "bf16" if half else "light fp32" if traits.gmacs < LIGHT else "fp32"
    for name in FASTEST[kind]:
        if name == "torch":
            break
        if not has_graph(network, name, weights) and not (pictures * traits.gmacs >= PAYS and _keeps()):
            continue
        if hardware.installed(*NEEDED[name]):
            return Choice(name, f"{name} is the fastest here")
    return Choice("torch")


def _keeps() -> bool:
    """Whether a graph that is made can be kept: without a home of its own, as in a container, it cannot."""
    from lowlight_cli.engines import graphs
    from lowlight_cli.weights import disk

    return disk.takes_files(graphs.folder())


def _places(device: str) -> list[str]:
    """`cuda:0,1` as `cuda:0` and `cuda:1`; `cpu:0` as `cpu`; any other device as it is."""
    if device in ("cpu:0", "mps:0"):
        return [device.removesuffix(":0")]
    kind, _, numbers = device.partition(":")
    return [f"{kind}:{number}" if number else kind for number in dict.fromkeys(numbers.split(","))]


def has_graph(network: str, engine: str, weights: str) -> bool:
    """Whether `engine`, or any with `auto`, has a graph of these weights (their sha256) and needs no torch."""
    if engine == "torch":
        return False
    from lowlight_cli.engines import graphs

    return graphs.find(network, weights) is not None


def check_names(engine: str, device: str, precision: str) -> None:
    """Look at the three words before anything is imported; whether they can be had is found out by `load`.

    Raises:
        UsageError: one of them is none that is known.
    """
    if engine != "auto" and engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}: there are auto, {', '.join(ENGINES)}")
    if not re.fullmatch(r"auto|(cpu|mps)(:0)?|(cuda|tensorrt)(:\d+)?|cuda:\d+(,\d+)+", device):
        raise UsageError(f"unknown device {device!r}: there are auto, cpu, cuda, cuda:N, cuda:N,M, mps, tensorrt")
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}: there are {', '.join(PRECISIONS)}")


def prepare(engine: str) -> ModuleType:
    """Import what runs the network, one of `ENGINES`: the longest part of a short run, so that it can be timed alone.

    Raises:
        DeviceError: a package is missing.
    """
    return importlib.import_module(ENGINES[engine])
