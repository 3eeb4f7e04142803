"""What ONNX Runtime is told of a GPU, without one: sessions compute on the CPU and say that they are elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_kit import pictures

from lowlight_cli import engines
from lowlight_cli.engines import Tiling, cache
from lowlight_cli.errors import DeviceError
from lowlight_cli.weights.fetch import Resolved

onnxruntime = pytest.importorskip("onnxruntime")

Places = list[tuple[str, dict[str, Any]]]
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Places]:
    """The providers of each session that is made, with their options."""
    made: list[Places] = []
    right = onnxruntime.InferenceSession

    class Session(right):  # type: ignore[misc,valid-type]
        def __init__(self, graph: object, options: object, providers: Places, **more: object) -> None:
            made.append(providers)
            self.first = providers[0][0]
            super().__init__(graph, options, providers=["CPUExecutionProvider"], **more)

        def get_providers(self) -> list[str]:
            return [self.first]

    from lowlight_cli.engines import onnx

    onnx._preload.cache_clear()
    here = [TENSORRT, CUDA, "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: here)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return made


def load(resolved: Resolved, device: str, **options: Any) -> engines.Engine:
    return engines.load("dgaf", resolved, engine="onnx", device=device, **options)


def test_cuda_chooses_quickly_and_computes_in_full(
    resolved: Callable[[str], Resolved], given: list[Places], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = resolved("dgaf")
    given.clear()
    load(weights, "cuda:1")
    assert given == [[(CUDA, {"device_id": 1, "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": 0})]]
    given.clear()
    engine = load(weights, "cuda", tiling=Tiling(side=384, memory=3 * 10**9))
    engine.run(pictures(1, 400, 40))  # in tiles: the two graphs of which they are made are told the same
    assert len(given) == 3
    assert all(place == (CUDA, {**place[1], "device_id": 0, "gpu_mem_limit": 3 * 10**9}) for (place,) in given)
    right = cache.find
    monkeypatch.setattr(cache, "find", lambda network, weights, _: right(network, weights))
    given.clear()
    load(weights, "cuda", precision="fp16")
    assert "use_tf32" not in given[0][0][1]


def test_tensorrt_keeps_what_it_makes_and_leaves_the_rest_to_cuda(
    resolved: Callable[[str], Resolved], given: list[Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = resolved("dgaf")
    data = cache.find("dgaf", weights.sha256).read_bytes()  # type: ignore[union-attr]
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path / "cache"))
    cache.keep(data, "dgaf", weights.sha256)
    folders = []
    for _ in range(2):
        given.clear()
        load(weights, "tensorrt:1")
        (((first, options), (second, rest)),) = given
        assert (first, second) == (TENSORRT, CUDA)
        assert options["device_id"] == rest["device_id"] == 1 and options["trt_engine_cache_enable"]
        folders.append(Path(options["trt_engine_cache_path"]))
    assert folders[0] == folders[1] and folders[0].parent == cache.folder()
    (folders[0] / "made.engine").write_bytes(b"12345")
    other = cache.engines(data + b"other weights", "machine")
    assert other and other != folders[0]  # TensorRT itself does not tell these apart
    assert cache.clear() == len(data) + 5
    assert not cache.folder().exists()


def test_tensorrt_goes_without_where_nothing_can_be_kept(given: list[Places], monkeypatch: pytest.MonkeyPatch) -> None:
    from lowlight_cli.engines import onnx

    monkeypatch.setenv("LOWLIGHT_CACHE", "/dev/null/cache")
    onnx.attempt("tensorrt")
    assert given[0][0] == (TENSORRT, {"device_id": 0})


def test_cuda_in_place_of_tensorrt_is_an_error(given: list[Places], monkeypatch: pytest.MonkeyPatch) -> None:
    from lowlight_cli.engines import onnx

    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: [CUDA, "CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="fell back to CUDAExecutionProvider"):
        onnx.attempt("tensorrt")


def test_what_the_runtime_prints_is_not_in_our_output(
    resolved: Callable[[str], Resolved],
    given: list[Places],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A picture may go there, or JSON."""
    weights = resolved("dgaf")
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcudnn.so.9"))
    capsys.readouterr()
    bright = load(weights, "cuda").run(pictures(1, 33, 50))
    assert np.ptp(bright) > 0
    assert capsys.readouterr() == ("", "")


def test_a_provider_that_fails_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By itself the runtime tells on stdout that it takes another one."""
    from lowlight_cli.engines import onnx

    def refuse(self: object, *_: object) -> None:
        raise RuntimeError("libcublas.so.12: cannot open shared object file")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", refuse)
    with pytest.raises(DeviceError, match=r"'cuda' is not available: libcublas.so.12"):
        onnx.attempt("cuda")
    assert capsys.readouterr() == ("", "")
