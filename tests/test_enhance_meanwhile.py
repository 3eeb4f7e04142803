"""What another run writes while this one is at work: it is replaced only where that was asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, dark_array
from PIL import Image

from lowlight_cli.folders import batch as batches
from lowlight_cli.folders.manifest import NAME

Lowlight = Callable[..., Ran]

EXISTS = "error: lit/a.png exists: choose --exist skip, overwrite or number"


@pytest.fixture
def dark(folder: Path) -> None:
    """Two pictures of one name."""
    for seed, name in enumerate(("in/a.png", "other/a.png")):
        Path(name).parent.mkdir()
        Image.fromarray(dark_array(20, 28, seed=seed)).save(name)


@pytest.mark.parametrize(
    ("exist", "code", "out", "told"),
    [
        ("error", 4, "", EXISTS),
        ("skip", 0, "", "lit/a.png exists: skipped"),
        ("number", 0, "lit/a_2.png\n", "1 lit"),
        ("overwrite", 0, "lit/a.png\n", "1 lit"),
    ],
)
def test_enhance(
    dark: None, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, exist: str, code: int, out: str, told: str
) -> None:
    real = os.fsync

    def meanwhile(handle: int) -> None:
        monkeypatch.setattr(os, "fsync", real)
        assert lowlight("enhance", "other/a.png", "-o", "lit", "--exist", exist).out == "lit/a.png\n"
        real(handle)

    monkeypatch.setattr(os, "fsync", meanwhile)
    ran = lowlight("enhance", "in/a.png", "-o", "lit", "--exist", exist, "--no-provenance")
    assert (ran.code, ran.out, ran.lines[0][: len(told)]) == (code, out, told)
    ours = {path.name: b"lowlight" not in path.read_bytes() for path in Path("lit").iterdir()}
    assert ours == ({"a.png": False} | {Path(name).name: True for name in out.split()})


@pytest.mark.parametrize(
    ("exist", "code", "out"), [("error", 4, ""), ("skip", 0, ""), ("number", 4, ""), ("overwrite", 0, "lit/a.png\n")]
)
@pytest.mark.parametrize("when", ["brightened", "fsync"])
def test_batch(
    dark: None, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, exist: str, code: int, out: str, when: str
) -> None:
    owner = batches if when == "brightened" else os
    real = getattr(owner, when)

    def meanwhile(*args: object, **options: object) -> object:
        if not Path("lit/a.png").exists():
            Path("lit/a.png").write_text("of another run")
        return real(*args, **options)

    monkeypatch.setattr(owner, when, meanwhile)
    ran = lowlight("batch", "in", "-o", "lit", "--exist", exist)
    assert (ran.code, ran.out) == (code, out)
    assert (Path("lit/a.png").read_bytes() == b"of another run") == (exist != "overwrite")
    assert {path.name for path in Path("lit").iterdir()} - {".lowlight-batch.lock"} == {"a.png", NAME}
    if code:
        assert ran.lines[0] == EXISTS
