"""`lowlight batch --ray`: enhance a folder on many machines with Ray (extra `ray`), on storage that all of them share.

    driver      plan, manifest, renaming           this process
    workers     read, run, save                    actors, each with the model loaded, a few pictures in flight

A worker writes a result under its temporary name, `.lowlight-*.part`; the driver adds the line to the manifest and then
gives the picture its final name. So, as on one machine, nothing is lost or done twice, whatever dies. The pictures of a
worker that dies go to other workers; a picture over which several died fails.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from PIL import Image

import lowlight_cli
from lowlight_cli.enhancer import Enhancer
from lowlight_cli.errors import DeviceError, LowlightError, OutputError, ResourceError, UsageError
from lowlight_cli.files import Saving, Work, load
from lowlight_cli.folders.batch import Batch, Stages, settings_hash
from lowlight_cli.folders.manifest import Entry, Manifest
from lowlight_cli.pictures import MAX_PIXELS
from lowlight_cli.pictures.placing import part
from lowlight_cli.signals import ENDING
from lowlight_cli.targets import Job

__all__ = ["enhance_on_cluster"]

CPUS: Final = 4
"""CPUs of a worker in a cluster without GPUs: one network gains little from more threads."""

IN_FLIGHT: Final = 2
"""Pictures per worker: one in work and one waiting, so that it is never idle."""

TRIES: Final = 3
"""Number of workers that die over a picture before it fails, or in a row while starting before the batch does."""

PATIENCE: Final = 5.0
"""Seconds within which a cluster must answer."""


class _Sign(NamedTuple):
    """What must be the same on all machines."""

    version: str
    weights: str
    settings: str


class _Worker:
    """The actor that runs on the machines of the cluster."""

    def begin(self, enhancer: Enhancer, batch: Batch, saving: Saving, max_pixels: int, folder: str) -> _Sign:
        """Load the model, and return what must be the same on all machines.

        Raises:
            DeviceError: this machine does not see the folders.
            WeightsError: weights that are not available.
        """
        try:
            os.chdir(folder)  # so that relative paths mean the same as in the driver
            seen = batch.folder.is_dir() and batch.root.is_dir()
        except OSError:
            seen = False
        if not seen:
            host = socket.gethostname()
            raise DeviceError(f"{host} in the cluster does not see {batch.folder} and {batch.root}: share them")
        Image.init()
        self._entries: list[Entry] = []
        self._stages = Stages(batch, enhancer, saving, max_pixels, self._entries.append, named=False)
        return _sign(enhancer, saving)

    def enhance(self, job: Job) -> tuple[Work, list[Entry]]:
        """Enhance a picture up to its temporary name; return the outcome and the lines for the manifest."""
        self._entries.clear()
        outcome = self._stages.save(self._stages.run(self._stages.read(job)))
        return outcome, list(self._entries)


def _sign(enhancer: Enhancer, saving: Saving) -> _Sign:
    return _Sign(lowlight_cli.__version__, enhancer.load()[1].sha256, settings_hash(enhancer, saving))


def enhance_on_cluster(
    enhancer: Enhancer, batch: Batch, saving: Saving, address: str = "auto", *, max_pixels: int = MAX_PIXELS
) -> Generator[Work, None, None]:
    """As `batch.enhance_folder`, on the workers of a cluster; outcomes come as they are done.

    Args:
        enhancer: what brightens; each worker loads its own.
        batch: from `planned`, on storage that all machines see under the same path.
        saving: how to write.
        address: HOST:PORT of a running cluster; `local` starts one on this machine; `auto` joins one that runs here, or
            starts one.
        max_pixels: larger pictures are refused.

    Yields:
        One outcome per job.

    Raises:
        UsageError: `address` is not an address.
        DeviceError: Ray is not installed, there is no such cluster, or its workers cannot start.
        WeightsError: weights that are not available.
        OutputError, ResourceError: the manifest cannot be written, or a result cannot be renamed.
    """
    try:
        import ray
    except ImportError:
        raise DeviceError("--ray needs an extra: pip install 'lowlight-cli[ray]'") from None
    load(enhancer, {})
    with _connected(ray, address), Manifest(batch.root) as manifest:
        crew = _Crew(ray, enhancer, batch, saving, max_pixels)
        stages = Stages(batch, enhancer, saving, max_pixels, manifest.append)
        try:
            for job, told in crew.outcomes(batch.jobs):
                if isinstance(told, LowlightError):
                    yield stages.save(Work(replace(job, skip=False), error=told))
                    continue
                outcome, entries = told
                for entry in entries:
                    manifest.append(entry)
                if not outcome.error and not outcome.job.skip:
                    _name(job.target)
                yield outcome
        finally:
            crew.dismiss()


def _name(target: Path) -> None:
    """Rename a result from its temporary name to its final one."""
    try:
        part(target).replace(target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror}); go on with --resume") from error


@contextlib.contextmanager
def _connected(ray: ModuleType, address: str) -> Iterator[None]:
    """Join a cluster or start one, and leave it when the block ends, unless the program was connected before."""
    _silence(ray)
    if ray.is_initialized():
        yield
        return
    _refuse_unreachable(address)
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    logging.getLogger("ray").setLevel(logging.ERROR)
    handlers = {number: signal.getsignal(number) for number in ENDING}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # our own cluster sends no usage statistics
    try:
        try:
            ray.init(address=address, **quiet)
        except ConnectionError:
            if address != "auto":
                raise
            ray.init(address="local", include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DeviceError(f"no Ray cluster at {address} ({reason}): start one with `ray start --head`") from error
    for number, handler in handlers.items():  # Ray replaces them with its own
        signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _silence(ray: ModuleType) -> None:
    """Keep Ray's own messages from stdout, which carries our data; Ray has no setting for it."""
    worker = getattr(ray._private, "worker", None)
    if worker is not None and hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


def _refuse_unreachable(address: str) -> None:
    """Check that something answers at the address, because Ray itself keeps trying for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        if address not in ("auto", "local"):
            raise UsageError(f"--ray {address} is not an address: give HOST:PORT, auto or local")
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeviceError(
            f"no Ray cluster at {address} ({reason}): start one with `ray start --head`, or check the address"
        ) from error


@dataclass
class _Flight:
    """A picture that is with a worker."""

    worker: Any
    job: Job
    deaths: int


class _Crew:
    """The workers, and which of them has which picture."""

    def __init__(self, ray: ModuleType, enhancer: Enhancer, batch: Batch, saving: Saving, max_pixels: int) -> None:
        self._ray, self._batch, self._max_pixels = ray, batch, max_pixels
        self._sign = _sign(enhancer, saving)
        gpus, machines = int(ray.cluster_resources().get("GPU", 0)), [n for n in ray.nodes() if n["Alive"]]
        cpus = [int(node["Resources"].get("CPU", 0)) for node in machines]
        share = {"num_gpus": 1} if gpus else {"num_cpus": min(CPUS, max(cpus, default=1))}
        count = gpus or sum(each // share["num_cpus"] for each in cpus) or 1
        self._remote = ray.remote(_Worker).options(**share)
        shared = ray.put(replace(batch, jobs=()))
        self._given = (enhancer, shared, saving, max_pixels, str(Path.cwd()))
        self._starting: dict[Any, Any] = {}
        self._flying: dict[Any, _Flight] = {}
        self._ready: list[Any] = []
        self._failed = 0
        for _ in range(min(count, max(1, len(batch.jobs)))):
            self._start()

    def _start(self) -> None:
        worker = self._remote.remote()
        self._starting[worker.begin.remote(*self._given)] = worker

    def outcomes(self, jobs: tuple[Job, ...]) -> Iterator[tuple[Job, tuple[Work, list[Entry]] | LowlightError]]:
        """Yield each job with what a worker made of it, or with an error if several workers died over it."""
        errors = self._ray.exceptions
        waiting = deque((job, 0) for job in jobs)
        while waiting or self._flying:
            for worker in self._ready:
                while waiting and sum(each.worker is worker for each in self._flying.values()) < IN_FLIGHT:
                    job, deaths = waiting.popleft()
                    self._flying[worker.enhance.remote(job)] = _Flight(worker, job, deaths)
            done = self._ray.wait([*self._flying, *self._starting], num_returns=1)[0][0]
            if done in self._starting:
                self._welcome(done)
                continue
            flight = self._flying[done]
            try:
                told = self._ray.get(done)
            except errors.RayTaskError as error:
                raise LowlightError(f"{flight.job.source}: this is a bug in lowlight: {error.cause}") from error
            except errors.RayError:
                mine = [ref for ref, each in self._flying.items() if each.worker is flight.worker]
                lost = [self._flying.pop(ref) for ref in mine]
                self._ready.remove(flight.worker)
                self._start()
                lost[0].deaths += 1  # the one in work; the others only waited
                for each in reversed(lost):
                    if each.deaths < TRIES:
                        waiting.appendleft((each.job, each.deaths))
                    else:
                        reason = f"{TRIES} workers died over it, of too little memory perhaps"
                        yield each.job, ResourceError(f"{each.job.source}: {reason}: use a smaller model or --memory")
                continue
            del self._flying[done]
            yield flight.job, told

    def _welcome(self, ref: Any) -> None:
        """Handle a worker that has loaded its model, or has failed to."""
        worker = self._starting.pop(ref)
        errors = self._ray.exceptions
        try:
            sign = self._ray.get(ref)
        except errors.RayTaskError as error:
            if isinstance(error.cause, LowlightError):
                raise error.cause from error
            raise LowlightError(f"a worker cannot start, this is a bug in lowlight: {error.cause}") from error
        except errors.RayError as error:
            self._failed += 1
            if self._failed >= TRIES:
                reason = " ".join(str(error).split())[-300:]
                raise DeviceError(f"the workers of the cluster do not start: {reason}") from error
            self._start()
            return
        if sign != self._sign:
            raise DeviceError(
                f"a worker has lowlight {sign.version} with weights {sign.weights[:12]}, this is {self._sign.version} "
                f"with {self._sign.weights[:12]}: install the same everywhere"
            )
        self._failed = 0
        self._ready.append(worker)

    def dismiss(self) -> None:
        """End all workers, and drop the pictures that they have."""
        for worker in (*self._ready, *self._starting.values()):
            self._ray.kill(worker)
        for flight in self._flying.values():
            if not self._batch.recorded(flight.job):  # --resume will rename one that has its line
                with contextlib.suppress(OSError):
                    part(flight.job.target).unlink(missing_ok=True)
