"""What all tests share: no settings from outside, seeded weights, dark pictures, the command in and out of process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: more threads only wait for each other on small pictures

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lowlight_cli.cli import app, report

pytest_plugins = ["engine_kit"]

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a suite in the background of a shell; children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # under nohup, likewise
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

SMALL = ["--set", "crop=16", "--set", "crop_end=0", "--set", "batch=2", "--set", "batch_end=0"]
"""Options of `lowlight train` for small batches of small crops."""


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all tests: graphs that were exported once are there for the next."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, shelf: Path) -> Iterator[None]:
    """No LOWLIGHT_ variable of whoever runs the tests, no colours, a cache of our own, nothing of the test before."""
    for name in list(os.environ):
        if name.startswith(("LOWLIGHT_", "HF_")) or name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LOWLIGHT_CACHE", str(shelf))
    threads = torch.get_num_threads()  # a batch takes its part of them, for its process
    yield
    torch.set_num_threads(threads)
    report.set_level(report.Level.NORMAL)


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that makes a checkpoint of a network with its initial weights, always the same."""
    from lowlight_cli.networks import build
    from lowlight_cli.weights import files

    folder = tmp_path_factory.mktemp("seeded")

    def make(name: str) -> Path:
        path = folder / f"{name}.seeded.safetensors"
        if not path.exists():
            with torch.random.fork_rng():
                torch.manual_seed(0)
                state = build(name).state_dict()
            about = {"network": name, "tag": "seeded", "input": "as-is" if name == "dgaf" else "exposed"}
            files.save(path, state, about)
        return path

    return make


@pytest.fixture(scope="session")
def dgaf_weights(seeded: Callable[[str], Path]) -> Path:
    """A checkpoint of the smallest network: it brightens by its exposure rule before it has learnt anything."""
    return seeded("dgaf")


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a whole checkpoint of dgaf, by name `night`."""
    from lowlight_cli.networks import build
    from lowlight_cli.weights import files

    path = tmp_path_factory.mktemp("ours") / "a.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = build("dgaf").state_dict()
    about = {"network": "dgaf", "input": "exposed", "tag": "night", "licence": "MIT", "data": "LOL", "recipe": "test"}
    files.save(path, state, about)
    return path.read_bytes()


@pytest.fixture
def dark() -> NDArray[np.uint8]:
    """A dark picture with a gradient and noise, (40, 56, 3)."""
    return dark_array()


def dark_array(height: int = 40, width: int = 56, seed: int = 0) -> NDArray[np.uint8]:
    """A dark picture with a gradient and noise."""
    noise = np.random.default_rng(seed).normal(0, 3, (height, width, 3))
    slope = np.linspace(4, 50, width)[None, :, None] * np.array([1.0, 0.9, 0.8])
    return (slope + noise).clip(0, 255).astype(np.uint8)


def bright(path: Path, seed: int = 0, size: tuple[int, int] = (80, 60)) -> Path:
    """A well-lit picture with large shapes."""
    random = np.random.default_rng(seed)
    coarse = random.integers(60, 256, (5, 7, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four dark pictures with noise and what they are of, coarse squares of 48x48, in `low` and `high`."""
    folder = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(0)
    for side in ("low", "high"):
        (folder / side).mkdir()
    for i in range(24):
        high = np.kron(random.uniform(60, 220, (3, 3, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        low = np.clip(high * 0.1 + random.normal(0, 1, high.shape), 0, 255)
        Image.fromarray(low.astype(np.uint8)).save(folder / "low" / f"{i}.png")
        Image.fromarray(high).save(folder / "high" / f"{i}.png")
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_weights(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that ships no weights."""
    from lowlight_cli.weights import catalog

    package = tmp_path_factory.mktemp("package")
    (package / "weights.toml").write_text("")
    monkeypatch.setattr(catalog, "PACKAGE", package)
    catalog.read.cache_clear()


@pytest.fixture
def photo(folder: Path) -> Path:
    """`photo.jpg` in the folder, named as the user would."""
    Image.fromarray(dark_array()).save("photo.jpg", quality=90)
    return Path("photo.jpg")


@pytest.fixture
def photographs(folder: Path) -> Path:
    """`bright` in the folder, with three well-lit pictures, one of them in a folder of its own."""
    for number, name in enumerate(("one.png", "two.jpg", "trip/three.png")):
        bright(folder / "bright" / name, number)
    return Path("bright")


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in this process: its exit code, and what the descriptors of stdout and stderr got."""

    def command(*words: object) -> tuple[int, str, str]:
        code = app.run([str(word) for word in words])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return command


@pytest.fixture
def lowlight(
    dgaf_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """Run a command line in this process, with seeded weights for dgaf."""
    monkeypatch.setenv("LOWLIGHT_WEIGHTS", str(dgaf_weights))

    def command(*args: str | Path) -> Ran:
        capsys.readouterr()
        code = app.run([str(arg) for arg in args])
        told = capsys.readouterr()
        return Ran(code, told.out, told.err)

    return command


@pytest.fixture
def train(lowlight: Callable[..., Ran], folder: Path) -> Callable[..., Ran]:
    """Run `lowlight train` in the folder, with all that makes it short; the run's folder is `run`."""

    def command(*words: object, model: str = "dgaf", output: str = "run") -> Ran:
        short = ("--device", "cpu", "--threads", "1", *SMALL)
        ran = lowlight("train", "-m", model, "-o", output, *short, *map(str, words))
        assert "bug in lowlight" not in ran.err and "Traceback" not in ran.err, ran.err
        return ran

    return command


@pytest.fixture
def cut_short(lowlight: Callable[..., Ran]) -> Callable[..., Ran]:
    """Run a command line that is interrupted when so many frames of a clip are done."""

    def command(frames: int, *args: str | Path, by: BaseException | None = None) -> Ran:
        from lowlight_cli.cli import clips

        def see(_: object, course: Any, show: object) -> None:
            if course.done == frames:
                raise by or KeyboardInterrupt

        with pytest.MonkeyPatch.context() as once:
            once.setattr(clips._Following, "see", see)
            return lowlight(*args)

    return command


@pytest.fixture
def process(dgaf_weights: Path) -> Callable[..., Ran]:
    """Run a command line as its users do: a fresh process."""

    def command(*args: str | Path, env: Mapping[str, str] | None = None) -> Ran:
        done = subprocess.run(
            program(args), capture_output=True, text=True, timeout=60, env=environment(dgaf_weights, env), check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return command


def program(args: Sequence[str | Path]) -> list[str]:
    """The command line of `lowlight ARGS` in this environment."""
    return [sys.executable, "-c", "from lowlight_cli.cli.app import main; main()", *map(str, args)]


def run_with_threads(code: str, *args: object) -> None:
    """Run some Python in a process whose torch has threads of its own, unlike that of the suite."""
    more = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    subprocess.run([sys.executable, "-c", code, *map(str, args)], check=True, timeout=120, env=more)


def environment(weights: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a fresh process."""
    return {**os.environ, "LOWLIGHT_WEIGHTS": str(weights), **(more or {})}
