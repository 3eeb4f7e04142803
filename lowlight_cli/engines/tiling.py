"""A picture whole where it fits, in tiles where it does not: what every engine does around its network.

An engine brings its passes, here is when each is called. What a network measures of the whole picture is measured once,
on parts of it or a reduced copy, and replayed in every tile. Running out of memory is one error, however a runtime
says it; smaller tiles follow.
"""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from lowlight_cli import tiles
from lowlight_cli.engines import Tiling, memory
from lowlight_cli.errors import ResourceError
from lowlight_cli.exposure import BAND, apply_gain
from lowlight_cli.networks import descriptor, known

__all__ = [
    "LARGEST_TILE", "MEASURED", "OVERLAP", "SMALLEST_TILE", "Passes", "Settle", "nchw", "nhwc", "overlap", "run",
    "translated",
]  # fmt: skip

Batch = NDArray[np.float32]

Settle = Callable[[int, Batch], Batch]
"""What to use in place of a measurement: its position in the forward pass and its value, to a value of that shape."""

OVERLAP: Final = 64
"""Pixels around a tile for networks with statistics: past it, what a pixel changes is under a thousandth of a level."""

SMALLEST_TILE: Final = 512
LARGEST_TILE: Final = 2048
"""Sides of tiles: below the first the overlap is most of the work, above the second nothing is won."""

MEASURED = 1024**2
"""Pixels on which statistics are taken, where as many fit; as many as in a tile, where that is more."""

OUT_OF_MEMORY: Final = (
    *("out of memory", "can't allocate memory", "not enough memory", "bad allocation", "bad_alloc"),
    *("failed to allocate memory", "could not allocate", "cannot allocate memory", "length_error"),
    *("alloc_failed", "32-bit index math"),
)
"""How allocators say it where they raise no MemoryError: torch's, ONNX Runtime's, OpenVINO's, cuBLAS's and cuDNN's; the
last are kernels of torch on a GPU, of which some count to 2^31 only, which is as good as no memory. cuDNN's "unable to
find an engine" is not among them: a card that it does not support says the same."""


class Passes(Protocol):
    """What an engine brings. All pictures are (N, H, W, 3) float32 in [0, 1], results too.

    Each pass raises `ResourceError` where the device has not the memory.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def network(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def tiling(self) -> Tiling: ...  # noqa: D102

    def forward(self, batch: Batch) -> Batch:
        """Enhance pictures that are whole."""
        ...

    def measure(self, batch: Batch) -> Any:
        """What the network measures of one whole picture, for `replay`."""
        ...

    def replay(self, measured: Any, batch: Batch) -> Batch:
        """Enhance one tile under what was measured."""
        ...

    def free(self, taken: int = 0) -> int | None:
        """Bytes that the device has left for passes, once so many of main memory are taken; None if nobody knows."""
        ...

    def release(self) -> None:
        """Give back what is held of earlier passes: it costs time, so only where memory is short."""
        ...


def run(
    engine: Passes,
    batch: Batch,
    on_tiles: Callable[[int], None] | None = None,
    gain: float = 1.0,
    settle: Settle | None = None,
) -> Batch:
    """Enhance (N, H, W, 3) as `engines.Engine.run` says.

    What does not fit into the free memory whole runs in tiles; what runs out of memory all the same begins again with
    tiles of half the size. `engine.tiling` may want it otherwise.

    Raises:
        ResourceError: not even the smallest tiles fit, or whole was wanted and does not.
    """
    forward, measure = engine.forward, engine.measure
    if settle and descriptor(engine.network).radius is None:

        def measure(batch: Batch) -> dict[str, Batch]:
            return {name: settle(at, value) for at, (name, value) in enumerate(engine.measure(batch).items())}

        def forward(batch: Batch) -> Batch:
            return engine.replay(measure(batch), batch)

    _, height, width, _ = batch.shape
    side, told = engine.tiling.side, on_tiles or (lambda _: None)
    area, exposed = batch.size // 3, batch.nbytes if gain != 1 else 0
    if area > (pixels := _fitting(engine, exposed)):
        engine.release()
        pixels = _fitting(engine, exposed)
    if side == 0 and area > pixels:
        needed = memory.needed(engine.network, engine.precision, area, engine.name)
        raise ResourceError(
            f"{engine.network} needs {needed / 1e9:.1f} GB for {width}x{height} whole, "
            f"{(engine.free(exposed) or 0) / 1e9:.1f} GB are left: leave out --tile off, or {_remedy(engine)}"
        )
    if area <= pixels and max(height, width) <= (side or max(height, width)):
        told(1)
        try:
            return forward(_exposed(batch, gain))
        except ResourceError:
            if side == 0:
                raise
        told(0)
        engine.release()
        pixels = height * width // 2
    else:  # the result is whole, whatever the tiles are
        pixels = _fitting(engine, batch.nbytes)
    longest = side or LARGEST_TILE
    while pixels >= min(SMALLEST_TILE, longest) ** 2:
        with contextlib.suppress(ResourceError):
            bright = np.empty_like(batch)
            for picture, result in zip(batch, bright, strict=True):
                _in_tiles(engine, measure, picture, result, pixels, min(math.isqrt(pixels), longest), told, gain)
            return bright
        told(0)
        pixels //= 2
    raise ResourceError(
        f"{engine.device} has too little memory left for {engine.network}, even in tiles: {_remedy(engine)}"
    )


def _fitting(engine: Passes, taken: int) -> int:
    """Pixels that fit at once into what is left when so many bytes are taken."""
    return memory.affordable(engine.network, engine.precision, engine.free(taken), engine.name)


def _in_tiles(
    engine: Passes,
    measure: Callable[[Batch], Any],
    picture: Batch,
    result: Batch,
    pixels: int,
    side: int,
    told: Callable[[int], None],
    gain: float,
) -> None:
    """Fill `result` from `picture`, (H, W, 3), tile by tile, under statistics that are taken once.

    Exact for networks without statistics of the whole picture; for the others as exact as what stands for it: a reduced
    copy where all is measured on a thumbnail anyway, else parts at their own size. Reducing takes noise away, by which
    the means of features go.
    """
    traits = descriptor(engine.network)
    height, width, _ = picture.shape
    cut = tiles.plan(height, width, side, overlap(engine.network), traits.stride)
    told(len(cut))
    if traits.radius is not None:
        for tile in cut:
            tile.keep(engine.forward(apply_gain(tile.cut(picture), gain)[None])[0], result)
        return
    room = min(pixels, max(side * side, MEASURED))
    if height * width <= room:
        seen = apply_gain(picture, gain)
    elif traits.thumbnail:
        seen = _reduced(picture, tiles.reduced_size(height, width, room), gain)
    else:
        seen = _sampled(picture, room, gain)
    measured = measure(seen[None])
    engine.release()  # what measured has had its turn
    for tile in cut:
        tile.keep(engine.replay(measured, apply_gain(tile.cut(picture), gain)[None])[0], result)


def overlap(network: str) -> int:
    """Pixels that a tile of `network`, or of a degradation, is seen with on each side."""
    radius = known(network).radius
    return OVERLAP if radius is None else radius


def _sampled(picture: Batch, pixels: int, gain: float) -> Batch:
    """Parts of the exposed picture, side by side: (H, W, 3) with about `pixels` pixels at most."""
    height, width, _ = picture.shape
    rows = tiles.samples(height, width, pixels)
    return np.concatenate([np.concatenate([apply_gain(picture[at], gain) for at in row], 1) for row in rows])


def _reduced(picture: Batch, size: tuple[int, int], gain: float) -> Batch:
    """The exposed picture at (height, width) `size`: columns first, band by band, so that it is never there whole."""
    import cv2  # a tenth of a second that most pictures need not spend

    height, width = size
    rows = max(1, BAND // picture.shape[1])
    bands = (apply_gain(picture[top : top + rows], gain) for top in range(0, picture.shape[0], rows))
    narrow = [cv2.resize(band, (width, len(band)), interpolation=cv2.INTER_AREA) for band in bands]
    small = cv2.resize(np.concatenate(narrow), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def _exposed(batch: Batch, gain: float) -> Batch:
    """Each picture exposed; the batch itself by a gain of 1."""
    return batch if gain == 1 else np.stack([apply_gain(picture, gain) for picture in batch])


def _remedy(engine: Passes) -> str:
    first = "raise --memory" if engine.tiling.memory else "close other programs"
    return f"{first}, use a smaller model, or another --device"


@contextlib.contextmanager
def translated(network: str, device: str, size: str, clean: Callable[[], None] | None = None) -> Iterator[None]:
    """Turn every way of running out of memory into one error; no half-filled result survives it.

    Args:
        network: for the message.
        device: for the message.
        size: of the picture, for the message.
        clean: called before the error is raised, to give back what the device still holds.
    """
    try:
        yield
    except Exception as error:  # torch's and OpenVINO's are RuntimeErrors, ONNX Runtime's derive from nothing else
        if not isinstance(error, MemoryError) and not any(sign in str(error).lower() for sign in OUT_OF_MEMORY):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what the pass had made so far
        if clean:
            clean()
        raise ResourceError(
            f"{device} ran out of memory with {network} on {size}: use a smaller model or picture, or another --device"
        ) from error


def nchw(batch: Batch) -> Batch:
    """(N, H, W, C) as (N, C, H, W), contiguous, for runtimes that take no views."""
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))


def nhwc(batch: Batch) -> Batch:
    """(N, C, H, W) as (N, H, W, C), contiguous; channel by channel, in half the time of a transposed copy."""
    number, channels, height, width = batch.shape
    pixels = np.empty((number, height, width, channels), batch.dtype)
    for channel in range(channels):
        pixels[..., channel] = batch[:, channel]
    return pixels
