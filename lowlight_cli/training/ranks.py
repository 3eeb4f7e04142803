"""Training in several processes: each computes its part of every batch, and all take the same step.

torchrun starts them; they communicate by gloo on CPUs and by nccl on GPUs. The losses are means over a batch, so the
mean of the gradients of equal parts is the gradient of the whole batch. Batch norms use the statistics of the whole
batch too (`together`), which torch's SyncBatchNorm can do on GPUs only. Torch's DistributedDataParallel is not used: it
wraps one module's `forward`, while recipes call parts of several modules.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lowlight_cli.errors import DeviceError, LowlightError
from lowlight_cli.signals import recorded

__all__ = ["ALONE", "Ranks", "first", "joined", "place", "together"]

PATIENCE: Final = timedelta(days=1)
"""How long processes wait for the first one to decode the pictures; one that dies is noticed at once."""


@dataclass(frozen=True)
class Ranks:
    """This process's rank and the number of processes; the first one writes, validates and reports.

    `asked` collects the termination signals of this process inside `held`, if there are several processes.
    """

    rank: int = 0
    count: int = 1
    asked: list[int] = field(default_factory=list)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes; they must share one device and dtype."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, parts, strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def clock(self, seconds: float) -> float:
        """Return the first process's `seconds`; end all processes if one of them received a signal.

        Raises:
            KeyboardInterrupt, SystemExit: a process was interrupted or told to end.
        """
        if self.count == 1:
            return seconds
        said = torch.tensor([seconds if self.first else 0.0, max(self.asked, default=0)], dtype=torch.float64)
        dist.all_reduce(said, dist.ReduceOp.MAX)
        if number := int(said[1]):
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        return float(said[0])

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Only record signals, so that `clock` can tell the other processes, which would wait for one that is gone."""
        with recorded(self.asked) if self.count > 1 else contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """Let the first process run the block before the others, which then find its results in the cache."""
        if self.count > 1 and not self.first:
            dist.barrier()
        try:
            yield
        finally:
            if self.count > 1 and self.first:
                dist.barrier()


ALONE = Ranks()


def first() -> bool:
    """Return whether this process is the only one or the first that torchrun started."""
    return not _launched() or os.environ["RANK"] == "0"


def place(device: str) -> str:
    """Return the device of this process; under torchrun each process on a machine gets its own GPU.

    Raises:
        DeviceError: there are fewer GPUs than processes.
    """
    if not device.startswith("cuda") or not _launched():
        return device
    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= there:
        raise DeviceError(f"process {number + 1} has no GPU: there are {there}; lower --nproc-per-node of torchrun")
    return f"cuda:{number}"


@contextlib.contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun has started, and yield this one's `Ranks`; `ALONE` without torchrun.

    Raises:
        LowlightError: another process is gone.
    """
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # for code that uses the current device: events, pinned memory, graphs
    if not _launched():
        yield ALONE
        return
    # gloo as well on GPUs: exchanging the clock between CPUs does not wait for a GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise LowlightError("another process of this run is gone: what it said tells why") from error
        raise
    finally:
        dist.destroy_process_group()


def _launched() -> bool:
    """Return whether torchrun started this process, by the environment: some builds of torch lack a function for it."""
    return "TORCHELASTIC_RUN_ID" in os.environ


class _Mean(torch.autograd.Function):
    """The mean of a tensor over all processes, with gradients flowing back to each of them."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        mean = x.clone()
        dist.all_reduce(mean)
        return mean / dist.get_world_size()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        mean = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(mean)
        return mean / dist.get_world_size()


class _BatchNorm(nn.BatchNorm2d):
    """Batch norm over (N, C, H, W) with mean and variance over all processes' parts, which must be of equal size."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        mean = _mean(values.mean((0, 2, 3)))
        centred = values - mean.view(1, -1, 1, 1)
        variance = _mean((centred**2).mean((0, 2, 3)))
        with torch.no_grad():
            count = x.numel() // x.shape[1] * dist.get_world_size()
            assert self.running_mean is not None and self.running_var is not None
            assert self.momentum is not None and self.num_batches_tracked is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)


def together(module: nn.Module, ranks: Ranks) -> None:
    """Make the batch norms in `module` use the statistics of the whole batch, if there are several processes."""
    for each in module.modules():
        if ranks.count > 1 and type(each) is nn.BatchNorm2d:
            each.__class__ = _BatchNorm  # the same parameters and buffers, under the same names


def _mean(x: Tensor) -> Tensor:
    mean: Tensor = _Mean.apply(x)  # type: ignore[no-untyped-call]
    return mean
