"""The engine that is always there: eager PyTorch on CPU, CUDA or Apple's GPU."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

from lowlight_cli import tiles
from lowlight_cli.engines import Tiling, check_names, memory
from lowlight_cli.errors import DeviceError, ResourceError
from lowlight_cli.networks import build, descriptor, statistics
from lowlight_cli.weights import files

if TYPE_CHECKING:
    from lowlight_cli.networks.layers import Network
    from lowlight_cli.weights.fetch import Resolved

__all__ = ["TorchEngine", "choose_device", "choose_precision", "cpu_bf16", "devices", "load"]

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

OVERLAP: Final = 64
"""Pixels around a tile for networks with statistics: past it, what a pixel changes is under a thousandth of a level."""

SMALLEST_TILE: Final = 512
LARGEST_TILE: Final = 2048
"""Sides of tiles: below the first the overlap is most of the work, above the second nothing is won."""

REDUCED = 1024**2
"""Pixels of the copy on which statistics are taken, where as many fit; as many as in a tile, where that is more."""

OUT_OF_MEMORY: Final = ("out of memory", "can't allocate memory", "not enough memory", "bad allocation", "bad_alloc")
"""How torch's allocators say it where they raise no OutOfMemoryError."""


@dataclass(frozen=True)
class TorchEngine:
    """A network on a torch device. The fields are those of `engines.Engine`."""

    network: str
    device: str
    precision: str
    why: str
    metadata: Mapping[str, str]
    module: Network = field(repr=False)
    tiling: Tiling = field(default_factory=Tiling)
    name: str = "torch"

    def run(self, batch: NDArray[np.float32], on_tiles: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Enhance (N, H, W, 3) in [0, 1], float32, to the same shape, clamped to [0, 1].

        What does not fit into the free memory whole runs in tiles; what runs out of memory all the same begins again
        with tiles of half the size. `tiling` may want it otherwise.
        """
        _, height, width, _ = batch.shape
        side, told = self.tiling.side, on_tiles or (lambda _: None)
        free = self._free()
        pixels, area = memory.affordable(self.network, self.precision, free), batch.size // 3
        if side == 0 and area > pixels:
            needed = memory.needed(self.network, self.precision, area)
            raise ResourceError(
                f"{self.network} needs {needed / 1e9:.1f} GB for {width}x{height} whole, {(free or 0) / 1e9:.1f} GB "
                f"are left: leave out --tile off, or {self._remedy()}"
            )
        if area <= pixels and max(height, width) <= (side or max(height, width)):
            told(1)
            try:
                with statistics.recording() if statistics.settled() else contextlib.nullcontext():
                    return self._forward(batch)
            except ResourceError:
                if side == 0:
                    raise
            pixels = height * width // 2
        elif free is not None:  # the result is whole, whatever the tiles are
            pixels = memory.affordable(self.network, self.precision, free - batch.nbytes)
        longest = side or LARGEST_TILE
        while pixels >= min(SMALLEST_TILE, longest) ** 2:
            with contextlib.suppress(ResourceError):
                bright = np.empty_like(batch)
                for picture, result in zip(batch, bright, strict=True):
                    self._in_tiles(picture, result, pixels, min(math.isqrt(pixels), longest), told)
                return bright
            pixels //= 2
        raise ResourceError(
            f"{self.device} has too little memory left for {self.network}, even in tiles: {self._remedy()}"
        )

    def run_steadily(
        self,
        batch: NDArray[np.float32],
        settle: Callable[[int, NDArray[np.float32]], NDArray[np.float32]],
        on_tiles: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """As `run`, with what the network measures of the whole picture settled over frames; see `SteadyEngine`."""

        def settled(position: int, value: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(settle(position, value.float().cpu().numpy())).to(value)

        with statistics.settling(settled):
            return self.run(batch, on_tiles)

    def _forward(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """One pass through the network."""
        _, height, width, _ = batch.shape
        with self._translated(f"{width}x{height}"), torch.inference_mode(), self._autocast():
            # A picture in NHWC seen as NCHW is channels_last already: nothing is copied on the CPU.
            x = torch.from_numpy(np.ascontiguousarray(batch)).to(self.device).permute(0, 3, 1, 2)
            y = self.module(x).float().clamp_(0, 1)
            bright: NDArray[np.float32] = y.permute(0, 2, 3, 1).contiguous().cpu().numpy()
            return bright

    def _in_tiles(
        self,
        picture: NDArray[np.float32],
        result: NDArray[np.float32],
        pixels: int,
        side: int,
        told: Callable[[int], None],
    ) -> None:
        """Fill `result` from `picture`, (H, W, 3), tile by tile, under the statistics of a reduced copy.

        Exact for networks without statistics of the whole picture; for the others as exact as the reduced copy.
        """
        import cv2  # a tenth of a second that most pictures need not spend

        traits = descriptor(self.network)
        height, width, _ = picture.shape
        overlap = OVERLAP if traits.radius is None else traits.radius
        cut = tiles.plan(height, width, side, overlap, traits.stride)
        told(len(cut))
        measured = statistics.Statistics()
        if traits.radius is None:
            small_height, small_width = tiles.reduced_size(height, width, min(pixels, max(side * side, REDUCED)))
            small = cv2.resize(picture, (small_width, small_height), interpolation=cv2.INTER_AREA)
            with statistics.recording() as measured:
                self._forward(np.asarray(small, np.float32)[None])
        for tile in cut:
            with statistics.replaying(measured):
                tile.keep(self._forward(tile.cut(picture)[None])[0], result)

    def _remedy(self) -> str:
        first = "raise --memory" if self.tiling.memory else "close other programs"
        return f"{first}, use a smaller model, or another --device"

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, DTYPES[self.precision])

    def _free(self) -> int | None:
        """Bytes that the device, or the budget, has left; None where nobody knows."""
        free: int | None
        if torch.device(self.device).type == "cuda":
            used = torch.cuda.memory_allocated(self.device)
            free = torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device) - used
        else:
            used, free = memory.resident(), memory.available()
        if self.tiling.memory is None:
            return free
        left = max(0, self.tiling.memory - used)
        return left if free is None else min(free, left)

    @contextlib.contextmanager
    def _translated(self, size: str) -> Iterator[None]:
        """Turn every way of running out of memory into one error; no half-filled result survives it."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
            if isinstance(error, RuntimeError) and not any(sign in str(error).lower() for sign in OUT_OF_MEMORY):
                raise
            if self.device.startswith("cuda"):
                torch.cuda.empty_cache()
            raise ResourceError(
                f"{self.device} ran out of memory with {self.network} on {size}: "
                "use a smaller model or picture, or another --device"
            ) from error


def load(
    network: str, resolved: Resolved, *, device: str = "auto", precision: str = "auto", tiling: Tiling | None = None
) -> TorchEngine:
    """See `engines.load`."""
    place = choose_device(device)
    chosen = choose_precision(precision, place, safe=descriptor(network).bf16)
    state, metadata = files.load(resolved.path, network)
    module = build(network)
    module.load_state_dict(state, strict=True)
    module = module.eval().requires_grad_(False)
    try:
        module = module.to(device=place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    except torch.OutOfMemoryError as error:
        raise ResourceError(f"{place} has not the memory for the weights of {network}: use another --device") from error
    reasons = []
    if device == "auto" and place == "cpu":
        reasons.append("no GPU found")
    if precision == "auto" and place == "cpu" and chosen == "bf16":
        reasons.append("the CPU has bf16")
    return TorchEngine(network, place, chosen, ", ".join(reasons), metadata, module, tiling or Tiling())


def devices() -> list[str]:
    """The devices that can be had, the preferred one first; `cpu` is always the last."""
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def choose_device(wanted: str) -> str:
    """The device that is meant, as torch calls it; `auto` is the first of `devices`.

    Raises:
        UsageError: `wanted` is no device.
        DeviceError: it is one, and not here.
    """
    check_names("auto", wanted, "auto")
    found = devices()
    if wanted == "auto":
        return found[0]
    exact = "cuda:0" if wanted == "cuda" else wanted
    if exact in found:
        return exact
    reason = ""
    if wanted.startswith("cuda"):
        reason = f", no such GPU or no driver for CUDA {torch.version.cuda}"
        if torch.version.cuda is None:
            reason = f", torch {torch.__version__} is built without CUDA (see https://pytorch.org/get-started/locally)"
    raise DeviceError(f"device {wanted!r} is not to be had{reason}; here: {', '.join(found)}")


def choose_precision(wanted: str, device: str, *, safe: bool) -> str:
    """The precision that is meant; `auto` is the fastest that the device has in hardware.

    Args:
        wanted: one of `engines.PRECISIONS`.
        device: as `choose_device` gives it.
        safe: whether half precision keeps the network's picture; where not, `auto` is `fp32`.
    """
    if wanted != "auto":
        return wanted
    if not safe or device == "mps":
        return "fp32"
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if cpu_bf16() else "fp32"


def cpu_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 itself (AVX-512 BF16 or AMX); emulated, it is slower than float32."""
    if hasattr(torch.cpu, "get_capabilities"):
        can = torch.cpu.get_capabilities()
        return bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    try:  # torch before 2.10 has no public way to ask
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in words or "amx_bf16" in words
