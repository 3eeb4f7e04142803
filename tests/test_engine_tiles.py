"""The engine cuts what does not fit, and begins again with smaller tiles when the memory gives out."""

import dataclasses
import functools
import tracemalloc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from lowlight_cli import Enhancer, engines
from lowlight_cli.engines import memory, pytorch, tiling
from lowlight_cli.errors import ResourceError, UsageError
from lowlight_cli.exposure import apply_gain
from lowlight_cli.files import Work, brightened
from lowlight_cli.networks import build
from lowlight_cli.pictures import Photo
from lowlight_cli.targets import Job
from lowlight_cli.weights import files
from lowlight_cli.weights.fetch import resolve

thrice = functools.partial(apply_gain, gain=3.0)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> engines.Engine:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "dgaf.safetensors"
    metadata = dict.fromkeys(("tag", "recipe", "data", "config"), "test")
    state = build("dgaf").state_dict()
    files.save(path, state, metadata | {"network": "dgaf", "input": "as-is", "licence": "MIT", "steps": "0"})
    return engines.load("dgaf", resolve("dgaf", str(path)), device="cpu", precision="fp32")


@pytest.fixture
def picture() -> np.ndarray:
    random = np.random.default_rng(0)
    return np.kron(random.uniform(0, 0.2, (9, 13, 3)), np.ones((80, 80, 1))).astype(np.float32)


def decibel(x: np.ndarray, y: np.ndarray) -> float:
    return float(-10 * np.log10(((x - y) ** 2).mean() + 1e-12))


def test_a_picture_larger_than_memory_is_the_same_in_tiles(
    engine: engines.Engine, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = engine.run(picture[None])
    free = memory.RESERVE + picture.nbytes + 520 * 520 * memory.PER_PIXEL["dgaf"][0]
    monkeypatch.setattr(memory, "available", lambda: free)
    seen: list[tuple[int, ...]] = []
    forward = pytorch.TorchEngine.forward
    monkeypatch.setattr(
        pytorch.TorchEngine, "forward", lambda self, batch: (seen.append(batch.shape), forward(self, batch))[1]
    )
    tiled = engine.run(picture[None])
    assert len(seen) > 4 and all(shape[1] * shape[2] <= 521 * 521 for shape in seen)
    assert decibel(whole, tiled) > 45
    # No step at the seams: neighbours across them differ as neighbours elsewhere do.
    error = tiled[0] - whole[0]
    steps = np.abs(np.diff(error, axis=1)).mean((0, 2))
    assert steps.max() * 255 < np.median(steps) * 255 + 0.25


def test_memory_that_gives_out_means_smaller_tiles(
    engine: engines.Engine, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = engine.run(picture[None])
    forward = pytorch.TorchEngine.forward

    def scarce(self: pytorch.TorchEngine, batch: np.ndarray) -> np.ndarray:
        if batch.shape[1] * batch.shape[2] > 650 * 650:
            raise ResourceError("out of memory")
        return forward(self, batch)

    monkeypatch.setattr(pytorch.TorchEngine, "forward", scarce)
    large, told = np.tile(picture, (1, 2, 1)), list[int]()
    assert decibel(engine.run(large[None], told.append)[0, :, : picture.shape[1] - 80], whole[0, :, :-80]) > 30
    assert told[:2] == [1, 0] and told[-1] > 1  # 0: it did not go through


OPENCV = cv2.error("OpenCV(4.11.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes")


@pytest.mark.parametrize("error", [MemoryError(), OPENCV])
def test_parts_that_cannot_be_allocated_mean_smaller_tiles(
    engine: engines.Engine, picture: np.ndarray, error: Exception
) -> None:
    """Memory runs out outside the passes, too."""

    def scarce(part: np.ndarray) -> np.ndarray:
        if part.shape[0] * part.shape[1] > 650 * 650:
            raise error
        return thrice(part)

    whole, told = engine.run(picture[None], None, thrice), list[int]()
    assert decibel(engine.run(picture[None], told.append, scarce), whole) > 30
    assert told[:2] == [1, 0] and told[-1] > 1


@pytest.mark.parametrize("error", [TimeoutError("could not allocate a slot"), KeyError("out of memory")])
def test_a_callers_own_error_ends_tiles_too(engine: engines.Engine, picture: np.ndarray, error: Exception) -> None:
    cut = list[int]()

    def given_up(tiles: int) -> None:
        cut.append(tiles)
        raise error

    tiled = replace(engine, tiling=engines.Tiling(384))  # type: ignore[type-var]
    with pytest.raises(type(error)):
        tiled.run(picture[None], given_up)
    assert len(cut) == 1 and cut[0] > 1


def test_the_result_of_a_failed_attempt_is_freed(
    engine: engines.Engine, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the next is made: of a large picture it may be what does not fit."""
    made, left, empty_like = list[Any](), list[int](), np.empty_like

    class Result(np.ndarray):
        pass

    def empty(like: np.ndarray) -> np.ndarray:
        left.append(sum(each() is not None for each in made))
        result = empty_like(like).view(Result)
        made.append(weakref.ref(result))
        return result

    def scarce(self: pytorch.TorchEngine, batch: np.ndarray) -> np.ndarray:
        raise ResourceError("out of memory")

    monkeypatch.setattr(tiling.np, "empty_like", empty)
    monkeypatch.setattr(pytorch.TorchEngine, "forward", scarce)
    with pytest.raises(ResourceError, match="even in tiles"):
        engine.run(np.tile(picture, (1, 2, 1))[None])
    assert len(left) > 1 and not any(left)


def outcome(picture: np.ndarray, weights: Path, ensemble: bool) -> Work:
    """Of a file with this picture."""
    enhancer = Enhancer("dgaf", weights, device="cpu", engine="torch", precision="fp32", self_ensemble=ensemble)
    work = brightened(Work(Job(Path("a.png"), Path("b.png")), photo=Photo(picture)), enhancer)
    assert work.error is None
    return work


@pytest.mark.parametrize("ensemble", [False, True])
def test_a_file_that_was_begun_again_says_so(
    dgaf_weights: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch, ensemble: bool
) -> None:
    """Of eight flips and turns, seven go through whole."""
    forward, passes = pytorch.TorchEngine.forward, list[tuple[int, ...]]()

    def once(self: pytorch.TorchEngine, batch: np.ndarray) -> np.ndarray:
        passes.append(batch.shape)
        if len(passes) == 1:
            raise ResourceError("out of memory")
        return forward(self, batch)

    monkeypatch.setattr(pytorch.TorchEngine, "forward", once)
    work = outcome(picture[:, :740], dgaf_weights, ensemble)
    tiles = len(passes) - 2 - 7 * ensemble  # beside what failed, and what measured
    assert work.notes == (f"the memory gave out, begun again in {tiles} tiles",) and tiles > 1


def test_other_tiles_in_another_pass_are_no_failure(
    dgaf_weights: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others use the machine, too: what is free differs between the eight flips and turns."""
    run, cut = pytorch.TorchEngine.run, list[int]()

    def crowded(self: pytorch.TorchEngine, batch: np.ndarray, on_tiles: Any, *how: Any) -> np.ndarray:
        free = (300_000, 600_000)[len(cut) % 2] * memory.PER_PIXEL["dgaf"][0] + memory.RESERVE + 2 * batch.nbytes
        monkeypatch.setattr(memory, "available", lambda: free)
        return run(self, batch, lambda tiles: (cut.append(tiles), on_tiles(tiles))[1], *how)

    monkeypatch.setattr(pytorch.TorchEngine, "run", crowded)
    assert outcome(picture[:560, :640], dgaf_weights, True).notes == ()
    assert len(cut) == 8 and len(set(cut)) > 1


def test_too_many_values_for_a_kernel_means_tiles(
    engine: engines.Engine, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA's padding by reflection counts to 2^31, which `frlie` passes at 67 megapixels; here at less than one."""
    assert isinstance(engine, pytorch.TorchEngine)
    whole, forward, told = engine.run(picture[None]), engine.module.forward, list[int]()

    def refusing(x: torch.Tensor) -> torch.Tensor:
        if x.numel() > 3 * 650 * 650:
            raise RuntimeError("input tensor must fit into 32-bit index math")
        return forward(x)

    monkeypatch.setattr(engine.module, "forward", refusing)
    assert decibel(engine.run(picture[None], told.append), whole) > 45
    assert told[0] == 1 and told[-1] > 1


def test_too_little_even_for_tiles(
    engine: engines.Engine, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: memory.RESERVE + 10**6)
    with pytest.raises(ResourceError, match="even in tiles"):
        engine.run(picture[None])


def tiled(engine: engines.Engine, tiling: engines.Tiling) -> pytorch.TorchEngine:
    assert isinstance(engine, pytorch.TorchEngine)
    return dataclasses.replace(engine, tiling=tiling)


def test_tiles_of_a_given_side(engine: engines.Engine, picture: np.ndarray) -> None:
    picture = picture[:400, :720]
    told: list[int] = []
    out = tiled(engine, engines.Tiling(side=384)).run(picture[None], told.append)
    assert told == [6]  # 64 pixels around each
    assert decibel(out, engine.run(picture[None], told.append)) > 45
    assert told == [6, 1]
    tiled(engine, engines.Tiling(side=720)).run(picture[None], told.append)
    assert told == [6, 1, 1]


def test_a_noisy_picture_is_as_bright_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of a copy without the noise are those of another picture: by them it was 2.5 levels brighter."""
    random = np.random.default_rng(0)
    scene = np.kron(random.uniform(0.02, 0.2, (8, 12, 3)), np.ones((60, 60, 1)))
    picture = np.clip(scene + random.normal(0, 0.02, scene.shape), 0, 1).astype(np.float32)
    engine = engines.load("lw-drgn", resolve("lw-drgn", None), device="cpu", precision="fp32")
    whole = engine.run(picture[None], prepare=thrice)
    monkeypatch.setattr(tiling, "MEASURED", 0)  # no more than a tile: two fifths of the picture
    parts = tiled(engine, engines.Tiling(side=384)).run(picture[None], prepare=thrice)
    assert abs(float(parts.mean() - whole.mean())) * 255 < 1
    assert decibel(whole, parts) > 45


@pytest.mark.parametrize("side", [None, 384])
def test_what_is_prepared_is_as_if_it_came_so(engine: engines.Engine, picture: np.ndarray, side: int | None) -> None:
    """In tiles too, where the exposed picture is never there whole: neither are its statistics other ones."""
    ready = tiled(engine, engines.Tiling(side=side))
    picture = picture[:400, :720]
    wanted = ready.run(apply_gain(picture, 3.0)[None])
    assert np.abs(ready.run(picture[None], prepare=thrice) - wanted).max() * 255 < 0.01


def test_what_tiles_need_beside_the_network(
    engine: engines.Engine, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result, whole, but no exposed picture."""
    monkeypatch.setattr(pytorch.TorchEngine, "replay", lambda self, measured, batch: batch)  # the network's own aside
    large = np.tile(picture, (8, 6, 1))[None]
    told: list[int] = []
    tracemalloc.start()
    tiled(engine, engines.Tiling(side=1024)).run(large, told.append, prepare=thrice)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert told[-1] > 4
    assert large.nbytes < most < 1.5 * large.nbytes


def test_a_budget_counts_what_the_process_holds(
    engine: engines.Engine, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = picture[:600, :720]
    held = 500 * 2**20
    monkeypatch.setattr(memory, "resident", lambda: held)
    told: list[int] = []
    enough = held + memory.needed("dgaf", "fp32", 600 * 720)
    tiled(engine, engines.Tiling(memory=enough)).run(picture[None], told.append)
    tiled(engine, engines.Tiling(memory=enough - 1)).run(picture[None], told.append)
    assert told[0] == 1
    assert told[1] > 1
    with pytest.raises(ResourceError, match="even in tiles: raise --memory"):
        tiled(engine, engines.Tiling(memory=held)).run(picture[None])


def test_never_in_tiles(engine: engines.Engine, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = picture[:400, :720]
    off = engines.Tiling(side=0)
    told: list[int] = []
    tiled(engine, off).run(picture[None], told.append)
    with pytest.raises(ResourceError, match=r"720x400 whole, .* leave out --tile off, or raise --memory"):
        tiled(engine, engines.Tiling(side=0, memory=10**8)).run(picture[None], told.append)
    monkeypatch.setattr(torch.nn.Module, "__call__", exhausted)
    with pytest.raises(ResourceError, match="ran out of memory"):
        tiled(engine, off).run(picture[None], told.append)
    assert told == [1, 1]


def exhausted(*_: object) -> None:
    raise torch.OutOfMemoryError("out of memory")


@pytest.mark.parametrize(
    "told", ["CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`", "CUDNN_STATUS_ALLOC_FAILED"]
)
def test_libraries_of_a_gpu_run_out_of_memory_too(told: str) -> None:
    with pytest.raises(ResourceError, match="cuda:0 ran out of memory"), tiling.translated("dgaf", "cuda:0", "1x1"):
        raise RuntimeError(told)


def test_openvino_runs_out_of_memory_too() -> None:
    told = "[CPU] Gather node with name 'Gather_149' Check 'ptr' failed\nFailed to allocate 27000000 bytes of memory\n"
    assert tiling.out_of_memory(RuntimeError(told))


def test_onednn_runs_out_of_memory_too() -> None:
    """What it does not support is another error."""
    assert tiling.out_of_memory(RuntimeError("could not create a primitive"))
    told = "could not create a primitive descriptor for a convolution forward propagation primitive"
    assert not tiling.out_of_memory(RuntimeError(told))


def test_memory_is_given_back_once_nothing_holds_it() -> None:
    """What a pass had made until it failed lies in its frames, which the error keeps."""

    def passing() -> None:
        made = torch.zeros(1)
        held.append(weakref.ref(made))
        exhausted()

    held: list[weakref.ref[torch.Tensor]] = []
    left: list[bool] = []
    with (
        pytest.raises(ResourceError),
        tiling.translated("dgaf", "cuda:0", "1x1", lambda: left.append(held[0]() is not None)),
    ):
        passing()
    assert left == [False]


@pytest.mark.parametrize("wrong", [{"side": 100}, {"side": -1}, {"memory": 0}])
def test_tilings_without_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="out of range"):
        engines.Tiling(**wrong)


def test_what_this_process_holds() -> None:
    assert 2**24 < memory.resident() < 2**36


@dataclasses.dataclass
class Holding:
    """An engine of which each pass holds memory until it is told to give it back."""

    room: int
    calls: list[str] = dataclasses.field(default_factory=list)
    tiling: engines.Tiling = dataclasses.field(default_factory=engines.Tiling)
    name: str = "torch"
    network: str = "dgaf"
    precision: str = "fp32"
    device: str = "cpu"
    held: int = 0

    def free(self, taken: int = 0) -> int:
        return self.room - self.held - taken

    def release(self) -> None:
        self.calls.append("release")
        self.held = 0

    def passed(self, call: str, batch: np.ndarray) -> np.ndarray:
        needed = batch.shape[1] * batch.shape[2] * memory.PER_PIXEL["dgaf"][0]
        assert needed <= self.room - self.held
        self.calls.append(call)
        self.held = needed
        return batch

    def forward(self, batch: np.ndarray) -> np.ndarray:
        self.held = 0  # what this graph holds it uses again
        return self.passed("forward", batch)

    def measure(self, batch: np.ndarray) -> None:
        self.passed("measure", batch)

    def replay(self, measured: object, batch: np.ndarray) -> np.ndarray:
        self.held *= self.calls[-1] != "replay"
        return self.passed("replay", batch)


def test_what_an_engine_holds_is_given_back_where_the_next_picture_would_not_fit(picture: np.ndarray) -> None:
    """Pictures of one size are all whole, or all in as many tiles, however much the one before has left behind."""
    needed = memory.needed("dgaf", "fp32", picture.size // 3)
    plenty, enough = Holding(3 * needed), Holding(needed + 10**6)
    told: list[int] = []
    for engine in (plenty, enough):
        for _ in range(3):
            assert np.array_equal(tiling.run(engine, picture[None], told.append)[0], picture)
    assert told == [1] * 6
    assert plenty.calls == ["forward"] * 3
    assert enough.calls == ["forward", *["release", "forward"] * 2]


def test_what_has_measured_gives_its_memory_to_the_tiles(picture: np.ndarray) -> None:
    engine = Holding(memory.needed("dgaf", "fp32", picture.size // 3) - 10**6)
    told: list[int] = []
    for _ in range(2):
        engine.calls.clear()
        assert np.array_equal(tiling.run(engine, picture[None], told.append)[0], picture)
        assert engine.calls == ["release", "measure", "release", *["replay"] * told[-1]]
    assert told[0] == told[1] > 1


@pytest.mark.parametrize("network", ["dgaf", "lw-drgn", "neid"])
def test_lights_in_the_dark_have_no_seams(network: str) -> None:
    """Where a pixel's influence reaches farthest; the statistics are those of the whole."""
    random = np.random.default_rng(0)
    night = random.gamma(1.2, 0.006, (560, 760, 3)).astype(np.float32)
    for y, x in random.integers(0, (540, 740), (40, 2)):
        night[y : y + random.integers(2, 20), x : x + random.integers(2, 20)] = random.uniform(0.3, 1, 3)
    engine = engines.load(network, resolve(network, None), device="cpu", precision="fp32")
    parts = tiled(engine, engines.Tiling(side=384)).run(night[None])
    assert np.abs(parts - engine.run(night[None])).max() * 255 < 0.5
