"""`--compile` is for torch on an NVIDIA GPU: nothing else takes it silently. What it does there is in test_cuda.py."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Ran
from torch import Tensor

from lowlight_cli import Enhancer, engines
from lowlight_cli.engines import Tiling, compiling, pytorch
from lowlight_cli.errors import DeviceError, UsageError
from lowlight_cli.networks import NETWORKS, build
from lowlight_cli.networks.fusing import fused
from lowlight_cli.weights import fetch

Lowlight = Callable[..., Ran]


@pytest.mark.parametrize("command", ["enhance", "batch"])
def test_a_cpu_does_not_compile(lowlight: Lowlight, photo: Path, command: str) -> None:
    given = photo if command == "enhance" else photo.parent
    ran = lowlight(command, given, "--compile", "--device", "cpu")
    assert (ran.code, ran.out) == (6, "")
    assert "--compile is for NVIDIA GPUs, and this runs on cpu: leave it out" in ran.err


def test_neither_does_another_engine(lowlight: Lowlight, photo: Path) -> None:
    pytest.importorskip("onnxruntime")
    ran = lowlight("enhance", photo, "--compile", "--engine", "onnx")
    assert ran.code == 2
    assert "--compile is for --engine torch, not onnx" in ran.err


def test_bench_has_it_for_speed_and_torch_only(lowlight: Lowlight) -> None:
    ran = lowlight("bench", "--compile")
    assert ran.code == 2 and "nothing uses --compile without --speed" in ran.err
    ran = lowlight("bench", "--speed", "--compile", "--engine", "onnx")
    assert ran.code == 2 and "--compile is for --engine torch, not onnx" in ran.err


def test_it_is_a_switch() -> None:
    with pytest.raises(UsageError, match="compiled 'yes' is neither True nor False"):
        Enhancer(compiled="yes")  # type: ignore[arg-type]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    assert compiling.lacking("cpu") == "a C++ compiler"
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    assert compiling.lacking("cuda:0") == "Triton and a C++ compiler"


def test_only_so_many_sizes_are_compiled() -> None:
    """The compiler itself stops at some number, and warns; what comes after is as without it."""
    engine = engines.load(
        "dgaf", fetch.resolve("dgaf", None), engine="torch", device="cpu", precision="fp32", tiling=Tiling(0)
    )
    assert isinstance(engine, pytorch.TorchEngine)
    seen: list[tuple[int, ...]] = []

    def once(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        return engine.module(x)

    compiled = pytorch.replace(engine, fused=once)
    assert (engine.provider, compiled.provider) == ("eager", "inductor")
    x = torch.from_numpy(np.random.default_rng(0).random((1, 20, 24, 3), np.float32))
    for size in [*range(pytorch.COMPILED + 2), 0]:
        shape = (1, 20, 24 + size, 3)
        forward = compiled._recordable(shape)
        assert torch.equal(forward(x), engine._passed(x))
    assert len(seen) == pytorch.COMPILED + 1  # the first size again, and none beyond the eight


def test_every_network_and_size_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """They share `Network.forward`, which torch by itself compiles eight times in a process."""
    made: list[str] = []

    def counting(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        made.append(name)
        return graph

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counting))
    torch._dynamo.reset()
    with torch.inference_mode():
        for name in NETWORKS:
            network = fused(build(name).eval())
            once = compiling.compiled(network, device="cpu", name=name)
            for width in (32, 48, 64):
                x = torch.rand(1, 3, 32, width)
                torch.testing.assert_close(once(x), network(x))
    assert made == [name for name in NETWORKS for _ in range(3)]


def test_a_failing_compiler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def broken(x: Tensor) -> Tensor:
        raise TorchDynamoException("no such compiler\nTraceback")

    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    with pytest.raises(
        DeviceError, match=r"^--compile does not work with dgaf here: leave it out \(.*no such compiler\)$"
    ):
        compiling.compiled(broken, device="cpu", name="dgaf")(torch.zeros(1))
