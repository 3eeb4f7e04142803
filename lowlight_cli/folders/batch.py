"""Enhance a folder of pictures: overlapping stages, a manifest line for each picture, and runs that can be resumed.

    read     hash, look up in the manifest, decode     threads
    run      the network                               the caller's thread, or several: see `pace`
    save     encode, hash, record, rename              threads

Only a few pictures wait between the stages. A picture that fails is yielded with its error, and the others go on; the
batch ends early only if the manifest cannot be written or the weights are not available.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISDIR
from typing import Final

from PIL import Image

import lowlight_cli
from lowlight_cli.disk import keep_mode, sha256
from lowlight_cli.enhancer import Enhancer
from lowlight_cli.errors import InputError, LowlightError, OutputError, ResourceError, UsageError, exhausted
from lowlight_cli.files import Saving, Work, brightened, load, opened, saved
from lowlight_cli.folders.manifest import NAME, Entry, Manifest, Record
from lowlight_cli.folders.pace import at_once, callers
from lowlight_cli.light import figures
from lowlight_cli.look import EDITION
from lowlight_cli.overlap import overlapped
from lowlight_cli.pictures import FORMATS, MAX_PIXELS, READ_ONLY, place, suffix_of
from lowlight_cli.pictures.placing import part
from lowlight_cli.targets import PIPE, Job, Search, exists, is_dir, lit_folder, occupied, plan, same

__all__ = [
    "Batch", "Stages", "enhance_folder", "has_size", "output_folder", "part", "planned", "prepare",
    "settings_hash",
]  # fmt: skip

THREADS: Final = 2
THREADS_OF_A_GPU: Final = 4
"""Threads that read, and as many that save; a CPU that also runs the network has no more to spare."""

_NO_MATTER: Final = ("weights", "device", "compiled", "offline", "tiling")
"""Settings that a result does not depend on, or that the manifest records separately."""


@dataclass(frozen=True)
class Batch:
    """A planned batch: everything is decided before any work.

    Attributes:
        folder: where the pictures are.
        root: where the results go, with the manifest.
        jobs: source and target of each picture.
        records: results that the manifest lists, by the input's path below `folder` and the output's below `root`;
            empty unless resuming.
    """

    folder: Path
    root: Path
    jobs: tuple[Job, ...]
    records: Mapping[tuple[str, str], Record]

    def recorded(self, job: Job) -> Record | None:
        """The manifest's record of this job's result; None if there is none."""
        return self.records.get((_below(job.source, self.folder), _below(job.target, self.root)))

    @functools.cached_property
    def home(self) -> str:
        """`folder`, absolute."""
        return str(self.folder.resolve())

    def decided(self, job: Job, record: Record | None, done: bool) -> Job:
        """Decide what becomes of a job that was planned.

        Args:
            job: as it was planned.
            record: from `recorded`.
            done: the record has the same input, weights and settings, and the result is whole.
        """
        if record and done:
            return replace(job, skip=True, error=None)
        if not record or not (job.skip or isinstance(job.error, OutputError)):
            return job
        if record.folder != self.home:
            return job  # the result of another folder: treated as `--exist` says
        return replace(job, skip=False, error=None, exist="overwrite")


def output_folder(folder: Path, output: Path | None) -> Path:
    """The output folder of a batch; if `output` is None, FOLDER_lit beside `folder`.

    Raises:
        UsageError: one of them is not a folder, or both are the same.
        InputError: `folder` does not exist.
    """
    try:
        mode = folder.stat().st_mode
    except OSError as error:
        raise InputError(f"{folder}: no such folder ({error.strerror})") from error
    if not S_ISDIR(mode):
        raise UsageError(f"{folder} is not a folder: use `lowlight enhance {folder}`")
    root = lit_folder(folder) if output is None else output
    if root == PIPE or (root.suffix.lower() in FORMATS and not is_dir(root)):
        raise UsageError(f"-o {root} is the name of one picture: name a folder")
    if same(folder, root):
        raise UsageError(f"-o {root} is the folder itself: name another one")
    return root


def planned(
    folder: Path,
    root: Path,
    search: Search,
    *,
    format: str,
    exist: str,
    known: Iterator[Mapping[tuple[str, str], Record]] | None = None,
    apart: bool = False,
) -> Batch:
    """Find the pictures and decide every target.

    Args:
        folder: where to search.
        root: from `output_folder`.
        search: from `search.chosen`.
        format: `keep` or a format's name.
        exist: one of `targets.EXIST`: what to do if a target exists.
        known: from `manifest.followed`, to resume; None: the manifest is not used.
        apart: jobs whose names collide get an error each, rather than ending the batch.

    Raises:
        UsageError: names that collide, see `targets.plan`; or `known` together with `exist` "number".
        InputError: no picture is found.
        OutputError: `root` has results of an earlier batch, and neither `known` nor `exist` says what to do with them.
    """
    if known and exist == "number":
        raise UsageError("--resume and --exist number exclude each other: a resumed batch keeps the names that it gave")
    suffix = None if format == "keep" else suffix_of(format)
    jobs = plan(
        [folder], root, formats=FORMATS, become=READ_ONLY, suffix=suffix, exist=exist, search=search, apart=apart
    )
    if not known and exist == "error" and exists(root / NAME) and any(_exists(job) for job in jobs):
        raise OutputError(f"{root} has results of an earlier batch: add --resume, or --exist skip, overwrite or number")
    if exist == "number":  # a number taken meanwhile is an error, or two threads could choose the same
        jobs = [replace(job, exist="error") for job in jobs]
    return Batch(folder, root, tuple(jobs), next(known) if known else {})


def prepare(enhancer: Enhancer, pictures: Sequence[Path]) -> None:
    """Load the enhancer unless it is loaded; the number and size of the pictures decide what runs them.

    Raises:
        WeightsError, DeviceError: weights or a device that are not available.
    """
    if not enhancer.loaded:
        enhancer.expect(len(pictures), at_once(enhancer.settings, pictures))
    load(enhancer, {})


def enhance_folder(
    enhancer: Enhancer, batch: Batch, saving: Saving, *, max_pixels: int = MAX_PIXELS
) -> Generator[Work, None, None]:
    """Carry out a planned batch; call it inside `manifest.claimed(batch.root)`.

    If the caller stops, results being written are finished and recorded, and the rest is dropped.

    Args:
        enhancer: what brightens.
        batch: from `planned`.
        saving: how to write.
        max_pixels: larger pictures are refused.

    Yields:
        The finished work of each job, in order; those that the manifest lists as done are skipped.

    Raises:
        WeightsError, DeviceError: weights or a device that are not available.
        OutputError, ResourceError: the manifest cannot be written.
    """
    pictures = [job.source for job in batch.jobs if not job.skip]
    prepare(enhancer, pictures)
    Image.init()  # Pillow would do this at the first picture, where threads would race
    with Manifest(batch.root) as manifest:
        stages = Stages(batch, enhancer, saving, max_pixels, manifest.append)
        threads = THREADS if stages.device == "cpu" else THREADS_OF_A_GPU
        with (
            contextlib.closing(overlapped(stages.read, batch.jobs, threads)) as read,
            contextlib.closing(_lit(stages, read, callers(enhancer, pictures))) as lit,
            contextlib.closing(overlapped(stages.save, lit, threads, prompt=True)) as outcomes,
        ):
            yield from outcomes


def _lit(stages: Stages, read: Iterator[Work], threads: int) -> Generator[Work, None, None]:
    """Run the network on what was read."""
    yield from map(stages.run, read) if threads == 1 else overlapped(stages.run, read, threads)


def settings_hash(enhancer: Enhancer, saving: Saving) -> str:
    """sha256 over all settings that a result depends on, except the weights."""
    settings = {name: value for name, value in asdict(enhancer.settings).items() if name not in _NO_MATTER}
    told = json.dumps({**settings, "saving": asdict(saving), "edition": EDITION}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


class Stages:
    """The work on each file; no state passes from one file to the next."""

    def __init__(
        self,
        batch: Batch,
        enhancer: Enhancer,
        saving: Saving,
        max_pixels: int,
        record: Callable[[Entry], None],
        *,
        named: bool = True,
    ) -> None:
        """Prepare what all files share.

        Args:
            batch: from `planned`.
            enhancer: loaded here unless it is already.
            saving: how to write.
            max_pixels: larger pictures are refused.
            record: writes a line to the manifest.
            named: give results their final names; else they keep the temporary one, `part`.
        """
        engine, resolved = enhancer.load()
        self.device = engine.device
        self._weights, self._settings = resolved.sha256, settings_hash(enhancer, saving)
        self._batch, self._enhancer, self._saving, self._max_pixels = batch, enhancer, saving, max_pixels
        self._record, self._named = record, named

    def read(self, job: Job) -> Work:
        """Hash and decode a picture, unless the manifest says that it is done and the output is whole."""
        work = Work(job, error=job.error)
        record = self._batch.recorded(job)
        if record is None and (job.error or job.skip):
            return work
        start, digest = time.perf_counter(), None
        try:
            data = _content(job.source)
            digest = hashlib.sha256(data).hexdigest() if data is not None else None
            done = record is not None and self._is_done(digest, record) and _is_there(job.target, record)
            job = self._batch.decided(job, record, done)
            work = Work(job, error=job.error)
            if not (job.error or job.skip):
                work = opened(job, self._saving, data, max_pixels=self._max_pixels, measure=True)
        except Exception as error:
            work.error = _surprise(job, error)
        work.sha256, work.seconds["read"] = digest, time.perf_counter() - start
        return work

    def run(self, work: Work) -> Work:
        """Run the network."""
        if not work.job.skip:
            try:
                brightened(work, self._enhancer, compare=self._saving.compare)
            except Exception as error:
                work.error = _surprise(work.job, error)
        return work

    def save(self, work: Work) -> Work:
        """Write and record the result; return the work without its pictures."""
        job = work.job
        if job.skip:
            return Work(job)
        try:
            put = functools.partial(self._put, work)
            made = saved(work, self._enhancer, self._saving, put, measure=True)
        except Exception as error:
            made = Work(job, work.seconds, error=_surprise(job, error))
        if made.error:
            with contextlib.suppress(OSError):  # left by a batch that was killed
                part(job.target).unlink(missing_ok=True)
            told = {"code": made.error.exit_code, "message": str(made.error)}
            self._record(replace(self._entry(work), error=told))
        return made

    def _put(self, work: Work, job: Job, data: bytes) -> None:
        """Sync a result to disk under its temporary name, record it, and then give it its final name."""
        if job.anew and occupied(job.target):
            raise FileExistsError  # before recording, or another batch would take that file for the result
        start, seconds = time.perf_counter(), work.seconds
        digest = hashlib.sha256(data).hexdigest()

        def record() -> None:
            spent = seconds.get("write", 0.0) + time.perf_counter() - start
            entry = self._entry(replace(work, seconds={**seconds, "write": spent}))
            self._record(replace(entry, output_sha256=digest, output_bytes=len(data)))

        first = part(job.target)
        if self._named:
            place(job.target, data, anew=job.anew, beside=first, ready=record)
        else:
            place(first, data, beside=first, ready=record)
            keep_mode(first, job.target)

    def _entry(self, work: Work) -> Entry:
        """The manifest line of a file, with what is known of it."""
        return Entry(
            folder=self._batch.home,
            input=_below(work.job.source, self._batch.folder),
            output=_below(work.job.target, self._batch.root),
            input_sha256=work.sha256,
            weights=self._weights,
            settings=self._settings,
            device=self.device,
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            version=lowlight_cli.__version__,
            seconds={stage: round(value, 4) for stage, value in work.seconds.items()},
            size=work.size,
            **figures(work.before, work.after),
        )

    def _is_done(self, sha256: str | None, record: Record) -> bool:
        """Whether the same result would be made again."""
        return (sha256, self._weights, self._settings) == (record.input_sha256, record.weights, record.settings)


def _is_there(target: Path, record: Record) -> bool:
    """Whether the output is whole; one that was not renamed before the program was killed is renamed now."""
    first = part(target)
    if _is_whole(target, record):
        with contextlib.suppress(OSError):  # killed while it had both names
            first.unlink(missing_ok=True)
        return True
    if not _is_whole(first, record):
        return False
    first.replace(target)
    return True


def _is_whole(path: Path, record: Record) -> bool:
    try:
        return has_size(path, record) and sha256(path) == record.output_sha256
    except OSError:
        return False


def has_size(path: Path, record: Record) -> bool:
    """Whether the file has the recorded size: a quick substitute for comparing hashes."""
    try:
        return path.stat().st_size == record.output_bytes
    except OSError:
        return False


def _content(path: Path) -> bytes | None:
    """The file's bytes; None if it cannot be read, for which `pictures.read` gives the reason."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _surprise(job: Job, error: Exception) -> LowlightError:
    """Wrap an unexpected error of one file, so that the others go on."""
    if told := exhausted(error):
        return ResourceError(f"{job.source}: {told}")
    return LowlightError(f"{job.source}: this is a bug in lowlight: {type(error).__name__}: {error}")


def _exists(job: Job) -> bool:
    return isinstance(job.error, OutputError)


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
