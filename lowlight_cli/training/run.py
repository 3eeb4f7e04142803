"""A training run's settings and log: plain values, the lines of log.jsonl, and the folder they go to."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from lowlight_cli import __version__
from lowlight_cli.disk import refuse_link, replaced, takes_files
from lowlight_cli.errors import OutputError, unwritten
from lowlight_cli.training.origin import Origin
from lowlight_cli.training.recipe import Recipe
from lowlight_cli.training.sources import Source

__all__ = ["SHEETS", "Progress", "Run", "Scores", "begin", "clear", "log_to", "logged", "writing"]

SHEETS: Final = f"{'[0-9]' * 8}.jpg"
"""A glob for the contact sheets in `validation/`."""

PASSING: Final = ("output", "cache", "init", "resume", "overwrite", "threads", "tensorboard")
"""Fields of `Run` that do not affect its result: paths and data loading; `origin` identifies the contents of `init`."""


@dataclass(frozen=True)
class Run:
    """What to train, on which data, for how long, and where to write it.

    The run ends after `steps` or `minutes`, whichever comes first; the schedule ends with it. `init` is a checkpoint to
    start from, `resume` continues from the state in `output`, `overwrite` replaces it. `threads` is the number of
    threads that prepare batches. `validate` whole pictures are evaluated every `every` steps and at the end.
    `tensorboard` adds a TensorBoard log. `compiled` compiles the losses, which takes a minute and pays off in long runs
    on a GPU.

    `train` sets the rest: `processes`; `origin`, which describes `init`; `earlier`, the sources that a resumed run used
    before it was given others.
    """

    model: str
    sources: tuple[Source, ...]
    output: Path
    cache: Path
    recipe: Recipe
    steps: int = 10_000
    minutes: float = math.inf
    tag: str = "own"
    seed: int = 0
    device: str = "cpu"
    bf16: bool = True
    init: Path | None = None
    resume: bool = False
    overwrite: bool = False
    threads: int = 2
    every: int = 500
    validate: int = 8
    tensorboard: bool = False
    compiled: bool = False
    processes: int = 1
    origin: Origin | None = None
    earlier: tuple[tuple[Source, ...], ...] = ()

    @property
    def state(self) -> Path:
        """The file with the state to resume from."""
        return self.output / "state.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The file with the resulting weights."""
        return self.output / f"{self.model}.{self.tag}.safetensors"

    @property
    def best(self) -> Path:
        """The file with the weights of the best validation."""
        return self.checkpoint.with_suffix(".best.safetensors")

    def described(self) -> str:
        """Return the run as JSON with paths, numbers and program versions; infinite values are null."""
        versions = {"lowlight": __version__, "torch": torch.__version__}
        told = _finite(dataclasses.asdict(self)) | {"versions": versions, "config": self.config()}
        return json.dumps(told, default=str, indent=2)

    def config(self) -> str:
        """Return the sha256 of all settings but `PASSING`: equal runs have equal hashes, wherever they are written."""
        told = {key: value for key, value in dataclasses.asdict(self).items() if key not in PASSING}
        told |= {key: self.settings()[key] for key in ("sources", "earlier")}
        return hashlib.sha256(json.dumps(_finite(told), sort_keys=True).encode()).hexdigest()

    def settings(self) -> dict[str, Any]:
        """Return what a resumed run must match (model, numbers and seed) and what it keeps unless told otherwise."""
        return {
            "model": self.model,
            "seed": self.seed,
            "recipe": dataclasses.asdict(self.recipe),
            "sources": _plain(self.sources),
            "earlier": [_plain(sources) for sources in self.earlier],
            "bf16": self.bf16,
            "every": self.every,
            "validate": self.validate,
            "init": str(self.init.absolute()) if self.init else None,
            "origin": dataclasses.asdict(self.origin) if self.origin else None,
        }

    def data(self) -> str:
        """Return the data seen so far, in order, by kind and share; without paths, since it may be published."""
        seen = [self.origin.data] if self.origin else []
        for sources in (*self.earlier, self.sources):
            told = " ".join(f"{source.kind}@{source.weight:g}" for source in sources)
            if seen[-1:] != [told]:
                seen.append(told)
        return "; then ".join(seen)

    def numbers(self) -> str:
        """Return the numbers of recipe and run as JSON, without paths, since the checkpoint may be published."""
        run = {key: getattr(self, key) for key in ("steps", "minutes", "seed", "bf16", "processes")}
        return json.dumps(_finite(dataclasses.asdict(self.recipe) | run))


@dataclass(frozen=True)
class Scores:
    """Mean scores over the validation pictures: PSNR in dB, SSIM up to 1."""

    psnr: float
    psnr_gt_mean: float
    ssim: float
    pictures: int


@dataclass(frozen=True)
class Progress:
    """One line of the log.

    `share` is the part of the run that is done, `left` the seconds to go, `waiting` the share of time spent waiting for
    batches. `loss` is the mean since the previous line, over steps that were not skipped. `note` has a message for the
    user, usually empty. `times` are shares of the time since the previous line: `data`, `forward`, `backward`,
    `optimiser`, `exchange` (between processes), `evaluation`, `saving`. `judge` is the mean of the adversary's loss,
    like `loss`; None in stages without one.
    """

    step: int
    loss: float
    rate: float
    steps_per_second: float
    share: float
    left: float
    waiting: float
    scores: Scores | None = None
    stage: str = ""
    note: str = ""
    times: Mapping[str, float] = field(default_factory=dict)
    judge: float | None = None

    def fields(self) -> dict[str, Any]:
        """Return the measurement for JSON, with None for non-finite numbers."""
        return _finite(dataclasses.asdict(self))

    def line(self) -> str:
        """Return the measurement as one line of JSON."""
        return json.dumps(self.fields())


def _plain(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Convert sources to plain values for JSON."""
    return [
        {"kind": each.kind, "paths": [str(path.absolute()) for path in each.paths], "weight": each.weight}
        for each in sources
    ]


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Replace non-finite numbers, which JSON cannot express, by None."""
    inner = {key: _finite(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in inner.items()}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors while writing a file or folder of the run into ones that name it and say what to do.

    Raises:
        OutputError: it cannot be written.
        ResourceError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise unwritten(path, error, "choose another folder with -o") from error


def begin(run: Run) -> None:
    """Check that the run's folder can be created or written to, and holds no other run that would be lost.

    Raises:
        OutputError: it cannot be written, holds a link, or has a run that is to be neither resumed nor overwritten.
    """
    for name in ("log.jsonl", "run.json"):
        refuse_link(run.output / name)
    with writing(run.output):
        there = next((path for path in (run.state, run.checkpoint, run.best) if path.exists()), None)
    if there and not run.resume and not run.overwrite:
        raise OutputError(
            f"{there} is there, of a run before: --resume goes on with it, another -o leaves it alone, "
            "--exist overwrite replaces it"
        )
    if not takes_files(run.output):
        raise OutputError(f"{run.output} cannot be written to; check its permissions or choose another with -o")


def clear(run: Run) -> None:
    """Remove the files of a previous run; those with other names (other tags, the user's pictures) stay."""
    sheets = (run.output / "validation").glob(SHEETS)
    events = (run.output / "tensorboard").glob("events.out.tfevents.*")
    for path in (run.state, run.best, run.output / "log.jsonl", run.output / "validation.jpg", *sheets, *events):
        with writing(path):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def log_to(path: Path, step: int) -> Iterator[Callable[[str], None]]:
    """Open the log and yield a function that writes a line; only lines up to `step`, the resumed state's, are kept.

    Raises:
        OutputError: it cannot be written.
        ResourceError: the disk is full.
    """
    with writing(path):
        for part in path.parent.glob(f".{path.name}.*.part"):  # left by a kill at this point
            part.unlink()
        told = path.read_bytes() if path.is_file() else b""
        kept = b"".join(line for line in told.splitlines(keepends=True) if _step(line) <= step) if step >= 0 else b""
        if kept != told:
            with replaced(path) as part:
                part.write_bytes(kept)
        file = path.open("ab", buffering=0)
    with file:

        def write(line: str) -> None:
            with writing(path):
                file.write(line.encode() + b"\n")

        yield write


def logged(path: Path, step: int) -> bool:
    """Return whether the log has a line of this step."""
    with writing(path):
        return path.is_file() and any(_step(line) == step for line in path.read_bytes().splitlines())


def _step(line: bytes) -> float:
    """Return the step of a line; infinity if it is incomplete, as a kill leaves it."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
