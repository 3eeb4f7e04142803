"""Several processes train one network: each takes its part of every batch, all take the same step.

They are started by torchrun, and speak by gloo between processors and by nccl between GPUs. The losses here are means
over a batch, so the mean of the gradients of equal parts is the gradient of the whole; batch norms take their
statistics of the whole too (`together`), which torch's SyncBatchNorm does on GPUs only. Torch's
DistributedDataParallel is not used: it wraps one module's `forward`, and recipes call parts of several.
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
from lowlight_cli.signals import ENDING

__all__ = ["ALONE", "Ranks", "first", "joined", "place", "together"]

PATIENCE: Final = timedelta(days=1)
"""So long the others wait for the first one, which decodes the pictures; one that dies is noticed at once."""


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is; the first writes, validates and reports.

    `asked` are the signals that asked this process to end, where there are several (`held`).
    """

    rank: int = 0
    count: int = 1
    asked: list[int] = field(default_factory=list)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put into each tensor its mean over all processes; all on one device, of one type."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, parts, strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def clock(self, seconds: float) -> float:
        """The first one's `seconds`; all end here where one of them was asked to.

        Raises:
            KeyboardInterrupt, SystemExit: one was interrupted, or told to end.
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
        """Signals are only noted, for `clock` to tell the others: else these would wait for one that is gone."""
        numbers = [each for each in ENDING if self.count > 1 and signal.getsignal(each) != signal.SIG_IGN]
        before = {number: signal.signal(number, lambda number, _: self.asked.append(number)) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first one does it before the others: they find what it has put into the cache."""
        if self.count > 1 and not self.first:
            dist.barrier()
        try:
            yield
        finally:
            if self.count > 1 and self.first:
                dist.barrier()


ALONE = Ranks()


def first() -> bool:
    """Whether this process is the only one, or the first of torchrun's."""
    return not _launched() or os.environ["RANK"] == "0"


def place(device: str) -> str:
    """The device of this process: of torchrun's processes on a machine each has a GPU of its own.

    Raises:
        DeviceError: there are fewer GPUs.
    """
    if not device.startswith("cuda") or not _launched():
        return device
    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= there:
        raise DeviceError(f"process {number + 1} has no GPU: there are {there}; lower --nproc-per-node of torchrun")
    return f"cuda:{number}"


@contextlib.contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The processes that torchrun has started; this one alone where it has not.

    Raises:
        LowlightError: another process is gone.
    """
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # for all that asks for the current one: times, pinned memory, graphs
    if not _launched():
        yield ALONE
        return
    # The clock is compared between processors on GPUs too: so nobody waits for a GPU.
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
    """Whether torchrun has started this process; asked of the environment, for some builds of torch cannot do it."""
    return "TORCHELASTIC_RUN_ID" in os.environ


class _Mean(torch.autograd.Function):
    """The mean of a tensor over all processes, through which gradients flow back to each."""

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
    """Batch norm whose mean and variance are those of all processes' parts, of equal size: (N, C, H, W)."""

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
    """Let the batch norms in `module` take their statistics of the whole batch."""
    for each in module.modules():
        if ranks.count > 1 and type(each) is nn.BatchNorm2d:
            each.__class__ = _BatchNorm  # the same parameters and buffers, under the same names


def _mean(x: Tensor) -> Tensor:
    mean: Tensor = _Mean.apply(x)  # type: ignore[no-untyped-call]
    return mean
