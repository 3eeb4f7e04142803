"""Run a picture whole if it fits into memory, else in tiles: the logic that all engines share.

An engine implements the passes, and this module decides when to call them. A network's measurements of the whole
picture are taken once, on the whole or parts of it or on a reduced copy, and replayed in every tile. Every way of
running out of memory becomes one error, after which smaller tiles are tried.
"""

from __future__ import annotations

import contextlib
import math
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lowlight_cli import tiles
from lowlight_cli.engines import Tiling, memory
from lowlight_cli.errors import ResourceError, exhausted
from lowlight_cli.exposure import bands
from lowlight_cli.networks import descriptor, known

__all__ = [
    "LARGEST_TILE", "MEASURED", "SMALLEST_TILE", "Passes", "Prepare", "Settle", "allocator", "nchw", "nhwc",
    "out_of_memory", "overlap", "run", "translated",
]  # fmt: skip

Batch = NDArray[np.float32]

Prepare = Callable[[Batch], Batch]
"""Turns a picture, or a part of one, into what the network gets: (H, W, 3) to the same."""

Settle = Callable[[int, Batch], Batch]
"""Returns the value to use instead of a measurement, given its position in the forward pass and its value."""

SMALLEST_TILE: Final = 512
LARGEST_TILE: Final = 2048
"""Sides of tiles: below the first, most of the work is overlap; above the second, there is no further gain."""

MEASURED: Final = 1024**2
"""Pixels to take statistics on, if they fit into memory; a tile's number of pixels if that is more."""

OUT_OF_MEMORY: Final = (
    *("out of memory", "can't allocate memory", "not enough memory", "bad allocation", "bad_alloc"),
    *("failed to allocate", "could not allocate", "cannot allocate memory", "length_error"),
    *("alloc_failed", "could not create a primitive\n", "32-bit index math"),
)
"""Messages of allocators that raise no MemoryError: torch's, ONNX Runtime's, OpenVINO's, cuBLAS's, cuDNN's and, up to
its end, oneDNN's, which goes on with "descriptor" for what it does not support. The last is from torch's GPU kernels
that index with 32 bits only; smaller tiles help there too. cuDNN's "unable to find an engine" is left out, because an
unsupported GPU gives it too."""


@dataclass(frozen=True)
class Passes(ABC):
    """What all engines share: the public fields of `engines.Engine`, and `run`, from the passes that each implements.

    Pictures and results are (N, H, W, 3) float32 in [0, 1]. Each pass raises `ResourceError` if the device does not
    have enough memory.
    """

    name: ClassVar[str]
    network: str
    device: str
    precision: str
    why: str
    metadata: Mapping[str, str]
    tiling: Tiling = field(repr=False)

    def run(
        self,
        batch: Batch,
        on_tiles: Callable[[int], None] | None = None,
        prepare: Prepare | None = None,
        settle: Settle | None = None,
    ) -> Batch:
        """See `engines.Engine.run`; the picture is processed whole or in tiles."""
        return run(self, batch, on_tiles, prepare, settle)

    @abstractmethod
    def forward(self, batch: Batch) -> Batch:
        """Enhance whole pictures."""

    @abstractmethod
    def measure(self, batch: Batch) -> Any:
        """The network's measurements of one whole picture, for `replay`."""

    @abstractmethod
    def replay(self, measured: Any, batch: Batch) -> Batch:
        """Enhance one tile with the measurements of the whole picture."""

    @abstractmethod
    def free(self, taken: int = 0) -> int | None:
        """Bytes that the device has left for passes, after `taken` bytes of main memory are used; None if unknown."""

    @abstractmethod
    def release(self) -> None:
        """Release memory held from earlier passes; it costs time, so only if memory is short, and before tiles."""


def allocator(engine: Passes) -> str:
    """What `memory` knows an engine by: its name, or `cuda` for torch on a GPU."""
    return "cuda" if engine.name == "torch" and engine.device.startswith("cuda") else engine.name


def run(
    engine: Passes,
    batch: Batch,
    on_tiles: Callable[[int], None] | None = None,
    prepare: Prepare | None = None,
    settle: Settle | None = None,
) -> Batch:
    """Enhance (N, H, W, 3); see `engines.Engine.run`.

    A picture that does not fit into the free memory runs in tiles; if memory runs out all the same, it starts again
    with tiles of half as many pixels. `engine.tiling` may force or forbid tiles.

    Raises:
        ResourceError: not even the smallest tiles fit, or tiles are forbidden and the picture does not fit.
    """
    forward, measure = engine.forward, engine.measure
    if settle and descriptor(engine.network).radius is None:

        def measure(batch: Batch) -> dict[str, Batch]:
            return {name: settle(at, value) for at, (name, value) in enumerate(engine.measure(batch).items())}

        def forward(batch: Batch) -> Batch:
            return engine.replay(measure(batch), batch)

    _, height, width, _ = batch.shape
    side, told = engine.tiling.side, on_tiles or (lambda _: None)
    area, copied = batch.size // 3, batch.nbytes if prepare else 0
    if area > (pixels := _fitting(engine, copied)):
        engine.release()
        pixels = _fitting(engine, copied)
    if side == 0 and area > pixels:
        needed = memory.needed(engine.network, engine.precision, area, allocator(engine))
        raise ResourceError(
            f"{engine.network} needs {needed / 1e9:.1f} GB for {width}x{height} whole, "
            f"{(engine.free(copied) or 0) / 1e9:.1f} GB are left: leave out --tile off, or {_remedy(engine)}"
        )
    if area <= pixels and max(height, width) <= (side or max(height, width)):
        told(1)
        try:
            return forward(_prepared(batch, prepare) if prepare else batch)
        except Exception as error:
            if side == 0 or not _too_large(error):
                raise
        told(0)
        engine.release()
        pixels = height * width // 2
    else:  # the full-size result needs memory too
        pixels = _fitting(engine, batch.nbytes)
    longest = side or LARGEST_TILE
    while pixels >= min(SMALLEST_TILE, longest) ** 2:
        try:
            return _tiled(engine, measure, batch, pixels, longest, told, prepare or _unchanged)
        except Exception as error:
            if not _too_large(error):
                raise
        told(0)
        pixels //= 2
    raise ResourceError(
        f"{engine.device} has too little memory left for {engine.network}, even in tiles: {_remedy(engine)}"
    )


def _fitting(engine: Passes, taken: int) -> int:
    """Number of pixels that fit at once into the memory that is left after `taken` bytes are used."""
    return memory.affordable(engine.network, engine.precision, engine.free(taken), allocator(engine))


def _too_large(error: Exception) -> bool:
    """Whether smaller tiles may avoid an error: memory ran out, in a pass or around it. A caller's own go to it."""
    return isinstance(error, ResourceError) or exhausted(error) is not None


def _tiled(
    engine: Passes,
    measure: Callable[[Batch], Any],
    batch: Batch,
    pixels: int,
    longest: int,
    told: Callable[[int], None],
    prepare: Prepare,
) -> Batch:
    """One attempt, in a frame of its own: what it has filled is freed before the next attempt, if it fails."""
    bright = np.empty_like(batch)
    for picture, result in zip(batch, bright, strict=True):
        _in_tiles(engine, measure, picture, result, pixels, min(math.isqrt(pixels), longest), told, prepare)
    return bright


def _in_tiles(
    engine: Passes,
    measure: Callable[[Batch], Any],
    picture: Batch,
    result: Batch,
    pixels: int,
    side: int,
    told: Callable[[int], None],
    prepare: Prepare,
) -> None:
    """Fill `result` from `picture`, (H, W, 3), tile by tile, with statistics that are taken once.

    Exact for networks without statistics of the whole picture. For the others, the statistics come from the whole
    picture if it fits, else from a substitute: a reduced copy if the network measures only a thumbnail, or samples at
    full size, because reducing removes noise, which the means of features depend on.
    """
    traits = descriptor(engine.network)
    height, width, _ = picture.shape
    cut = tiles.plan(height, width, side, overlap(engine.network), traits.stride)
    told(len(cut))
    if traits.radius is not None:
        for tile in cut:
            tile.keep(engine.forward(prepare(tile.cut(picture))[None])[0], result)
        return
    room = min(pixels, max(side * side, MEASURED))
    if height * width <= room:
        seen = prepare(picture)
    elif traits.thumbnail:
        seen = _reduced(picture, tiles.reduced_size(height, width, room), prepare)
    else:
        seen = _sampled(picture, room, prepare)
    measured = measure(seen[None])
    engine.release()  # the measuring pass is done
    for tile in cut:
        tile.keep(engine.replay(measured, prepare(tile.cut(picture))[None])[0], result)


def overlap(network: str) -> int:
    """Overlap in pixels on each side of a tile, for a network or a degradation."""
    traits = known(network)
    return traits.overlap if traits.radius is None else traits.radius


def _sampled(picture: Batch, pixels: int, prepare: Prepare) -> Batch:
    """Samples of the prepared picture, put side by side: (H, W, 3) with about `pixels` pixels at most."""
    height, width, _ = picture.shape
    rows = tiles.samples(height, width, pixels)
    return np.concatenate([np.concatenate([prepare(picture[at]) for at in row], 1) for row in rows])


def _reduced(picture: Batch, size: tuple[int, int], prepare: Prepare) -> Batch:
    """Reduce the prepared picture to (height, width) `size`, in bands, so that it is never in memory as a whole."""
    height, width = size
    parts = (prepare(picture[band]) for band in bands(*picture.shape[:2]))
    narrow = [cv2.resize(part, (width, len(part)), interpolation=cv2.INTER_AREA) for part in parts]
    small = cv2.resize(np.concatenate(narrow), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def _prepared(batch: Batch, prepare: Prepare) -> Batch:
    return prepare(batch[0])[None] if len(batch) == 1 else np.stack([prepare(picture) for picture in batch])


def _unchanged(picture: Batch) -> Batch:
    return picture


def _remedy(engine: Passes) -> str:
    first = "raise --memory" if engine.tiling.memory else "close other programs"
    return f"{first}, use a smaller model, or another --device"


def out_of_memory(error: Exception) -> bool:
    """Whether an error of Python or of a runtime means that memory ran out."""
    return exhausted(error) is not None or any(sign in f"{error}\n".lower() for sign in OUT_OF_MEMORY)


@contextlib.contextmanager
def translated(network: str, device: str, size: str, clean: Callable[[], None] | None = None) -> Iterator[None]:
    """Turn every way of running out of memory into one error, and free intermediate results.

    Args:
        network: for the message.
        device: for the message.
        size: of the picture, for the message.
        clean: called before the error is raised, to release memory that the device still holds.
    """
    try:
        yield
    except Exception as error:  # ONNX Runtime's errors have no narrower base; torch and OpenVINO raise RuntimeError
        if not out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # the frames hold the pass's intermediate results
        if clean:
            clean()
        raise ResourceError(
            f"{device} ran out of memory with {network} on {size}: use a smaller model or picture, or another --device"
        ) from error


def nchw(batch: Batch) -> Batch:
    """(N, H, W, C) as contiguous (N, C, H, W), for runtimes that do not accept views."""
    number, height, width, channels = batch.shape
    planes = np.empty((number, channels, height, width), batch.dtype)
    for picture, into in zip(batch, planes, strict=True):
        cv2.split(picture, list(into))
    return planes


def nhwc(batch: Batch) -> Batch:
    """(N, C, H, W) as contiguous (N, H, W, C)."""
    number, channels, height, width = batch.shape
    pixels = np.empty((number, height, width, channels), batch.dtype)
    for picture, into in zip(batch, pixels, strict=True):
        cv2.merge(list(picture), into)
    return pixels
