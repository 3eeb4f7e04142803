"""`lowlight bench --speed`: rows that belong to what ran, and numbers that follow from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

from lowlight_cli.bench import speed
from lowlight_cli.engines import hardware


def test_engines_side_by_side(
    lowlight: Callable[..., Ran], folder: Path, dgaf_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch, and whatever else is installed, on a small picture; the JSON has what the table is made of."""
    monkeypatch.setattr(speed, "WARM", 0.1)
    ran = lowlight(
        *("bench", "--speed", "--size", "64x48", "--runs", "2", "--json", "speed.json", "--precision", "fp32"),
        *("-m", "dgaf", "-w", dgaf_weights, "--device", "cpu"),
    )
    assert ran.code == 0, ran.err
    told = json.loads(Path("speed.json").read_text())
    assert told["schema"] == "lowlight-speed-1" and told["environment"]["cores"]
    rows = told["rows"]
    assert [row["engine"] for row in rows] == ["eager", *(name for name, _ in speed.wishes("auto", "fp32"))]
    for row in rows:
        assert (row["precision"], row["device"], len(row["seconds"])) == ("fp32", "cpu", 2)
        assert row["gmacs"] == pytest.approx(3.63 * 64 * 48 / 384**2)
        assert row["gflops"] == pytest.approx(2 * row["gmacs"] / row["median"])
        assert row["bytes"] is None or 0 <= row["bytes"] < 2**31
        assert 0 < row["peak"] <= told["peak_gmacs"]["fp32"]
    assert told["peak_gmacs"]["fp32"] > 0 and told["decode_megapixels"] > 0 and told["encode_megapixels"] > 0
    header, first, *_ = (line.split("\t") for line in ran.out.splitlines())
    assert header[:4] == ["model", "engine", "precision", "ms"]
    assert first[1:3] == ["eager", "fp32"] and first[5] == "1.00"


def test_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "installed", lambda *packages: "openvino" not in packages)
    assert speed.wishes("auto", "auto") == [("torch", "fp32"), ("torch", "bf16"), ("onnx", "fp32"), ("onnx", "bf16")]
    assert speed.wishes("onnx", "fp32") == [("torch", "fp32"), ("onnx", "fp32")]
    assert speed.wishes("torch", "fp16") == [("torch", "fp32"), ("torch", "fp16")]


@pytest.mark.parametrize("size", ["600", "0x4", "axb"])
def test_sizes_without_sense(lowlight: Callable[..., Ran], size: str) -> None:
    ran = lowlight("bench", "--speed", "--size", size, "-m", "dgaf")
    assert ran.code == 2 and "WIDTHxHEIGHT" in ran.err
