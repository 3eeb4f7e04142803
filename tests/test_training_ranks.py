"""Several processes train one network: what one process would, and they end together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from lowlight_cli.cli.app import run as command
from lowlight_cli.errors import DeviceError
from lowlight_cli.training import ranks
from lowlight_cli.weights import files

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")

TINY = ["--device", "cpu", "--precision", "fp32", "--set", "crop=32", "--set", "batch=4", "--set", "crop_end=0",
        "--set", "batch_end=0", "--set", "warmup=1", "--validate", "1"]  # fmt: skip


def words(pairs: Path, output: Path, *more: str) -> list[str]:
    return ["train", "--data", f"pairs:{pairs / 'low'},{pairs / 'high'}", "-o", str(output), *TINY, *more]


def environment(pairs: Path) -> dict[str, str]:
    return {**os.environ, "LOWLIGHT_CACHE": str(pairs / "cache"), "OMP_NUM_THREADS": "1"}


def torchrun(pairs: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lowlight_cli",
         *words(pairs, output, *more)],
        capture_output=True, text=True, check=False, env=environment(pairs), timeout=120,
    )  # fmt: skip


def address() -> dict[str, str]:
    """Where processes may meet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}


@pytest.fixture
def two(pairs: Path, tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes as torchrun starts them, at work until they are told to end."""
    place = address()
    started = []
    for rank in ("0", "1"):
        env = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", **place}
        arguments = words(pairs, tmp_path, "-m", "dgaf", "--steps", "1000000", "--every", "10")
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "lowlight_cli", *arguments],
                env={**environment(pairs), **env, "TORCHELASTIC_RUN_ID": "test"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    until = time.monotonic() + 60
    while not (tmp_path / "state.safetensors").exists() and time.monotonic() < until:
        time.sleep(0.05)
    yield started
    for each in started:
        each.kill()
        each.communicate()


def state(path: Path) -> tuple[dict[str, torch.Tensor], int]:
    with safe_open(path / "state.safetensors", "pt") as file:
        numbers = json.loads(file.metadata()["numbers"])
        return {key: file.get_tensor(key) for key in file.keys()}, numbers["step"]  # noqa: SIM118 - no mapping


def log(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]


def apart(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    """The length of the difference, as a share of the length."""
    difference = torch.cat([(a.double() - b.double()).flatten() for a, b in zip(one, other, strict=True)])
    return (difference.norm() / torch.cat([a.double().flatten() for a in one]).norm()).item()


def test_two_processes_take_the_steps_of_one(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """FRLIE has batch norms. After one step Adam's first moments are a tenth of the gradient.

    One process with the crops in another order is 1e-5 away, as rounding has it; norms of each part alone, 0.3. Of this
    seed no activation lies so near a ReLU's corner that rounding alone decides: that would be 2e-3.
    """
    monkeypatch.setenv("LOWLIGHT_CACHE", str(pairs / "cache"))
    settings = ("-m", "frlie", "--steps", "1", "--seed", "2")
    done = torchrun(pairs, tmp_path / "two", *settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "two" / "frlie.own.safetensors")]
    assert done.stderr.count("trained") == 1
    assert command(words(pairs, tmp_path / "one", *settings)) == 0
    (one, _), (both, _) = state(tmp_path / "one"), state(tmp_path / "two")
    assert log(tmp_path / "one")[0]["loss"] == pytest.approx(log(tmp_path / "two")[0]["loss"], rel=1e-5)
    assert "exchange" in log(tmp_path / "two")[0]["times"] and "exchange" not in log(tmp_path / "one")[0]["times"]
    for part in ("exp_avg", "running_mean", "running_var"):
        keys = [key for key in one if key.endswith(part)]
        assert keys and apart([one[key] for key in keys], [both[key] for key in keys]) < 1e-4, part


def test_the_best_weights_of_two_processes(pairs: Path, tmp_path: Path) -> None:
    """Only the first validates: it alone keeps them, and says so. At this rate the scores go up and down."""
    shaken = ("-m", "neid", "--steps", "3", "--every", "1", "--set", "rate=0.01", "--set", "ema=0")
    done = torchrun(pairs, tmp_path, *shaken)
    assert done.returncode == 0, done.stderr
    scores = {line["step"]: line["scores"]["psnr"] for line in log(tmp_path)}
    best = max(scores, key=scores.__getitem__)
    assert files.load(tmp_path / "neid.own.best.safetensors", "neid")[1]["steps"] == str(best)
    better = round(scores[best], 2) > round(scores[3], 2)
    assert done.stderr.count(f"validation was better at step {best} (") == better


def test_one_is_interrupted_and_both_end_after_the_same_step(
    two: list[subprocess.Popen[str]], pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they have saved is a state like any other: one process goes on with it."""
    two[1].send_signal(signal.SIGINT)
    assert [each.wait(timeout=30) for each in two] == [130, 130]
    _, step = state(tmp_path)
    assert step >= log(tmp_path)[-1]["step"]
    monkeypatch.setenv("LOWLIGHT_CACHE", str(pairs / "cache"))
    assert command(words(pairs, tmp_path, "-m", "dgaf", "--resume", "--steps", str(step + 2))) == 0
    assert state(tmp_path)[1] == step + 2


def test_one_is_killed_and_the_other_says_so(two: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    two[1].kill()
    _, said = two[0].communicate(timeout=30)
    assert two[0].returncode == 1 and "another process of this run is gone" in said
    assert state(tmp_path)[1] >= 10


def test_the_others_wait_while_the_first_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gloo by itself gives up after half an hour, which large sets take."""
    alone = {"TORCHELASTIC_RUN_ID": "test", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", **address()}
    for name, value in alone.items():
        monkeypatch.setenv(name, value)
    with ranks.joined("cpu"):
        group: Any = torch.distributed.group.WORLD
        backend = group._get_backend(torch.device("cpu"))
        assert backend.options._timeout >= timedelta(hours=12)


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("LOCAL_RANK", "99")
    assert ranks.place("cpu") == "cpu"
    with pytest.raises(DeviceError, match="process 100 has no GPU"):
        ranks.place("cuda:0")
