"""Choose and load an engine, which runs a network on (N, H, W, 3) float32 pictures in [0, 1].

NCHW, half precision and devices are details of an engine; so are the ways of running out of memory, which it reports as
one error. This file imports neither torch nor a runtime: `load` imports the one that it needs.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral
from types import ModuleType
from typing import TYPE_CHECKING, Final, Protocol

from lowlight_cli.errors import UsageError, first_line
from lowlight_cli.networks import descriptor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lowlight_cli.engines.tiling import Prepare, Settle
    from lowlight_cli.weights.fetch import Resolved

__all__ = [
    "ENGINES", "NEEDED", "PRECISIONS", "SMALLEST_SIDE", "Choice", "Engine", "Tiling", "check_compiles", "check_names",
    "choose", "has_graph", "load", "prepare",
]  # fmt: skip

ENGINES: Final = {
    "torch": "lowlight_cli.engines.pytorch",
    "onnx": "lowlight_cli.engines.onnx",
    "openvino": "lowlight_cli.engines.openvino",
}
"""Engines, and the module with each one's `load`; importing it raises DeviceError if a package is missing."""

FASTEST: Final = {
    "bf16": ("openvino", "torch"),
    "fp32": ("openvino", "onnx", "torch"),
    "light fp32": ("onnx", "openvino", "torch"),
}
"""Engines on a CPU, fastest first, by the precision they compute in; docs/usage.md gives the reasons."""

LIGHT: Final = 5.0
"""Multiply-adds at 384x384, in 1e9, below which a network is light: ONNX Runtime then starts sooner and is as fast."""

NEEDED: Final = {
    "openvino": ("openvino", "onnx", "onnxscript", "onnxruntime"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}
"""Packages that an engine needs to export and to run."""

PAYS: Final = 10_000.0
"""Multiply-adds at 384x384, in 1e9 and over all pictures, from which an export of ten to twenty seconds pays off."""

PRECISIONS: Final = ("auto", "fp32", "bf16", "fp16")

SMALLEST_SIDE: Final = 384
"""Smallest tile side in pixels: below, the widest overlap (`frlie`: 148 on each side) would leave next to nothing."""

FEEDERS: Final = 3
"""Threads for each GPU: while one has its picture on the GPU, the others expose theirs, finish them and copy."""


@dataclass(frozen=True)
class Tiling:
    """When and how large pictures are cut, and how many pictures a CPU processes at once.

    Attributes:
        side: maximum side of a tile, overlap included; 0 never cuts; None cuts pictures that do not fit into memory,
            into tiles as large as possible.
        memory: total bytes that may be used, including the program and its pictures; on a GPU, of the GPU's memory.
            None is whatever is free.
        at_once: on a CPU, number of threads that call `run` at the same time. Each gets its share of the memory and of
            the cores, so that many small pictures take less time and a single one more.

    Raises:
        UsageError: a value is not a number, or out of range.
    """

    side: int | None = None
    memory: int | None = None
    at_once: int = 1

    def __post_init__(self) -> None:
        given: dict[str, object] = {"tile": self.side, "memory": self.memory}
        for name, value in given.items():
            whole = isinstance(value, Integral) and not isinstance(value, bool)
            if value is not None and not whole:  # such as False, or the command line's `auto` and `4GB`
                unit = "pixels, 0 for off" if name == "tile" else "bytes"
                raise UsageError(f"{name} {value!r} is not a number; choose a number of {unit}, or None")
        if self.side and self.side < SMALLEST_SIDE:
            raise UsageError(f"tile {self.side} is out of range; choose auto, off or at least {SMALLEST_SIDE}")
        if self.memory is not None and self.memory <= 0:
            raise UsageError(f"memory {self.memory} is out of range; choose a number of bytes above 0")


@dataclass(frozen=True)
class Choice:
    """The engine chosen to run a network.

    Attributes:
        engine: one of `ENGINES`.
        why: the reason, in a few words; empty if the user named the engine, or for torch as the default.
    """

    engine: str
    why: str = ""


class Engine(Protocol):
    """A network with its weights, ready on a device. Several threads may call `run` at once.

    Attributes:
        name: one of `ENGINES`.
        provider: the backend in use, by the engine's own name: `eager`, `CPUExecutionProvider`, `CPU`.
        device: the device in use: `cpu`, `cuda:0`, `mps`.
        precision: the precision in use: `fp32`, `bf16`, `fp16`.
        why: the reason for this engine, device and precision, in a few words.
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
        prepare: Prepare | None = None,
        settle: Settle | None = None,
    ) -> NDArray[np.float32]:
        """Enhance (N, H, W, 3) sRGB-encoded RGB in [0, 1], float32, to the same shape, clamped to [0, 1].

        Args:
            batch: pictures.
            on_tiles: called with the number of tiles before each attempt, 1 for the whole picture; and with 0 after an
                attempt that ran out of memory.
            prepare: what each picture goes through before the network, tile by tile if there are tiles, so that no
                second picture of full size is held. It must not depend on more than a pixel's surroundings.
            settle: returns the value to use instead of a measurement of the whole picture, given its position in the
                forward pass and its value.

        Raises:
            ResourceError: the device does not have enough memory.
        """
        ...


def feeders(engine: Engine) -> int:
    """Number of threads that keep an engine on a GPU busy.

    Others than torch get one: their passes would take memory beside each other.
    """
    return FEEDERS if engine.name == "torch" and engine.device.startswith("cuda") else 1


def load(
    network: str,
    resolved: Resolved,
    *,
    engine: str | Choice = "auto",
    device: str = "auto",
    precision: str = "auto",
    tiling: Tiling | None = None,
    compiled: bool = False,
) -> Engine:
    """Build `network`, load the weights of `resolved` into it, and put it on a device.

    Args:
        network: a name of `networks.NETWORKS`.
        resolved: where the weights are.
        engine: `auto`, one of `ENGINES`, or the result of `choose`; if an automatic choice fails, torch is used.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `cuda:N,M` (each picture on one of them), `mps`, `tensorrt` or
            `tensorrt:N`; a named device is used or raises an error, never replaced.
        precision: one of `PRECISIONS`; `auto` is the fastest that is safe for the network on the device.
        tiling: when pictures are cut into tiles, and how large those are.
        compiled: compile the network for sizes that come again, by torch on an NVIDIA GPU.

    Raises:
        UsageError: the engine, device or precision is unknown, or the engine is not one that compiles.
        DeviceError: the device, engine or precision is not available here.
        WeightsError: the weights do not fit the network.
        ResourceError: there is not enough memory.
    """
    if isinstance(engine, str):
        check_names(engine, device, precision)
        engine = choose(engine, network, resolved.sha256, device, precision)
    if compiled:
        if not engine.why:  # named by the user
            check_compiles(engine.engine)
        engine = Choice("torch")

    def made(choice: Choice) -> list[Engine]:
        return [
            prepare(choice.engine).load(
                network, resolved, device=place, precision=precision, tiling=tiling or Tiling(), why=choice.why
            )
            for place in _places(device)
        ]

    try:
        loaded = made(engine)
    except Exception as error:  # exporters and runtimes have errors of their own
        if not engine.why:  # named by the user, or torch itself
            raise
        loaded = made(Choice("torch", first_line(error)))
    if compiled:
        loaded = [prepare("torch").compiled(each) for each in loaded]
    if len(loaded) == 1:
        return loaded[0]
    if len({each.precision for each in loaded}) > 1:  # with `auto`, if only some of the GPUs have bf16
        return load(network, resolved, engine=engine, device=device, precision="fp16", tiling=tiling, compiled=compiled)
    from lowlight_cli.engines import several

    return several.together(loaded, device)


def choose(engine: str, network: str, weights: str, device: str, precision: str, *, pictures: int = 1) -> Choice:
    """Choose an engine; `auto` is the fastest one for the device that is installed and ready.

    An engine that runs exported graphs is ready if the graph of these weights is cached, or if there are enough
    pictures for an export to pay off.

    Args:
        engine: `auto`, or one of `ENGINES` to use that one.
        network: the network's name.
        weights: sha256 of the weights.
        device: as for `load`.
        precision: as for `load`.
        pictures: number of pictures to expect.
    """
    if engine != "auto":
        return Choice(engine)
    from lowlight_cli.engines import hardware

    traits = descriptor(network)
    half = traits.bf16 and precision in ("auto", "bf16") and hardware.bf16() is not False
    if device not in ("auto", "cpu", "cpu:0") or (device == "auto" and hardware.gpu()):
        return Choice("torch")
    if precision == "fp16" or (precision == "bf16" and not hardware.bf16()):
        return Choice("torch")  # only torch emulates precisions that the CPU lacks
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
    """Whether an exported graph can be cached: it cannot without a home directory, as in a container."""
    from lowlight_cli import disk
    from lowlight_cli.engines import cache

    return disk.takes_files(cache.folder())


def _places(device: str) -> list[str]:
    """Split `cuda:0,1` into `cuda:0` and `cuda:1`; `cpu:0` becomes `cpu`, `mps:0` `mps`; others stay as they are."""
    if device in ("cpu:0", "mps:0"):
        return [device.removesuffix(":0")]
    kind, _, numbers = device.partition(":")
    return [f"{kind}:{number}" if number else kind for number in dict.fromkeys(numbers.split(","))]


def has_graph(network: str, engine: str, weights: str) -> bool:
    """Whether a float32 graph of these weights (their sha256) is cached; False for torch, which runs no graphs."""
    if engine == "torch":
        return False
    from lowlight_cli.engines import cache

    return cache.find(network, weights) is not None


def check_names(engine: str, device: str, precision: str) -> None:
    """Check the three names before anything is imported; `load` finds out whether they are available.

    Raises:
        UsageError: one of them is unknown.
    """
    if engine != "auto" and engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}: there are auto, {', '.join(ENGINES)}")
    if not re.fullmatch(r"auto|(cpu|mps)(:0)?|(cuda|tensorrt)(:\d+)?|cuda:\d+(,\d+)+", device):
        raise UsageError(f"unknown device {device!r}: there are auto, cpu, cuda, cuda:N, cuda:N,M, mps, tensorrt")
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}: there are {', '.join(PRECISIONS)}")


def check_compiles(engine: str) -> None:
    """Check that an engine can compile networks.

    Raises:
        UsageError: it cannot.
    """
    if engine != "torch":
        raise UsageError(f"--compile is for --engine torch, not {engine}: leave one of them out")


def prepare(engine: str) -> ModuleType:
    """Import an engine's module; separate, so that the slowest part of a short run can be timed by itself.

    Raises:
        DeviceError: a package is missing.
    """
    return importlib.import_module(ENGINES[engine])
