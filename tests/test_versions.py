"""Which versions doctor and bench tell: those of whatever distributions the modules come from."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

from lowlight_cli.bench import report, speed
from lowlight_cli.engines import hardware


@pytest.fixture
def other_distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with the windowed OpenCV and ONNX Runtime for GPUs, and nothing known of all else."""
    for name, version, module in (("opencv_python", "4.12", "cv2"), ("onnxruntime_gpu", "1.22", "onnxruntime")):
        about = tmp_path / f"{name}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (about / "top_level.txt").write_text(module)
    for module in ("cv2", "onnxruntime", "onnx", "openvino"):
        pytest.importorskip(module)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])


def test_here() -> None:
    found = hardware.versions("numpy", "PIL", "huggingface_hub")
    assert list(found) == ["numpy", "pillow", "huggingface-hub"]
    assert found["numpy"] == sys.modules["numpy"].__version__


@pytest.mark.usefixtures("other_distributions")
def test_of_other_distributions() -> None:
    assert hardware.versions("cv2", "torch", "onnxruntime") == {
        "opencv-python": "4.12", "torch": None, "onnxruntime-gpu": "1.22",
    }  # fmt: skip


@pytest.mark.usefixtures("other_distributions")
def test_bench_writes_what_it_measured() -> None:
    told = report.environment()
    assert told["opencv-python"] == "4.12" and told["torch"] is None
    told = json.loads(speed.as_json(speed.Speed((6, 4), (), {}, 1.0, 1.0, 1.0)))["environment"]
    assert told["onnxruntime-gpu"] == "1.22" and told["openvino"] is None


@pytest.mark.usefixtures("other_distributions")
def test_doctor_goes_on(lowlight: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowlight_cli.doctor._weights", lambda: iter(()))
    told = dict(line.split(": ", 1) for line in lowlight("doctor").out.splitlines())
    assert "opencv-python 4.12" in told["packages"] and "torch missing" in told["packages"]
