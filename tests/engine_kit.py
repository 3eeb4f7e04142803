"""Seeded networks with their graphs exported, and dark pictures: what tests of engines begin with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lowlight_cli import disk, engines
from lowlight_cli.engines import cache
from lowlight_cli.weights.fetch import Resolved

RUNTIMES = ("onnx", "openvino")
SIZES = [(1, 1, 1), (1, 16, 13), (1, 7, 45), (3, 33, 50), (1, 65, 97)]
"""Pictures, height and width: shorter than a stride, than the shortest side, of several pictures, of no stride."""


@pytest.fixture
def resolved(seeded: Callable[[str], Path]) -> Callable[[str], Resolved]:
    """The seeded weights of a network, their graph exported and kept."""

    def find(network: str = "dgaf") -> Resolved:
        from lowlight_cli.engines import export

        found = Resolved(seeded(network), disk.sha256(seeded(network)), None)
        if cache.find(network, found.sha256) is None:
            export.kept(network, found)
        return found

    return find


@pytest.fixture
def load(resolved: Callable[[str], Resolved]) -> Callable[..., Any]:
    def loaded(engine: str, network: str = "dgaf", **options: Any) -> engines.Engine:
        if engine != "torch":
            pytest.importorskip({"onnx": "onnxruntime"}.get(engine, engine))
        return engines.load(network, resolved(network), engine=engine, **options)

    return loaded


def pictures(count: int, height: int, width: int) -> NDArray[np.float32]:
    """Dark pictures, each of another brightness."""
    random = np.random.default_rng(height)
    scale = np.linspace(0.1, 0.5, count, dtype=np.float32)[:, None, None, None]
    return random.random((count, height, width, 3), np.float32) ** 2 * scale
