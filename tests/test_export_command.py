"""`lowlight export --pictures`: which pictures of a folder are looked at, and what is told of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, dark_array
from PIL import Image

from lowlight_cli.engines.export import PICTURES, SIZES

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


def test_hidden_files_are_no_pictures(lowlight: Callable[..., Ran], folder: Path) -> None:
    """A Mac writes such files beside those that it copies to other disks."""
    hidden = Path("._a.jpg"), Path(".thumbnails", "a.jpg")
    for path in hidden:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\0\5\26\7 no picture")
    ran = lowlight("export", "-o", "own.onnx", "--pictures", ".")
    assert ran.code == 2 and "holds no picture" in ran.err, ran.err
    Path("trip").mkdir()
    for path in ("a.jpg", "trip/b.png"):
        Image.fromarray(dark_array()).save(path)
    ran = lowlight("export", "-o", "own.onnx", "--pictures", ".", "--json")
    assert ran.code == 0 and f"at {len(SIZES)} sizes and 2 of --pictures: " in ran.err, ran.err
    told = json.loads(ran.out)["difference"]
    assert (told["sizes"], told["pictures"]) == (len(SIZES), 2)


def test_the_first_pictures_of_many_in_order(lowlight: Callable[..., Ran], folder: Path) -> None:
    for number in range(PICTURES):
        Image.fromarray(dark_array()).save(f"{number:02}.png")
    Path("99.jpg").write_bytes(b"no picture, and not looked at")
    ran = lowlight("export", "-o", "own.onnx", "--pictures", ".")
    assert ran.code == 0 and f" and {PICTURES} of --pictures: " in ran.err, ran.err
