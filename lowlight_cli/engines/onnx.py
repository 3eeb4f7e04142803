"""Run a network's exported graph with ONNX Runtime, on a CPU, CUDA or TensorRT; torch is needed only to export it.

The runtime lists providers that it cannot load, and falls back silently. This engine checks which provider a session
really uses, and any other than the requested one is an error. The only file that imports onnxruntime.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.engines import Tiling, cache, hardware, memory, tiling
from lowlight_cli.errors import DeviceError, WeightsError, first_line

# From 1.29 on, its wheels report what they run and where to their maker, unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    import onnxruntime
except ImportError as error:
    raise DeviceError(
        "engine 'onnx' needs ONNX Runtime: pip install 'lowlight-cli[cpu]', or 'lowlight-cli[gpu]' for NVIDIA"
    ) from error

if TYPE_CHECKING:
    from onnx import ModelProto

    from lowlight_cli.weights.fetch import Resolved

__all__ = [
    "PROVIDERS",
    "OnnxEngine",
    "attempt",
    "choose_precision",
    "devices",
    "half",
    "load",
    "opened",
    "quantised",
    "session",
]

PROVIDERS: Final = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""Kinds of device, and the runtime's provider for each."""

NARROW: Final = 32
"""Number of channels below which a convolution is not quantised to eight bits."""

SIDE: Final = 16
"""Side in pixels of the smallest picture that no graph pads."""

FATAL: Final = 4
"""The runtime's log level that silences errors: it would print to stderr what it also raises."""


@dataclass(frozen=True)
class OnnxEngine(tiling.Passes):
    """A graph in ONNX Runtime. The public fields are those of `engines.Engine`."""

    name: ClassVar[str] = "onnx"
    provider: str
    path: Path = field(repr=False)
    whole: onnxruntime.InferenceSession = field(repr=False)

    def forward(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """One pass through the network."""
        return tiling.nhwc(self._run(self.whole, batch, {})[0])

    def measure(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The network's measurements of one whole picture, by name."""
        first, _ = self._parts
        names = [output.name for output in first.get_outputs()]
        return dict(zip(names, self._run(first, batch, {}), strict=True))

    def replay(self, measured: Mapping[str, NDArray[np.float32]], batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Enhance a tile with the measurements of the whole picture."""
        return tiling.nhwc(self._run(self._parts[1], batch, measured)[0])

    def free(self, taken: int = 0) -> int | None:
        """Bytes of main memory left; on a GPU the budget, or None: the runtime does not say, and may run out."""
        if self.device != "cpu":
            return self.tiling.memory
        return memory.left(self.tiling.memory, taken, self.tiling.at_once)

    def release(self) -> None:
        """Release the memory that the sessions hold, by a tiny run: the runtime does so only at the end of a run."""
        if self.device != "cpu":
            return
        shrinking = onnxruntime.RunOptions()
        shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        least = np.zeros((1, 3, SIDE, SIDE), np.float32)
        self.whole.run(None, {"input": least}, shrinking)
        if parts := self.__dict__.get("_parts"):  # without creating them
            measure, replay = parts
            names = [output.name for output in measure.get_outputs()]
            measured = dict(zip(names, measure.run(None, {"input": least}, shrinking), strict=True))
            replay.run(None, {"input": least, **measured}, shrinking)

    @functools.cached_property
    def _parts(self) -> tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession]:
        """The sessions that measure and replay, created when they are first needed."""
        measure, replay = cache.parts(self.path)
        ready = functools.partial(session, device=self.device, precision=self.precision, wish=self.tiling)
        return ready(measure), ready(replay)

    def _run(
        self, graph: onnxruntime.InferenceSession, batch: NDArray[np.float32], more: Mapping[str, NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        _, height, width, _ = batch.shape
        with tiling.translated(self.network, self.device, f"{width}x{height}"):
            results: list[NDArray[np.float32]] = graph.run(None, {"input": tiling.nchw(batch), **more})
            return results


def load(network: str, resolved: Resolved, *, device: str, precision: str, tiling: Tiling, why: str) -> OnnxEngine:
    """See `engines.load`. Exports the network if no graph of these weights is cached yet."""
    place = "cpu" if device == "auto" else device
    kind = place.partition(":")[0]
    if kind not in PROVIDERS:
        raise DeviceError(f"engine 'onnx' does not run on {device!r}: use --engine torch, or --device cpu")
    chosen = choose_precision(precision, kind)
    path = cache.find(network, resolved.sha256, chosen)
    if path is None:
        from lowlight_cli.engines import export

        path = export.kept(network, resolved, chosen)
    whole = session(path, place, chosen, tiling)
    metadata = whole.get_modelmeta().custom_metadata_map
    place = place if kind == "cpu" or ":" in place else f"{place}:0"
    provider = whole.get_providers()[0]
    return OnnxEngine(network, place, chosen, why, metadata, tiling, provider, path, whole)


def devices() -> list[str]:
    """The devices that this build of the runtime supports; only a session shows whether they are available."""
    here = onnxruntime.get_available_providers()
    return [kind for kind, provider in PROVIDERS.items() if provider in here]


def attempt(device: str) -> None:
    """Run a graph of one node on a device.

    Raises:
        DeviceError: the device is not available.
    """
    session(cache.smallest(), device).run(None, {"input": np.zeros((1, 3, 8, 8), np.float32)})


def choose_precision(wanted: str, kind: str) -> str:
    """Resolve the precision for a `kind` of device; `auto` is fp32.

    Raises:
        DeviceError: the runtime cannot compute in it.
    """
    if wanted == "bf16" or (wanted == "fp16" and kind == "cpu"):
        raise DeviceError(
            f"engine 'onnx' does not compute in {wanted} on {kind}: use --precision fp32, or --engine torch"
        )
    return "fp32" if wanted == "auto" else wanted


def opened(graph: bytes) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A graph as a function of (N, 3, H, W) on the CPU, for testing it."""
    ready = session(graph)

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = ready.run(None, {"input": batch})[0]
        return result

    return run


def half(model: ModelProto) -> ModelProto:
    """Convert a graph to float16, except its input, its output, and what the runtime's own converter leaves alone."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    converted: ModelProto = convert_float_to_float16(model, keep_io_types=True)
    return converted


def quantised(model: ModelProto, inputs: Sequence[NDArray[np.float32]]) -> ModelProto:
    """Quantise a graph's convolutions to eight bits (QDQ, weights per channel), calibrated on `inputs`.

    Convolutions with fewer than `NARROW` input or output channels are left alone: they read or produce pictures, are
    fast, and the exposure depends on them.

    Args:
        model: the graph in float32.
        inputs: calibration inputs for the graph, (N, 3, H, W) each.
    """
    import logging
    import tempfile

    import onnx
    from onnxruntime import quantization

    class Inputs(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Return the inputs one by one, then None."""

        def __init__(self) -> None:
            self.rest = iter(inputs)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self.rest, None)
            return None if batch is None else {"input": batch}

    shapes = {each.name: tuple(each.dims) for each in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    narrow = [node.name for node in convolutions if min(shapes.get(node.input[1], (0, 0))[:2]) < NARROW]
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)  # hides the advice to optimise first, which the exporter has done
    try:
        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
            onnx.save(model, before)
            quantization.quantize_static(
                before,
                after,
                Inputs(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=narrow,
            )
            made: ModelProto = onnx.load(after)
            return made
    finally:
        log.setLevel(level)


def session(
    graph: Path | bytes, device: str = "cpu", precision: str = "fp32", wish: Tiling | None = None
) -> onnxruntime.InferenceSession:
    """Create a session for a graph.

    Args:
        graph: a file or its bytes.
        device: `cpu`, `cuda[:N]` or `tensorrt[:N]`.
        precision: the precision that the graph computes in.
        wish: on a CPU, `at_once` sets the threads per call; on a GPU, `memory` limits the memory.

    Raises:
        DeviceError: the device is not available; no other provider is used in its place.
        WeightsError: the graph cannot be read.
    """
    kind, wish = device.partition(":")[0], wish or Tiling()
    wanted = PROVIDERS[kind]
    here = onnxruntime.get_available_providers()
    if wanted not in here:
        raise DeviceError(
            f"device {device!r} is not available, this ONNX Runtime has {', '.join(here)}: "
            "pip uninstall onnxruntime, then pip install 'lowlight-cli[gpu]'"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL
    if threads := os.environ.get("OMP_NUM_THREADS", ""):  # as with torch and OpenVINO
        options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0
    if wish.at_once > 1:  # each of the concurrent calls gets its share of the cores
        options.intra_op_num_threads = max(1, hardware.cores() // wish.at_once)
    if kind != "cpu":
        _preload()
    places = [each for each in _places(graph, device, precision, wish.memory) if each[0] in here]
    try:
        made = onnxruntime.InferenceSession(
            graph if isinstance(graph, bytes) else str(graph), options, providers=places, enable_fallback=0
        )  # a fallback would print to stdout, where a picture may be written
    except Exception as error:  # the runtime's error classes share no narrower base class
        if kind == "cpu":
            raise WeightsError(f"ONNX Runtime cannot read {_name(graph)}: {first_line(error)}") from error
        raise DeviceError(f"device {device!r} is not available: {first_line(error)}") from error
    if (taken := made.get_providers()[0]) != wanted:
        raise DeviceError(f"device {device!r} is not available, ONNX Runtime fell back to {taken}: look at its drivers")
    return made


@functools.cache
def _preload() -> None:
    """Load CUDA's libraries, without the list of missing ones that the runtime prints to stdout, where a picture may be
    written. A session reports a missing library too, unless it finds it elsewhere.
    """
    with contextlib.redirect_stdout(None):
        onnxruntime.preload_dlls()


def _places(graph: Path | bytes, device: str, precision: str, budget: int | None) -> list[tuple[str, dict[str, Any]]]:
    """The providers, the wanted one first, each with its options."""
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return [(PROVIDERS[kind], {})]
    card: dict[str, Any] = {"device_id": int(number or 0)}
    # By default it tries every algorithm at each new size, and rounds float32 to TF32.
    told = card | {"cudnn_conv_algo_search": "HEURISTIC"} | ({"use_tf32": 0} if precision == "fp32" else {})
    places = [(PROVIDERS["cuda"], told | ({"gpu_mem_limit": budget} if budget else {}))]
    if kind == "tensorrt":  # nodes that TensorRT does not support run on CUDA rather than on the CPU
        folder = cache.engines(graph, f"{onnxruntime.__version__} {hardware.versions('tensorrt')}")
        keeping = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder)} if folder else {}
        places.insert(0, (PROVIDERS[kind], card | keeping))
    return places


def _name(graph: Path | bytes) -> str:
    return "the graph" if isinstance(graph, bytes) else str(graph)
