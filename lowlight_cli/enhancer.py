"""Enhancer: take one picture through exposure, engine and look; the API and every command call it.

    where   = borders.content(picture)         the borders are kept as they are and not measured
    gain    = exposure.auto_gain(picture)      one for the whole picture, if the checkpoint wants exposed input
    bright  = passes.run(engine, picture)      debanded and exposed, whole or tile by tile
    after   = look.exposing_gain(picture, bright)
    final   = look.finish(picture, bright, after)

The file is not called `enhance`, so that `lowlight_cli.enhance` is always the function.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import lowlight_cli
import lowlight_cli.engines.threads  # now, so that it learns of forks
from lowlight_cli import arrays, borders, engines, form, passes
from lowlight_cli.engines.several import Several
from lowlight_cli.errors import UsageError, memory_told
from lowlight_cli.exposure import auto_gain
from lowlight_cli.look import (
    Exposure,
    Look,
    exposing_gain,
    finishing,
    is_coloured,
    is_grey,
    left_alone,
    make_grey,
)
from lowlight_cli.settings import Settings
from lowlight_cli.steady import Steady

if TYPE_CHECKING:
    import torch

    from lowlight_cli.engines import Engine
    from lowlight_cli.pictures import Photo
    from lowlight_cli.weights.fetch import Resolved

__all__ = ["Enhancer", "Settings", "enhance"]

Picture = NDArray[np.float32]
Sample = TypeVar("Sample", bound="np.integer[Any] | np.floating[Any]")


@dataclass
class _Shared:
    """State shared by enhancers that differ only in their look."""

    pictures: int = 1
    at_once: int = 1
    lock: threading.Lock = field(default_factory=threading.Lock)
    chosen: tuple[Resolved, engines.Choice] | None = None
    loaded: tuple[Engine, Resolved] | None = None


class Enhancer:
    """A network, ready to brighten pictures. Weights load with the first picture; several threads may share one.

    >>> import numpy
    >>> dark = numpy.full((40, 60, 3), 9, numpy.uint8)
    >>> lit = Enhancer().enhance(dark)
    >>> lit.shape, lit.dtype, bool(lit.mean() > dark.mean())
    ((40, 60, 3), dtype('uint8'), True)

    A PIL image gives a PIL image, grey stays grey, alpha is returned unchanged:

    >>> from PIL import Image
    >>> Enhancer(strength=0.5).enhance(Image.new("LA", (60, 40), (9, 128)))
    <PIL.Image.Image image mode=LA size=60x40 at 0x...>

    Every failure is a `LowlightError` with a one-line message:

    >>> Enhancer("dgav")
    Traceback (most recent call last):
    lowlight_cli.errors.UsageError: unknown model 'dgav': did you mean 'dgaf'? (see `lowlight models`)
    """

    def __init__(
        self,
        model: str = lowlight_cli.DEFAULT_MODEL,
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device = "auto",
        precision: str = "auto",
        engine: str = "auto",
        strength: float = 1.0,
        exposure: Exposure | None = None,
        protect_highlights: bool = True,
        gate: float | None = None,
        self_ensemble: bool = False,
        compiled: bool = False,
        tile: int | None = None,
        memory: int | None = None,
        offline: bool = False,
        on_message: Callable[[str], None] | None = None,
        on_progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        """Check and store the settings; nothing is loaded yet.

        Args:
            model: a name listed by `lowlight models`.
            weights: None for the model's own; a tag listed by `lowlight weights list`, a file,
                `hf://org/repo/file@revision`, `https://...#sha256=...`.
            device: `auto`, `cpu`, `cuda`, `cuda:N`, `cuda:N,M` (each picture goes to a free GPU), `mps`, `tensorrt`,
                `tensorrt:N`; or a `torch.device`. A named device is used or raises an error, never replaced.
            precision: `auto`, `fp32`, `bf16`, `fp16`.
            engine: `auto`, `torch`, `onnx`, `openvino`.
            strength: how much of the change to keep, 0 to 1.
            exposure: target mean luma of results, 0.2 to 0.8; `auto` corrects only results that are too bright or too
                dark for what the picture shows; None leaves it to the model.
            protect_highlights: keep details that would turn white or pale: skies, windows, signs.
            gate: leave pictures alone whose mean luma is at least this, 0 to 1; None enhances all.
            self_ensemble: average over eight flips and rotations of the picture: slightly better, eight times the work.
            compiled: compile the network for sizes that come again, by torch on an NVIDIA GPU: half a minute for each
                of up to eight sizes, then up to twice as fast.
            tile: maximum side of a tile in pixels; 0 never cuts; None cuts pictures that do not fit into memory.
            memory: total bytes that may be used, of the GPU's memory on a GPU; None is whatever is free.
            offline: never use the network.
            on_message: called with one line before the network is used.
            on_progress: called with the bytes fetched so far and the total, None if unknown.

        Raises:
            UsageError: an unknown model, engine, device or precision, or a number that is out of range or no number.
        """
        look = Look(strength=strength, exposure=exposure, protect_highlights=protect_highlights, gate=gate)
        named = os.fspath(weights) if isinstance(weights, os.PathLike) else weights
        if not (named is None or isinstance(named, str)):
            raise UsageError(f"weights {named!r} are neither a name nor a path")
        tiling = engines.Tiling(tile, memory)
        names = model, named, engine, str(device), precision
        self.settings = Settings(*names, offline, look, tiling, self_ensemble, compiled)
        self._on_message = on_message
        self._on_progress = on_progress
        self._shared = _Shared()

    @overload
    def enhance(self, image: Image.Image) -> Image.Image: ...
    @overload
    def enhance(self, image: NDArray[Sample]) -> NDArray[Sample]: ...
    @memory_told()
    def enhance(self, image: object) -> object:
        """Brighten a picture; the result has the same type, size, depth and channels.

        Args:
            image: an array (H, W, 3) RGB, (H, W) grey or (H, W, 4) RGBA, sRGB-encoded; uint8, uint16 or float in
                [0, 1]. Alpha is kept, and so are colours where alpha is 0. Or a PIL image.

        Raises:
            TypeError: `image` is neither an array nor a PIL image.
            InputError: the array is not a picture, or the image is damaged.
            WeightsError: the weights are missing, wrong or unreachable, or give values that are not finite.
            DeviceError: the device is not available.
            ResourceError: there is not enough memory.
        """
        picture, back = arrays.opened(image)  # type: ignore[arg-type]  # it raises TypeError for anything else
        return back(self._enhanced(picture, None, coarse=arrays.eight_bits(image)))

    @memory_told()
    def enhance_photo(self, photo: Photo, on_tiles: Callable[[int], None] | None = None) -> Photo:
        """Brighten a photo from `lowlight_cli.read`, keeping its metadata. See `enhance_picture`.

        Of 8 bits, the steps in dark gradients are smoothed first, see `banding`. Each page is enhanced as a picture of
        its own; `on_tiles` is called for the first page only.
        """
        if not hasattr(photo, "with_pixels"):  # a cheap check that avoids importing the class
            raise TypeError(f"wanted what `read` gives, got {type(photo).__module__}.{type(photo).__qualname__}")
        pixels = form.checked(photo.pixels)
        lit = replace(photo, pixels=self._enhanced(pixels, on_tiles, coarse=photo.depth == 8))
        return replace(lit, rest=tuple(self.enhance_photo(page) for page in photo.rest)) if photo.rest else lit

    @memory_told()
    def enhance_picture(self, picture: Picture, on_tiles: Callable[[int], None] | None = None) -> Picture:
        """Brighten (H, W, 3) float32 RGB, sRGB-encoded, in [0, 1]. Raises the same errors as `enhance`.

        Args:
            picture: not changed, but returned itself if there is nothing to do; values slightly outside [0, 1] are
                clipped.
            on_tiles: called with the number of tiles before each pass and each attempt, 1 for the whole picture; and
                with 0 after an attempt that ran out of memory. An exception that it raises ends the work.
        """
        return self._enhanced(form.checked(picture), on_tiles, coarse=False)

    def _enhanced(self, picture: Picture, on_tiles: Callable[[int], None] | None, *, coarse: bool) -> Picture:
        """See `enhance_picture`; `coarse` says that the source has 8 bits a channel."""
        look = self.settings.look
        if look.strength == 0:
            return picture
        where = borders.content(picture)
        inside = borders.inner(picture, where)
        if left_alone(inside, look.gate):
            return picture
        return borders.framed(picture, where, self._brightening(inside, on_tiles, None, look, coarse)())

    def enhance_frame(self, picture: Picture, steady: Steady | None) -> Picture:
        """Brighten a frame of a clip: like `enhance_picture`, with whole-frame measurements smoothed over time.

        These are the exposure gains, the network's own statistics, how far highlights are compressed, and whether the
        frame is grey: it is made as grey as the frames before it were. The frames of a clip must come in order, from
        one thread. Nothing is done that could switch on and off within a shot: the gate is ignored, and borders are not
        detected.

        Args:
            picture: (H, W, 3) float32 RGB, sRGB-encoded, in [0, 1].
            steady: the measurements of earlier frames, after `begin` for this frame; None smooths nothing.
        """
        finish = self.begin_frame(picture, steady)
        return picture if finish is None else finish()

    def begin_frame(self, picture: Picture, steady: Steady | None) -> Callable[[], Picture] | None:
        """Do what the next frame waits for: the network, and all that is smoothed over time. See `enhance_frame`.

        Returns:
            What makes the result of it, in any thread, also while the next frame begins; None if there is nothing to
            do.
        """
        look = self.settings.look
        return None if look.strength == 0 else self._brightening(picture, None, steady, look)

    def _brightening(
        self,
        picture: Picture,
        on_tiles: Callable[[int], None] | None,
        steady: Steady | None,
        look: Look,
        coarse: bool = False,
    ) -> Callable[[], Picture]:
        engine, _ = self.load()
        wanted = engine.metadata.get("input") == "exposed"
        gain = _settled(steady, "input", auto_gain(picture)) if wanted else 1.0
        bright = passes.run(
            engine, picture, passes.prepare(gain, coarse), on_tiles, steady, ensemble=self.settings.self_ensemble
        )
        grey = float(is_grey(picture))
        if steady and not is_coloured(picture):  # a chroma sample that is one code off may come and go with the frames
            grey = float(steady.settle("grey", np.float32(grey)))
        if grey > 1 / 512:  # less cannot be seen
            make_grey(bright, grey)
        after = _settled(steady, "exposure", exposing_gain(picture, bright, look))
        return finishing(picture, bright, look, after, functools.partial(_settled, steady, "highlights"))

    def with_look(self, look: Look) -> Enhancer:
        """An enhancer with another look that shares this one's network: it is loaded once for both."""
        other = _remade(replace(self.settings, look=look))
        other._on_message, other._on_progress, other._shared = self._on_message, self._on_progress, self._shared
        return other

    def __reduce__(self) -> tuple[Callable[[Settings, int, int], Enhancer], tuple[Settings, int, int]]:
        """Pickle the settings and what `expect` was told; the other process loads the weights itself."""
        return _remade, (self.settings, self._shared.pictures, self._shared.at_once)

    @property
    def loaded(self) -> bool:
        """Whether `load` has completed."""
        return self._shared.loaded is not None

    def expect(self, pictures: int, at_once: int = 1) -> None:
        """Announce the workload before `load`.

        After `load` this one's division of memory and threads stays; what is sent to other processes follows.

        Args:
            pictures: number of pictures; engine `auto` exports a graph if that pays off.
            at_once: number of threads that brighten at the same time, on a CPU. They share the CPU threads; PyTorch's
                thread count is set for the whole process, until an enhancer with another `at_once` is loaded.

        Raises:
            UsageError: a value is not a whole number, or too small.
        """
        given: tuple[tuple[str, object, int], ...] = (("pictures", pictures, 0), ("at_once", at_once, 1))
        for name, value, least in given:
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                raise UsageError(f"{name} {value!r} is out of range; choose a whole number of at least {least}")
        self._shared.pictures, self._shared.at_once = pictures, at_once

    @property
    def at_once(self) -> int:
        """Number of threads that keep the devices busy: up to three per GPU; on a CPU the value given to `expect`."""
        engine, _ = self.load()
        if isinstance(engine, Several):
            return engine.count
        return self._shared.at_once if engine.device == "cpu" else engines.feeders(engine)

    def choose(self) -> engines.Choice:
        """Find the weights and choose the engine that runs them, without loading either.

        Raises:
            WeightsError: the weights are missing, wrong or unreachable.
        """
        with self._shared.lock:
            return self._find()[1]

    def load(self) -> tuple[Engine, Resolved]:
        """Return the engine and where its weights came from, loading them on the first call.

        Raises:
            WeightsError: the weights are missing, wrong or unreachable.
            DeviceError: the device is not available.
        """
        shared = self._shared
        with shared.lock:
            if shared.loaded is None:
                resolved, choice = self._find()
                wish = self.settings
                engine = engines.load(
                    wish.model,
                    resolved,
                    engine=choice,
                    device=wish.device,
                    precision=wish.precision,
                    tiling=replace(wish.tiling, at_once=shared.at_once),
                    compiled=wish.compiled,
                )
                shared.loaded = engine, resolved
            return shared.loaded

    def _find(self) -> tuple[Resolved, engines.Choice]:
        shared = self._shared
        if shared.chosen is None:
            from lowlight_cli.weights import fetch

            wish = self.settings
            resolved = fetch.resolve(
                wish.model,
                wish.weights,
                offline=wish.offline,
                on_progress=self._on_progress,
                on_message=self._on_message,
                known=functools.partial(engines.has_graph, wish.model, wish.engine),
            )
            choice = engines.choose(
                wish.engine, wish.model, resolved.sha256, wish.device, wish.precision, pictures=shared.pictures
            )
            shared.chosen = resolved, choice
        return shared.chosen


def _remade(settings: Settings, pictures: int = 1, at_once: int = 1) -> Enhancer:
    enhancer = Enhancer()
    enhancer.settings = settings
    enhancer.expect(pictures, at_once)
    return enhancer


def _settled(steady: Steady | None, name: str, gain: float) -> float:
    """Smooth a gain over time, as its logarithm: doubling and halving count equally."""
    if steady is None:
        return gain
    return math.exp(float(steady.settle(name, np.array(math.log(gain), np.float32))))


@overload
def enhance(image: Image.Image, model: str = ..., *, strength: float = ...) -> Image.Image: ...
@overload
def enhance(image: NDArray[Sample], model: str = ..., *, strength: float = ...) -> NDArray[Sample]: ...
def enhance(image: object, model: str = lowlight_cli.DEFAULT_MODEL, *, strength: float = 1.0) -> object:
    """Brighten one picture, like `Enhancer(model, strength=strength).enhance(image)` but with the network cached.

    >>> import numpy
    >>> from lowlight_cli import enhance
    >>> enhance(numpy.zeros((16, 24), numpy.uint16)).dtype
    dtype('uint16')
    """
    with _keeping:
        enhancer = _kept(str(model))
    return enhancer.with_look(Look(strength=strength)).enhance(image)  # type: ignore[call-overload]


_keeping = threading.Lock()
"""Held so that concurrent first calls create one enhancer between them."""


@functools.lru_cache(maxsize=2)
def _kept(model: str) -> Enhancer:
    return Enhancer(model)
