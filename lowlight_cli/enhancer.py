"""Enhancer: one picture through exposure, engine and look; what the API and every command call.

    picture = exposed, where the checkpoint wants that     one gain for the whole of it
    bright  = engine.run(picture)
    final   = look.finish(picture as it came, bright)

The file is not called `enhance`, so that `lowlight_cli.enhance` is the function and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import lowlight_cli
from lowlight_cli import arrays, engines
from lowlight_cli.errors import LowlightError, OutputError, ResourceError
from lowlight_cli.exposure import apply_gain, auto_gain
from lowlight_cli.look import Look, finish, left_alone, mean_luma
from lowlight_cli.networks import descriptor
from lowlight_cli.pictures import MAX_PIXELS, Photo, encode, read, write
from lowlight_cli.targets import PIPE, Job

if TYPE_CHECKING:
    from lowlight_cli.engines import Engine
    from lowlight_cli.weights.fetch import Resolved

__all__ = ["Enhancer", "Light", "Outcome", "Saving", "Settings", "enhance"]

Picture = NDArray[np.float32]
Sample = TypeVar("Sample", np.uint8, np.uint16, np.float16, np.float32, np.float64)


@dataclass(frozen=True)
class Settings:
    """What an Enhancer does. Names are checked here, so that a slip costs no loading.

    Attributes:
        model: a name of `lowlight models`.
        weights: None for the model's own; a tag, a file, hf://..., https://...#sha256=...
        engine: `auto` or `torch`.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`.
        precision: `auto`, `fp32`, `bf16`, `fp16`.
        offline: never use the network.
        look: what is done after the network.
    """

    model: str = lowlight_cli.DEFAULT_MODEL
    weights: str | None = None
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    offline: bool = False
    look: Look = field(default_factory=Look)

    def __post_init__(self) -> None:
        descriptor(self.model)
        engines.check_names(self.engine, self.device, self.precision)


@dataclass(frozen=True)
class Saving:
    """How a result is written; see `pictures.encode`, whose arguments these are, but for two.

    Attributes:
        format: `keep` or a format's name.
        quality: of JPEG, WebP, AVIF.
        depth: bits a sample.
        strip_metadata: write no EXIF, XMP, texts.
        strip_gps: write no places.
        provenance: note in the file by what it was made.
    """

    format: str = "keep"
    quality: int | None = None
    depth: Literal["keep", 8, 16] = "keep"
    strip_metadata: bool = False
    strip_gps: bool = False
    provenance: bool = True


@dataclass(frozen=True)
class Light:
    """A picture's brightness: mean luma, and the shares of pixels that are black or white in some channel."""

    luma: float
    black: float
    white: float


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        path: the file that was read.
        target: the file that was written, or would have been.
        seconds: by stage: read, run, write; the first also has import and weights.
        error: why there is none; None where there is.
        skipped: the target existed and was to stay.
        size: width and height in pixels.
        before: brightness of the input, where that was asked for.
        after: brightness of the result.
        notes: one line each on what could not be kept.
        data: the file's content, where the target is stdout.
    """

    path: Path
    target: Path
    seconds: Mapping[str, float] = field(default_factory=dict)
    error: LowlightError | None = None
    skipped: bool = False
    size: tuple[int, int] | None = None
    before: Light | None = None
    after: Light | None = None
    notes: tuple[str, ...] = ()
    data: bytes | None = field(default=None, repr=False)


class Enhancer:
    """A network, ready to brighten pictures. Weights load with the first picture; several threads may share one.

    >>> import numpy
    >>> dark = numpy.full((40, 60, 3), 9, numpy.uint8)
    >>> lit = Enhancer().enhance(dark)
    >>> lit.shape, lit.dtype, bool(lit.mean() > dark.mean())
    ((40, 60, 3), dtype('uint8'), True)

    A PIL image gives a PIL image, grey gives grey, alpha comes back as it was:

    >>> from PIL import Image
    >>> Enhancer(strength=0.5).enhance(Image.new("LA", (60, 40), (9, 128)))
    <PIL.Image.Image image mode=LA size=60x40 at 0x...>

    What cannot be done is a `LowlightError` with one line to read:

    >>> Enhancer("dgav")
    Traceback (most recent call last):
    lowlight_cli.errors.UsageError: unknown model 'dgav': did you mean 'dgaf'? (see `lowlight models`)
    """

    def __init__(
        self,
        model: str = lowlight_cli.DEFAULT_MODEL,
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        engine: str = "auto",
        strength: float = 1.0,
        exposure: float | None = None,
        protect_highlights: bool = False,
        gate: float | None = None,
        offline: bool = False,
        on_message: Callable[[str], None] | None = None,
        on_progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        """Settle what to use; nothing is loaded yet.

        Args:
            model: a name of `lowlight models`.
            weights: None for the model's own; a tag of `lowlight weights list`, a file, `hf://org/repo/file@revision`,
                `https://...#sha256=...`.
            device: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`. One that is named is had or an error.
            precision: `auto`, `fp32`, `bf16`, `fp16`.
            engine: `auto` or `torch`.
            strength: how much of the change to keep, 0 to 1.
            exposure: wanted mean brightness of results, 0.2 to 0.8; None leaves it to the model.
            protect_highlights: keep lamps and skies as bright as they were.
            gate: leave pictures alone that are brighter than this on average, 0 to 1; None enhances all.
            offline: never use the network.
            on_message: told one line before the network is used.
            on_progress: told how many bytes of how many were fetched.

        Raises:
            UsageError: no such model, engine, device or precision, or a number out of its range.
            DeviceError: an engine that is not part of this version.
        """
        look = Look(strength=strength, exposure=exposure, protect_highlights=protect_highlights, gate=gate)
        named = None if weights is None else os.fspath(weights)
        self.settings = Settings(model, named, engine, device, precision, offline, look)
        self._on_message = on_message
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._loaded: tuple[Engine, Resolved] | None = None

    # ------------------------------------------------------------------------------------------------ one picture

    @overload
    def enhance(self, image: Image.Image) -> Image.Image: ...
    @overload
    def enhance(self, image: NDArray[Sample]) -> NDArray[Sample]: ...
    def enhance(self, image: object) -> object:
        """Brighten a picture; what comes back has its type, size, depth and channels.

        Args:
            image: an array (H, W, 3) RGB, (H, W) grey or (H, W, 4) RGB with alpha, which is left alone; uint8, uint16
                or float in [0, 1]; sRGB-encoded. Or a PIL image.

        Raises:
            TypeError: it is neither.
            InputError: an array that is no picture.
            WeightsError: weights that are missing, wrong or unreachable.
            DeviceError: a device that is not to be had.
            ResourceError: the memory does not suffice.
        """
        picture, back = arrays.opened(image)  # type: ignore[arg-type]  # what is neither is told there
        return back(self.enhance_picture(picture))

    def enhance_photo(self, photo: Photo) -> Photo:
        """Brighten what `lowlight_cli.read` gave; all that its file said stays with it. Raises as `enhance`."""
        return photo.with_pixels(self.enhance_picture(photo.pixels))

    def enhance_picture(self, picture: Picture) -> Picture:
        """Brighten (H, W, 3) float32 RGB, sRGB-encoded, in [0, 1]. Raises as `enhance`."""
        look = self.settings.look
        if look.strength == 0 or left_alone(picture, look.gate):
            return picture
        engine, _ = self.load()
        exposed = picture
        if engine.metadata.get("input") == "exposed":
            exposed = apply_gain(picture, auto_gain(picture))
        bright = engine.run(exposed[None])[0]
        return finish(picture, bright, look)

    def load(self) -> tuple[Engine, Resolved]:
        """The engine and where its weights came from; both are found and loaded at the first call.

        Raises:
            WeightsError: weights that are missing, wrong or unreachable.
            DeviceError: a device that is not to be had.
        """
        with self._lock:
            if self._loaded is None:
                from lowlight_cli.weights import fetch

                wish = self.settings
                resolved = fetch.resolve(
                    wish.model,
                    wish.weights,
                    offline=wish.offline,
                    on_progress=self._on_progress,
                    on_message=self._on_message,
                )
                engine = engines.load(
                    wish.model, resolved, engine=wish.engine, device=wish.device, precision=wish.precision
                )
                self._loaded = engine, resolved
            return self._loaded

    # ------------------------------------------------------------------------------------------------------ files

    def enhance_files(
        self,
        jobs: Iterable[Job],
        saving: Saving | None = None,
        *,
        stdin: bytes | None = None,
        max_pixels: int = MAX_PIXELS,
        measure: bool = False,
    ) -> Iterator[Outcome]:
        """Read, brighten and write one file after the other.

        Args:
            jobs: of `targets.plan`.
            saving: how to write.
            stdin: the content of a source that is `PIPE`.
            max_pixels: larger pictures are refused.
            measure: whether outcomes tell the brightness before and after.

        Yields:
            An outcome a job, in order; a file that fails is an outcome with its error.

        Raises:
            WeightsError: weights that are missing, wrong or unreachable: none of the files could be done.
            DeviceError: a device that is not to be had.
        """
        for job in jobs:
            if job.skip or job.error:
                yield Outcome(job.source, job.target, error=job.error, skipped=job.skip)
            else:
                yield self._enhance_file(job, saving or Saving(), stdin, max_pixels, measure)

    def _enhance_file(self, job: Job, saving: Saving, stdin: bytes | None, max_pixels: int, measure: bool) -> Outcome:
        seconds: dict[str, float] = {}

        def failed(error: LowlightError) -> Outcome:
            return Outcome(job.source, job.target, seconds, error)

        try:
            with _timed(seconds, "read"):
                if job.source == PIPE:
                    photo = read(stdin or b"", name="standard input", max_pixels=max_pixels)
                else:
                    photo = read(job.source, max_pixels=max_pixels)
            if job.target != PIPE:
                _refuse_unwritable(job.target)
        except LowlightError as error:
            return failed(error)

        # Weights or a device that are not to be had are no fault of this file: they end the whole.
        self._load_timed(seconds)

        try:
            with _timed(seconds, "run"):
                lit = self.enhance_photo(photo)
            untouched = lit.pixels is photo.pixels
            with _timed(seconds, "write"):
                data = self._save(job.target, lit, saving, "" if untouched else self._provenance())
        except MemoryError:
            return failed(ResourceError(f"{job.source}: out of memory: use a smaller picture"))
        except LowlightError as error:
            told = (
                str(error)
                if str(job.source) in str(error) or isinstance(error, OutputError)
                else f"{job.source}: {error}"
            )
            return failed(type(error)(told))
        return Outcome(
            job.source,
            job.target,
            seconds,
            size=(photo.width, photo.height),
            before=_light(photo.pixels) if measure else None,
            after=_light(lit.pixels) if measure else None,
            notes=(*photo.notes, *(["bright already, left alone"] if untouched and self.settings.look.gate else [])),
            data=data,
        )

    def _load_timed(self, seconds: dict[str, float]) -> None:
        """Load, if that is still to be done, and say what it took: the runtime's import apart from the weights."""
        if self._loaded is None:
            with _timed(seconds, "import"):
                engines.prepare(self.settings.engine)
            with _timed(seconds, "weights"):
                self.load()

    def _save(self, target: Path, photo: Photo, saving: Saving, maker: str) -> bytes | None:
        """Write a result; its bytes where it goes to stdout. `maker` is by what it was made."""
        put: Callable[..., bytes | None] = encode
        if target != PIPE:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"{target}: cannot make its folder ({error.strerror}); choose another") from error
            put = functools.partial(write, target)
        return put(
            photo,
            format=saving.format,
            quality=saving.quality,
            depth=saving.depth,
            strip_metadata=saving.strip_metadata,
            strip_gps=saving.strip_gps,
            provenance=maker if maker and saving.provenance and not saving.strip_metadata else None,
        )

    def _provenance(self) -> str:
        """By what a picture was made, in one line."""
        _, resolved = self.load()
        name = resolved.checkpoint.name if resolved.checkpoint else self.settings.model
        return f"lowlight {lowlight_cli.__version__}, {name}, sha256 {resolved.sha256}"


@overload
def enhance(image: Image.Image, model: str = ..., *, strength: float = ...) -> Image.Image: ...
@overload
def enhance(image: NDArray[Sample], model: str = ..., *, strength: float = ...) -> NDArray[Sample]: ...
def enhance(image: object, model: str = lowlight_cli.DEFAULT_MODEL, *, strength: float = 1.0) -> object:
    """Brighten one picture; as `Enhancer(model, strength=strength).enhance(image)`, which is kept for the next call.

    >>> import numpy
    >>> from lowlight_cli import enhance
    >>> enhance(numpy.zeros((16, 24), numpy.uint16)).dtype
    dtype('uint16')
    """
    return _kept(model, strength).enhance(image)  # type: ignore[call-overload]


@functools.lru_cache(maxsize=2)
def _kept(model: str, strength: float) -> Enhancer:
    return Enhancer(model, strength=strength)


def _refuse_unwritable(target: Path) -> None:
    """Raise before the work is done where the target's folder, or the one that it would be made in, takes no files."""
    folder = target.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(f"{target}: {folder} is a file, not a folder; choose another name")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{target}: {folder} cannot be written to; check its permissions or choose another")


def _light(picture: Picture) -> Light:
    black = float((picture <= 0.5 / 255).any(axis=2).mean())
    white = float((picture >= 254.5 / 255).any(axis=2).mean())
    return Light(mean_luma(picture), black, white)


@contextlib.contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
