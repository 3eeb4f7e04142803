"""An engine that nobody named: where it fails torch does the work and the reason is told; one that was named fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, dark_array
from PIL import Image

from lowlight_cli import disk, engines
from lowlight_cli.engines import cache, hardware
from lowlight_cli.errors import LowlightError, ResourceError
from lowlight_cli.weights.fetch import Resolved

pytest.importorskip("onnxscript")

RUNTIMES = ("onnx", "openvino")


@pytest.fixture
def weights(seeded: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resolved:
    """Those of dgaf, in a cache of their own, on a CPU."""
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hardware, "gpu", lambda: False)
    return Resolved(seeded("dgaf"), disk.sha256(seeded("dgaf")), None)


def assert_refused(weights: Resolved, engine: str, error: type[Exception], told: str) -> None:
    """Named, the engine fails; taken by itself, it leaves the work to torch, which tells why."""
    pytest.importorskip({"onnx": "onnxruntime"}.get(engine, engine))
    with pytest.raises(error, match=told):
        engines.load("dgaf", weights, engine=engine, device="cpu", precision="fp32")
    auto = engines.Choice(engine, "the fastest")
    found = engines.load("dgaf", weights, engine=auto, device="cpu", precision="fp32")
    assert found.name == "torch" and told in found.why


@pytest.mark.parametrize("engine", RUNTIMES)
def test_a_full_disk_under_the_graph(weights: Resolved, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowlight_cli.engines import export

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "exported", lambda *_: export.Exported(b"graph", export.Difference(0, 0, 0)))
    monkeypatch.setattr(Path, "write_bytes", full)
    assert_refused(weights, engine, ResourceError, "the disk is full")


@pytest.mark.parametrize("engine", RUNTIMES)
def test_a_graph_that_differs_from_torch(weights: Resolved, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowlight_cli.engines import export

    monkeypatch.setattr(export, "compared", lambda *_: export.Difference(9, 9, 9))
    monkeypatch.setattr(export, "_model", lambda *_: smallest())
    assert_refused(weights, engine, LowlightError, "off by 9.00 grey levels on average")


@pytest.mark.parametrize("engine", RUNTIMES)
def test_an_exporter_with_an_error_of_its_own(weights: Resolved, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that nobody can write to."""
    from lowlight_cli.engines import export

    def homeless(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']\n\nSee the manual")

    monkeypatch.setattr(export, "_model", homeless)
    assert_refused(weights, engine, FileNotFoundError, "No usable temporary directory found")


@pytest.mark.parametrize("engine", RUNTIMES)
def test_a_graph_that_the_runtime_cannot_read(weights: Resolved, engine: str) -> None:
    cache.keep(b"no graph", "dgaf", weights.sha256)
    assert_refused(weights, engine, LowlightError, "cannot read")


def test_weights_that_torch_cannot_read_either(weights: Resolved, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(weights.path.read_bytes()[:5000])
    with pytest.raises(LowlightError, match=r"damaged\.safetensors is not"):
        engines.load("dgaf", Resolved(damaged, "1" * 64, None), engine=engines.Choice("onnx", "the fastest"))


def test_the_command_tells(lowlight: Callable[..., Ran], photo: Path, weights: Resolved) -> None:
    cache.keep(b"no graph", "dgaf", weights.sha256)
    words = ("enhance", photo, "--device", "cpu", "--precision", "fp32")
    ran = lowlight(*words)
    assert ran.code == 0 and Path("photo_lit.jpg").exists()
    assert "cannot read" in ran.err and "by onnx" not in ran.err
    assert lowlight(*words, "--engine", "onnx", "--exist", "overwrite").code == 5


def test_the_command_for_clips_tells(lowlight: Callable[..., Ran], folder: Path, weights: Resolved) -> None:
    pytest.importorskip("av")
    cache.keep(b"no graph", "dgaf", weights.sha256)
    Path("in").mkdir()
    for number in range(2):
        Image.fromarray(dark_array(seed=number)).save(f"in/{number}.png")
    ran = lowlight("video", "in", "-o", "out/%d.png", "--device", "cpu", "--precision", "fp32")
    assert ran.code == 0 and Path("out/0.png").exists()
    assert "2 frames lit with dgaf" in ran.err and "cannot read" in ran.err


def test_a_runtime_that_cannot_be_imported(
    process: Callable[..., Ran], photo: Path, weights: Resolved, tmp_path: Path
) -> None:
    """It is installed, but what it links to is not."""
    cache.keep(b"no graph", "dgaf", weights.sha256)
    broken = tmp_path / "broken" / "onnxruntime"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    words = ("enhance", photo, "--device", "cpu", "--precision", "fp32")
    environment = {"PYTHONPATH": path_before(broken.parent), "LOWLIGHT_CACHE": str(tmp_path / "cache")}
    ran = process(*words, env=environment)
    assert ran.code == 0, ran.err
    assert "needs ONNX Runtime" in ran.err
    assert process(*words, "--engine", "onnx", "--exist", "overwrite", env=environment).code == 6


def path_before(folder: Path) -> str:
    """PYTHONPATH with this folder first."""
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


def smallest() -> Any:
    import onnx

    return onnx.load_model_from_string(cache.smallest())
