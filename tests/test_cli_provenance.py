"""What a file says of how it was made, and which say nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, dark_array
from PIL import Image

Lowlight = Callable[..., Ran]
KINDS = pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.avif"])


@KINDS
def test_what_was_lit_says_by_what(folder: Path, lowlight: Lowlight, dgaf_weights: Path, name: str) -> None:
    Image.fromarray(dark_array()).save(name)
    assert lowlight("enhance", name, "-o", f"lit/{name}").code == 0
    told = Path("lit", name).read_bytes()
    assert b"lowlight 0." in told and b"dgaf" in told


@KINDS
@pytest.mark.parametrize(
    "options",
    [("--no-provenance",), ("--strip-metadata",), ("--gate", "0.05"), ("--strength", "0")],
    ids=lambda options: options[0],
)
def test_what_says_nothing(folder: Path, lowlight: Lowlight, name: str, options: tuple[str, ...]) -> None:
    """Where it is not wanted, where nothing is to be said, and where nothing was done."""
    Image.fromarray(dark_array()).save(name)
    assert lowlight("enhance", name, "-o", f"lit/{name}", *options).code == 0
    told = Path("lit", name).read_bytes()
    assert b"lowlight" not in told and b"DigitalSourceType" not in told


@KINDS
def test_a_result_that_is_brightened_once_more_is_told(folder: Path, lowlight: Lowlight, name: str) -> None:
    """As where a folder holds the results of an earlier run; not where the gate leaves it alone."""
    Path("in").mkdir()
    Image.fromarray(dark_array()).save(f"in/{name}")
    assert "already" not in lowlight("enhance", f"in/{name}").err
    lit = next(Path("in").glob("*_lit.*"))
    assert f"{lit}: was made by lowlight already, and is brightened once more" in lowlight("enhance", "in").lines
    assert "once more" not in lowlight("enhance", "in", "-o", "out", "--gate", "0").err
