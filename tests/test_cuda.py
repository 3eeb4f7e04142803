"""What runs on an NVIDIA GPU gives what the CPU gives; all of it is left out where there is none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lowlight_cli import engines
from lowlight_cli.engines import Tiling, compiling, memory, pytorch, several, tf32
from lowlight_cli.engines.pytorch import TorchEngine
from lowlight_cli.networks import NETWORKS
from lowlight_cli.pictures import read
from lowlight_cli.training import loop, ranks, recipe
from lowlight_cli.training.sources import parse
from lowlight_cli.training.timing import Watch
from lowlight_cli.weights import fetch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")

NIGHT = Path(__file__).parents[1] / "samples/night.jpg"
NAMES = list(NETWORKS)


def load(network: str, device: str, precision: str, side: int | None = None, *, compiled: bool = False) -> TorchEngine:
    engine = engines.load(
        network, fetch.resolve(network, None), engine="torch", device=device, precision=precision, tiling=Tiling(side),
        compiled=compiled,
    )  # fmt: skip
    assert isinstance(engine, TorchEngine)
    return engine


@pytest.fixture(scope="module")
def night() -> NDArray[np.float32]:
    return read(NIGHT).pixels[None, :160, :224] ** np.float32(0.6)


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_the_processors_within_a_grey_level(name: str, night: NDArray[np.float32]) -> None:
    expected = load(name, "cpu", "fp32").run(night)
    assert np.abs(load(name, "cuda", "fp32").run(night) - expected).max() * 255 < 1


def test_float32_is_full_as_a_graph_too(night: NDArray[np.float32]) -> None:
    """By itself torch rounds what convolutions multiply to ten bits, from Ampere on."""
    before = tf32._setting()
    with tf32.off():
        expected = load("dgaf", "cuda", "fp32").run(night)
    engine = load("dgaf", "cuda", "fp32")
    for _ in range(3):
        assert np.abs(engine.run(night) - expected).max() * 255 < 0.01
    assert tf32._setting() == before


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_near(name: str, night: NDArray[np.float32]) -> None:
    error = np.abs(load(name, "cuda", "bf16").run(night) - load(name, "cpu", "fp32").run(night)) * 255
    assert error.mean() <= 0.5
    assert np.quantile(error, 0.999) <= 4


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_takes_the_memory_that_is_planned_with(name: str, night: NDArray[np.float32]) -> None:
    """At most what the table says, and not much less, or pictures would be cut that need not be."""
    square = torch.from_numpy(np.ascontiguousarray(np.tile(night[:, :, :128], (1, 7, 8, 1))[:, :1024])).cuda()
    peaks = []
    for precision in ("fp32", "bf16"):
        engine = load(name, "cuda", precision)
        engine._passed(square)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        engine._passed(square)
        peaks.append((torch.cuda.max_memory_allocated() - before) // 2**20)
    planned = memory.ON_GPU[name]
    wide = torch.cuda.get_device_capability() >= pytorch.WIDENS  # others take less for some networks
    least = 0.7 if wide else 0.5
    assert all(least * plan <= peak <= plan for peak, plan in zip(peaks, planned, strict=True)), (peaks, planned)


@pytest.mark.filterwarnings("ignore")  # torch's own, as below
@pytest.mark.parametrize(("name", "precision"), [("dgaf", "fp32"), *((name, "bf16") for name in NAMES)])
def test_compiled_is_the_same_picture(name: str, precision: str, night: NDArray[np.float32]) -> None:
    if lacking := compiling.lacking("cuda:0"):
        pytest.skip(f"needs {lacking}")
    expected = load(name, "cpu", "fp32").run(night)
    engine = load(name, "cuda", precision, compiled=True)
    assert engine.provider == "inductor"
    for _ in range(3):
        error = np.abs(engine.run(night) - expected) * 255
        assert error.mean() <= 0.5 and np.quantile(error, 0.999) <= (1 if precision == "fp32" else 4)
    assert engine.seconds(night.shape) is not None


def test_more_than_32_bits_count(night: NDArray[np.float32]) -> None:
    """128 channels of 24 megapixels, which cuDNN's fused kernels may not index; some 40 GB."""
    if torch.cuda.mem_get_info()[0] < memory.needed("jcrnet", "bf16", 24_000_000, "cuda"):
        pytest.skip("needs more memory")
    large = np.ascontiguousarray(np.tile(night, (1, 25, 27, 1))[:, :4000, :6000])
    cut: list[int] = []
    lit = load("jcrnet", "cuda", "bf16").run(large, cut.append)
    assert cut == [1]
    assert np.isfinite(lit).all() and lit[:, -160:].std() > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_the_second_of_a_size_is_a_graph_and_the_same_picture(name: str, night: NDArray[np.float32]) -> None:
    engine = load(name, "cuda", "fp32")
    other = np.ascontiguousarray(night[:, ::-1])
    first, second, third = engine.run(night), engine.run(night), engine.run(other)
    assert engine.seconds(night.shape) is not None
    assert np.abs(first - second).max() * 255 < 0.1
    assert np.abs(third - engine.run(night)).max() > 0.01  # a graph is not one picture for ever
    assert np.abs(engine.run(other[:, :128]) - load(name, "cuda", "fp32").run(other[:, :128])).max() * 255 < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_sides_that_divide_by_nothing(name: str, night: NDArray[np.float32]) -> None:
    odd = np.ascontiguousarray(night[:, :61, :83])
    expected = load(name, "cpu", "fp32").run(odd)
    engine = load(name, "cuda", "fp32")
    for _ in range(2):  # eager, then as a graph
        assert np.abs(engine.run(odd) - expected).max() * 255 < 1


def test_sizes_that_alternate_are_graphs_each_with_its_own_picture(night: NDArray[np.float32]) -> None:
    engine = load("dgaf", "cuda", "fp32")
    upright = np.ascontiguousarray(night.transpose(0, 2, 1, 3))
    pictures = [night, upright, night[:, ::-1], upright[:, ::-1]] * 2
    made = [engine.run(picture) for picture in pictures]
    assert all(engine.seconds(each.shape) is not None for each in (night, upright))
    for picture, lit in zip(pictures, made, strict=True):
        assert np.abs(load("dgaf", "cuda", "fp32").run(picture) - lit).max() * 255 < 0.1


def test_graphs_leave_room_for_another_size(night: NDArray[np.float32]) -> None:
    """The budget has room for one such picture, and so have both sizes in turn, whole, and again as graphs."""
    large = np.tile(night, (1, 10, 8, 1))
    budget = int(1.2 * memory.needed("dgaf", "fp32", large.size // 3, "cuda"))
    engine = replace(load("dgaf", "cuda", "fp32"), tiling=Tiling(memory=budget))
    cut: list[int] = []
    for picture in (large, large, large.transpose(0, 2, 1, 3), large.transpose(0, 2, 1, 3), large, large):
        engine.run(picture, cut.append)
    assert cut == [1] * 6
    assert engine.seconds(large.shape) is not None
    assert engine.seconds(large.transpose(0, 2, 1, 3).shape) is None
    engine._clean()
    assert engine.seconds(large.shape) is None


def test_threads_record_and_give_back_beside_each_other(night: NDArray[np.float32]) -> None:
    sizes = [(160, 224 - 16 * n) for n in range(6)]
    pictures = [np.ascontiguousarray(night[:, :height, :width]) for height, width in sizes]
    expected = [load("dgaf", "cuda", "fp32").run(picture) for picture in pictures]

    def work(engine: TorchEngine) -> float:
        worst = 0.0
        for picture, wanted in zip(pictures, expected, strict=True):
            worst = max(worst, *(float(np.abs(engine.run(picture) - wanted).max()) for _ in range(4)))
            engine._clean()
        return worst * 255

    with ThreadPoolExecutor(3) as pool:
        assert max(pool.map(work, [load("dgaf", "cuda", "fp32") for _ in range(3)])) < 0.1


def test_each_thread_gets_its_own_picture_back(night: NDArray[np.float32]) -> None:
    """Copies to the GPU and from it overlap the passes of other threads."""
    pictures = [np.ascontiguousarray(np.roll(night, 16 * n, 2)) for n in range(8)]
    engine = load("dgaf", "cuda", "fp32")
    expected = [engine.run(picture) for picture in pictures]
    assert engine.seconds(night.shape) is not None
    with ThreadPoolExecutor(engines.FEEDERS + 1) as pool:
        made = list(pool.map(engine.run, pictures * 8))
    for lit, wanted in zip(made, expected * 8, strict=True):
        assert np.abs(lit - wanted).max() * 255 < 0.1


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_each_gpu_has_graphs_of_its_own(night: NDArray[np.float32]) -> None:
    pictures = [np.ascontiguousarray(np.roll(night, 16 * n, 2)) for n in range(4)]
    wanted = [load("dgaf", "cpu", "fp32").run(picture) for picture in pictures]
    own = [load("dgaf", f"cuda:{card}", "fp32") for card in range(2)]
    for engine in own:
        for picture, expected in zip(pictures, wanted, strict=True):
            assert np.abs(engine.run(picture) - expected).max() * 255 < 1, engine.device
        assert engine.seconds(night.shape) is not None
    both = several.together([load("dgaf", f"cuda:{card}", "fp32") for card in range(2)], "cuda:0,1")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(both.run, pictures * 8))
    for lit, expected in zip(made, wanted * 8, strict=True):
        assert np.abs(lit - expected).max() * 255 < 1


def test_tiles_are_the_processors(night: NDArray[np.float32]) -> None:
    large = np.tile(night, (1, 4, 3, 1))
    expected = load("dgaf", "cpu", "fp32", 512).run(large)
    assert np.abs(load("dgaf", "cuda", "fp32", 512).run(large) - expected).max() * 255 < 1


def test_out_of_memory_goes_on_in_tiles(night: NDArray[np.float32]) -> None:
    large = np.tile(night, (1, 10, 8, 1))
    whole = load("dgaf", "cuda", "fp32").run(large)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    cut: list[int] = []
    engine = load("dgaf", "cuda", "fp32")
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 0.15e9) / total)
    try:
        tiled = engine.run(large, cut.append)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert cut[0] == 1 and cut[-1] > 1
    assert np.mean((tiled - whole) ** 2) < 10**-4.5


@pytest.mark.filterwarnings("ignore")  # torch's own, of which an error inside its compiler is the compiler's failure
@pytest.mark.parametrize("compiled", [False, True])
def test_training_learns_and_goes_on(tmp_path: Path, compiled: bool) -> None:
    from PIL import Image

    if compiled and (lacking := compiling.lacking("cuda:0")):
        pytest.skip(f"needs {lacking}")
    benchmark = torch.backends.cudnn.benchmark
    random = np.random.default_rng(0)
    for index in range(30):
        bright = np.kron(random.integers(90, 250, (6, 6, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        for name, picture in (("low", bright // 12), ("high", bright)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / name / f"{index}.png")
    numbers = recipe.load("dgaf", ("crop=64", "crop_end=0", "batch=4", "batch_end=0"))
    run = loop.Run(
        "dgaf", (parse(f"pairs:{tmp_path}/low,{tmp_path}/high"),), tmp_path / "run", tmp_path / "cache", numbers,
        steps=60, device="cuda:0", validate=1, every=30, compiled=compiled,
    )  # fmt: skip
    told: list[loop.Progress] = []
    loop.train(run, told.append)
    assert told[-1].loss < 0.7 * told[0].loss
    loop.train(replace(run, steps=80, resume=True), told.append)
    assert told[-1].step == 80
    assert torch.backends.cudnn.benchmark == benchmark


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="has no second GPU")
def test_a_run_works_on_its_own_gpu_alone() -> None:
    """Events, which take its times, are of the GPU that is the current one."""
    before = torch.cuda.current_device()
    try:
        with ranks.joined("cuda:1"):
            assert torch.cuda.current_device() == 1
            watch = Watch("cuda:1")
            torch.ones(4096, 4096, device="cuda:1").sum()
            watch.lap("sum")
            assert watch.shares() == {"sum": 1.0}
    finally:
        torch.cuda.set_device(before)
