"""What a runtime made of a graph is kept for this machine: the same picture sooner, never one from a damaged file."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import pytest
from conftest import Ran
from numpy.typing import NDArray

from lowlight_cli import disk, engines
from lowlight_cli.engines import Tiling, cache, hardware, memory
from lowlight_cli.errors import DeviceError, WeightsError
from lowlight_cli.weights.fetch import Resolved

pytest.importorskip("openvino")
pytest.importorskip("onnxscript")


@pytest.fixture
def weights(seeded: Callable[[str], Path]) -> Resolved:
    return Resolved(seeded("dgaf"), disk.sha256(seeded("dgaf")), None)


def picture(height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(height).random((1, height, width, 3), dtype=np.float32) * np.float32(0.2)


def blobs() -> list[Path]:
    return sorted(cache.folder().glob("dgaf-*.blob"))


def test_the_second_load_takes_what_the_first_left(weights: Resolved) -> None:
    picture = np.random.default_rng(0).random((1, 24, 40, 3), dtype=np.float32) * np.float32(0.2)
    cache.clear()
    first = engines.load("dgaf", weights, engine="openvino", precision="fp32").run(picture)
    (kept,) = blobs()
    again = engines.load("dgaf", weights, engine="openvino", precision="fp32").run(picture)
    assert np.abs(again - first).max() * 255 < 0.01
    data = bytearray(kept.read_bytes())
    data[len(data) // 2] ^= 255  # among the weights: the runtime itself would not notice
    kept.write_bytes(data)
    mended = engines.load("dgaf", weights, engine="openvino", precision="fp32").run(picture)
    assert np.abs(mended - first).max() * 255 < 0.01
    assert len(blobs()) == 1 and blobs()[0].read_bytes() != bytes(data)


def test_another_graph_or_machine_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path))
    one, two = (cache.keep(name.encode(), "dgaf", name * 64) for name in "12")
    cache.keep_compiled(b"made", one, "this machine")
    assert cache.compiled(one, "this machine") == b"made"
    assert cache.compiled(two, "this machine") is None and cache.compiled(one, "that machine") is None
    cache.keep(b"newer", "dgaf", "1" * 64)
    assert not list(cache.folder().glob("*.blob"))


def test_weights_rm_all_takes_them_too(lowlight: Callable[..., Ran]) -> None:
    cache.keep_compiled(b"made", cache.keep(b"graph", "dgaf", "1" * 64), "this machine")
    assert lowlight("weights", "rm", "--all").code == 0
    assert not cache.folder().exists()


# ------------------------------------------------------------------------------------- sizes that keep coming


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, weights: Resolved) -> Callable[..., Any]:
    """OpenVINO where each size has a graph of its own from its second picture on."""
    from lowlight_cli.engines import openvino

    monkeypatch.setattr(openvino, "PATIENCE", 1e-9)

    def load(precision: str = "fp32", **options: Any) -> engines.Engine:
        return engines.load("dgaf", weights, engine="openvino", precision=precision, **options)

    return load


def test_a_size_that_keeps_coming_looks_the_same(impatient: Callable[..., Any], weights: Resolved) -> None:
    """In turn, upright and lying, padded or not, more sizes than are kept; whole, in tiles and steadied."""
    sizes = ((32, 48), (48, 32), (45, 61), (400, 430))
    for tiling in (Tiling(), Tiling(side=384)):
        torch = engines.load("dgaf", weights, engine="torch", precision="fp32", tiling=tiling)
        wanted = {size: torch.run(picture(*size)) for size in sizes}
        engine = impatient(tiling=tiling)
        for size in sizes * 3:
            assert np.abs(engine.run(picture(*size)) - wanted[size]).max() * 255 < 0.1, size
        brighter = [each.run(picture(32, 48), settle=lambda at, value: value * 2) for each in (engine, torch)]
        assert np.abs(brighter[0] - brighter[1]).max() * 255 < 0.1


def test_a_size_that_keeps_coming_gets_its_graph_once(
    impatient: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lowlight_cli.engines import openvino

    made, compiled = [], openvino.compiled

    def counted(*arguments: Any) -> Any:
        made.append(arguments[3:])
        return compiled(*arguments)

    engine = impatient()
    monkeypatch.setattr(openvino, "compiled", counted)
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(engine.run, [picture(32, 48)] * 12)
    assert made == [((("input", (1, 3, 32, 48)),),)]
    assert all(np.abs(other - first).max() * 255 < 0.01 for other in others)


def test_where_memory_is_short_the_general_one_goes_on(
    impatient: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each graph holds memory of its own: two for tiles of two sizes took one and a half times the budget."""
    from lowlight_cli.engines import openvino

    held = memory.resident()
    assert held
    engine, made = impatient(tiling=Tiling(memory=held + 2 * 10**9)), []
    graph = engine._whole
    assert graph.room(10**5) and not graph.room(10**8)
    monkeypatch.setattr(openvino, "compiled", lambda *arguments: made.append(arguments))
    graph.room = lambda pixels: pixels < 40 * 40
    for _ in range(3):
        engine.run(picture(40, 40))
    assert not made


def test_where_it_cannot_be_made_the_general_one_goes_on(
    impatient: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lowlight_cli.engines import openvino

    engine, tried = impatient(), []

    def fails(*arguments: Any) -> Any:
        tried.append(arguments)
        raise WeightsError("no memory for it")

    monkeypatch.setattr(openvino, "compiled", fails)
    first, *others = (engine.run(picture(32, 48)) for _ in range(4))
    assert len(tried) == 1 and all(np.array_equal(first, other) for other in others)


def test_the_first_call_is_made_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two first calls at once hung in one process of eight; later ones may be at once."""
    from lowlight_cli.engines import openvino

    now, most, lock = 0, [], Lock()

    class Request:
        outputs = ()

        def create_infer_request(self) -> Request:
            return self

        def infer(self, inputs: object, **_: object) -> dict[str, object]:
            nonlocal now
            with lock:
                now += 1
                most.append(now)
            time.sleep(0.1)
            with lock:
                now -= 1
            return {}

    monkeypatch.setattr(openvino, "_called", Event())
    monkeypatch.setattr(openvino.Graph, "_kept", lambda self: Request())
    graph = openvino.Graph(Path("none"), "whole", "fp32", 4, lambda pixels: True)

    def call(_: int) -> None:
        with graph.outputs({"input": picture(4, 4)}):
            pass

    for _ in range(2):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(call, range(4)))
    assert most[:2] == [1, 1] and max(most[4:]) > 1


def test_a_graph_that_gave_way_meanwhile_is_let_go(impatient: Callable[..., Any]) -> None:
    """As one thread is in it, another's new size takes its place: what was compiled for it must not stay for ever."""

    def given(side: int) -> dict[str, NDArray[np.float32]]:
        return {"input": np.zeros((1, 3, side, side), np.float32)}

    def came(side: int) -> None:
        for _ in range(2):
            with graph.outputs(given(side)):
                pass

    graph = impatient()._whole
    came(32)
    came(40)
    with graph.outputs(given(32)) as found:
        gone = weakref.ref(graph.special[next(iter(graph.special))])
        came(48)
        assert np.isfinite(found["output"]).all()
    del found
    gc.collect()
    assert gone() is None
    assert len(graph.special) == 2 and set(graph.idle) <= {graph.general, *graph.special.values()}


@pytest.mark.skipif(not hardware.bf16(), reason="the CPU has no bf16")
def test_the_exposure_stays_in_float32(impatient: Callable[..., Any]) -> None:
    """Half a per cent of the gain is a grey level, everywhere."""
    half, full = impatient("bf16"), impatient("fp32")
    for size in ((32, 48), (45, 61), (200, 300)):
        (gain,), (exact,) = (each.measure(picture(*size)).values() for each in (half, full))
        assert np.allclose(gain, exact, rtol=1e-5)
        bright = half.run(picture(*size))
        assert np.array_equal(bright, half.replay({"statistic_00": exact}, picture(*size)))
        assert np.abs(half.run(picture(*size)) - bright).max() * 255 < 0.01  # by its own graph


def test_little_is_kept_of_each_new_size() -> None:
    """By itself the runtime keeps 1.3 MB a size, up to 5000 of them; a graph does not tell how many it was given."""
    from lowlight_cli.engines import openvino

    assert openvino._settings("fp32", 1)["CPU_RUNTIME_CACHE_CAPACITY"] == 256


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs the memory of a process as Linux tells it")
def test_many_sizes_take_bounded_memory(impatient: Callable[..., Any]) -> None:
    engine, held = impatient(), []
    for number in range(400):
        engine.run(picture(33 + number // 20 * 3, 35 + number % 20 * 3))
        held.append(memory.resident() or 0)
    assert held[-1] - held[199] < 60e6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are started anew there")
@pytest.mark.skipif(hardware.every_core() < 2, reason="one number of threads only")
@pytest.mark.parametrize("threads", ["", "1"])
def test_a_forked_process_loads_anew(weights: Resolved, threads: str) -> None:
    """The runtime would take its parent's idle threads, which are not forked, and wait without end."""
    code = (
        "import sys, numpy, multiprocessing\nfrom lowlight_cli import Enhancer\n"
        "dark = numpy.full((60, 80, 3), 9, numpy.uint8)\n"
        "def lit(_): return Enhancer(weights=sys.argv[1], engine='openvino', precision='fp32').enhance(dark)\n"
        "lit(0), lit(0)\n"  # the second takes what is kept of the first
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "    other = pool.map_async(lit, [0]).get(timeout=20)[0]\n"
        "assert abs(lit(0).astype(int) - other).max() <= 1\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    subprocess.run([sys.executable, "-c", code, str(weights.path)], check=True, timeout=120, env=environment)


def test_where_no_number_of_threads_is_left_it_is_told(weights: Resolved, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowlight_cli.engines import openvino

    monkeypatch.setattr(openvino, "_dead", set(range(1, hardware.every_core() + 1)))
    with pytest.raises(DeviceError, match="forked so often"):
        openvino.attempt("cpu")
    with pytest.raises(DeviceError, match="forked so often"):
        engines.load("dgaf", weights, engine="openvino", device="cpu")
    found = engines.load("dgaf", weights, engine=engines.Choice("openvino", "the fastest"), device="cpu")
    assert found.name == "torch"
    assert "forked so often" in found.why
