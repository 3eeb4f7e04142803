"""OpenVINO: a network's exported graph on a CPU, in bfloat16 where the CPU has it. The only file that imports openvino.

It reads the same graph as ONNX Runtime, and computes in bfloat16 by itself where it can, unless it is told not to: what
it is to compute in is always told, and looked at.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from lowlight_cli.engines import Tiling, graphs, memory, tiling
from lowlight_cli.engines.tiling import Settle
from lowlight_cli.errors import DeviceError, WeightsError
from lowlight_cli.networks import descriptor
from lowlight_cli.weights import disk

# At its import it tells its maker, by a package of its own without which it works as well, that it was imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

try:
    import openvino
except ImportError as error:
    raise DeviceError("engine 'openvino' needs OpenVINO: pip install 'lowlight-cli[cpu]'") from error

if TYPE_CHECKING:
    from lowlight_cli.weights.fetch import Resolved

__all__ = ["OpenVinoEngine", "attempt", "choose_precision", "compiled", "devices", "load"]

HINTS: Final = {"fp32": "f32", "bf16": "bf16"}
"""Precision to what the runtime calls it."""


@dataclass(frozen=True)
class OpenVinoEngine:
    """A graph in OpenVINO. The fields are those of `engines.Engine`."""

    network: str
    device: str
    precision: str
    why: str
    metadata: Mapping[str, str]
    path: Path = field(repr=False)
    whole: openvino.CompiledModel = field(repr=False)
    tiling: Tiling = field(default_factory=Tiling)
    name: str = "openvino"
    provider: str = "CPU"

    def run(
        self, batch: NDArray[np.float32], on_tiles: Callable[[int], None] | None = None, gain: float = 1.0
    ) -> NDArray[np.float32]:
        """Enhance (N, H, W, 3) in [0, 1], float32, to the same shape, clamped to [0, 1]; whole or in tiles."""
        return tiling.run(self, batch, on_tiles, gain)

    def run_steadily(
        self,
        batch: NDArray[np.float32],
        settle: Settle,
        on_tiles: Callable[[int], None] | None = None,
        gain: float = 1.0,
    ) -> NDArray[np.float32]:
        """As `run`, with what the network measures of the whole picture settled over frames; see `SteadyEngine`."""
        return tiling.run_steadily(self, batch, settle, on_tiles, gain)

    def forward(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """One pass through the network."""
        return tiling.nhwc(self._run(self.whole, batch, {})["output"])

    def measure(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """What the network measures of one whole picture, by name."""
        return self._run(self._parts[0], batch, {})

    def replay(self, measured: Mapping[str, NDArray[np.float32]], batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Enhance a tile under what was measured."""
        return tiling.nhwc(self._run(self._parts[1], batch, measured)["output"])

    def free(self, taken: int = 0) -> int | None:
        """Bytes of main memory, or of the budget, that are left; None where nobody knows."""
        return memory.left(self.tiling.memory, taken, self.tiling.at_once)

    def release(self) -> None:
        """Give back what the graphs hold for the next picture; not while another one is in them."""
        parts = self.__dict__.get("_parts", ())  # they may not have been made
        for graph in (self.whole, *parts):
            with contextlib.suppress(RuntimeError):
                graph.release_memory()

    @functools.cached_property
    def _parts(self) -> tuple[openvino.CompiledModel, openvino.CompiledModel]:
        """What measures and what replays, made when the first picture is cut."""
        measure, replay = graphs.parts(self.path)
        at_once = self.tiling.at_once
        return compiled(measure, self.precision, at_once), compiled(replay, self.precision, at_once)

    def _run(
        self, graph: openvino.CompiledModel, batch: NDArray[np.float32], more: Mapping[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        """The graph's outputs by name. A request of its own for each call: several threads may run at once."""
        _, height, width, _ = batch.shape
        with tiling.translated(self.network, self.device, f"{width}x{height}"):
            request = graph.create_infer_request()
            results = request.infer({"input": tiling.nchw(batch), **more}, share_inputs=True)
            return {output.any_name: results[output] for output in graph.outputs}


def load(
    network: str,
    resolved: Resolved,
    *,
    device: str = "auto",
    precision: str = "auto",
    tiling: Tiling | None = None,
    why: str = "",
) -> OpenVinoEngine:
    """See `engines.load`. Exports the network where no graph of these weights is kept yet."""
    if device not in ("auto", "cpu"):
        raise DeviceError(f"engine 'openvino' does not run on {device!r}: use --engine torch, or --device cpu")
    chosen = choose_precision(precision, safe=descriptor(network).bf16)
    path = graphs.find(network, resolved.sha256)
    if path is None:
        from lowlight_cli.engines import export

        path = export.kept(network, resolved)
    reasons = [why] if why else []
    if precision == "auto" and chosen == "bf16":
        reasons.append("the CPU has bf16")
    metadata = disk.inspect(resolved.path).metadata
    wish = tiling or Tiling()
    whole = _kept(path, chosen, wish.at_once)
    return OpenVinoEngine(network, "cpu", chosen, ", ".join(reasons), metadata, path, whole, wish)


def devices() -> list[str]:
    """The devices that we use of this runtime."""
    return ["cpu"]


def attempt(device: str) -> None:
    """Run a graph of one node on a device; only `cpu` is one.

    Raises:
        DeviceError: it is not to be had.
    """
    compiled(graphs.smallest(), "fp32").create_infer_request().infer({"input": np.zeros((1, 3, 8, 8), np.float32)})


def choose_precision(wanted: str, *, safe: bool) -> str:
    """The precision that is meant; `auto` is bf16 where the CPU has it and the network keeps its picture in it.

    Raises:
        DeviceError: the runtime would not compute in it.
    """
    has = "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if wanted == "auto":
        return "bf16" if safe and has else "fp32"
    if wanted not in HINTS or (wanted == "bf16" and not has):
        raise DeviceError(
            f"engine 'openvino' does not compute in {wanted} on this CPU: use --precision fp32, or --engine torch"
        )
    return wanted


def compiled(graph: Path | bytes, precision: str, at_once: int = 1) -> openvino.CompiledModel:
    """A graph, ready on the CPU for so many requests at once.

    Raises:
        DeviceError: the runtime would compute in something else.
        WeightsError: the graph cannot be read.
    """
    try:
        read = _core().read_model(graph) if isinstance(graph, bytes) else _core().read_model(str(graph))
        made = _core().compile_model(read, "CPU", _settings(precision, at_once))
    except RuntimeError as error:
        raise WeightsError(f"OpenVINO cannot read the graph: {disk.first_line(error)}") from error
    return _computing_in(made, precision)


def _kept(graph: Path, precision: str, at_once: int) -> openvino.CompiledModel:
    """As `compiled`, but compiled once on a machine: that takes longer than a small picture."""
    settings = _settings(precision, at_once)
    processor = [_core().get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    machine = f"{openvino.get_version()} {processor} {settings}"
    if data := graphs.compiled(graph, machine):
        with contextlib.suppress(RuntimeError):
            return _computing_in(_core().import_model(data, "CPU", settings), precision)
    made = compiled(graph, precision, at_once)
    graphs.keep_compiled(made.export_model().getvalue(), graph, machine)
    return made


def _settings(precision: str, at_once: int) -> dict[str, object]:
    """What OpenVINO is told."""
    settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
    if at_once > 1:
        settings["NUM_STREAMS"] = at_once
    if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdecimal():  # as torch and ONNX Runtime heed it
        settings["INFERENCE_NUM_THREADS"] = int(threads)
    return settings


def _computing_in(made: openvino.CompiledModel, precision: str) -> openvino.CompiledModel:
    """The same, once it was seen that it computes in what it was told."""
    taken = made.get_property("INFERENCE_PRECISION_HINT").to_string()
    if taken != HINTS[precision]:
        raise DeviceError(f"OpenVINO computes in {taken}, not in {precision}: use --engine torch")
    return made


@functools.cache
def _core() -> openvino.Core:
    return openvino.Core()
