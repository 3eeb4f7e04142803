"""The log for TensorBoard, where it is asked for: the same numbers as in log.jsonl."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lowlight_cli.errors import DeviceError
from lowlight_cli.training.run import Progress

__all__ = ["board", "writer"]


def writer() -> Any:
    """Torch's SummaryWriter.

    Raises:
        DeviceError: TensorBoard is not there.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DeviceError(
            "--tensorboard needs an extra: pip install 'lowlight-cli[train]', or leave it out: log.jsonl has the same"
        ) from error
    return SummaryWriter


@contextlib.contextmanager
def board(folder: Path, step: int) -> Iterator[Callable[[Progress], None]]:
    """Event files in `folder`, for writing measurements to them; a resumed run's begin after `step`.

    Raises:
        DeviceError: as `writer`.
    """
    with writer()(str(folder), purge_step=step + 1) as events:

        def write(seen: Progress) -> None:
            numbers = {"loss": seen.loss, "rate": seen.rate, "steps_per_second": seen.steps_per_second}
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
