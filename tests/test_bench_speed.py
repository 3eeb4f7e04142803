"""`lowlight bench --speed`: rows that belong to what ran, and numbers that follow from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Ran
from torch import nn

from lowlight_cli import engines
from lowlight_cli.bench import methods, speed, speed_peak
from lowlight_cli.bench.speed_peak import roofline
from lowlight_cli.engines import hardware, pytorch
from lowlight_cli.errors import DeviceError, LowlightError
from lowlight_cli.networks import NETWORKS, build, descriptor


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
    assert [row["engine"] for row in rows] == ["eager", *(name for name, *_ in speed.wishes("auto", "fp32"))]
    for row in rows:
        assert (row["precision"], row["device"], len(row["seconds"])) == ("fp32", "cpu", 2)
        assert row["gmacs"] == pytest.approx(3.63 * 64 * 48 / 384**2)
        assert row["gflops"] == pytest.approx(2 * row["gmacs"] / row["median"])
        assert row["bytes"] is None or 0 <= row["bytes"] < 2**31
        assert 0 < row["peak"] <= told["peak_gmacs"]["fp32"]
    assert told["peak_gmacs"]["fp32"] > 0
    assert all(told[f"{step}_megapixels"] > 0 for step in ("decode", "finish", "encode"))
    header, first, *_ = (line.split("\t") for line in ran.out.splitlines())
    assert header[:4] == ["model", "engine", "precision", "ms"]
    assert first[1:3] == ["eager", "fp32"] and first[5] == "1.00"


def test_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "installed", lambda *packages: "openvino" not in packages)
    plain = False
    assert speed.wishes("auto", "auto") == [
        ("torch", "fp32", plain), ("torch", "bf16", plain), ("onnx", "fp32", plain), ("onnx", "bf16", plain)
    ]  # fmt: skip
    assert speed.wishes("onnx", "fp32") == [("torch", "fp32", plain), ("onnx", "fp32", plain)]
    assert speed.wishes("torch", "fp16") == [("torch", "fp32", plain), ("torch", "fp16", plain)]
    compiled = [("torch", "fp32", plain), ("torch", "fp16", plain), ("torch", "fp16", True)]
    assert speed.wishes("torch", "fp16", compiled=True) == compiled


Measure = Callable[..., tuple[list[tuple[str, str]], list[str], speed.Speed]]


@pytest.fixture
def measured(dgaf_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Engines and precisions of the rows, what was told, and all of it."""
    monkeypatch.setattr(speed, "WARM", 0.0)

    def measure(**options: Any) -> tuple[list[tuple[str, str]], list[str], speed.Speed]:
        told: list[str] = []
        found = speed.measure(
            methods.choose(["dgaf"], [str(dgaf_weights)]), size=(64, 48), runs=1, on_message=told.append, **options
        )
        return [(row.engine, row.precision) for row in found.rows], told, found

    return measure


@pytest.fixture
def no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that only emulates bfloat16."""
    monkeypatch.setattr(hardware, "bf16", lambda: False)
    monkeypatch.setattr(pytorch, "cpu_bf16", lambda: False)


@pytest.mark.usefixtures("no_bf16")
@pytest.mark.skipif(pytorch.choose_device("auto") != "cpu", reason="there is a GPU")
@pytest.mark.parametrize("device", ["auto", "cpu", "cpu:0"])
def test_emulated_bf16_is_measured_where_it_is_named(measured: Measure, device: str) -> None:
    rows, told, _ = measured(engine="torch", device=device)
    assert rows == [("eager", "fp32"), ("torch", "fp32")]
    assert len(told) == 1 and "emulates" in told[0] and "--precision bf16" in told[0]
    rows, told, _ = measured(engine="torch", device=device, precision="bf16")
    assert rows == [("eager", "fp32"), ("torch", "fp32"), ("torch", "bf16")] and told == []


def test_what_is_left_out_is_told_once(measured: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    one = methods.choose
    monkeypatch.setattr(methods, "choose", lambda *given: one(*given) * 2)
    rows, told, _ = measured(engine="onnx", device="cpu")
    assert ("onnx", "fp32") in rows and ("onnx", "bf16") not in rows
    assert len([line for line in told if line.startswith("onnx in bf16 is left out: engine 'onnx' does not")]) == 1


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"engine": "onnx", "precision": "bf16"}, "'onnx' does not compute in bf16 on cpu"),
        ({"engine": "openvino", "precision": "fp16"}, "'openvino' does not compute in fp16"),
        ({"engine": "openvino", "device": "cuda"}, "'openvino' does not run on 'cuda'"),
        ({"engine": "torch", "device": "tensorrt"}, "'tensorrt' is not available"),
    ],
)
def test_nothing_of_what_was_named(measured: Measure, named: dict[str, str], told: str) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(named["engine"], named["engine"]))
    with pytest.raises(DeviceError, match=told):
        measured(**{"device": "cpu", **named})


def test_an_engine_that_fails_is_left_out(measured: Measure, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No graph can be kept: what needs none is measured all the same."""
    pytest.importorskip("onnxruntime")
    Path("file").write_bytes(b"")
    monkeypatch.setenv("LOWLIGHT_CACHE", str(Path("file/cache").absolute()))
    rows, told, _ = measured(precision="fp32", device="cpu")
    assert rows == [("eager", "fp32"), ("torch", "fp32")]
    assert any(line.startswith("onnx in fp32 is left out: no graph can be kept") for line in told)
    with pytest.raises(LowlightError, match="no graph can be kept"):
        measured(engine="onnx", precision="fp32", device="cpu")


def test_a_device_that_torch_has_not(measured: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime's own: there is nothing to compare with, which is no fault."""
    pytest.importorskip("onnxruntime")
    load = engines.load

    def elsewhere(*weights: Any, engine: str, device: str, **options: Any) -> engines.Engine:
        return load(*weights, engine=engine, device="cpu" if engine == "onnx" else device, **options)

    monkeypatch.setattr(engines, "load", elsewhere)
    rows, told, found = measured(engine="onnx", precision="fp32", device="tensorrt")
    assert rows == [("onnx", "fp32")] and found.peaks == {}
    assert len(told) == 1 and told[0].startswith("torch in fp32 is left out: device 'tensorrt'")
    (line,) = speed.table(found).rows
    assert len(line) == len(speed.table(found).columns) and "nan" not in line
    assert json.loads(speed.as_json(found))["rows"][0]["peak"] is None


@pytest.mark.parametrize("size", ["600", "0x4", "axb"])
def test_sizes_without_sense(lowlight: Callable[..., Ran], size: str) -> None:
    ran = lowlight("bench", "--speed", "--size", size, "-m", "dgaf")
    assert ran.code == 2 and "WIDTHxHEIGHT" in ran.err


@pytest.mark.parametrize(
    ("place", "waits"),
    [("cuda:1", [("cuda", "cuda:1")] * 4), ("cuda:0", [("cuda", "cuda:0")] * 4), ("mps", [("mps",)] * 4), ("cpu", [])],
)
def test_a_device_is_waited_for(monkeypatch: pytest.MonkeyPatch, place: str, waits: list[tuple[str, ...]]) -> None:
    """The one that convolves: else the peak is how fast it can be asked."""
    done: list[tuple[str, ...]] = []
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda self, place, kind, **more: to(self, kind, **more))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *device: done.append(("cuda", *device)))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: done.append(("mps",)))
    convolve = speed_peak.convolution("bf16", (24, 16), place)
    assert convolve() > 0 and done == waits


def test_the_roofline_is_the_longer_of_multiplying_and_moving() -> None:
    """By hand: a convolution from 3 to 8 channels, 3x3, and a transposed one to half as many pixels a side more."""
    one = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    macs, values = 40 * 30 * 8 * 3 * 9, 40 * 30 * (3 + 8) + 8 * 3 * 9
    assert roofline(one, (40, 30), "fp32", 1e-9, 1e9) == pytest.approx(macs)
    assert roofline(one, (40, 30), "fp32", 1e9, 1e-9) == pytest.approx(4 * values)
    assert roofline(one, (40, 30), "bf16", 1e9, 1e-9) == pytest.approx(2 * values)
    up = nn.ConvTranspose2d(3, 5, 2, stride=2, bias=False)
    assert roofline(up, (40, 30), "bf16", 1e-9, 1e9) == pytest.approx(40 * 30 * 3 * 5 * 4)
    both = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False))
    first = nn.Conv2d(3, 3, 1, bias=False)
    assert roofline(both, (8, 8), "fp32", 2.0, 3.0) == pytest.approx(2 * roofline(first, (8, 8), "fp32", 2.0, 3.0))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_roofline_counts_a_networks_multiply_adds(name: str) -> None:
    counted = roofline(build(name).eval(), (384, 384), "fp32", 1.0, 1e12)
    assert counted == pytest.approx(descriptor(name).gmacs, rel=0.03)
