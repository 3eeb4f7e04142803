"""`lowlight batch --resume`: which settings make a result another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, dark_array
from PIL import Image


@pytest.mark.parametrize(
    ("other", "anew"),
    [
        (("--precision", "bf16"), True),
        (("--engine", "onnx"), True),
        (("--self-ensemble",), True),
        (("--exposure", "0.3"), True),
        (("--gate", "0.9"), True),
        (("--no-protect-highlights",), True),
        (("--protect-highlights",), False),
        (("--quality", "80"), True),
        (("--device", "cpu"), False),
        (("--compile",), False),
        (("--offline",), False),
        (("--tile", "384"), False),
    ],
)
def test_what_a_result_depends_on(
    folder: Path, lowlight: Callable[..., Ran], other: tuple[str, ...], anew: bool
) -> None:
    Path("in").mkdir()
    Image.fromarray(dark_array(20, 28)).save("in/a.png")
    assert lowlight("batch", "in").code == 0
    ran = lowlight("batch", "in", "--resume", "--dry-run", *other)
    told = "in/a.png -> in_lit/a.png" + ("" if anew else " (exists: skipped)")
    assert (ran.code, ran.out) == (0, f"{told}\n"), ran.err


def test_an_earlier_edition_of_the_look_is_made_anew(
    folder: Path, lowlight: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the settings say: the arithmetic behind them was another."""
    Path("in").mkdir()
    Image.fromarray(dark_array(20, 28)).save("in/a.png")
    assert lowlight("batch", "in").code == 0
    monkeypatch.setattr("lowlight_cli.folders.batch.EDITION", 0)
    assert "skipped" not in lowlight("batch", "in", "--resume", "--dry-run").out
