"""What a runtime made of a graph is kept for this machine: the same picture sooner, never one from a damaged file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran

from lowlight_cli import engines
from lowlight_cli.engines import graphs
from lowlight_cli.weights import disk
from lowlight_cli.weights.fetch import Resolved

pytest.importorskip("openvino")
pytest.importorskip("onnxscript")


@pytest.fixture
def weights(seeded: Callable[[str], Path]) -> Resolved:
    return Resolved(seeded("dgaf"), disk.sha256(seeded("dgaf")), None)


def blobs() -> list[Path]:
    return sorted(graphs.folder().glob("dgaf-*.blob"))


def test_the_second_load_takes_what_the_first_left(weights: Resolved) -> None:
    picture = np.random.default_rng(0).random((1, 24, 40, 3), dtype=np.float32) * np.float32(0.2)
    graphs.clear()
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
    one, two = (graphs.keep(name.encode(), "dgaf", name * 64) for name in "12")
    graphs.keep_compiled(b"made", one, "this machine")
    assert graphs.compiled(one, "this machine") == b"made"
    assert graphs.compiled(two, "this machine") is None and graphs.compiled(one, "that machine") is None
    graphs.keep(b"newer", "dgaf", "1" * 64)
    assert not list(graphs.folder().glob("*.blob"))


def test_weights_rm_all_takes_them_too(lowlight: Callable[..., Ran]) -> None:
    graphs.keep_compiled(b"made", graphs.keep(b"graph", "dgaf", "1" * 64), "this machine")
    assert lowlight("weights", "rm", "--all").code == 0
    assert not list(graphs.folder().iterdir())
