"""`lowlight train` as it is typed: what is not trained, what is not lost, and the exit codes."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Ran
from hub_server import Answer, serve
from safetensors import safe_open
from safetensors.torch import save_file

from lowlight_cli.training.recipe import load
from lowlight_cli.training.recipes import best

Train = Callable[..., Ran]


@pytest.fixture
def train(train: Train, pairs: Path) -> Train:
    """The command with its data, in float32."""
    return functools.partial(train, "--data", f"pairs:{pairs}/low,{pairs}/high", "--precision", "fp32")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


def state(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118 - no mapping


# ------------------------------------------------------------------------------------------- a folder that has a run


def test_a_run_is_not_lost_to_another(train: Train) -> None:
    assert train("--steps", 3, "--every", 1).code == 0
    before = contents(Path("run"))
    again = train("--steps", 1)
    assert again.code == 4 and not again.out
    assert all(word in again.err for word in ("run", "--resume", "another -o", "--exist overwrite"))
    assert train("--steps", 1, "--set", "unheard=1", "--exist", "overwrite").code == 2
    assert train("--steps", 1, "--data", "lol:nowhere", "--exist", "overwrite").code == 3
    assert train("--steps", 5, "--resume", "--exist", "overwrite").code == 2
    assert contents(Path("run")) == before
    assert train("--steps", 5, "--every", 5, "--resume").code == 0
    assert steps(Path("run")) == [1, 2, 3, 5]


def test_a_finished_network_is_not_lost_without_its_state(train: Train) -> None:
    assert train("--steps", 1).code == 0
    Path("run/state.safetensors").unlink()
    again = train("--steps", 1)
    assert again.code == 4 and "run/dgaf.own.safetensors" in again.err
    assert train("--steps", 1, "--tag", "other").code == 0


def test_what_is_replaced_on_purpose_leaves_nothing_of_the_former(train: Train) -> None:
    assert train("--steps", 3, "--every", 1).code == 0
    Path("run/validation/holiday.jpg").write_bytes(b"not ours")
    assert train("--steps", 2, "--every", 2, "--exist", "overwrite", "--seed", 1).code == 0
    assert steps(Path("run")) == [2]
    assert sorted(path.name for path in Path("run/validation").iterdir()) == ["00000002.jpg", "holiday.jpg"]
    assert json.loads(Path("run/run.json").read_text())["seed"] == 1
    assert train("--steps", 1, "--exist", "overwrite", "--validate", 0).code == 0
    assert not Path("run/validation.jpg").exists()


# --------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("warmup=0", "warmup = 0 should be from 1"),
        ("batch=0", "batch = 0 should be from 1"),
        ("batch_end=-1", "batch_end = -1 should be from 0"),
        ("crop=8", "crop = 8 should be from 11"),
        ("crop_end=8", "crop_end = 8 should be 0, or from 11"),
        ("crop_change=2.0", "crop_change = 2.0 should be from 0 to 1"),
        ("rate=-1", "rate = -1.0 should be from 0 to 1"),
        ("rate=nan", "rate = nan should be from 0 to 1"),
        ("rate=1" + "0" * 400, "rate"),
        ("last_rate=inf", "last_rate = inf should be from 0 to 1"),
        ("betas=[1.0, 2.0]", "betas"),
        ("betas=[nan, 0.9]", "betas"),
        ("decay=inf", "decay"),
        ("ema=1.5", "ema = 1.5 should be from 0 to 1"),
        ("clip=0", "clip = 0.0 should be above 0"),
        ("structure=-1", "structure = -1.0 should be from 0"),
        ("drops=[2.0]", "drops"),
        ("factor=nan", "factor"),
        ('unpaired="dark"', "unpaired"),
    ],
)
def test_numbers_out_of_range(train: Train, change: str, told: str) -> None:
    ran = train("--steps", 1, "--set", change)
    assert ran.code == 2 and told in ran.err and len(ran.lines) == 1
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("model", "change", "told"),
    [
        ("drgn", 'unpaired=""', "unpaired = '' should be 'bright'"),
        ("lw-drgn", "crop=30", "crop = 30 should be a multiple of 4"),
        ("neid", "weights.delta=0", "weights.delta = 0.0 should be above 0"),
        ("neid", "weights.detail=inf", "weights.detail"),
    ],
)
def test_numbers_of_the_papers_out_of_range(train: Train, model: str, change: str, told: str) -> None:
    ran = train("--steps", 1, "--recipe", "paper", "--set", change, model=model)
    assert ran.code == 2 and told in ran.err


def test_numbers_at_the_ends_of_their_ranges(train: Train) -> None:
    ends = ("crop=11", "batch=1", "warmup=1", "rate=0", "ema=0", "clip=inf", "decay=0", "betas=[0, 0.999]", "mixup=1")
    words = [word for end in ends for word in ("--set", end)]
    assert train("--steps", 1, *words).code == 0
    assert load("drgn", (), "paper").weights["ssim"] == -0.2


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_out_of_range(train: Train, seed: int) -> None:
    ran = train("--steps", 1, "--seed", seed)
    assert ran.code == 2 and "--seed" in ran.err


def test_minutes_that_are_no_number(train: Train) -> None:
    ran = train("--steps", 1, "--minutes", "nan")
    assert ran.code == 2 and "--minutes" in ran.err


@pytest.mark.parametrize("tag", ["a/b", "../own", "Own", "-own", "a b"])
def test_tags_that_the_table_of_weights_would_refuse(train: Train, tag: str) -> None:
    ran = train("--steps", 1, f"--tag={tag}")
    assert ran.code == 2 and "--tag" in ran.err
    assert not Path("run").exists()


# ---------------------------------------------------------------------------------------------------------- states


@pytest.fixture(scope="module")
def ended(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a run of neid by `best`."""
    from lowlight_cli.cli.app import run

    folder = tmp_path_factory.mktemp("ended")
    words = ["-o", folder, "--steps", 1, "--device", "cpu", "--validate", 0, *SMALL]
    assert run(["train", "-m", "neid", "--data", f"pairs:{pairs}/low,{pairs}/high", *map(str, words)]) == 0
    return folder / "state.safetensors"


def without(part: str) -> Callable[[dict[str, torch.Tensor], dict[str, str]], object]:
    return lambda tensors, _: [tensors.pop(key) for key in list(tensors) if key.startswith(part)]


def numbered(text: str) -> Callable[[dict[str, torch.Tensor], dict[str, str]], object]:
    return lambda _, about: about.update(numbers=text)


def shrunk(tensors: dict[str, torch.Tensor], _: dict[str, str]) -> None:
    key = next(key for key in tensors if key.startswith("average.") and tensors[key].ndim == 4)
    tensors[key] = tensors[key][:1]


def moved(tensors: dict[str, torch.Tensor], _: dict[str, str]) -> None:
    key = next(key for key in tensors if key.endswith(".exp_avg"))
    tensors[key] = torch.zeros(7)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _, about: about.clear(),
        numbered("[]"),
        numbered("{"),
        numbered('{"stage": 0}'),
        numbered('{"step": 1, "seconds": 1, "stage": 0, "lowered": 1, "tensors": 1}'),
        without("average."),
        without("average.d"),
        without("optimiser"),
        without("network."),
        lambda tensors, _: tensors.update({"optimiser.x.step": torch.zeros(1)}),
        lambda tensors, _: tensors.update({"stranger": torch.zeros(1)}),
        shrunk,
        moved,
    ],
)
def test_states_that_lack_something(
    train: Train, ended: Path, spoil: Callable[[dict[str, torch.Tensor], dict[str, str]], object]
) -> None:
    tensors, about = state(ended)
    spoil(tensors, about)
    Path("run").mkdir()
    save_file(tensors, "run/state.safetensors", about)
    ran = train("--steps", 2, "--resume", model="neid")
    assert ran.code == 3 and "run/state.safetensors: not a state of" in ran.err and "NoneType" not in ran.err
    assert not Path("run/log.jsonl").exists()


def test_a_state_goes_on_by_its_own_recipe(train: Train, ended: Path) -> None:
    tensors, about = state(ended)
    Path("run").mkdir()
    save_file(tensors, "run/state.safetensors", about)
    ran = train("--steps", 2, "--resume", "--recipe", "paper", model="neid")
    assert ran.code == 3 and "--recipe best" in ran.err
    assert train("--steps", 2, "--resume", model="neid").code == 0


def described() -> dict[str, Any]:
    return json.loads(Path("run/run.json").read_text())  # type: ignore[no-any-return]


def test_a_resumed_run_keeps_the_numbers_that_were_typed(train: Train, lowlight: Callable[..., Ran]) -> None:
    typed = ["--set", 'input="as-is"', "--set", "rate=2e-3", "--set", "weights.detail=0.5", "--set", "clip=inf"]
    assert train("--steps", 2, "--recipe", "paper", "--seed", 5, *typed, model="neid").code == 0
    before = described()
    data = before["sources"][0]["paths"]
    words = ["-m", "neid", "--data", f"pairs:{data[0]},{data[1]}", "-o", "run", "--device", "cpu", "--resume"]
    assert lowlight("train", *words, "--steps", "3").code == 0
    after = described()
    assert after["recipe"] == before["recipe"] and after["recipe"]["input"] == "as-is" and after["seed"] == 5
    numbers = json.loads(state(Path("run/neid.own.safetensors"))[1]["numbers"])
    assert (numbers["seed"], numbers["crop"], numbers["rate"], numbers["steps"]) == (5, 16, 2e-3, 3)
    assert lowlight("train", *words, "--steps", "4", "--seed", "5", "--set", "rate=2e-3").code == 0
    ran = lowlight("train", *words, "--steps", "5", "--set", "weights.detail=0.7")
    assert ran.code == 2 and "weights.detail was 0.5, and is to be 0.7" in ran.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--set", "rate=0.5"), "rate was 0.001, and is to be 0.5"),
        (("--seed", 6), "seed was 0, and is to be 6"),
        (("--set", "betas=[0.5, 0.9]"), "betas was [0.9, 0.99], and is to be [0.5, 0.9]"),
    ],
)
def test_a_resumed_run_refuses_other_numbers(train: Train, ended: Path, words: tuple[object, ...], told: str) -> None:
    Path("run").mkdir()
    shutil.copy(ended, "run")
    ran = train("--steps", 2, "--resume", *words, model="neid")
    assert ran.code == 2 and told in ran.err and len(ran.lines) == 1
    assert not Path("run/run.json").exists()


# ------------------------------------------------------------------------------------------------------------ memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
        MemoryError(),
    ],
)
def test_too_little_memory_is_told(train: Train, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(best.losses, "supervised", fails)
    ran = train("--steps", 1)
    assert ran.code == 7 and all(word in ran.err for word in ("--set batch=", "crop=", "--validate"))
    assert len(ran.lines) == 1


def test_without_a_compiler_it_says_so(
    process: Callable[..., Ran], lowlight: Callable[..., Ran], pairs: Path, tmp_path: Path
) -> None:
    words = ["-m", "dgaf", "--data", f"pairs:{pairs}/low,{pairs}/high", "-o", tmp_path / "run", "--device", "cpu"]
    small = [*SMALL, "--validate", "0"]
    env = {"CXX": "/nonexistent", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    ran = process("train", *words, *small, "--steps", "1", "--compile", env=env)
    assert ran.code == 6 and "--compile needs a C++ compiler: leave it out (" in ran.lines[-1]
    assert "backend=" not in ran.lines[-1]  # that line of torch's says only that there is another
    assert lowlight("train", *words, *small, "--steps", "1").code == 0


# --------------------------------------------------------------------------------------------- output, and addresses


def test_a_folder_that_is_a_file(train: Train) -> None:
    Path("run").write_text("mine")
    ran = train("--steps", 1)
    assert ran.code == 4 and "run" in ran.err and "-o" in ran.err and Path("run").read_text() == "mine"


@pytest.mark.parametrize("name", ["run.json", "log.jsonl"])
def test_a_log_that_cannot_be_written(train: Train, name: str) -> None:
    Path("run", name).mkdir(parents=True)
    ran = train("--steps", 1)
    assert ran.code == 4 and f"run/{name}" in ran.err


def test_weights_to_start_from_are_announced(train: Train, seeded: Callable[[str], Path]) -> None:
    data = seeded("dgaf").read_bytes()
    with serve() as server:
        server.pages["/a.safetensors"] = Answer(data)
        address = f"{server.url}/a.safetensors#sha256={hashlib.sha256(data).hexdigest()}"
        ran = train("--steps", 1, "--init", address)
    assert ran.code == 0 and ran.lines[0].startswith("fetching") and server.url in ran.lines[0]


def test_data_that_is_not_there(lowlight: Callable[..., Ran], folder: Path) -> None:
    """Named as it was typed, with what should be in it; and no folder is left behind."""
    Path("empty").mkdir()
    for where, told in (
        ("nowhere/lol", "error: nowhere/lol is not there (a folder with our485/low and our485/high)"),
        ("empty", "error: empty has neither our485/low and our485/high, as LOL has them, nor low and high"),
    ):
        ran = lowlight("train", "-m", "dgaf", "--data", f"lol:{where}", "-o", "new/run")
        assert (ran.code, ran.lines[-1]) == (3, told)
        assert not Path("new").exists()
