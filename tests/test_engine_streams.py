"""Copies beside a GPU's passes, without a GPU: streams that put off all work until somebody waits for it.

What a stream was not told to wait for may not have happened yet: `lazy` streams do only what is waited for, and among
`eager` ones the copies run as soon as they may, far ahead of the passes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lowlight_cli import engines
from lowlight_cli.engines import cuda_graph
from lowlight_cli.engines.cuda_graph import Graphed

SHAPE = (1, 4, 5, 3)
Work = Callable[[], object]


@dataclass
class Event:
    """A place in a stream."""

    gpu: Gpu
    stream: Stream | None = None

    def record(self) -> None:
        self.stream = self.gpu.current
        self.stream.queue.append(self)
        self.gpu.hurry()

    def wait(self) -> None:
        self.gpu.current.queue.append((self, self.stream))

    def synchronize(self) -> None:
        with self.gpu.working:
            assert self.stream
            self.stream.run(self)


@dataclass(eq=False)
class Stream:
    """Work in the order in which it was given."""

    gpu: Gpu
    queue: list[Any] = field(default_factory=list)

    def run(self, until: Event) -> None:
        """Work up to an event, and before that through all that the work waits for."""
        while until in self.queue:
            match self.queue.pop(0):
                case Event():
                    pass
                case (event, stream):
                    stream.run(event)
                case work:
                    work()

    def wait_stream(self, _: object) -> None: ...


class Gpu:
    """One GPU with three streams or more; tensors lie in main memory."""

    def __init__(self, eager: bool) -> None:
        self.eager = eager
        self.working = threading.RLock()
        self.mine = threading.local()
        self.default, self.streams = Stream(self), list[Stream]()
        self.recorded: list[Work] | None = None

    @property
    def current(self) -> Stream:
        return getattr(self.mine, "stream", self.default)

    @contextlib.contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.mine.stream = self.current, stream
        yield
        self.mine.stream = before

    def made(self, *_: object) -> Stream:
        self.streams.append(Stream(self))
        return self.streams[-1]

    def launch(self, work: Work) -> None:
        """What a kernel does, at once where a pass is only tried or recorded."""
        if self.recorded is not None:
            self.recorded.append(work)
        work()

    def hurry(self) -> None:
        """Copies that wait for nothing are done at once."""
        with self.working:
            for stream in self.streams if self.eager else ():
                while stream.queue and not isinstance(stream.queue[0], tuple):
                    if not isinstance(work := stream.queue.pop(0), Event):
                        work()
                    elif work.stream is stream:
                        stream.queue.insert(0, work)
                        break


@pytest.fixture(params=["lazy", "eager"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    here = Gpu(request.param == "eager")
    copied = torch.Tensor.copy_

    def copy(self: Tensor, other: Tensor, non_blocking: bool = False) -> Tensor:
        with here.working:
            here.current.queue.append(lambda: copied(self, other))
            here.hurry()
        return self

    class Graph:
        def replay(self) -> None:
            kernels = list(self.kernels)
            here.current.queue.append(lambda: [kernel() for kernel in kernels])

    @contextlib.contextmanager
    def graph(made: Any, **_: object) -> Iterator[None]:
        here.recorded = made.kernels = []
        yield
        here.recorded = None

    zeros, empty = torch.zeros, torch.empty
    monkeypatch.setattr(torch, "zeros", lambda *shape, device=None, **more: zeros(*shape, **more))
    monkeypatch.setattr(torch, "empty", lambda *shape, device=None, pin_memory=False, **more: empty(*shape, **more))
    monkeypatch.setattr(torch.Tensor, "copy_", copy)
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "Stream", here.made)
    monkeypatch.setattr(torch.cuda, "stream", here.on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: here.current)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda *_: here.default)
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: Event(here))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    for kept in (cuda_graph._side, cuda_graph._copying):
        kept.cache_clear()
    yield here
    for kept in (cuda_graph._side, cuda_graph._copying):
        kept.cache_clear()


def picture(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(SHAPE, np.float32)


def doubled(gpu: Gpu, slots: int) -> Graphed:
    def forward(batch: Tensor) -> Tensor:
        made = torch.zeros(SHAPE)
        gpu.launch(lambda: torch.mul(batch, 2, out=made))
        return made

    return Graphed(forward, SHAPE, "cuda:0", slots)


def test_one_after_another(gpu: Gpu) -> None:
    twice = doubled(gpu, 1)
    for seed in range(4):
        assert np.array_equal(twice(picture(seed)), 2 * picture(seed))


@pytest.mark.parametrize("slots", [1, 2, engines.FEEDERS])
def test_each_thread_gets_its_own_picture_back(gpu: Gpu, slots: int) -> None:
    twice = doubled(gpu, slots)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda seed: twice(picture(seed)), range(60)))
    for seed, lit in enumerate(made):
        assert np.array_equal(lit, 2 * picture(seed)), seed
