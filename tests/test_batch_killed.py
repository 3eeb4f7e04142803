"""A batch that is killed, interrupted or met by another, as its users run it; nothing may be lost, or done twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Ran, dark_array, environment, program
from PIL import Image

from lowlight_cli.folders.manifest import NAME
from lowlight_cli.pictures.placing import part

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")

SLOW = """
import os, time
real = os.fsync
def fsync(handle):
    time.sleep({seconds})
    real(handle)
os.fsync = fsync
from lowlight_cli.cli.app import main
main()
"""
"""`lowlight`, slow at the disk: a moment chosen at random then lies between the steps of writing more often."""

STEPS = """
import itertools, os, pathlib, signal, sys
from lowlight_cli.cli import app
from lowlight_cli.enhancer import Enhancer
import lowlight_cli.enhancer

settled = Enhancer(weights=os.environ["LOWLIGHT_WEIGHTS"])
settled.load()
lowlight_cli.enhancer.Enhancer = lambda *_, **__: settled

def child(fatal, after):
    steps = itertools.count(1)
    def counted(real):
        def call(*args):
            mine = next(steps)
            if mine == fatal and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args)
            if mine == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call
    os.fsync, os.link = counted(os.fsync), counted(os.link)
    pathlib.Path.replace = counted(pathlib.Path.replace)
    os._exit(app.run(["batch", "in", "--resume", "-q"]))

kills = 0
while True:
    pid = os.fork()
    if not pid:
        child(kills % 6 + 1, kills // 6 % 2)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status):
        print(kills, os.WEXITSTATUS(status))
        break
    kills += 1
"""
"""Fork batches that die before or after their first, second ... sixth step at the disk, until one gets through."""


@pytest.fixture
def dark(folder: Path) -> list[str]:
    """25 pictures in `in`, by their path below it."""
    names = [f"{'sub/' if index % 3 else ''}{index:02}.png" for index in range(25)]
    Path("in/sub").mkdir(parents=True)
    for seed, name in enumerate(names):
        Image.fromarray(dark_array(16, 24, seed=seed)).save(Path("in", name))
    return names


def lines() -> list[str]:
    try:
        return (Path("in_lit") / NAME).read_text().splitlines()
    except FileNotFoundError:
        return []


def all_there_once(names: list[str]) -> None:
    """Each output is whole, each input has one line, nothing else lies around."""
    told = [json.loads(line) for line in lines()]
    assert [each["error"] for each in told if each["error"]] == []
    assert sorted(each["input"] for each in told) == sorted(names), told
    files = {path.relative_to("in_lit").as_posix() for path in Path("in_lit").rglob("*") if path.is_file()}
    assert files == {*names, NAME, ".lowlight-batch.lock"}
    for name in names:
        with Image.open(Path("in_lit", name)) as lit, Image.open(Path("in", name)) as image:
            lit.load()
            assert lit.size == image.size


@contextlib.contextmanager
def running(weights: Path, *args: str, seconds: float = 0.02) -> Iterator[subprocess.Popen[str]]:
    """A slow batch in a process of its own."""
    code = SLOW.format(seconds=seconds)
    with subprocess.Popen(
        [sys.executable, "-c", code, "batch", "in", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(weights),
    ) as process:  # fmt: skip
        yield process
        process.kill()


def test_killed_at_random_moments(dark: list[str], dgaf_weights: Path) -> None:
    chance = random.Random(os.getpid())
    for _ in range(3):
        before = len(lines())
        with running(dgaf_weights, "--resume") as process:
            wanted, limit = before + chance.randint(1, 5), time.monotonic() + 60
            while len(lines()) < wanted and process.poll() is None and time.monotonic() < limit:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert before < len(lines()) < len(dark)
    done = subprocess.run(
        program(["batch", "in", "--resume"]), env=environment(dgaf_weights), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    all_there_once(dark)


def test_killed_at_every_step(dark: list[str], dgaf_weights: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STEPS], env=environment(dgaf_weights), capture_output=True, text=True, check=False
    )
    kills, code = map(int, done.stdout.splitlines()[-1].split())
    assert (code, done.stderr) == (0, "")
    assert kills >= 12
    all_there_once(dark)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells which file is written")
def test_the_line_is_on_the_disk_before_the_picture_has_its_name(
    folder: Path, lowlight: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the picture before the line: a power cut leaves no line without a picture, nor a name without a line."""
    Path("in").mkdir()
    Image.fromarray(dark_array(16, 24)).save("in/a.png")
    real, safe = os.fsync, list[tuple[str, bool]]()

    def told(handle: int) -> None:
        real(handle)
        safe.append((Path(f"/proc/self/fd/{handle}").readlink().name, Path("in_lit/a.png").exists()))

    monkeypatch.setattr(os, "fsync", told)
    assert lowlight("batch", "in").code == 0
    assert safe[:2] == [(part(Path("in_lit/a.png")).name, False), (NAME, False)]


def test_interrupted_while_another_wants_in(dark: list[str], dgaf_weights: Path) -> None:
    with running(dgaf_weights, seconds=1) as process:
        assert process.stdout
        first = process.stdout.readline()
        held = (Path("in_lit") / NAME).read_bytes()
        second = subprocess.run(
            program(["batch", "in", "--resume"]), env=environment(dgaf_weights), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        process.send_signal(signal.SIGINT)
        rest, told = process.communicate(timeout=60)
    assert (second.returncode, second.stdout) == (4, "")
    assert second.stderr.startswith("error: another batch writes to in_lit: wait for it")
    assert (Path("in_lit") / NAME).read_bytes().startswith(held)
    assert process.returncode == 130
    resume, interrupted = told.splitlines()
    assert "the same command with --resume goes on" in resume
    assert interrupted == "error: interrupted; nothing is left half-written"
    written = len((first + rest).split())
    assert written <= len(lines()) < len(dark)
    assert not list(Path("in_lit").rglob(".*.part"))
    done = subprocess.run(
        program(["batch", "in", "--resume", "-q"]), env=environment(dgaf_weights), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    all_there_once(dark)
