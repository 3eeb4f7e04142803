"""A thousand pictures of ten kinds, three in a hundred damaged: all but those come out, and memory stays flat."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran, dark_array, environment, program
from PIL import Image

from lowlight_cli.cli import report
from lowlight_cli.folders.manifest import NAME

KINDS = {
    "rgb.jpg": "RGB", "grey.jpg": "L", "rgb.png": "RGB", "clear.png": "RGBA", "grey_clear.png": "LA",
    "palette.png": "P", "deep.png": "I;16", "rgb.webp": "RGB", "rgb.tif": "RGB", "rgb.bmp": "RGB",
}  # fmt: skip


def picture(mode: str, seed: int) -> Image.Image:
    dark = dark_array(96, 128, seed=seed)
    if mode == "I;16":
        return Image.fromarray(dark[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(dark).convert(mode)


def resident(pid: int) -> float:
    """Megabytes of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1000


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory as Linux tells it")
def test_a_thousand(folder: Path, dgaf_weights: Path) -> None:
    kinds, damaged = list(KINDS.items()), set()
    for index in range(1000):
        name, mode = kinds[index % 10]
        path = Path("in", str(index // 100), f"{index:04}_{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(mode, index).save(path)
        if index % 33 == 1 and len(damaged) < 30:
            damaged.add(str(path))
            whole = path.read_bytes()
            path.write_bytes([whole[: len(whole) // 3], b"", b"This is text.\n"][index // 33 % 3])
    assert len(damaged) == 30
    sizes: list[float] = []
    with subprocess.Popen(
        program(["batch", "in"]), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=environment(dgaf_weights),
    ) as process:  # fmt: skip
        for wanted in (100, 900):
            while process.poll() is None and len(lines()) < wanted:
                time.sleep(0.05)
            sizes.append(resident(process.pid))
        _, told = process.communicate()
    assert process.returncode == 1
    named = [line for line in told.splitlines() if line.startswith("error: ")]
    assert len(named) == 30
    assert {line.removeprefix("error: ").split(":")[0] for line in named} == damaged
    assert re.match(r"970 lit with dgaf.*, 30 failed, ", told.splitlines()[-1])
    outputs = [path for path in Path("in_lit").rglob("*") if path.is_file() and not path.name.startswith(("l", "."))]
    assert len(outputs) == 970
    for path in outputs:
        with Image.open(path) as lit:
            lit.load()
    assert len(lines()) == 1000
    assert sum(bool(json.loads(line)["error"]) for line in lines()) == 30
    assert sizes[1] - sizes[0] < 40, sizes


def lines() -> list[str]:
    manifest = Path("in_lit") / NAME
    return manifest.read_text().splitlines() if manifest.exists() else []


def test_progress_is_told(folder: Path, lowlight: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "EVERY", 0)
    Path("in").mkdir()
    for index in range(3):
        picture("RGB", index).save(f"in/{index}.png")
    Path("in/3.png").write_text("text")
    ran = lowlight("batch", "in")
    told = [line for line in ran.lines if "pictures/s" in line]
    assert re.fullmatch(r"1/4, \d+\.\d\d pictures/s, \d+ s left", told[0])
    assert re.fullmatch(r"4/4, 1 failed, \d+\.\d\d pictures/s, 0 s left", told[-1])
    assert len(told) == 4
    assert lowlight("batch", "in", "-q", "--resume").lines == [line for line in ran.lines if line.startswith("error")]
