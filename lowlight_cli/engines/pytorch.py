"""Run a network with eager PyTorch on a CPU, CUDA or Apple's GPU: the engine that is always available."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from lowlight_cli import heap
from lowlight_cli.engines import FEEDERS, Tiling, check_names, compiling, hardware, memory, tf32, threads, tiling
from lowlight_cli.engines.cuda_graph import Graphed, give_back
from lowlight_cli.engines.halved import halve
from lowlight_cli.engines.tiling import Prepare, Settle
from lowlight_cli.errors import DeviceError, ResourceError, first_line
from lowlight_cli.networks import build, descriptor, statistics
from lowlight_cli.networks.fusing import fused
from lowlight_cli.weights import files

if TYPE_CHECKING:
    from lowlight_cli.networks.layers import Network
    from lowlight_cli.weights.fetch import Resolved

__all__ = ["TorchEngine", "choose_device", "choose_precision", "compiled", "cpu_bf16", "devices", "load"]

UNKEPT: Final = ("jcrnet",)
"""Networks that fragment kept memory so much that 24 megapixels took 4.7 GiB of a budget of 4 GB."""

MUCH: Final = 2**30
MUCH_EACH: Final = 2**27
"""Resident bytes, and for each picture at once, above which kept memory is given back before a pass: sizes that vary
fragment it, and two threads took 2.3 GiB for small pictures. Giving it back costs a fifth of a pass of 600x400."""

OVERLAPS: Final = 5
"""Smallest tile side, in overlaps, for which keeping memory pays off: at 5, about a third of a tile is its own part.
`neid` takes 158 s for 100 megapixels in tiles of 0.7 megapixels with memory kept, and 205 s in tiles of 2 without."""

KEPT: Final = 4
"""Maximum number of sizes with a recorded pass on a GPU: a self-ensemble has two sizes, and the tiles of a network
without whole-picture statistics have a few at the borders."""

COMPILED: Final = 8
"""Number of sizes that are compiled, half a minute each; others are recorded only."""

LARGEST: Final = 4 * 1024**2
"""Pixels above which no pass is recorded: each kernel then takes long enough, and a recording holds GPU and page-locked
memory."""

WIDENS: Final = (9, 0)
"""Compute capability from which a GPU gets `Network.wide`: Hopper, where it was measured. Its tensor cores take 0.7 ms
for 40 channels at 1080p, and 0.3 ms for 64; GPUs with less bandwidth may lose by it."""

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Again:
    """The most recent sizes, latest last, with the recorded pass of each that came a second time.

    `never` has the sizes whose recording failed, until memory is next released, and `compiled` those that the compiler
    has seen. Guarded by `lock`, which also lets one unrecorded pass at a time onto a GPU; `large` lets one picture at a
    time plan with all the memory of it.
    """

    passes: dict[tuple[int, ...], Graphed | None] = field(default_factory=dict)
    never: set[tuple[int, ...]] = field(default_factory=set)
    compiled: set[tuple[int, ...]] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)
    large: Lock = field(default_factory=Lock)


@dataclass(frozen=True)
class TorchEngine(tiling.Passes):
    """A network on a torch device. The public fields are those of `engines.Engine`."""

    name: ClassVar[str] = "torch"
    module: Network = field(repr=False)
    fused: Callable[[torch.Tensor], torch.Tensor] | None = field(default=None, repr=False)
    _again: Again = field(default_factory=Again, repr=False)

    @property
    def provider(self) -> str:
        """`inductor` if sizes that come again are compiled, else `eager`."""
        return "inductor" if self.fused else "eager"

    def run(
        self,
        batch: NDArray[np.float32],
        on_tiles: Callable[[int], None] | None = None,
        prepare: Prepare | None = None,
        settle: Settle | None = None,
    ) -> NDArray[np.float32]:
        """See `engines.Engine.run`; the picture is processed whole or in tiles."""
        large = self.device.startswith("cuda") and math.prod(batch.shape[:-1]) > LARGEST
        local = descriptor(self.network).radius is not None  # and has nothing to settle
        with (
            self._again.large if large else contextlib.nullcontext(),
            # within the pass; onnx and openvino have a separate graph that measures
            contextlib.nullcontext() if settle is None or local else statistics.settling(_settled(settle)),
        ):
            return tiling.run(self, batch, on_tiles, prepare)

    def forward(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """One pass through the network."""
        _, height, width, _ = batch.shape
        # Measurements are settled while they are recorded; a tile replays measurements that are already settled.
        whole = statistics.settled() and not statistics.measured()
        recorded = statistics.recording() if whole else contextlib.nullcontext()
        with tiling.translated(self.network, self.device, f"{width}x{height}", self._clean), recorded:
            if not self.device.startswith("cuda"):
                return self._eager(batch)
            with self._again.lock:
                if not (graphed := self._graphed(batch.shape)):
                    return self._eager(batch)
            return graphed(batch)

    def _eager(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        given = torch.from_numpy(np.ascontiguousarray(batch)).to(self.device)
        bright: NDArray[np.float32] = self._passed(given).cpu().numpy()
        return bright

    def seconds(self, shape: tuple[int, ...]) -> float | None:
        """How long a GPU takes for one batch already in its memory; None if no pass is recorded for this shape."""
        graphed = self._again.passes.get(shape)
        return graphed.seconds() if graphed else None

    @torch.inference_mode()
    def _passed(self, batch: torch.Tensor, fused: Callable[[torch.Tensor], torch.Tensor] | None = None) -> torch.Tensor:
        """One pass on the device. NHWC data viewed as NCHW is already in channels_last, so nothing is copied."""
        with self._arithmetic():
            bright = (fused or self.module)(batch.permute(0, 3, 1, 2)).float().clamp_(0, 1)
        return bright.permute(0, 2, 3, 1).contiguous()

    def _recordable(self, shape: tuple[int, ...]) -> Callable[[torch.Tensor], torch.Tensor]:
        """The pass to record for this shape: compiled, if that was asked for and there are not too many shapes."""
        seen = self._again.compiled
        if self.fused is None or (len(seen) >= COMPILED and shape not in seen):
            return self._passed
        seen.add(shape)
        return functools.partial(self._passed, fused=self.fused)

    def _graphed(self, shape: tuple[int, ...]) -> Graphed | None:
        """The recorded pass for this shape; recorded when the shape comes a second time, None before that."""
        if statistics.measured():
            return None
        if shape in self._again.never or math.prod(shape[:-1]) > LARGEST:
            return None
        passes = self._again.passes
        known = shape in passes
        graphed = passes.pop(shape, None)
        if known and graphed is None:
            with contextlib.suppress(RuntimeError):  # whatever the reason, the pass can still run unrecorded
                graphed = Graphed(self._recordable(shape), shape, self.device, FEEDERS)
            if graphed is None:
                self._again.never.add(shape)
                give_back()  # the memory that the attempt took
                return None
        passes[shape] = graphed
        if not known:  # every entry holds the memory of its pass, or will once it is recorded
            room = memory.affordable(self.network, self.precision, self.free(), tiling.allocator(self))
            while len(passes) > KEPT or (len(passes) > 1 and sum(map(math.prod, passes)) > 3 * room):
                del passes[next(iter(passes))]
        return graphed

    def _clean(self) -> None:
        """Drop the recorded passes and release the device's cached memory."""
        with self._again.lock:
            self._again.passes.clear()
            self._again.never.clear()
        if self.device.startswith("cuda"):
            give_back()

    def measure(self, batch: NDArray[np.float32]) -> statistics.Statistics:
        """The network's measurements of one whole picture."""
        with statistics.recording() as measured:
            self.forward(batch)
        return measured

    def replay(self, measured: statistics.Statistics, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Enhance a tile with the measurements of the whole picture."""
        with statistics.replaying(measured):
            return self.forward(batch)

    def free(self, taken: int = 0) -> int | None:
        """Bytes of the device, or of the budget, left for passes; see `tiling.Passes`.

        On a CPU, stops keeping memory if the part of it that may be planned with allows only tiles that are too small.
        """
        if torch.device(self.device).type != "cuda":
            if memory.resident() > MUCH + MUCH_EACH * self.tiling.at_once:
                heap.trim()
            least = max(tiling.SMALLEST_TILE, OVERLAPS * tiling.overlap(self.network)) ** 2
            left = self._plannable(taken)
            for give_back_more in (heap.trim, heap.drop):
                if not heap.kept() or memory.affordable(self.network, self.precision, left) >= least:
                    break
                give_back_more()
                left = self._plannable(taken)
            return left
        used = torch.cuda.memory_allocated(self.device)
        free: int = torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device) - used
        return free if self.tiling.memory is None else min(free, max(0, self.tiling.memory - used))

    def _plannable(self, taken: int) -> int | None:
        """Bytes of main memory that passes may use: what is left, or a share of it while memory is kept."""
        left = memory.left(self.tiling.memory, taken, self.tiling.at_once)
        return int(left * heap.SHARE) if left is not None and heap.kept() else left

    def release(self) -> None:
        """Return what earlier passes left behind; what a GPU caches counts as free already.

        Recorded passes are kept if the largest tiles fit beside them: else each picture in tiles would cost the others
        another recording.
        """
        if not self.device.startswith("cuda"):
            heap.trim()
        elif self._again.passes:
            room = memory.affordable(self.network, self.precision, self.free(), tiling.allocator(self))
            if room < tiling.LARGEST_TILE**2:
                self._clean()

    @contextlib.contextmanager
    def _arithmetic(self) -> Iterator[None]:
        """Compute in the engine's precision inside the block, whatever the caller's torch settings are."""
        kind = torch.device(self.device).type
        if self.precision != "fp32":
            with torch.autocast(kind, DTYPES[self.precision]):
                yield
            return
        with torch.autocast(kind, enabled=False), tf32.off() if kind == "cuda" else contextlib.nullcontext():
            yield


def _settled(settle: Settle) -> statistics.Settle:
    """Wrap `settle`, which takes NumPy arrays, so that it takes tensors on any device."""
    return lambda at, value: torch.from_numpy(settle(at, value.float().cpu().numpy())).to(value)


def load(network: str, resolved: Resolved, *, device: str, precision: str, tiling: Tiling, why: str) -> TorchEngine:
    """See `engines.load`; `auto` uses the first of `devices` that works, and `why` says why those before it did not."""
    reasons = [why] if why else []
    if device != "auto":
        return _loaded(network, resolved, choose_device(device), precision, tiling, reasons)
    *better, last = devices()
    for place in better:
        try:
            return _loaded(network, resolved, place, precision, tiling, reasons)
        except (DeviceError, ResourceError) as error:
            reasons.append(str(error).removesuffix(": use another --device"))  # the loop does that
    return _loaded(network, resolved, last, precision, tiling, reasons if better else [*reasons, "no GPU found"])


def compiled(engine: TorchEngine) -> TorchEngine:
    """The engine, but sizes that come again are compiled before they are recorded.

    Raises:
        DeviceError: it is not on an NVIDIA GPU, or the compiler lacks something.
    """
    if not engine.device.startswith("cuda"):
        raise DeviceError(f"--compile is for NVIDIA GPUs, and this runs on {engine.device}: leave it out")
    if missing := compiling.lacking(engine.device):
        raise DeviceError(f"--compile needs {missing}: install it, or leave --compile out")
    return replace(engine, fused=compiling.compiled(engine.module, device=engine.device, name=engine.network))


def _loaded(
    network: str, resolved: Resolved, place: str, precision: str, wish: Tiling, reasons: list[str]
) -> TorchEngine:
    """Load the network on one of `devices`."""
    if place == "cpu":
        if network not in UNKEPT:
            heap.keep()
        threads.share(wish.at_once)
    module, metadata = files.filled(build, network, resolved.path)
    with _usable(place, network):
        chosen = choose_precision(precision, place, safe=descriptor(network).bf16)
        if chosen != "fp32" and place.startswith("cuda") and torch.cuda.get_device_capability(place) >= WIDENS:
            module = module.wide()
        module = fused(module).requires_grad_(False)
        module = module.to(device=place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if chosen != "fp32" and place.startswith("cuda"):
            halve(module, place, DTYPES[chosen])
    if precision == "auto" and place == "cpu" and chosen == "bf16":
        reasons = [*reasons, "the CPU has bf16"]
    return TorchEngine(network, place, chosen, ", ".join(reasons), metadata, wish, module)


@contextlib.contextmanager
def _usable(place: str, network: str) -> Iterator[None]:
    """Translate the errors of a device that exists but is unusable: unsupported by this torch, in use, or full.

    Raises:
        ResourceError: it has not enough memory.
        DeviceError: it does not work for another reason.
    """
    try:
        yield
    except RuntimeError as error:  # the base of torch's own errors, those of its allocators included
        if tiling.out_of_memory(error):
            raise ResourceError(
                f"{place} has not the memory for the weights of {network}: use another --device"
            ) from error
        raise DeviceError(f"{place} does not work ({first_line(error)}): use another --device") from error


def devices() -> list[str]:
    """The available devices, preferred ones first; `cpu` is always the last."""
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def choose_device(wanted: str) -> str:
    """Resolve a device to torch's name for it; `auto` is the first of `devices`.

    Raises:
        UsageError: `wanted` names no device.
        DeviceError: the device is not available here.
    """
    check_names("auto", wanted, "auto")
    found = devices()
    if wanted == "auto":
        return found[0]
    exact = {"cuda": "cuda:0", "cpu:0": "cpu", "mps:0": "mps"}.get(wanted, wanted)
    if exact in found:
        return exact
    reason = ", only --engine onnx has it" if wanted.startswith("tensorrt") else ""
    if wanted.startswith("cuda"):
        reason = f", no such GPU or no driver for CUDA {torch.version.cuda}"
        if torch.version.cuda is None:
            reason = f", torch {torch.__version__} is built without CUDA (see https://pytorch.org/get-started/locally)"
    raise DeviceError(f"device {wanted!r} is not available{reason}; use --device {' or '.join(found)}")


def choose_precision(wanted: str, device: str, *, safe: bool) -> str:
    """Resolve a precision; `auto` is the fastest that the device has in hardware, but `fp32` on `mps`.

    Args:
        wanted: one of `engines.PRECISIONS`.
        device: as returned by `choose_device`.
        safe: whether the network's results are good in half precision; if not, `auto` is `fp32`.
    """
    if wanted != "auto":
        return wanted
    if not safe or device == "mps":
        return "fp32"
    if device.startswith("cuda"):
        # torch.cuda.is_bf16_supported asks the current GPU, not `device`.
        has_bf16 = torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
        return "bf16" if has_bf16 else "fp16"
    return "bf16" if cpu_bf16() else "fp32"


def cpu_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX); emulated, it is slower than float32."""
    if hasattr(torch.cpu, "get_capabilities"):
        can = torch.cpu.get_capabilities()
        return bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    return bool(hardware.bf16())  # torch before 2.10 has no public API for this
