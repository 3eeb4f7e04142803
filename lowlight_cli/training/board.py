"""Where the measurements of a run go: log.jsonl, an optional TensorBoard log of the same numbers, and the caller."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lowlight_cli.errors import DeviceError
from lowlight_cli.training.ranks import Ranks
from lowlight_cli.training.run import Progress, Run, clear, log_to, writing

__all__ = ["told", "writer"]


def writer() -> Any:
    """Return torch's SummaryWriter class.

    Raises:
        DeviceError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DeviceError(
            "--tensorboard needs an extra: pip install 'lowlight-cli[train]', or leave it out: log.jsonl has the same"
        ) from error
    return SummaryWriter


@contextlib.contextmanager
def _board(folder: Path, step: int) -> Iterator[Callable[[Progress], None]]:
    """Open event files in `folder` and yield a function that writes a measurement; events after `step` are purged.

    Raises:
        DeviceError: as `writer`.
    """
    with writer()(str(folder), purge_step=step + 1) as events:

        def write(seen: Progress) -> None:
            numbers = {"loss": seen.loss, "rate": seen.rate, "steps_per_second": seen.steps_per_second}
            numbers |= {} if seen.judge is None else {"judge": seen.judge}
            numbers |= {f"time/{name}": share for name, share in seen.times.items()}
            if seen.scores:
                numbers |= {
                    "validation/psnr": seen.scores.psnr,
                    "validation/psnr_gt_mean": seen.scores.psnr_gt_mean,
                    "validation/ssim": seen.scores.ssim,
                }
            for name, value in numbers.items():
                events.add_scalar(name, value, seen.step)
            if seen.note:
                events.add_text("note", seen.note, seen.step)

        yield write


@contextlib.contextmanager
def told(run: Run, step: int, ranks: Ranks, report: Callable[[Progress], None]) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that, in the first process, sends measurements to log, TensorBoard (if enabled) and `report`."""
    if not ranks.first:
        yield lambda _: None
        return
    if run.overwrite:
        clear(run)
    with writing(run.output / "run.json"):
        (run.output / "run.json").write_text(run.described())
    if run.tensorboard:
        with writing(run.output / "tensorboard"):
            (run.output / "tensorboard").mkdir(exist_ok=True)
    with (
        log_to(run.output / "log.jsonl", step if run.resume else -1) as log,
        _board(run.output / "tensorboard", step) if run.tensorboard else contextlib.nullcontext() as events,
    ):

        def tell(line: Progress) -> None:
            log(line.line())
            if events:
                events(line)
            report(line)

        yield tell
