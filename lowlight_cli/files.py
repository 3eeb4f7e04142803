"""Read, enhance and write files one by one: what a command does with an Enhancer.

A file that fails is yielded with its error, and the remaining files are still processed. Unavailable weights or
an unavailable device raise instead, because no file could be enhanced.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import lowlight_cli
from lowlight_cli import engines
from lowlight_cli.enhancer import Enhancer
from lowlight_cli.errors import DeviceError, LowlightError, OutputError, ResourceError, UsageError, exhausted
from lowlight_cli.light import Light, light
from lowlight_cli.pictures import FORMATS, MAX_PIXELS, Photo, encode, format_of, place, read, refuse_unfit
from lowlight_cli.pictures.formats import KINDS
from lowlight_cli.pictures.xmp import is_ours
from lowlight_cli.sheets import beside
from lowlight_cli.targets import PIPE, Job, exists, landed

__all__ = [
    "Saving",
    "Work",
    "brightened",
    "enhance_files",
    "load",
    "make_folder",
    "opened",
    "refuse_unwritable",
    "saved",
    "timed",
]


@dataclass(frozen=True)
class Saving:
    """How to write a result. All but `provenance` and `compare` are arguments of `pictures.encode`.

    Attributes:
        format: `keep` or the name of a format.
        quality: quality of JPEG, WebP and AVIF files.
        depth: bits per sample.
        strip_metadata: write no EXIF, XMP or text.
        strip_gps: write no location.
        provenance: record in the file which model made it.
        compare: write input and result side by side, with labels, instead of the result.

    Raises:
        UsageError: the format cannot hold that many bits, or is unknown.
    """

    format: str = "keep"
    quality: int | None = None
    depth: Literal["keep", 8, 16] = "keep"
    strip_metadata: bool = False
    strip_gps: bool = False
    provenance: bool = True
    compare: bool = False

    def __post_init__(self) -> None:
        """Check that `depth` suits `format`."""
        if self.format == "keep":
            return
        if not KINDS[format_of(self.format)].deep and self.depth == 16:
            holds = " or ".join(kind.name for kind in KINDS.values() if kind.deep)
            raise UsageError(f"--format {self.format} does not hold 16 bits a sample: choose --format {holds}")

    def kind(self, target: Path) -> str:
        """Return the format to write to `target`: a name that `encode` knows, or `keep`."""
        return FORMATS.get(target.suffix.lower(), "keep") if self.format == "keep" else self.format


@dataclass
class Work:
    """One file on its way through `opened`, `brightened` and `saved`, each of which may run in its own thread.

    Attributes:
        job: source and target; after `saved`, as it was done.
        seconds: time per stage completed so far: read, run and write; the first file also has import and weights.
        photo: the input picture, then the result, and None once it is encoded.
        original: the input picture, if it is to be shown beside the result.
        untouched: the result equals the input.
        error: why there is no result; later stages then do nothing.
        size: width and height in pixels.
        before, after: brightness of the input and of the result, if it was measured.
        notes: remarks of one line each, such as what could not be preserved.
        tiles: number of tiles that the picture was cut into; 1 means whole.
        left: the picture was already bright and is unchanged.
        data: content of the file, if the target is stdout.
        sha256: the SHA-256 of the input's content, 64 hex digits; only in a batch, for its manifest.
    """

    job: Job
    seconds: dict[str, float] = field(default_factory=dict)
    photo: Photo | None = field(default=None, repr=False)
    original: Photo | None = field(default=None, repr=False)
    untouched: bool = False
    error: LowlightError | None = None
    size: tuple[int, int] | None = None
    before: Light | None = None
    after: Light | None = None
    notes: tuple[str, ...] = ()
    tiles: int = 1
    left: bool = False
    data: bytes | None = field(default=None, repr=False)
    sha256: str | None = None

    @property
    def name(self) -> str:
        """The name of the file in messages."""
        return "standard input" if self.job.source == PIPE else str(self.job.source)


def enhance_files(
    enhancer: Enhancer,
    jobs: Iterable[Job],
    saving: Saving | None = None,
    *,
    stdin: bytes | None = None,
    max_pixels: int = MAX_PIXELS,
    measure: bool = False,
) -> Generator[Work, None, None]:
    """Read, brighten and write pictures.

    Args:
        enhancer: brightens the pictures.
        jobs: the jobs, from `targets.plan`.
        saving: how to write the results.
        stdin: content of the source `PIPE`.
        max_pixels: refuse larger pictures.
        measure: record the brightness before and after in the outcomes.

    Yields:
        The finished work of each job, in order.

    Raises:
        WeightsError: the weights are missing, wrong or unreachable.
        DeviceError: the device is not available.
    """
    for job in jobs:
        if job.skip or job.error:
            yield Work(job, error=job.error)
        else:
            yield _enhance_file(enhancer, job, saving or Saving(), stdin, max_pixels, measure)


def _enhance_file(
    enhancer: Enhancer, job: Job, saving: Saving, stdin: bytes | None, max_pixels: int, measure: bool
) -> Work:
    data = stdin or b"" if job.source == PIPE else None
    work = opened(job, saving, data, max_pixels=max_pixels, measure=measure)
    if not work.error:
        load(enhancer, work.seconds)  # an error here is not the fault of this file
    work = brightened(work, enhancer, compare=saving.compare)
    return saved(work, enhancer, saving, measure=measure)


def opened(
    job: Job, saving: Saving, data: bytes | None = None, *, max_pixels: int = MAX_PIXELS, measure: bool = False
) -> Work:
    """First stage: read the picture, and check that the target is writable and its format can hold the picture.

    Args:
        job: names the source and the target.
        saving: how the result will be written.
        data: content of the source, if it was read already.
        max_pixels: refuse larger pictures.
        measure: measure the brightness.
    """
    work = Work(job)
    with _kept(work), timed(work.seconds, "read"):
        if data is None:
            work.photo = read(job.source, max_pixels=max_pixels)
        else:
            work.photo = read(data, name=work.name, max_pixels=max_pixels)
        if job.target != PIPE:
            refuse_unwritable(job.target)
        # `beside` drops transparency and further pages, so the format need not hold them
        shown = replace(work.photo, alpha=None, rest=()) if saving.compare else work.photo
        refuse_unfit(shown, format=saving.kind(job.target), depth=saving.depth)
        work.size, work.notes = (work.photo.width, work.photo.height), work.photo.notes
        work.before = light(work.photo.pixels) if measure else None
    return work


def brightened(work: Work, enhancer: Enhancer, *, compare: bool = False) -> Work:
    """Second stage: replace the picture by its result; `compare` keeps the input. Failed work is returned as it is."""
    if work.error or not work.photo:
        return work
    with _kept(work), timed(work.seconds, "run"):
        attempts: list[int] = []
        photo = replace(work.photo, rest=()) if compare else work.photo
        lit = enhancer.enhance_photo(photo, attempts.append)
        pages = list(zip((lit, *lit.rest), (photo, *photo.rest), strict=True))
        work.untouched = all(after.pixels is before.pixels for after, before in pages)
        if work.untouched and enhancer.settings.look.strength:  # by the gate; a strength of 0 changes nothing anyway
            work.notes, work.left = (*work.notes, "bright already, left alone"), True
        elif not work.untouched and photo.xmp and is_ours(photo.xmp):
            work.notes = (*work.notes, "was made by lowlight already, and is brightened once more")
        work.notes = (*work.notes, *_retried(attempts))
        work.tiles = attempts[-1] if attempts else 1
        if compare and work.photo.rest:
            work.notes = (*work.notes, "only its first page is shown")
        work.original, work.photo = photo if compare else None, lit
    return work


def _put(job: Job, data: bytes) -> None:
    place(job.target, data, anew=job.anew)


def saved(
    work: Work, enhancer: Enhancer, saving: Saving, put: Callable[[Job, bytes], None] = _put, *, measure: bool = False
) -> Work:
    """Last stage: encode the result and write it to its target. Of work that fails, only error and times are returned.

    Args:
        work: the work, from `brightened`; its pictures are released.
        enhancer: what made the picture.
        saving: how to write.
        put: writes the file of a job atomically; raises FileExistsError as `landed` expects, and otherwise as `place`.
        measure: measure the brightness.
    """
    job, data = work.job, b""
    with _kept(work):
        if work.photo and not work.error:
            with timed(work.seconds, "write"):
                both = beside(work.original, work.photo) if work.original else None
                notes: list[str] = []
                told = saving.provenance and not saving.strip_metadata and not work.untouched
                data = encode(
                    both or work.photo,
                    format=saving.kind(job.target),
                    quality=saving.quality,
                    depth=saving.depth,
                    strip_metadata=saving.strip_metadata,
                    strip_gps=saving.strip_gps,
                    provenance=_maker(enhancer) if told else None,
                    on_note=notes.append,
                )
                work.notes = (*work.notes, *notes)
            work.after = light(work.photo.pixels) if measure else None
            both = work.photo = work.original = None
            with timed(work.seconds, "write"):
                if job.target != PIPE:
                    make_folder(job.target)
                    job = landed(job, lambda job: put(job, data))
    if work.error or job.skip:  # without pictures, as what is returned may wait for its turn
        return Work(job, work.seconds, error=work.error)
    return replace(work, job=job, data=data if job.target == PIPE else None)


@contextlib.contextmanager
def _kept(work: Work) -> Iterator[None]:
    """Catch an error of one file and store it in `work.error`, with the name of the file in the message."""
    try:
        yield
    except LowlightError as error:
        named = any(str(path) in str(error) for path in (work.name, work.job.target) if path != PIPE)
        work.error = error if named else type(error)(f"{work.name}: {error}")
    except Exception as error:
        if not (told := exhausted(error)):
            raise
        work.error = ResourceError(f"{work.name}: {told}")


def load(enhancer: Enhancer, seconds: dict[str, float]) -> None:
    """Load the enhancer unless it is loaded, and add the time taken to `seconds`: `import` (runtime) and `weights`.

    Raises:
        WeightsError: the weights are missing, wrong or unreachable.
        DeviceError: the device is not available.
    """
    if not enhancer.loaded:
        with timed(seconds, "weights"):
            choice = enhancer.choose()
        with timed(seconds, "import"), contextlib.suppress(DeviceError):  # `load` reports it, or takes another engine
            engines.prepare(choice.engine)
        with timed(seconds, "weights"):
            enhancer.load()


def make_folder(target: Path) -> None:
    """Create the parent folder of a target if it is missing. Raises OutputError if that fails."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: cannot make its folder ({error.strerror}); choose another") from error


def _retried(attempts: list[int]) -> list[str]:
    """Return a note if memory ran out on the way; `attempts` are the tile counts that `enhance_photo` reports."""
    again = [tiles for failed, tiles in itertools.pairwise(attempts) if not failed]
    return [f"the memory gave out, begun again in {again[-1]} tiles"] if again else []


def _maker(enhancer: Enhancer) -> str:
    """Return the provenance line: version, checkpoint and hash of the weights."""
    _, resolved = enhancer.load()
    name = resolved.checkpoint.name if resolved.checkpoint else enhancer.settings.model
    return f"lowlight {lowlight_cli.__version__}, {name}, sha256 {resolved.sha256}"


def refuse_unwritable(target: Path) -> None:
    """Raise OutputError, before any work, if the target's folder or its nearest existing parent is not writable."""
    folder = target.parent
    while not exists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(f"{target}: {folder} is a file, not a folder; choose another name")
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise OutputError(f"{target}: {folder} cannot be written to; check its permissions or choose another")


@contextlib.contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the run time of the block to that of its stage in `seconds`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
