"""Several devices as one engine."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lowlight_cli import engines
from lowlight_cli.engines import check_names
from lowlight_cli.engines.pytorch import TorchEngine
from lowlight_cli.engines.several import together
from lowlight_cli.errors import UsageError
from lowlight_cli.weights import fetch


@dataclass
class Meeting:
    """Ends a batch only when as many others have begun as there are engines."""

    engine: TorchEngine
    barrier: threading.Barrier
    seen: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)

    def run(self, batch: NDArray[np.float32], *_: object) -> NDArray[np.float32]:
        self.seen.append(batch.shape[2])
        self.barrier.wait(timeout=20)
        return self.engine.run(batch)


def test_as_many_at_once_as_there_are_each_its_own_result(dgaf_weights: Path) -> None:
    engine = engines.load("dgaf", fetch.resolve("dgaf", str(dgaf_weights)), engine="torch", device="cpu")
    assert isinstance(engine, TorchEngine)
    barrier = threading.Barrier(2)
    both = Meeting(engine, barrier), Meeting(engine, barrier)
    one = together(both, "cuda:0,1")  # type: ignore[arg-type]
    pictures = [np.full((1, 16, 16 + 4 * n, 3), 0.05 * n, np.float32) for n in range(6)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(one.run, pictures))
    assert [result.shape for result in results] == [picture.shape for picture in pictures]
    assert all(np.array_equal(result, engine.run(picture)) for result, picture in zip(results, pictures, strict=True))
    assert sorted(both[0].seen + both[1].seen) == [picture.shape[2] for picture in pictures]
    assert len(both[0].seen) == len(both[1].seen) == 3
    assert (one.count, one.device, one.precision) == (2, "cuda:0,1", engine.precision)


def test_an_engine_that_fails_is_free_again(dgaf_weights: Path) -> None:
    engine = engines.load("dgaf", fetch.resolve("dgaf", str(dgaf_weights)), engine="torch", device="cpu")
    one = together([engine], "cuda:0,1")
    with pytest.raises(ValueError, match="unpack"):
        one.run(np.zeros((4, 4, 3), np.float32))
    assert one.run(np.zeros((1, 8, 8, 3), np.float32)).shape == (1, 8, 8, 3)


def test_a_clip_is_held_steady_on_several_as_on_one(dgaf_weights: Path) -> None:
    engine = engines.load("dgaf", fetch.resolve("dgaf", str(dgaf_weights)), engine="torch", device="cpu")
    frame = np.full((1, 16, 20, 3), 0.1, np.float32)
    steadied = engine.run(frame, settle=lambda at, value: value * 2)
    assert not np.array_equal(steadied, engine.run(frame))
    several = together([engine, engine], "cuda:0,1")
    assert np.array_equal(several.run(frame, settle=lambda at, value: value * 2), steadied)


@pytest.mark.parametrize("device", ["cuda:0,1", "cuda:2,0,1"])
def test_names_of_several(device: str) -> None:
    check_names("auto", device, "auto")
    assert engines.choose("auto", "dgaf", "0" * 64, device, "auto").engine == "torch"


@pytest.mark.parametrize("device", ["cuda:", "cuda:0,", "cpu:0,1", "cuda,0", "mps:0,1"])
def test_names_that_mean_nothing(device: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        check_names("auto", device, "auto")
