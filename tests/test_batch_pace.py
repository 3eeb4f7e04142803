"""Small pictures are brightened one a core, large ones one by one; what comes out is the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran, dark_array
from PIL import Image

from lowlight_cli import engines
from lowlight_cli.engines import Tiling, hardware, memory
from lowlight_cli.enhancer import Enhancer, Settings
from lowlight_cli.folders import pace, watch
from lowlight_cli.pictures import Photo
from lowlight_cli.weights import fetch


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cores", lambda: 6)
    monkeypatch.setattr(memory, "available", lambda: 64 * 2**30)


def made(name: str, width: int, height: int) -> Path:
    Image.new("RGB", (width, height), (9, 9, 9)).save(name)
    return Path(name)


@pytest.mark.usefixtures("cores")
def test_one_a_core_where_they_are_small(folder: Path) -> None:
    small, large = [made(f"{n}.png", 600, 400) for n in range(20)], made("large.png", 6000, 4000)
    assert pace.at_once(Settings("dgaf"), small) == 6
    assert pace.at_once(Settings("dgaf"), small[:3]) == 3
    assert pace.at_once(Settings("jcrnet"), small) == 6
    assert pace.at_once(Settings("dgaf"), [*small, large]) == 1
    assert pace.at_once(Settings("jcrnet"), [made("a.png", 1200, 800)]) == 1
    assert pace.at_once(Settings("jcrnet", self_ensemble=True), small) == 1  # eight passes are as much as a large one
    assert pace.at_once(Settings("dgaf"), []) == 1


@pytest.mark.usefixtures("cores")
def test_kinds_that_hide_their_size_and_damaged_files(folder: Path) -> None:
    small, damaged, raw = [made(f"{n}.jpg", 60, 40) for n in range(5)], Path("damaged.jpg"), Path("camera.cr2")
    damaged.write_bytes(b"no picture"), raw.write_bytes(b"no picture")
    assert pace.at_once(Settings("dgaf"), [*small, damaged]) == 6
    assert pace.at_once(Settings("dgaf"), [*small, raw]) == 1


@pytest.mark.usefixtures("cores")
def test_as_many_as_the_memory_holds(folder: Path) -> None:
    pictures = [made(f"{n}.png", 2000, 1500) for n in range(8)]
    gigabytes = [pace.at_once(Settings("dgaf", tiling=Tiling(memory=n * 10**9)), pictures) for n in (1, 8, 100)]
    assert gigabytes[0] == 1 < gigabytes[1] < gigabytes[2] == 6


@pytest.mark.parametrize("engine", ["torch", "onnx", "openvino"])
def test_an_engine_for_several_has_its_part_of_cores_and_memory(
    engine: str, dgaf_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hardware.installed(*engines.NEEDED.get(engine, ())):
        pytest.skip(f"{engine} is not installed")
    monkeypatch.setattr(memory, "available", lambda: 10**10)
    weights = fetch.resolve("dgaf", str(dgaf_weights))
    one, three = (engines.load("dgaf", weights, engine=engine, tiling=Tiling(at_once=n)) for n in (1, 3))
    assert three.free(10**6) == one.free(0) // 3 - 10**6  # type: ignore[attr-defined]
    frames = [np.full((1, 33, 50, 3), level, np.float32) for level in (0.02, 0.05, 0.1)]
    found: dict[int, np.ndarray] = {}
    workers = [threading.Thread(target=lambda n=n: found.update({n: three.run(frames[n])})) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for n, frame in enumerate(frames):
        assert np.abs(found[n] - one.run(frame)).max() * 255 < 0.1


@pytest.mark.parametrize(("engine", "threads"), [("torch", 2), ("onnx", 2), ("openvino", 4)])
def test_streams_that_run_beside_their_callers_have_two_each(
    engine: str, threads: int, dgaf_weights: Path, folder: Path
) -> None:
    """OpenVINO's threads stay on their cores, which idle while their only caller finishes a picture.

    Large pictures have one caller each: those that wait would take memory.
    """
    if not hardware.installed(*engines.NEEDED.get(engine, ())):
        pytest.skip(f"{engine} is not installed")
    small, large = made("s.png", 600, 400), made("l.png", 3000, 1500)
    for at_once, expected in ((1, 1), (2, threads)):
        enhancer = Enhancer("dgaf", str(dgaf_weights), engine=engine, device="cpu")
        enhancer.expect(9, at_once=at_once)
        assert pace.callers(enhancer, [small, small]) == expected
        assert pace.callers(enhancer, [small, large]) == at_once


@pytest.mark.parametrize(("cores", "threads"), [(2, 3), (10, 5), (64, 8)])
def test_half_of_the_cores_work_around_a_gpu(
    cores: int, threads: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass of dgaf at 1080p takes 2 ms, and what surrounds it 85 ms of a core."""
    small, large = made("s.png", 600, 400), made("l.png", 3000, 1500)
    enhancer = Enhancer("dgaf", device="cpu")
    engine, resolved = enhancer.load()
    enhancer._shared.loaded = replace(engine, device="cuda:0"), resolved  # type: ignore[type-var]
    monkeypatch.setattr(hardware, "cores", lambda: cores)
    assert pace.callers(enhancer, [small, small]) == threads
    assert pace.callers(enhancer, [small, large]) == engines.FEEDERS


def test_a_batch_of_several_at_once(
    folder: Path, lowlight: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many threads as cores, each picture its own result, in the order of the names."""
    Path("in").mkdir()
    for n in range(9):
        Image.fromarray(dark_array(60 + n, 80, seed=n)).save(f"in/{n}.png")
    Path("in/4.png").write_bytes(b"no picture")
    monkeypatch.setattr(hardware, "cores", lambda: 1)
    assert lowlight("batch", "in", "-o", "alone").code == 1
    told = three_meet(monkeypatch)
    ran = lowlight("batch", "in", "-o", "together", "--engine", "torch")
    assert ran.code == 1 and "4.png" in ran.err
    assert ran.out.split() == [f"together/{n}.png" for n in range(9) if n != 4]
    assert len(told) == 3
    for n in (0, 1, 2, 3, 5, 6, 7, 8):
        alone, together = (np.asarray(Image.open(f"{root}/{n}.png"), int) for root in ("alone", "together"))
        assert np.abs(alone - together).max() <= 1


def test_a_watch_of_several_at_once(
    folder: Path, lowlight: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there when it begins decides."""
    Path("in").mkdir()
    for n in range(9):
        Image.fromarray(dark_array(60, 80, seed=n)).save(f"in/{n}.png")
    left = iter(range(2))

    def pause(_: float) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    told = three_meet(monkeypatch)
    monkeypatch.setattr(watch.time, "sleep", pause)
    ran = lowlight("batch", "in", "-o", "lit", "--watch", "--engine", "torch")
    assert (ran.code, ran.out.split()) == (130, [f"lit/{n}.png" for n in range(9)])
    assert len(told) == 3


def three_meet(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """On three cores: each thread that brightens waits for two others at first; their names, as they come."""
    told: set[str] = set()
    meet, brighten = threading.Barrier(3), Enhancer.enhance_photo

    def seen(self: Enhancer, *args: object) -> Photo:
        name = threading.current_thread().name
        if name not in told:
            told.add(name)
            meet.wait(timeout=30)
        return brighten(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(hardware, "cores", lambda: 3)
    monkeypatch.setattr(Enhancer, "enhance_photo", seen)
    return told
