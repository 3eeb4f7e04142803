"""What runs on an NVIDIA GPU gives what the CPU gives; all of it is left out where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lowlight_cli import engines
from lowlight_cli.engines import Tiling
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


def load(network: str, device: str, precision: str, side: int | None = None) -> TorchEngine:
    engine = engines.load(
        network, fetch.resolve(network, None), engine="torch", device=device, precision=precision, tiling=Tiling(side)
    )
    assert isinstance(engine, TorchEngine)
    return engine


@pytest.fixture(scope="module")
def night() -> NDArray[np.float32]:
    return read(NIGHT).pixels[None, :160, :224] ** np.float32(0.6)


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_the_processors_within_a_grey_level(name: str, night: NDArray[np.float32]) -> None:
    expected = load(name, "cpu", "fp32").run(night)
    assert np.abs(load(name, "cuda", "fp32").run(night) - expected).max() * 255 < 1


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_near(name: str, night: NDArray[np.float32]) -> None:
    error = np.abs(load(name, "cuda", "bf16").run(night) - load(name, "cpu", "fp32").run(night)) * 255
    assert error.mean() <= 0.5
    assert np.quantile(error, 0.999) <= 4


@pytest.mark.parametrize("name", NAMES)
def test_the_second_of_a_size_is_a_graph_and_the_same_picture(name: str, night: NDArray[np.float32]) -> None:
    engine = load(name, "cuda", "fp32")
    other = np.ascontiguousarray(night[:, ::-1])
    first, second, third = engine.run(night), engine.run(night), engine.run(other)
    assert engine.seconds(night.shape) is not None
    assert np.abs(first - second).max() * 255 < 0.1
    assert np.abs(third - engine.run(night)).max() > 0.01  # a graph is not one picture for ever
    assert np.abs(engine.run(other[:, :128]) - load(name, "cuda", "fp32").run(other[:, :128])).max() * 255 < 0.1


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
    assert 10 * np.log10(1 / np.mean((tiled - whole) ** 2)) > 45


@pytest.mark.parametrize("compiled", [False, True])
def test_training_learns_and_goes_on(tmp_path: Path, compiled: bool) -> None:
    from PIL import Image

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
