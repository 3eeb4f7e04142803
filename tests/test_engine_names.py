"""The name that a graph is kept by: other weights or other code are another graph."""

from __future__ import annotations

import compileall
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lowlight_cli
from lowlight_cli.engines import cache


def test_other_weights_are_another_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path))
    cache.keep(b"one", "dgaf", "1" * 64)
    cache.keep(b"two", "dgaf", "2" * 64)
    cache.keep(b"half", "dgaf", "1" * 64, "fp16")
    held = [cache.find("dgaf", "1" * 64), cache.find("dgaf", "2" * 64), cache.find("dgaf", "1" * 64, "fp16")]
    assert [path.read_bytes() for path in held if path] == [b"one", b"two", b"half"]
    assert cache.find("frlie", "1" * 64) is None and cache.find("dgaf", "1" * 64, "int8") is None


@pytest.mark.parametrize(
    "source", ["networks/dgaf.py", "networks/layers.py", "networks/fusing.py", "engines/export.py", "engines/padded.py"]
)
def test_other_code_is_another_graph(source: str, tmp_path: Path) -> None:
    """A graph that an earlier version kept is not taken for what this one would make."""
    package = copied(tmp_path)
    before = stem(tmp_path)
    with (package / source).open("a") as file:
        file.write("# another version\n")
    assert stem(tmp_path) != before


def test_without_sources_another_version_is_another_graph(tmp_path: Path) -> None:
    """As where `compileall -b` has left nothing but compiled files."""
    told = []
    for version in ("0.1.0", "0.1.1"):
        package = copied(tmp_path / version)
        about = package / "__init__.py"
        about.write_text(
            re.sub('__version__: Final = ".*"', f'__version__: Final = "{version}"', about.read_text("utf-8"))
        )
        compileall.compile_dir(package, legacy=True, quiet=1)
        for source in package.rglob("*.py"):
            source.unlink()
        told.append(stem(tmp_path / version))
    assert told[0] != told[1]


def copied(folder: Path) -> Path:
    """A copy of the package, without weights."""
    package, ignored = Path(lowlight_cli.__file__).parent, shutil.ignore_patterns("checkpoints", "__pycache__")
    return shutil.copytree(package, folder / "lowlight_cli", ignore=ignored)


def stem(folder: Path) -> str:
    """How the package in a folder names a graph."""
    ask = "from lowlight_cli.engines import cache; print(cache._stem('dgaf', '0' * 64, 'fp32'))"
    return subprocess.check_output([sys.executable, "-c", ask], text=True, cwd=folder)
