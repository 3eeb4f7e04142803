"""Run a network's exported graph with OpenVINO on a CPU, in bfloat16 if the CPU has it.

It reads the same graph as ONNX Runtime. By default it computes in bfloat16 whenever it can; here, the precision is
always set, and checked. The only file that imports openvino.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli import heap
from lowlight_cli.engines import Tiling, cache, hardware, memory, tiling
from lowlight_cli.errors import DeviceError, WeightsError, first_line
from lowlight_cli.networks import descriptor
from lowlight_cli.weights import header

# On import it sends telemetry through a separate package, which it works without.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

try:
    import openvino
except ImportError as error:
    raise DeviceError("engine 'openvino' needs OpenVINO: pip install 'lowlight-cli[cpu]'") from error

if TYPE_CHECKING:
    from lowlight_cli.weights.fetch import Resolved

__all__ = ["Graph", "OpenVinoEngine", "attempt", "choose_precision", "compiled", "devices", "load"]

HINTS: Final = {"fp32": "f32", "bf16": "bf16"}
"""Precisions, and the runtime's names for them."""

PATIENCE: Final = 2.0
"""Seconds of passes at one size after which that size gets its own graph: this takes 0.2 to 0.8 s and saves a tenth."""

SIZES: Final = 2
"""Number of sizes with a graph of their own: two, for portrait and landscape pictures."""

KEPT: Final = 256
"""Size-dependent objects that the runtime caches per graph: its default is 5000, at 1.3 MB for every new size."""

SPECIAL: Final = {"SNIPPETS_MODE": "DISABLE"}
"""Settings for graphs of one size: no snippets, which only those graphs use, because they round to bfloat16 between
their steps. `jcrnet` was off by 0.5 grey levels on average with them and by 0.37 without, in the same time."""

SMALL: Final = 2**25
"""Bytes of input up to which a request is reused: creating one takes milliseconds, but it keeps its input alive."""

EMPTY: Final[Mapping[str, NDArray[np.float32]]] = {}

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""Names of inputs with their shapes."""


@dataclass(frozen=True)
class OpenVinoEngine(tiling.Passes):
    """A graph in OpenVINO. The public fields are those of `engines.Engine`."""

    name: ClassVar[str] = "openvino"
    provider: ClassVar[str] = "CPU"
    path: Path = field(repr=False)

    def forward(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """One pass through the network."""
        if self._apart:
            return self.replay(self.measure(batch), batch)
        with self._run(self._whole, batch) as found:
            return tiling.nhwc(found["output"])

    def measure(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The network's measurements of one whole picture, by name."""
        with self._run(self._measure, batch) as found:
            return {name: value.copy() for name, value in found.items()}

    def replay(self, measured: Mapping[str, NDArray[np.float32]], batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Enhance a tile with the measurements of the whole picture."""
        with self._run(self._replay, batch, measured) as found:
            return tiling.nhwc(found["output"])

    def free(self, taken: int = 0) -> int | None:
        """Bytes of main memory, or of the budget, that are left; None if unknown."""
        return memory.left(self.tiling.memory, taken, self.tiling.at_once)

    def release(self) -> None:
        """Release the memory that the graphs hold for the next picture, except graphs that are in use."""
        for name in ("_whole", "_measure", "_replay"):
            if graph := self.__dict__.get(name):  # without creating it
                graph.release()
        heap.give_back()

    def get_ready(self) -> None:
        """Create the graphs that the first picture needs, so that errors occur here."""
        _ = (self._measure, self._replay) if self._apart else self._whole

    @property
    def _apart(self) -> bool:
        """Whether the exposure is computed first, by a float32 graph: an error of half a per cent is a grey level."""
        return self.precision != "fp32" and descriptor(self.network).thumbnail

    @functools.cached_property
    def _whole(self) -> Graph:
        return self._graph("whole", self.precision)

    @functools.cached_property
    def _measure(self) -> Graph:
        return self._graph("measure", "fp32" if descriptor(self.network).thumbnail else self.precision)

    @functools.cached_property
    def _replay(self) -> Graph:
        return self._graph("replay", self.precision)

    def _graph(self, part: str, precision: str) -> Graph:
        room = functools.partial(_room, self.network, self.precision, self.tiling)  # avoids a reference cycle
        return Graph(self.path, part, precision, self.tiling.at_once, room)

    @contextlib.contextmanager
    def _run(
        self, graph: Graph, batch: NDArray[np.float32], measured: Mapping[str, NDArray[np.float32]] = EMPTY
    ) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Run a graph; its outputs, by name, are valid inside the block."""
        _, height, width, _ = batch.shape
        translated = tiling.translated(self.network, self.device, f"{width}x{height}")
        with translated, graph.outputs({"input": tiling.nchw(batch), **measured}) as found:
            yield found


def _room(network: str, precision: str, tiling: Tiling, pixels: int) -> bool:
    """Whether `pixels` more fit into the memory that is left."""
    free = memory.left(tiling.memory, 0, tiling.at_once)
    return free is None or memory.needed(network, precision, pixels, "openvino") <= free


def load(network: str, resolved: Resolved, *, device: str, precision: str, tiling: Tiling, why: str) -> OpenVinoEngine:
    """See `engines.load`. Exports the network if no graph of these weights is cached yet."""
    if device not in ("auto", "cpu"):
        raise DeviceError(f"engine 'openvino' does not run on {device!r}: use --engine torch, or --device cpu")
    chosen = choose_precision(precision, safe=descriptor(network).bf16)
    path = cache.find(network, resolved.sha256)
    if path is None:
        from lowlight_cli.engines import export

        path = export.kept(network, resolved)
    reasons = [why] if why else []
    if precision == "auto" and chosen == "bf16":
        reasons.append("the CPU has bf16")
    metadata = header.inspect(resolved.path).metadata
    engine = OpenVinoEngine(network, "cpu", chosen, ", ".join(reasons), metadata, tiling, path)
    engine.get_ready()
    return engine


def devices() -> list[str]:
    """The devices of this runtime that lowlight uses."""
    return ["cpu"]


def attempt(device: str) -> None:
    """Run a graph of one node on a device, which is always `cpu`.

    Raises:
        DeviceError: it is not available.
    """
    compiled(cache.smallest(), "fp32").create_infer_request().infer({"input": np.zeros((1, 3, 8, 8), np.float32)})


def choose_precision(wanted: str, *, safe: bool) -> str:
    """Resolve the precision; `auto` is bf16 if the CPU has it and it is `safe` for the network, else fp32.

    Raises:
        DeviceError: the runtime cannot compute in it.
    """
    has = "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if wanted == "auto":
        return "bf16" if safe and has else "fp32"
    if wanted not in HINTS or (wanted == "bf16" and not has):
        raise DeviceError(
            f"engine 'openvino' does not compute in {wanted} on this CPU: use --precision fp32, or --engine torch"
        )
    return wanted


_called, _calling_first = Event(), Lock()
"""Used to make the first call in a process alone, since two at once deadlock: the runtime's bindings then initialise
their static values, which needs the GIL, while other threads wait for these values."""

_alive: set[int] = set()
"""Thread counts that graphs of this process have used: the runtime reuses an idle pool of the same count."""

_dead: set[int] = set()
"""The same counts of the processes that this one was forked from. Threads do not survive a fork, and a graph with the
same count would wait for them for ever; it gets the lowest other count instead."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _dead.update(_alive))


class Graph:
    """A graph compiled for any size, plus one for each recurring size, which is a tenth faster.

    Several threads may call it at once.

    Args:
        path: the cached graph.
        part: the part of it to run: `whole`, `measure`, `replay`.
        precision: the precision to compute in.
        at_once: number of concurrent calls.
        room: returns whether a number of pixels fits into the free memory: each compiled graph holds its own.
    """

    def __init__(self, path: Path, part: str, precision: str, at_once: int, room: Callable[[int], bool]) -> None:
        self.path, self.part, self.precision, self.at_once = path, part, precision, at_once
        self.room = room
        self.general = self._kept()
        self.special: dict[Shapes, openvino.CompiledModel] = {}
        self.seconds: defaultdict[Shapes, float] = defaultdict(float)
        self.idle: defaultdict[openvino.CompiledModel, list[openvino.InferRequest]] = defaultdict(list)
        self.lock = Lock()

    @contextlib.contextmanager
    def outputs(self, inputs: Mapping[str, NDArray[np.float32]]) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Run the graph on `inputs`; the outputs, by name, must not be modified, nor used after the block."""
        shapes = tuple((name, value.shape) for name, value in inputs.items())
        with self.lock:
            graph = self._for(shapes)
            idle = self.idle[graph]
            request = idle.pop() if idle else graph.create_infer_request()
        with contextlib.nullcontext() if _called.is_set() else _calling_first:
            start = time.perf_counter()
            results = request.infer(dict(inputs), share_inputs=True, share_outputs=True)
            _called.set()
        taken = time.perf_counter() - start
        yield {_name(output): results[output] for output in graph.outputs}
        with self.lock:
            self.seconds[shapes] += taken
            if inputs["input"].nbytes <= SMALL and graph in self.idle:  # the graph may have been replaced meanwhile
                self.idle[graph].append(request)

    def release(self) -> None:
        """Release the memory held for the next call; a graph that is in use keeps its memory."""
        self.idle.clear()
        for graph in (self.general, *self.special.values()):
            with contextlib.suppress(RuntimeError):
                graph.release_memory()

    def _for(self, shapes: Shapes) -> openvino.CompiledModel:
        """The compiled graph for these shapes; compiles one for them alone once they have taken `PATIENCE` seconds."""
        if shapes in self.special or self.seconds[shapes] < PATIENCE:
            return self.special.get(shapes, self.general)
        (number, _, height, width), *_ = dict(shapes).values()
        if not self.room(number * height * width):
            self.seconds[shapes] = 0
            return self.general
        if len(self.special) == SIZES:
            oldest = next(iter(self.special))
            self.idle.pop(self.special.pop(oldest), None)
            self.seconds[oldest] = 0
        try:
            self.special[shapes] = compiled(self._source(), self.precision, self.at_once, shapes)
        except WeightsError:  # too little memory; the general graph gives the same result
            self.seconds[shapes] = -math.inf
            return self.general
        return self.special[shapes]

    def _source(self) -> Path | bytes:
        if self.part == "whole":
            return self.path
        measure, replay = cache.parts(self.path)
        return measure if self.part == "measure" else replay

    def _kept(self) -> openvino.CompiledModel:
        """The graph for any size, cached in compiled form: compiling takes longer than a small picture."""
        settings = _settings(self.precision, self.at_once)
        processor = [_core().get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
        machine = f"{openvino.get_version()} {processor} {settings} {self.part}"
        if data := cache.compiled(self.path, machine):
            with contextlib.suppress(RuntimeError):
                return _computing_in(_core().import_model(data, "CPU", settings), self.precision)
        made = compiled(self._source(), self.precision, self.at_once)
        cache.keep_compiled(made.export_model().getvalue(), self.path, machine)
        return made


def _name(output: openvino.ConstOutput) -> str:
    """The name that `export` gave an output: it may have further names if its last node was optimised away."""
    name: str = next(name for name in output.names if name.startswith(("output", "statistic_")))
    return name


def compiled(
    graph: Path | bytes, precision: str, at_once: int = 1, shapes: Shapes | None = None
) -> openvino.CompiledModel:
    """Compile a graph for the CPU and `at_once` concurrent requests, for any size or for `shapes` alone.

    Raises:
        DeviceError: the runtime would compute in another precision.
        WeightsError: the graph cannot be read or compiled.
    """
    try:
        read = _core().read_model(graph) if isinstance(graph, bytes) else _core().read_model(str(graph))
        settings = _settings(precision, at_once)
        if shapes:
            read.reshape(dict(shapes))
            settings |= SPECIAL
        made = _core().compile_model(read, "CPU", settings)
    except RuntimeError as error:
        raise WeightsError(f"OpenVINO cannot read the graph: {first_line(error)}") from error
    return _computing_in(made, precision)


def _settings(precision: str, at_once: int) -> dict[str, object]:
    """The settings to compile a graph with.

    Raises:
        DeviceError: the process was forked, and its parents have used every possible thread count.
    """
    settings: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "CPU_RUNTIME_CACHE_CAPACITY": KEPT,
    }
    if _dead:
        threads = min(set(range(1, hardware.every_core() + 1)) - _dead, default=0)
        if not threads:
            raise DeviceError(
                "OpenVINO cannot go on in a process forked so often: start it anew, or use engine 'torch'"
            )
        return settings | {"INFERENCE_NUM_THREADS": threads}
    if at_once > 1:
        settings["NUM_STREAMS"] = at_once
    if (wanted := os.environ.get("OMP_NUM_THREADS", "")).isdecimal():  # as with torch and ONNX Runtime
        settings["INFERENCE_NUM_THREADS"] = int(wanted)
    return settings


def _computing_in(made: openvino.CompiledModel, precision: str) -> openvino.CompiledModel:
    """Return the compiled graph after checking that it computes in `precision`."""
    taken = made.get_property("INFERENCE_PRECISION_HINT").to_string()
    if taken != HINTS[precision]:
        raise DeviceError(f"OpenVINO computes in {taken}, not in {precision}: use --engine torch")
    _alive.add(made.get_property("INFERENCE_NUM_THREADS"))
    return made


@functools.cache
def _core() -> openvino.Core:
    return openvino.Core()
