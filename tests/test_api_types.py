"""What a type checker says of code that calls the API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TYPED = """
import io
from typing import Any, assert_type
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from lowlight_cli import Enhancer, LowlightError, enhance, read, write

enhancer = Enhancer("dgaf", strength=0.5)
assert_type(enhancer.enhance(np.zeros((4, 4, 3), np.uint8)), NDArray[np.uint8])
assert_type(enhancer.enhance(np.zeros((4, 4), np.float64)), NDArray[np.float64])
assert_type(enhancer.enhance(Image.new("L", (4, 4))), Image.Image)
assert_type(enhance(np.zeros((4, 4, 3), np.uint16), "neid"), NDArray[np.uint16])
error: LowlightError

def turned(picture: NDArray[np.integer[Any] | np.floating[Any]]) -> None:
    assert_type(enhancer.enhance(picture[..., ::-1]), NDArray[np.integer[Any] | np.floating[Any]])

def real(picture: NDArray[np.floating[Any]], either: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    assert_type(enhance(picture), NDArray[np.floating[Any]])
    enhance(either)

read(io.BytesIO())
read(bytearray())
bgr = cv2.imread("photo.jpg")
assert bgr is not None
enhance(bgr)
enhance(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
"""


@pytest.mark.slow
def test_types(tmp_path: Path) -> None:
    assert checked(tmp_path, TYPED) == ""
    assert 'has no attribute "Enhencer"' in checked(tmp_path, "from lowlight_cli import Enhencer\n")


def checked(folder: Path, code: str) -> str:
    """What mypy finds wrong in some code."""
    (folder / "typed.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(folder / "typed.py")],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode else ""
