"""What a run is given and what it tells: plain values and lines of a log."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lowlight_cli.errors import OutputError, ResourceError
from lowlight_cli.training.data import Source
from lowlight_cli.training.recipe import Recipe
from lowlight_cli.weights.disk import disk_full

__all__ = ["Progress", "Run", "Scores", "log_to"]


@dataclass(frozen=True)
class Run:
    """What to train, from what, for how long, and where to.

    `steps` or `minutes` ends the run, whichever comes first; the schedule ends with it. `init` is a checkpoint to start
    from, `resume` goes on with the state in `output`. `threads` prepare batches. `validate` whole pictures are looked
    at every `every` steps and at the end. `tensorboard` writes the log for it too. `compiled`: steps are fused
    first, which takes a minute and pays in long runs on a GPU. `processes` is set by `train`.
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
    threads: int = 2
    every: int = 500
    validate: int = 8
    tensorboard: bool = False
    compiled: bool = False
    processes: int = 1

    def described(self) -> str:
        """The run as JSON, paths and numbers alike; null for what has no bound."""
        return json.dumps(_finite(dataclasses.asdict(self)), default=str, indent=2)

    def numbers(self) -> str:
        """The recipe's numbers and the run's as JSON, without paths: for a checkpoint, which may be published."""
        run = {key: getattr(self, key) for key in ("steps", "minutes", "seed", "bf16", "processes")}
        return json.dumps(_finite(dataclasses.asdict(self.recipe) | run))


@dataclass(frozen=True)
class Scores:
    """Means over validation pictures, in dB and as a share."""

    psnr: float
    psnr_gt_mean: float
    ssim: float
    pictures: int


@dataclass(frozen=True)
class Progress:
    """One line of the log.

    `share` of the run done, `left` in seconds, `waiting` the share of the steps' time without data. `loss` is the mean
    since the line before, of the steps where it was a number. `note` says what somebody should know, mostly nothing.
    `times` are shares of all time since the line before: `data`, `forward`, `backward`, `optimiser`, `exchange` between
    processes, `evaluation`, `saving`.
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

    def fields(self) -> dict[str, Any]:
        """The measurement for JSON, which has no word for what is no number: None."""
        return _finite(dataclasses.asdict(self))

    def line(self) -> str:
        """The measurement as one line of JSON."""
        return json.dumps(self.fields())


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """The same, with None for what JSON has no word for."""
    inner = {key: _finite(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in inner.items()}


@contextlib.contextmanager
def log_to(path: Path, step: int) -> Iterator[Callable[[str], None]]:
    """The log, for writing lines to it; it keeps those up to `step`, of which a resumed run's state knows.

    Raises:
        OutputError: it cannot be written.
        ResourceError: the disk is full.
    """
    kept = (
        [line for line in path.read_bytes().splitlines(keepends=True) if _known(line, step)]
        if step >= 0 and path.is_file()
        else []
    )
    path.write_bytes(b"".join(kept))
    with path.open("ab", buffering=0) as file:

        def write(line: str) -> None:
            try:
                file.write(line.encode() + b"\n")
            except OSError as error:
                if disk_full(error):
                    raise ResourceError(f"the disk is full: {path} cannot go on") from error
                raise OutputError(f"cannot write {path}: {error.strerror or error}") from error

        yield write


def _known(line: bytes, step: int) -> bool:
    """Whether a line is whole and not after `step`: a kill leaves half a line, or lines that no state has seen."""
    try:
        return int(json.loads(line)["step"]) <= step
    except (ValueError, KeyError, TypeError):
        return False
