"""What a run takes over from the weights that it starts from, and from the run that it goes on with; what it tells."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ran
from PIL import Image

from lowlight_cli import disk
from lowlight_cli.cli import report
from lowlight_cli.training.run import log_to
from lowlight_cli.weights import files, header
from lowlight_cli.weights.catalog import bundled, named

Train = Callable[..., Ran]


@pytest.fixture
def train(train: Train, pairs: Path) -> Train:
    """The command; pairs are in `tr`, others in `other`."""
    shutil.copytree(pairs / "low", "tr/low")
    shutil.copytree(pairs / "high", "tr/high")
    for number in range(6):
        for side, level in (("low", 9), ("high", 90)):
            path = Path("other", side, f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((48, 48, 3), level + number, np.uint8)).save(path)
    return train


TR, OTHER = ("--data", "pairs:tr/low,tr/high"), ("--data", "pairs:other/low,other/high@2")


def told(path: str = "run/dgaf.own.safetensors") -> dict[str, str]:
    return header.inspect(path).metadata


def described(folder: str = "run") -> dict[str, Any]:
    return json.loads(Path(folder, "run.json").read_text())  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------------ weights to start from


def test_what_the_first_weights_have_seen_goes_on(train: Train, lowlight: Callable[..., Ran]) -> None:
    """Also where the run is resumed, and where another one starts from what came out of it."""
    real = named("dgaf.real")
    assert train(*TR, "--steps", 1, "--init", "real").code == 0
    assert train("--steps", 2, "--resume").code == 0
    about = told()
    assert about["data"] == f"{real.training_data}; then pairs@1"
    assert about["licence"].startswith(real.licence) and "what the training data allow" in about["licence"]
    assert about["init"] == f"dgaf.real (sha256 {real.sha256})"
    assert described()["origin"]["data"] == real.training_data
    block = lowlight("weights", "info", "run/dgaf.own.safetensors", "--toml").out
    assert f'training_data = "{real.training_data}; then pairs@1"' in block and "from dgaf.real, 2 steps" in block
    own = "run/dgaf.own.safetensors"
    assert train(*OTHER, "--steps", 1, "--init", own, "--tag", "more", output="more").code == 0
    again = told("more/dgaf.more.safetensors")
    assert again["data"] == f"{real.training_data}; then pairs@1; then pairs@2"
    assert again["licence"] == about["licence"] and again["init"] == f"dgaf.own (sha256 {disk.sha256(own)})"


def test_a_shipped_file_by_its_path_is_what_the_table_says(train: Train) -> None:
    real = named("dgaf.real")
    shutil.copy(bundled(real) or "", "mine.safetensors")
    assert train(*TR, "--steps", 1, "--init", "./mine.safetensors").code == 0
    assert told()["init"].startswith("dgaf.real ") and str(Path.cwd()) not in str(told())


def test_weights_that_say_nothing_are_unknown(train: Train, dgaf_weights: Path) -> None:
    assert train(*TR, "--steps", 1, "--init", dgaf_weights).code == 0
    assert told()["data"] == "unknown; then pairs@1" and told()["licence"].startswith("unknown, and")


def test_weights_that_want_another_input_are_refused(train: Train, seeded: Callable[[str], Path]) -> None:
    weights = seeded("frlie")
    ran = train(*TR, "--steps", 1, "--recipe", "paper", "--init", weights, model="frlie")
    assert ran.code == 2 and len(ran.lines) == 1 and "--set 'input=\"exposed\"'" in ran.err
    assert not Path("run").exists()
    assert train(*TR, "--steps", 1, "--set", 'input="as-is"', "--init", weights, model="frlie").code == 2
    right = ("--recipe", "paper", "--set", 'input="exposed"', "--init", weights)
    assert train(*TR, "--steps", 1, *right, model="frlie").code == 0


def test_other_weights_than_it_began_from_are_refused(train: Train, dgaf_weights: Path) -> None:
    assert train(*TR, "--steps", 1, "--init", "real").code == 0
    before = Path("run/run.json").read_bytes()
    ran = train("--steps", 2, "--resume", "--init", dgaf_weights)
    assert ran.code == 2 and len(ran.lines) == 1 and "started from dgaf.real" in ran.err
    assert Path("run/run.json").read_bytes() == before
    assert train("--steps", 2, "--resume", "--init", "real").code == 0
    assert train(*TR, "--steps", 1, output="bare").code == 0
    ran = train("--steps", 2, "--resume", "--init", "real", output="bare")
    assert ran.code == 2 and "started from nothing" in ran.err


def test_a_resumed_run_does_not_want_its_first_weights_again(train: Train, dgaf_weights: Path) -> None:
    shutil.copy(dgaf_weights, "first.safetensors")
    assert train(*TR, "--steps", 1, "--init", "./first.safetensors").code == 0
    Path("first.safetensors").unlink()
    assert train("--steps", 2, "--resume").code == 0
    assert Path(described()["init"]).name == "first.safetensors" and told()["init"].startswith("dgaf.seeded ")


# --------------------------------------------------------------------------------------------------------- going on


def test_a_run_goes_on_with_its_own_pictures(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another folder too, and in its precision; LOL, which is there as well, is not taken instead."""
    shutil.copytree("other", "sets/lol/our485")
    monkeypatch.setenv("LOWLIGHT_DATA", str(Path("sets").absolute()))
    assert train(*TR, "--steps", 2, "--precision", "fp32", "--every", 1, "--validate", 1).code == 0
    first, output = Path.cwd(), str(Path("run").absolute())
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    ran = train("--steps", 4, "--resume", output=output)
    assert ran.code == 0 and "goes on" not in ran.err
    run = described(output)
    assert [source["kind"] for source in run["sources"]] == ["pairs"] and not run["earlier"]
    assert run["sources"][0]["paths"] == [str(first / "tr" / side) for side in ("low", "high")]
    assert (run["bf16"], run["every"], run["validate"]) == (False, 1, 1)
    assert told(f"{output}/dgaf.own.safetensors")["data"] == "pairs@1"


def test_a_papers_recipe_is_computed_in_float32(train: Train) -> None:
    """No paper mentions less; what is asked for is used all the same, and a run keeps what it had."""
    words = (*TR, "--recipe", "paper", "--exist", "overwrite")
    assert train(*words, "--steps", 1, model="neid").code == 0 and described()["bf16"] is False
    assert train(*words, "--steps", 1, "--precision", "bf16", model="neid").code == 0 and described()["bf16"] is True
    ran = train("--steps", 2, "--resume", model="neid")
    assert ran.code == 0 and described()["bf16"] is True and "goes on" not in ran.err
    assert train(*TR, "--steps", 1, output="ours").code == 0 and described("ours")["bf16"] is True


def test_other_pictures_are_told_and_both_are_kept(train: Train) -> None:
    assert train(*TR, "--steps", 1, "--precision", "fp32").code == 0
    ran = train(*OTHER, "--steps", 2, "--resume", "--precision", "bf16")
    assert ran.code == 0 and "goes on with other data" in ran.err and "goes on in bf16" in ran.err
    assert f"pairs:{Path('tr/low').absolute()},{Path('tr/high').absolute()}@1" in ran.err
    ran = train("--steps", 3, "--resume")
    assert ran.code == 0 and "goes on" not in ran.err
    assert told()["data"] == "pairs@1; then pairs@2"
    run = described()
    assert [Path(sources[0]["paths"][0]).parent.name for sources in run["earlier"]] == ["tr"]
    assert Path(run["sources"][0]["paths"][0]).parent.name == "other" and run["bf16"] is True


def test_nothing_to_resume_needs_no_data(train: Train) -> None:
    ran = train("--steps", 2, "--resume")
    assert ran.code == 3 and "no run to resume here" in ran.err and not Path("run").exists()


def test_a_run_of_another_network_is_named(train: Train) -> None:
    assert train(*TR, "--steps", 1).code == 0
    ran = train("--steps", 2, "--resume", model="neid")
    assert ran.code == 3 and "a run of -m dgaf --recipe best: resume it with that" in ran.err


def test_a_run_that_is_done_is_left_as_it_is(train: Train) -> None:
    assert train(*TR, "--steps", 6, "--every", 3).code == 0
    kept = ("run.json", "log.jsonl", "dgaf.own.safetensors", "state.safetensors")
    before = {name: Path("run", name).read_bytes() for name in kept}
    ran = train("--steps", 2, "--resume")
    assert ran.code == 0 and ran.out.strip() == "run/dgaf.own.safetensors"
    assert "has taken 6 steps already" in ran.err and "trained" not in ran.err
    assert {name: Path("run", name).read_bytes() for name in kept} == before


def test_what_a_kill_kept_from_being_written_is_written(train: Train) -> None:
    """The state is there, and the result is not, or is that of fewer steps."""
    assert train(*TR, "--steps", 2).code == 0
    old = Path("run/dgaf.own.safetensors").read_bytes()
    assert train("--steps", 4, "--resume").code == 0
    right = files.load("run/dgaf.own.safetensors", "dgaf")[0]
    for spoil in (lambda path: path.unlink(), lambda path: path.write_bytes(old)):
        spoil(Path("run/dgaf.own.safetensors"))
        assert train("--steps", 3, "--resume").code == 0
        again, about = files.load("run/dgaf.own.safetensors", "dgaf")
        assert all((again[key] == value).all() for key, value in right.items())
        assert about["steps"] == "4" and json.loads(about["numbers"])["steps"] == 4


# ------------------------------------------------------------------------------------------------ what it is called


def interrupt(event: str, fields: dict[str, Any]) -> None:
    raise KeyboardInterrupt


def test_the_same_run_gives_the_same_file(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another folder, with another cache, fed by more threads, interrupted; another seed is another run."""
    assert train(*TR, "--steps", 4, "--every", 2).code == 0
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path / "cache"))
    again = ("--steps", 4, "--every", 2, "--threads", 2)
    assert train(*TR, *again, output="again").code == 0
    with monkeypatch.context() as once:
        once.setattr(report, "event", interrupt)
        assert train(*TR, "--steps", 4, "--every", 2, "--json", output="broken").code == 130
    assert train(*again, "--resume", output="broken").code == 0
    assert train(*TR, *again, "--seed", 1, output="other").code == 0
    same, *_ = hashes = [disk.sha256(f"{name}/dgaf.own.safetensors") for name in ("run", "again", "broken", "other")]
    assert hashes[:3] == [same] * 3 and hashes[3] != same
    configs = [described(name)["config"] for name in ("run", "again", "broken", "other")]
    assert configs[:3] == [told()["config"]] * 3 and configs[3] != configs[0]


def test_who_trained_it_is_noted(train: Train) -> None:
    import torch

    import lowlight_cli

    assert train(*TR, "--steps", 1).code == 0
    assert described()["versions"] == {"lowlight": lowlight_cli.__version__, "torch": torch.__version__}


KILLED = """
import os, signal, sys
from pathlib import Path
from lowlight_cli.training.run import log_to

right = Path.open

def killed(path, mode="r", *args, **options):
    file = right(path, mode, *args, **options)
    if mode == "wb":
        os.kill(os.getpid(), signal.SIGKILL)
    return file

Path.open = killed
with log_to(Path(sys.argv[1]), 2):
    pass
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL as POSIX has it")
def test_a_kill_at_the_start_loses_nothing_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    known = b"".join(b'{"step": %d}\n' % step for step in range(3))
    log.write_bytes(known + b'{"step": 3}\n{"st')
    assert subprocess.run([sys.executable, "-c", KILLED, log], check=False).returncode == -signal.SIGKILL
    assert log.read_bytes().startswith(known)
    for _ in range(2):
        with log_to(log, 2):
            pass
        assert log.read_bytes() == known and [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
    with log_to(log, 2) as write:
        write('{"step": 3}')
    assert log.read_bytes() == known + b'{"step": 3}\n'
