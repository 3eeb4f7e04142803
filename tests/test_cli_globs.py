"""Inputs as the shells of Windows pass them on: `*.jpg` itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, dark_array
from PIL import Image

Lowlight = Callable[..., Ran]
THERE = ("a1.png", "a2.png", "b [x].png", "b x.png", ".hidden.png", "in/c.png")


@pytest.fixture
def there(folder: Path) -> Path:
    Path("in").mkdir()
    for name in THERE:
        Image.fromarray(dark_array(8, 8)).save(name)
    return folder


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("*.png",), ["a1.png", "a2.png", "b [x].png", "b x.png"]),
        (("in/*.png", "a?.png"), ["in/c.png", "a1.png", "a2.png"]),
        (("b [x]*",), ["b [x].png"]),
        (("./a*1.png",), ["a1.png"]),
        (("*",), ["a1.png", "a2.png", "b [x].png", "b x.png", "in/c.png"]),
    ],
    ids=str,
)
def test_what_a_shell_did_not_replace(
    there: Path, lowlight: Lowlight, words: tuple[str, ...], meant: list[str]
) -> None:
    ran = lowlight("enhance", *words, "-o", "lit/", "--dry-run")
    assert ran.code == 0, ran.err
    assert [Path(line.partition(" -> ")[0]).as_posix() for line in ran.out.splitlines()] == meant


@pytest.mark.parametrize("name", ["c*.png", "b?[x].tif", "b [y].png", "b[ ]x.png"])
def test_what_means_nothing_is_missing(there: Path, lowlight: Lowlight, name: str) -> None:
    """Brackets are no pattern: photo[1].jpg that is gone is not photo1.jpg."""
    ran = lowlight("enhance", name)
    assert (ran.code, ran.err.splitlines()[0]) == (3, f"error: {name}: no such file or folder")


def test_a_file_that_has_the_name_is_meant(there: Path, lowlight: Lowlight) -> None:
    try:
        Path("a1.png").rename("a*.png")
    except OSError:
        pytest.skip("no such names on this disk")
    ran = lowlight("enhance", "a*.png", "--dry-run")
    assert ran.out == "a*.png -> a*_lit.png\n"
