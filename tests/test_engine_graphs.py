"""Exported graphs: the same picture as torch gives at any size, kept by their weights, run by engines without torch."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ran, environment
from engine_kit import RUNTIMES, SIZES, pictures

from lowlight_cli import disk, engines
from lowlight_cli.engines import Tiling, cache, hardware, memory
from lowlight_cli.errors import DeviceError, ResourceError, WeightsError
from lowlight_cli.networks import NETWORKS, build
from lowlight_cli.weights.fetch import Resolved

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


def graph_of(network: str, weights: Resolved) -> Any:
    path = cache.find(network, weights.sha256)
    assert path
    return onnx.load(path)


def assert_same_as_torch(load: Callable[..., Any], engine: str, network: str) -> None:
    """Every size, and several pictures at once, each under its own statistics."""
    torch, other = load("torch", network, precision="fp32"), load(engine, network, precision="fp32")
    for size in SIZES:
        batch = pictures(*size)
        wanted, found = torch.run(batch), other.run(batch)
        assert found.shape == batch.shape and found.dtype == np.float32
        assert np.abs(found - wanted).max() * 255 < 0.1, size


def assert_without_training(network: str, weights: Resolved) -> None:
    """No batch norm, no value that only training has: those of the layers that inference goes through."""
    model = graph_of(network, weights)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert not kinds.keys() & {"BatchNormalization", "Dropout", "Identity"}
    trained = [each for each in model.graph.initializer if not each.name.endswith(".levels")]  # a table of dgaf's
    held = sum(int(np.prod(each.dims)) for each in trained)
    assert held == pytest.approx(NETWORKS[network].parameters * 1e6, rel=0.03)


# ------------------------------------------------------------------------------------------------------------ graphs


@pytest.mark.parametrize("network", ["dgaf", "frlie"])
@pytest.mark.parametrize("engine", RUNTIMES)
def test_the_same_picture(load: Callable[..., Any], engine: str, network: str) -> None:
    assert_same_as_torch(load, engine, network)


@pytest.mark.parametrize("engine", RUNTIMES)
def test_what_a_clip_holds_steady(load: Callable[..., Any], engine: str) -> None:
    """Measurements are replaced as in torch, in one piece; a network that measures nothing is asked for none."""
    frame = pictures(1, 45, 60)
    brighter = load(engine).run(frame, settle=lambda at, value: value * (1.5 + at))
    assert np.abs(brighter - load("torch").run(frame, settle=lambda at, value: value * (1.5 + at))).max() * 255 < 1
    assert brighter.mean() > load(engine).run(frame).mean() + 0.02
    asked: list[int] = []
    load(engine, "frlie").run(frame, settle=lambda at, value: asked.append(at) or value)
    assert asked == []


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs the memory of a process as Linux tells it")
@pytest.mark.parametrize("engine", RUNTIMES)
def test_what_is_held_for_the_next_picture_can_be_given_back(load: Callable[..., Any], engine: str) -> None:
    ready, large = load(engine), pictures(1, 1300, 1700)
    first = ready.run(large)
    held = memory.resident()
    ready.release()
    assert memory.resident() < held - 100e6
    assert np.abs(ready.run(large) - first).max() * 255 < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("engine", RUNTIMES)
def test_a_real_picture_with_shipped_weights(engine: str, network: str) -> None:
    """Within a grey level anywhere in float32; half a level on average and four at 99.9 % in less."""
    from lowlight_cli import Enhancer, read

    picture = read(Path(__file__).parent.parent / "samples" / "night.jpg").pixels[:300, :450]
    wanted = Enhancer(network, engine="torch", device="cpu", precision="fp32").enhance_picture(picture)
    full = Enhancer(network, engine=engine, precision="fp32").enhance_picture(picture)
    assert np.abs(full - wanted).max() * 255 <= 1
    fast = np.abs(Enhancer(network, engine=engine).enhance_picture(picture) - wanted) * 255
    assert fast.mean() <= 0.5 and np.quantile(fast, 0.999) <= 4


@pytest.mark.parametrize("network", ["dgaf", "frlie"])
def test_nothing_that_only_training_needs(resolved: Callable[[str], Resolved], network: str) -> None:
    assert_without_training(network, resolved(network))


@pytest.mark.slow
@pytest.mark.parametrize("network", [name for name in NETWORKS if name not in ("dgaf", "frlie")])
def test_the_other_networks(load: Callable[..., Any], resolved: Callable[[str], Resolved], network: str) -> None:
    assert_without_training(network, resolved(network))
    for engine in RUNTIMES:
        assert_same_as_torch(load, engine, network)
        half = engines.load(network, resolved(network), engine=engine)
        batch = pictures(1, 65, 97)
        assert np.abs(half.run(batch) - load("torch", network, precision="fp32").run(batch)).mean() * 255 < 0.5


def test_what_a_graph_says_of_itself(resolved: Callable[[str], Resolved]) -> None:
    weights = resolved("dgaf")
    model = graph_of("dgaf", weights)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told == {
        "format": "lowlight-graph-1",
        "network": "dgaf",
        "tag": "seeded",
        "weights": weights.sha256,
        "input": "as-is",
        "range": "0..1 sRGB-encoded RGB",
        "layout": "NCHW",
        "stride": "4",
        "licence": "unknown",
        "precision": "fp32",
        "statistics": "statistic_00",
    }
    (value,), (result,) = model.graph.input, model.graph.output
    for each, name in ((value, "input"), (result, "output")):
        assert each.name == name
        assert [d.dim_param or d.dim_value for d in each.type.tensor_type.shape.dim] == ["N", 3, "H", "W"]
    assert not any(each.external_data for each in model.graph.initializer)  # one file


def test_what_differs_is_refused(resolved: Callable[[str], Resolved]) -> None:
    """The comparison sees a network that computes something else, and the bounds tell what is too much."""
    from lowlight_cli.engines import export
    from lowlight_cli.engines import onnx as runtime

    path = cache.find("dgaf", resolved("dgaf").sha256)
    assert path
    other = build("dgaf").eval().requires_grad_(False)
    for each in other.parameters():
        each.mul_(2)  # else its output may be as near to its input as that of the seeded one
    batch = np.ascontiguousarray(pictures(1, 40, 40).transpose(0, 3, 1, 2))
    off = export.compared(other, runtime.opened(path.read_bytes()), [batch])
    assert off.largest > 1 and not off.holds("fp32")
    assert export.Difference(0.9, 0.1, 0.5).holds("fp32")
    assert not export.Difference(1.1, 0.1, 0.5).holds("fp32")
    assert export.Difference(30, 0.5, 4).holds("int8")
    assert not export.Difference(5, 0.6, 4).holds("int8")
    assert not export.Difference(5, 0.5, 4.1).holds("fp16")


# ------------------------------------------------------------------------------------------------------------- cache


def test_a_damaged_graph_is_none(resolved: Callable[[str], Resolved], tmp_path: Path, monkeypatch: Any) -> None:
    weights = resolved("dgaf")
    path = cache.find("dgaf", weights.sha256)
    assert path
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path))
    copy = tmp_path / "graphs" / path.name
    copy.parent.mkdir()
    shutil.copy(path, copy)
    assert cache.find("dgaf", weights.sha256) == copy
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    assert cache.find("dgaf", weights.sha256) is None
    again = cache.keep(path.read_bytes(), "dgaf", weights.sha256)
    assert [each.name for each in copy.parent.iterdir()] == [again.name] == [path.name]


@pytest.mark.parametrize("engine", RUNTIMES)
def test_a_kept_graph_needs_no_torch(
    resolved: Callable[[str], Resolved], photo: Path, shelf: Path, engine: str
) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(engine, engine))
    weights = resolved("dgaf")
    code = (
        "import sys\nfrom lowlight_cli.cli.app import run\n"
        "code = run(sys.argv[1:])\nprint('torch' in sys.modules, 'onnx' in sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "enhance", "photo.jpg", "--engine", engine, "--json"],
        capture_output=True,
        text=True,
        env=environment(weights.path, {"LOWLIGHT_CACHE": str(shelf)}),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False False"
    assert f'"engine": "{engine}"' in done.stdout and '"provider": "CPU' in done.stdout
    assert Path("photo_lit.jpg").exists()


@pytest.mark.parametrize("engine", RUNTIMES)
def test_runtimes_tell_nobody(tmp_path: Path, engine: str) -> None:
    """Both call home when they load, under a number that they keep in the user's folder: neither here."""
    pytest.importorskip({"onnx": "onnxruntime"}.get(engine, engine))
    ask = "import socket\nsocket.getaddrinfo = lambda *_, **__: print('asked for an address')\n"
    code = ask + f"from lowlight_cli.engines import prepare\nprepare({engine!r}).attempt('cpu')\n"
    silencing = ("CI", "TF_BUILD", "JENKINS_URL", "ORT_DISABLE_TELEMETRY")
    outside = {name: value for name, value in os.environ.items() if name not in silencing}
    home = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "LOCALAPPDATA")}
    told = subprocess.check_output([sys.executable, "-c", code], env={**outside, **home}, text=True)
    assert told == ""
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# ------------------------------------------------------------------------------------------------------------- tiles


@pytest.mark.parametrize("engine", RUNTIMES)
def test_tiles_replay_what_was_measured(load: Callable[..., Any], engine: str) -> None:
    picture = np.kron(np.random.default_rng(0).uniform(0, 0.2, (5, 9, 3)), np.ones((80, 80, 1))).astype(np.float32)
    picture[:, :360] *= 0.3  # a gain of its own in each tile would show
    cut = Tiling(side=384)
    told: list[int] = []
    tiled = load(engine, precision="fp32", tiling=cut).run(picture[None], told.append)
    assert told == [6]
    assert np.abs(tiled - load("torch", precision="fp32", tiling=cut).run(picture[None])).max() * 255 < 0.1
    whole = load(engine, precision="fp32").run(picture[None])
    assert -10 * np.log10(((tiled - whole) ** 2).mean()) > 45
    measured = load(engine, precision="fp32").measure(picture[None])
    brighter = load(engine, precision="fp32").replay(
        {name: 2 * value for name, value in measured.items()}, picture[None]
    )
    assert brighter.mean() > whole.mean() * 1.2  # the gain that is handed in is the one that counts


@pytest.mark.parametrize("engine", RUNTIMES)
def test_memory_that_gives_out(load: Callable[..., Any], engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = load(engine, precision="fp32", tiling=Tiling(side=0))
    error: Exception = RuntimeError("std::bad_alloc")
    if engine == "onnx":  # its own class, which is no RuntimeError
        from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

        error = RuntimeException("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 9")

    class Exhausted:
        outputs: tuple[()] = ()

        def run(self, *_: object) -> None:
            raise error

        create_infer_request = run

    if engine == "onnx":
        made = dataclasses.replace(made, whole=Exhausted())
    else:
        made._whole.general = Exhausted()
    with pytest.raises(ResourceError, match="cpu ran out of memory with dgaf on 50x33"):
        made.run(pictures(1, 33, 50))


# ----------------------------------------------------------------------------------------------- devices, precisions


@pytest.mark.parametrize(
    ("engine", "options", "told"),
    [
        ("onnx", {"device": "cuda"}, r"device 'cuda' is not available.*pip install 'lowlight-cli\[gpu\]'"),
        ("onnx", {"device": "tensorrt:1"}, r"device 'tensorrt:1' is not available"),
        ("onnx", {"device": "mps"}, "engine 'onnx' does not run on 'mps'"),
        ("onnx", {"precision": "bf16"}, "does not compute in bf16 on cpu"),
        ("onnx", {"precision": "fp16"}, "does not compute in fp16 on cpu"),
        ("openvino", {"device": "cuda:0"}, "engine 'openvino' does not run on 'cuda:0'"),
        ("openvino", {"precision": "fp16"}, "does not compute in fp16"),
        ("torch", {"device": "tensorrt"}, "only --engine onnx has it"),
    ],
)
def test_what_is_not_to_be_had(load: Callable[..., Any], engine: str, options: dict[str, str], told: str) -> None:
    if "tensorrt" in str(options) or options.get("device") == "cuda":
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(DeviceError, match=told):
        load(engine, **options)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_no_silent_fall_back(load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that lists a provider and takes the CPU all the same, as onnxruntime does without its drivers."""
    import onnxruntime

    make = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda graph, options, providers, **_: make(graph, options, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(DeviceError, match="fell back to CPUExecutionProvider"):
        load("onnx", device="cuda")


def test_what_the_engines_tell(load: Callable[..., Any]) -> None:
    engine = load("onnx")
    assert (engine.name, engine.provider, engine.device, engine.precision) == (
        "onnx", "CPUExecutionProvider", "cpu", "fp32",
    )  # fmt: skip
    assert engine.metadata["input"] == "as-is"
    other = load("openvino")
    assert (other.name, other.provider, other.device) == ("openvino", "CPU", "cpu")
    if hardware.bf16() is not None:
        assert other.precision == ("bf16" if hardware.bf16() else "fp32")
    batch = pictures(1, 65, 97)
    assert np.abs(other.run(batch) - engine.run(batch)).mean() * 255 < 0.5


def test_a_graph_that_is_none() -> None:
    from lowlight_cli.engines import onnx as runtime

    with pytest.raises(WeightsError, match="cannot read the graph"):
        runtime.session(b"no graph")


def test_doctor_tries_the_engines(
    resolved: Callable[[str], Resolved], lowlight: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the graph of the first checkpoint where one is kept, else with one of one node."""
    from lowlight_cli import doctor
    from lowlight_cli.weights.catalog import catalog

    weights = resolved("dgaf")
    monkeypatch.setattr(doctor, "catalog", lambda: [each for each in catalog() if each.network == "dgaf"][:1])
    monkeypatch.setattr("lowlight_cli.weights.fetch.resolve", lambda *_, **__: weights)
    told = dict(line.split(": ", 1) for line in lowlight("doctor").out.splitlines())
    assert told["engine onnx on cpu"] == "fp32, 0.00 grey levels from torch's fp32"
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path))
    told = dict(line.split(": ", 1) for line in lowlight("doctor").out.splitlines())
    assert told["engine onnx on cpu"].startswith("runs; `lowlight export -m dgaf` makes")
    monkeypatch.setattr(hardware, "installed", lambda *packages: "onnxruntime" not in packages)
    told = dict(line.split(": ", 1) for line in lowlight("doctor").out.splitlines())
    assert told["engine onnx"] == "not installed (onnxruntime): pip install 'lowlight-cli[cpu]'"


# ----------------------------------------------------------------------------------------------------------- command


def test_what_may_not_be_looked_into_has_no_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path))
    path = cache.keep(b"graph", "dgaf", "1" * 64)
    cache.keep_compiled(b"made", path, "machine")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as closed:
        closed.setattr(disk, "sha256", refuse)
        closed.setattr(Path, "read_bytes", refuse)
        assert cache.compiled(path, "machine") is None
        closed.setattr(cache, "_stem", lambda *_: "dgaf")
        assert cache.find("dgaf", "1" * 64) is None
    path.unlink()
    with pytest.raises(WeightsError, match="No such file"):
        cache.parts(path)
