"""What torch is built for, found out without importing it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ASKED = """
import ctypes, sys
def opened(name):
    if not {driver}:
        raise OSError(name)
ctypes.CDLL = opened
sys.platform = "linux"
sys.path = [{places!r}] + [each for each in sys.path if "-packages" not in each]
from lowlight_cli.engines import hardware
print(hardware.gpu(), "torch" in sys.modules)
"""


def gpu(place: Path, *, driver: bool) -> bool:
    code = ASKED.format(driver=driver, places=str(place))
    told = subprocess.check_output([sys.executable, "-c", code], text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    found, imported = told.split()
    assert imported == "False"
    return found == "True"


@pytest.mark.parametrize(
    ("version", "cuda", "hip", "driver", "found"),
    [
        ("2.13.0", None, None, True, False),  # the wheel for Windows on PyPI, whose name does not say `cpu`
        ("2.13.0+cpu", None, None, True, False),
        ("2.13.0", "13.0", None, True, True),
        ("2.13.0", "13.0", None, False, False),
        ("2.8.0+rocm6.4", None, "6.4.43482-0f2d60242", False, True),
    ],
)
def test_a_gpu_needs_a_torch_that_is_built_for_it(
    tmp_path: Path, version: str, cuda: str | None, hip: str | None, driver: bool, found: bool
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("from torch.version import __version__")
    (tmp_path / "torch/version.py").write_text(
        "from typing import Optional\n\n__all__ = ['__version__', 'debug', 'cuda', 'hip', 'rocm', 'xpu']\n"
        f"__version__ = {version!r}\ndebug = False\ncuda: Optional[str] = {cuda!r}\ngit_version = '0f2d602'\n"
        f"hip: Optional[str] = {hip!r}\nrocm: Optional[str] = None\nxpu: Optional[str] = None\n"
    )
    (tmp_path / f"torch-{version}.dist-info").mkdir()
    metadata = f"Metadata-Version: 2.4\nName: torch\nVersion: {version}\n"
    (tmp_path / f"torch-{version}.dist-info/METADATA").write_text(metadata)
    assert gpu(tmp_path, driver=driver) == found


def test_without_torch_there_is_none(tmp_path: Path) -> None:
    assert not gpu(tmp_path, driver=True)
