"""Which engine is taken where none is named: the fastest that is installed and ready, and what pays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran

from lowlight_cli import engines
from lowlight_cli.engines import cache, hardware
from lowlight_cli.weights.fetch import Resolved

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

ALL = ("openvino", "onnx", "onnxscript", "onnxruntime")


@pytest.mark.parametrize(
    ("has", "half", "kept", "wish", "chosen"),
    [
        (ALL, True, True, {}, "openvino"),
        (ALL, False, True, {}, "onnx"),  # dgaf in float32: no slower, and ready sooner
        (ALL, True, False, {}, "torch"),  # an export is worth nothing to one picture
        (ALL, True, False, {"pictures": 10_000}, "openvino"),
        (ALL[1:], True, True, {}, "torch"),  # torch in bf16 before ONNX Runtime in fp32
        (ALL[1:], True, True, {"precision": "fp32"}, "onnx"),
        (ALL[1:], False, True, {}, "onnx"),
        (ALL[1:], None, True, {}, "torch"),  # nobody knows: torch finds out
        ((), False, True, {"pictures": 10_000}, "torch"),
        (ALL, True, True, {"precision": "fp16"}, "torch"),
        (ALL, False, True, {"precision": "bf16"}, "torch"),
        (ALL, True, True, {"precision": "bf16"}, "openvino"),
        (ALL, True, True, {"device": "cuda:0"}, "torch"),
        (ALL, True, True, {"engine": "onnx"}, "onnx"),
        (ALL, True, True, {"engine": "torch"}, "torch"),
    ],
)
def test_auto(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    has: tuple[str, ...],
    half: bool | None,
    kept: bool,
    wish: dict[str, Any],
    chosen: str,
) -> None:
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(hardware, "bf16", lambda: half)
    monkeypatch.setattr(hardware, "gpu", lambda: False)
    monkeypatch.setattr(hardware, "installed", lambda *packages: set(packages) <= set(has))
    if kept:
        cache.keep(b"graph", "dgaf", "1" * 64)
    asked = {"engine": "auto", "device": "auto", "precision": "auto", **wish}
    choice = engines.choose(network="dgaf", weights="1" * 64, **asked)
    assert choice.engine == chosen
    assert bool(choice.why) == (asked["engine"] == "auto" and chosen != "torch")


def test_where_nothing_can_be_kept(
    lowlight: Callable[..., Ran], photo: Path, monkeypatch: pytest.MonkeyPatch, resolved: Callable[[str], Resolved]
) -> None:
    """In a container without a home: many pictures go by torch, and an engine that is named says so at once."""
    from lowlight_cli.engines import export

    Path("file").write_bytes(b"")
    monkeypatch.setenv("LOWLIGHT_CACHE", str(Path("file/cache").absolute()))
    monkeypatch.setattr(hardware, "gpu", lambda: False)
    monkeypatch.setattr(export, "exported", lambda *_: pytest.fail("exported for nothing"))
    assert engines.choose("auto", "dgaf", "1" * 64, "auto", "fp32", pictures=10**6).engine == "torch"
    for words in (("enhance", photo, "--engine", "onnx"), ("export", "-m", "dgaf")):
        ran = lowlight(*words)
        assert (ran.code, len(ran.lines)) == (4, 1)
        assert "set LOWLIGHT_CACHE" in ran.err


def test_a_gpu_is_torch_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path))
    cache.keep(b"graph", "dgaf", "1" * 64)
    monkeypatch.setattr(hardware, "gpu", lambda: True)
    assert engines.choose("auto", "dgaf", "1" * 64, "auto", "auto").engine == "torch"
