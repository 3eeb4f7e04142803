"""`lowlight batch --ray`: a local cluster of two workers, one killed in the middle; nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, dark_array, environment
from PIL import Image

from lowlight_cli.folders.manifest import NAME


def test_bad_addresses(folder: Path, lowlight: Callable[..., Ran]) -> None:
    pytest.importorskip("ray")
    Path("in").mkdir()
    Image.fromarray(dark_array()).save("in/a.png")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    ran = lowlight("batch", "in", "--ray", nobody)
    assert ran.code == 6
    assert re.fullmatch(rf"error: no Ray cluster at {nobody} \(.*\): start one with .*", ran.lines[-1])
    assert lowlight("batch", "in", "--ray", "host:port").code == 2
    ran = lowlight("batch", "in", "--ray", "--watch")
    assert ran.code == 2
    assert ran.lines == [
        "error: --watch works on this machine alone: leave out --ray, or run --ray --resume again later"
    ]
    assert not Path("in_lit").exists()


def test_without_ray(folder: Path, lowlight: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    Path("in").mkdir()
    Image.fromarray(dark_array()).save("in/a.png")
    ran = lowlight("batch", "in", "--ray")
    assert (ran.code, ran.lines) == (6, ["error: --ray needs an extra: pip install 'lowlight-cli[ray]'"])


CLUSTER = """
import sys, ray
from lowlight_cli.folders.cluster import CPUS
from lowlight_cli.cli import app
ray.init(num_cpus=2 * CPUS, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20)
code = app.run(["batch", "in", "--ray"])
ray.shutdown()
sys.exit(code)
"""
"""A batch on a cluster of its own with room for two workers."""


def workers() -> list[int]:
    """Processes of this test's cluster that hold a model."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::_Worker"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def lines() -> list[dict[str, object]]:
    manifest = Path("in_lit") / NAME
    return [json.loads(line) for line in manifest.read_text().splitlines()] if manifest.exists() else []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes as Linux shows them")
def test_a_worker_is_killed(folder: Path, dgaf_weights: Path, lowlight: Callable[..., Ran]) -> None:
    pytest.importorskip("ray")
    names = [f"{'sub/' if index % 3 else ''}{index:03}.png" for index in range(60)]
    Path("in/sub").mkdir(parents=True)
    for seed, name in enumerate(names):
        Image.fromarray(dark_array(90, 120, seed=seed)).save(Path("in", name))
    Path("in/damaged.png").write_text("text")
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(dgaf_weights, {"RAY_worker_niceness": "0"}),  # else workers starve on a busy machine
    ) as process:  # fmt: skip
        while process.poll() is None and (len(lines()) < 10 or len(workers()) < 2):
            time.sleep(0.01)
        seen, before = workers(), len(lines())
        assert len(seen) == 2, process.communicate()
        os.kill(seen[0], signal.SIGKILL)
        out, err = process.communicate(timeout=240)
    assert before < len(names)
    assert process.returncode == 1, err
    assert sum("error: " in line for line in err.splitlines()) == 1, err
    assert sorted(out.split()) == sorted(f"in_lit/{name}" for name in names)
    told = lines()
    assert sorted(str(line["input"]) for line in told) == sorted([*names, "damaged.png"])
    assert [line["input"] for line in told if line["error"]] == ["damaged.png"]
    files = {path.relative_to("in_lit").as_posix() for path in Path("in_lit").rglob("*") if path.is_file()}
    assert files == {*names, NAME, ".lowlight-batch.lock"}
    for name in names:
        with Image.open(Path("in_lit", name)) as lit:
            lit.load()
    again = lowlight("batch", "in", "--resume")  # what many machines did, one machine knows
    assert again.lines[-1].startswith("60 skipped, 1 failed")
