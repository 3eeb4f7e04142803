"""CUDA graphs without a GPU: cards that record kernels as CUDA does, and refuse what it refuses; results are computed.

A kernel that is launched while its card's current stream is being recorded is recorded; on another card it just runs,
and the graph lacks it. Only one recording may be under way, and memory is given back only when there is none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lowlight_cli import engines
from lowlight_cli.engines import cuda_graph, pytorch, several
from lowlight_cli.engines.cuda_graph import Graphed
from lowlight_cli.engines.pytorch import TorchEngine
from lowlight_cli.enhancer import Enhancer
from lowlight_cli.weights.fetch import Resolved

Kernel = Callable[[], object]
Forward = Callable[[Tensor], Tensor]
Load = Callable[[str], TorchEngine]


class Thread(threading.local):
    """What each thread has of its own: the card that is current, and whether its stream is the one aside."""

    card = 0
    aside = False


@dataclass
class Cards:
    """Cards, and what is being recorded; tensors lie in main memory, whatever card they are said to be on."""

    thread: Thread = field(default_factory=Thread)
    recording: list[Any] = field(default_factory=list)
    passes: int = 0
    recordings: int = 0
    emptied: int = 0

    def launch(self, card: int, kernel: Kernel) -> None:
        """Run a kernel on a card, or record it."""
        for graph in self.recording:
            if graph.thread == threading.get_ident() and graph.card == card:
                graph.kernels.append(kernel)
                return
        self.passes += 1
        kernel()

    def on(self, card: int, forward: Forward) -> Forward:
        """A pass as one kernel of a card."""

        def launched(batch: Tensor) -> Tensor:
            made = torch.zeros_like(batch)
            self.launch(card, lambda: made.copy_(forward(batch)))
            return made

        return launched


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cards]:
    """Two of them, in torch's place."""
    here = Cards()

    class Device:
        def __init__(self, of: object) -> None:
            self.stream = of if isinstance(of, Stream) else None
            self.card = of.card if isinstance(of, Stream) else int(str(of).partition(":")[2] or 0)

        def __enter__(self) -> None:
            self.before, here.thread.card = (here.thread.card, here.thread.aside), self.card
            if self.stream:
                here.thread.aside = self.stream.aside

        def __exit__(self, *_: object) -> None:
            here.thread.card, aside = self.before
            if self.stream:
                here.thread.aside = aside

    class Stream:
        def __init__(self, device: str = "", aside: bool = True) -> None:
            self.card = Device(device).card if device else here.thread.card
            self.aside = aside

        def wait_stream(self, _: object) -> None: ...

    class Event:
        def __init__(self, **_: object) -> None: ...

        def record(self) -> None: ...

        wait = synchronize = record

    class Graph:
        def capture_begin(self, *_: object, **__: object) -> None:
            if here.recording:
                raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
            self.card, self.thread, self.kernels = here.thread.card, threading.get_ident(), list[Kernel]()
            here.recording.append(self)
            here.recordings += 1
            time.sleep(0.05)  # others come between

        def capture_end(self) -> None:
            here.recording.remove(self)

        def replay(self) -> None:
            for kernel in self.kernels:
                here.passes += 1
                kernel()

    def emptied() -> None:
        if here.recording:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")

    zeros, empty = torch.zeros, torch.empty
    monkeypatch.setattr(torch, "zeros", lambda *shape, device=None, **more: zeros(*shape, **more))
    monkeypatch.setattr(torch, "empty", lambda *shape, device=None, pin_memory=False, **more: empty(*shape, **more))
    monkeypatch.setattr(torch.cuda, "device", Device)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", Device)  # which makes the stream's card the current one, as torch does
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device="": Stream(device, here.thread.aside))
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: Stream(device, aside=False))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", emptied)
    monkeypatch.setattr(torch._C, "_host_emptyCache", lambda: setattr(here, "emptied", here.emptied + 1), raising=False)
    monkeypatch.setattr(torch.cuda.graph, "default_capture_stream", None)
    kept = cuda_graph._side, cuda_graph._copying
    for each in kept:
        each.cache_clear()
    yield here
    for each in kept:
        each.cache_clear()
    assert not here.recording


def batch(seed: int, height: int = 8, width: int = 8) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((1, height, width, 3), np.float32)


def test_each_card_records_its_own_kernels(cards: Cards) -> None:
    for card in (0, 1):
        twice = Graphed(cards.on(card, lambda x: x * 2), (1, 8, 8, 3), f"cuda:{card}")
        for seed in range(2):
            assert np.array_equal(twice(batch(seed)), batch(seed) * 2), f"cuda:{card}"


def in_threads(*works: Callable[[], object]) -> list[BaseException]:
    """Do all at once; what failed."""
    failed: list[BaseException] = []
    ready = threading.Barrier(len(works))

    def work(each: Callable[[], object]) -> None:
        ready.wait(timeout=20)
        try:
            each()
        except BaseException as error:  # else a thread's is lost
            failed.append(error)

    threads = [threading.Thread(target=work, args=(each,)) for each in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    return failed


def test_one_recording_at_a_time(cards: Cards) -> None:
    made: dict[int, Graphed] = {}

    def record(card: int) -> None:
        made[card] = Graphed(cards.on(card, lambda x: x * 2), (1, 8, 8, 3), f"cuda:{card}")

    assert not in_threads(lambda: record(0), lambda: record(1))
    for card in (0, 1):
        assert np.array_equal(made[card](batch(card)), batch(card) * 2)


class Card(str):
    """The processor, called a card."""

    __slots__ = ()

    def startswith(self, prefix: str, *_: object) -> bool:  # type: ignore[override]
        return prefix == "cuda"


@pytest.fixture
def on_a_card(cards: Cards, seeded: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Load:
    """A network on one card, with as much memory as it likes."""
    right = TorchEngine._passed
    monkeypatch.setattr(TorchEngine, "_passed", lambda self, given: cards.on(0, lambda x: right(self, x))(given))
    monkeypatch.setattr(TorchEngine, "free", lambda self, taken=0: 10**10)

    def load(network: str) -> TorchEngine:
        resolved = Resolved(seeded(network), "0" * 64, None)
        loaded = engines.load(network, resolved, engine="torch", device="cpu", precision="fp32")
        assert isinstance(loaded, TorchEngine)
        return replace(loaded, device=Card("cpu"))

    return load


@pytest.fixture
def engine(on_a_card: Load) -> TorchEngine:
    return on_a_card("dgaf")


def test_memory_is_given_back_when_nothing_is_recorded(cards: Cards, engine: TorchEngine) -> None:
    def record() -> None:
        Graphed(cards.on(1, lambda x: x * 2), (1, 8, 8, 3), "cuda:1")

    def give_back() -> None:
        for _ in range(30):
            engine._clean()
            time.sleep(0.005)

    assert not in_threads(record, give_back)


def counted(cards: Cards, work: Callable[[], object]) -> tuple[int, int]:
    """How many passes a card makes for it, and how many recordings."""
    cards.passes = cards.recordings = 0
    work()
    return cards.passes, cards.recordings


def test_sizes_that_alternate_are_recorded_once(cards: Cards, engine: TorchEngine) -> None:
    sizes = [(24, 32), (32, 24), (24, 24)] * 3
    again = cuda_graph.WARM + 1
    expected = [engine._passed(torch.from_numpy(batch(n, *size))).numpy() for n, size in enumerate(sizes)]
    made: list[NDArray[np.float32]] = []
    passes = counted(cards, lambda: made.extend(engine.run(batch(n, *size)) for n, size in enumerate(sizes)))
    assert passes == (3 + 3 * again + 3, 3)
    assert all(np.array_equal(here, there) for here, there in zip(made, expected, strict=True))


def test_a_self_ensemble_is_two_sizes(cards: Cards, engine: TorchEngine, dgaf_weights: Path) -> None:
    enhancer = Enhancer("dgaf", weights=str(dgaf_weights), engine="torch", device="cpu", self_ensemble=True)
    enhancer._shared.loaded = engine, enhancer.load()[1]
    first, second = (counted(cards, lambda: enhancer.enhance(batch(0, 24, 32)[0])) for _ in range(2))
    assert first == (8 + 2 * cuda_graph.WARM, 2)
    assert second == (8, 0)


def test_only_the_last_sizes_are_kept(cards: Cards, engine: TorchEngine) -> None:
    sides = [16 + 4 * n for n in range(pytorch.KEPT + 1)]
    for side in sides * 2:
        engine.run(batch(0, side, side))
    assert counted(cards, lambda: engine.run(batch(0, 16, 16))) == (1, 0)
    assert counted(cards, lambda: engine.run(batch(0, sides[-1], sides[-1]))) == (cuda_graph.WARM + 1, 1)
    assert engine.seconds((1, 16, 16, 3)) is None


def test_as_many_sizes_are_kept_as_there_is_room_for(
    cards: Cards, engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs hold the memory of their passes, which a picture of another size may want."""
    room = pytorch.memory.needed("dgaf", "fp32", 2 * 32 * 32, "cuda")
    monkeypatch.setattr(TorchEngine, "free", lambda self, taken=0: room)
    for side in (32, 32, 28, 28, 32, 28):
        engine.run(batch(0, side, side))
    assert counted(cards, lambda: engine.run(batch(0, 32, 32))) == (1, 0)
    engine.run(batch(0, 36, 36))
    assert counted(cards, lambda: engine.run(batch(0, 28, 28))) == (1, 0)


@pytest.mark.parametrize(("share", "kept"), [(1.01, True), (0.99, False)])
def test_recorded_passes_make_room_for_tiles_where_it_is_needed(
    engine: TorchEngine, cards: Cards, monkeypatch: pytest.MonkeyPatch, share: float, kept: bool
) -> None:
    """Else each large picture of a folder would cost every small size another recording."""
    for _ in range(2):
        engine.run(batch(0, 32, 32))
    largest = pytorch.memory.needed("dgaf", "fp32", pytorch.tiling.LARGEST_TILE**2, "cuda")
    monkeypatch.setattr(TorchEngine, "free", lambda self, taken=0: int(share * largest))
    engine.release()
    assert counted(cards, lambda: engine.run(batch(0, 32, 32))) == (1, 0)  # replayed, or as the first of its size
    assert counted(cards, lambda: engine.run(batch(0, 32, 32))) == ((1, 0) if kept else (cuda_graph.WARM + 1, 1))


REFUSED = [
    "CUDA error: out of memory",
    "CUDA error: operation failed due to a previous error during capture",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "GET was unable to find an engine to execute this computation",
]


@pytest.mark.parametrize("when", ["capture_begin", "capture_end"])
@pytest.mark.parametrize("told", REFUSED)
def test_what_cannot_be_recorded_runs_as_before(
    cards: Cards, engine: TorchEngine, monkeypatch: pytest.MonkeyPatch, when: str, told: str
) -> None:
    right = getattr(torch.cuda.CUDAGraph, when)

    def refuse(self: object, *given: object, **options: object) -> None:
        right(self, *given, **options)
        if when == "capture_begin":
            cards.recording.clear()
        raise RuntimeError(told)

    monkeypatch.setattr(torch.cuda.CUDAGraph, when, refuse)
    cut: list[int] = []
    made = [engine.run(batch(0, 24, 32), cut.append) for _ in range(4)]
    assert cut == [1] * 4 and all(np.array_equal(each, made[0]) for each in made)
    assert cards.recordings == 1 and cards.emptied and not cards.thread.aside
    monkeypatch.setattr(torch.cuda.CUDAGraph, when, right)
    engine._clean()  # there is memory again
    assert counted(cards, lambda: [engine.run(batch(0, 24, 32)) for _ in range(2)])[1] == 1


def test_memory_that_cannot_be_given_back_is_no_error(cards: Cards, engine: TorchEngine) -> None:
    """As after a recording that broke off: torch takes it to be under way for ever."""
    cards.recording.append(None)
    engine._clean()
    cards.recording.clear()
    assert cards.emptied == 1  # the page-locked part all the same


def test_large_pictures_are_not_recorded(cards: Cards, engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch, "LARGEST", 24 * 32)
    assert counted(cards, lambda: [engine.run(batch(0, 24, 33)) for _ in range(3)]) == (3, 0)
    assert counted(cards, lambda: [engine.run(batch(0, 24, 32)) for _ in range(3)]) == (cuda_graph.WARM + 3, 1)


def test_a_clip_of_a_network_that_measures_nothing_is_recorded(cards: Cards, on_a_card: Load) -> None:
    frlie = on_a_card("frlie")
    photograph = frlie.run(batch(0, 24, 32))
    frames: list[NDArray[np.float32]] = []

    def clip() -> None:
        frames.extend(frlie.run(batch(0, 24, 32), settle=lambda _, value: value) for _ in range(4))

    assert counted(cards, clip) == (cuda_graph.WARM + 4, 1)
    assert all(np.array_equal(frame, photograph) for frame in frames)


def test_a_gpu_is_fed_by_several_threads(engine: TorchEngine, dgaf_weights: Path) -> None:
    enhancer = Enhancer("dgaf", weights=str(dgaf_weights), engine="torch", device="cpu")
    resolved = enhancer.load()[1]
    enhancer._shared.loaded = replace(engine, device="cuda:0"), resolved
    assert enhancer.at_once == engines.FEEDERS
    enhancer._shared.loaded = several.together([replace(engine, device=f"cuda:{n}") for n in (0, 1)], "cuda"), resolved
    assert enhancer.at_once == 2 * engines.FEEDERS


@pytest.mark.parametrize("largest", [24 * 32 - 1, 24 * 32])
def test_what_fits_alone_is_not_cut_because_another_is_there(
    cards: Cards, engine: TorchEngine, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    """One large picture at a time plans with all the memory; what is recorded already has its own."""
    needed, lying = pytorch.memory.needed("dgaf", "fp32", 24 * 32), list[None]()
    right = TorchEngine._passed

    def passed(self: TorchEngine, given: Tensor) -> Tensor:
        lying.append(None)
        time.sleep(0.02)
        made = right(self, given)
        lying.pop()
        return made

    monkeypatch.setattr(pytorch, "LARGEST", largest)
    for _ in range(2):
        engine.run(batch(0, 24, 32))
    monkeypatch.setattr(TorchEngine, "_passed", passed)
    monkeypatch.setattr(TorchEngine, "free", lambda self, taken=0: 0 if lying else needed)
    cut: list[int] = []
    assert not in_threads(*[lambda: [engine.run(batch(0, 24, 32), cut.append) for _ in range(3)]] * 3)
    assert cut == [1] * 9
