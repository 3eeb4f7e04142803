"""Runs that go wrong: interrupted anywhere, no number, a full disk; and sources that do not suit a recipe."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from lowlight_cli.errors import InputError, LowlightError, OutputError, ResourceError, UsageError
from lowlight_cli.signals import ENDING
from lowlight_cli.training import checkpoint, data, feeding, loop, ranks, validation
from lowlight_cli.training.checkpoint import unbroken
from lowlight_cli.training.loop import Progress, Run, train
from lowlight_cli.training.recipe import load
from lowlight_cli.training.recipes import best
from lowlight_cli.training.run import log_to
from lowlight_cli.training.sources import parse
from lowlight_cli.weights import files


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for side in ("low", "high", "nights", "tiny"):
        (folder / side).mkdir()
    for i in range(24):
        high = np.kron(random.uniform(60, 220, (2, 3, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        Image.fromarray(high // 8).save(folder / "low" / f"{i}.png")
        Image.fromarray(high).save(folder / "high" / f"{i}.png")
        Image.fromarray(high // 9).save(folder / "nights" / f"{i}.png")
    for side in ("low", "high"):
        (folder / "mixed" / side).mkdir(parents=True)
        for i, size in enumerate((40, 40, 20)):
            Image.new("RGB", (size, size)).save(folder / "mixed" / side / f"{i}.png")
    return folder


def run_of(pictures: Path, output: Path, name: str, kind: str, *more: str, **numbers: int) -> Run:
    settings = ("weights.perceptual=0",) if (name, kind) == ("dgaf", "paper") else ()
    recipe = replace(load(name, settings, kind), crop=16, batch=2, crop_end=0, batch_end=0, warmup=1)
    texts = [f"pairs:{pictures / 'low'},{pictures / 'high'}", *(f"{m}:{pictures / 'nights'}" for m in more)]
    sources = tuple(parse(text) for text in texts)
    given = {"steps": 6, "every": 2, "validate": 0} | numbers
    return Run(name, sources, output, pictures / "cache", recipe, bf16=False, threads=1, **given)  # type: ignore[arg-type]


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping


def quiet(_: Progress) -> None:
    pass


def at_step(number: int, error: type[BaseException]) -> Callable[[Progress], None]:
    def report(seen: Progress) -> None:
        if seen.step == number:
            raise error

    return report


def at_first(act: Callable[[], None]) -> Callable[[Progress], None]:
    def report(seen: Progress) -> None:
        if seen.step == 2:
            act()

    return report


@pytest.mark.parametrize(("name", "more"), [("frlie", ()), ("lw-drgn", ("bright",)), ("dgaf", ("dark",))])
def test_stages_and_adversaries_resume_to_the_bit(
    pictures: Path, tmp_path: Path, name: str, more: tuple[str, ...]
) -> None:
    whole = run_of(pictures, tmp_path / "whole", name, "paper", *more)
    seen: list[Progress] = []
    train(whole, seen.append)
    assert len(dict.fromkeys(p.stage for p in seen)) == 2
    broken = replace(whole, output=tmp_path / "broken")
    for stop in (2, 4):  # in the first stage; in the second
        with pytest.raises(KeyboardInterrupt):
            train(replace(broken, resume=stop > 2), at_step(stop, KeyboardInterrupt))
    train(replace(broken, resume=True), quiet)
    there, here = (tensors(r.output / "state.safetensors") for r in (whole, broken))
    assert there.keys() == here.keys() and any(key.startswith("helpers.") for key in there) == bool(more)
    for key, value in there.items():
        assert torch.equal(value, here[key]), key


KILLED = """
import os, signal, sys, pickle
from pathlib import Path
from lowlight_cli.training.loop import train

right, states = Path.write_bytes, []

def killed(path, content):
    states.extend([path] if "state" in path.name else [])
    if len(states) < 2:
        return right(path, content)
    right(path, content[: len(content) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

Path.write_bytes = killed
train(pickle.loads(sys.stdin.buffer.read()), lambda _: None)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL as POSIX has it")
def test_killed_in_the_middle_of_a_save_it_goes_on_to_the_bit(pictures: Path, tmp_path: Path) -> None:
    """In the second stage, with the state of the first on disk."""
    whole = run_of(pictures, tmp_path / "whole", "frlie", "paper", every=3)
    train(whole, quiet)
    broken = replace(whole, output=tmp_path / "broken")
    died = subprocess.run([sys.executable, "-c", KILLED], input=pickle.dumps(broken), check=False)
    assert died.returncode == -signal.SIGKILL
    assert len(list(broken.output.glob(".state.safetensors.*.part"))) == 1
    train(replace(broken, resume=True), quiet)
    there, here = (tensors(r.output / "state.safetensors") for r in (whole, broken))
    assert all(torch.equal(value, here[key]) for key, value in there.items())
    logs = [(r.output / "log.jsonl").read_text().splitlines() for r in (whole, broken)]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    assert losses[0] == losses[1] and not list(broken.output.glob(".*.part"))


def test_what_a_kill_leaves_is_cleared_away(pictures: Path, tmp_path: Path) -> None:
    run = run_of(pictures, tmp_path, "dgaf", "best", steps=2)
    train(run, quiet)
    log = tmp_path / "log.jsonl"
    known = log.read_text()
    log.write_text(known + '{"step": 3, "loss": 1}\n{"step": 4, "lo')
    (tmp_path / ".state.safetensors.0a0a0a0a.part").write_bytes(b"half")
    train(replace(run, steps=4, resume=True), quiet)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [2, 4]
    assert log.read_text().startswith(known) and not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("number", ENDING)
def test_a_step_is_done_before_an_interrupt(number: int) -> None:
    done = []
    before = signal.signal(number, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        with unbroken():
            signal.raise_signal(number)
            done.append("the step")
        done.append("nothing after it")
    assert done == ["the step"]
    assert signal.signal(number, before) is signal.default_int_handler


def test_a_request_to_end_saves(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train(run_of(pictures, tmp_path, "dgaf", "best", every=5, steps=40), at_step(20, SystemExit))
    with safe_open(tmp_path / "state.safetensors", "pt") as file:
        assert json.loads(file.metadata()["numbers"])["step"] == 20


def test_a_validation_that_fails_loses_no_step(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole pictures are larger than crops: a device may have too little memory for them, or no kernel."""
    run = run_of(pictures, tmp_path, "dgaf", "best", validate=1)

    def refusing(*_: object) -> None:
        raise NotImplementedError("not implemented on this device")

    with monkeypatch.context() as once:
        once.setattr(loop, "validate", refusing)
        with pytest.raises(NotImplementedError):
            train(run, quiet)
    seen: list[Progress] = []
    train(replace(run, resume=True), seen.append)
    assert [each.step for each in seen] == [2, 4, 6]


# --------------------------------------------------------------------------------------------------- not a number


def spoil(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int], bool]) -> None:
    """Make the loss of some calls no number."""
    calls = iter(range(10**6))
    right = best.losses.supervised
    monkeypatch.setattr(
        best.losses, "supervised", lambda *a, **k: right(*a, **k) * (float("nan") if bad(next(calls)) else 1.0)
    )


def test_no_number_goes_back_and_slows_down(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda call: 10 <= call < 40)
    seen: list[Progress] = []
    path = train(run_of(pictures, tmp_path, "dgaf", "best", steps=60, every=10), seen.append)
    noted = [p for p in seen if p.note]
    assert [p.step for p in noted] == [30] and "half" not in noted[0].note and "0.5 of the rate" in noted[0].note
    assert np.isnan(noted[0].loss) and np.isfinite(seen[-1].loss)
    rates = {p.step: p.rate for p in seen}
    assert rates[40] < 0.6 * rates[30]
    assert all(torch.isfinite(value).all() for value in files.load(path, "dgaf")[0].values())
    assert '"loss": null' in (tmp_path / "log.jsonl").read_text()


def test_never_a_number_is_an_error(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda _: True)
    seen: list[Progress] = []
    with pytest.raises(LowlightError, match=r"no number at step 120, even at 0\.0312 of the rate"):
        train(run_of(pictures, tmp_path, "dgaf", "best", steps=200, every=20), seen.append)
    assert len(seen) == 5


@pytest.mark.parametrize("unfused", [(), ("cpu",)])
def test_one_step_without_a_number_is_left_out(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unfused: tuple[str, ...]
) -> None:
    monkeypatch.setattr(checkpoint, "UNFUSED", unfused)
    spoil(monkeypatch, lambda call: call == 2)
    seen: list[Progress] = []
    train(run_of(pictures, tmp_path, "dgaf", "best", steps=4), seen.append)
    assert not any(p.note for p in seen)
    state = tensors(tmp_path / "state.safetensors")
    assert state["optimiser.0.step"].item() == 3 and all(torch.isfinite(value).all() for value in state.values())


def test_poisoned_statistics_go_back_at_once(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norms keep what they saw: a picture that is no number would stay in them for good."""
    right, calls = feeding.data.batch_of, iter(range(100))

    def poisoned(*arguments: object, **named: object) -> data.Batch:
        batch = right(*arguments, **named)  # type: ignore[arg-type]
        if next(calls) == 3:
            batch.low.fill_(float("nan"))
        return batch

    monkeypatch.setattr(feeding.data, "batch_of", poisoned)
    seen: list[Progress] = []
    path = train(run_of(pictures, tmp_path, "frlie", "best"), seen.append)
    assert [bool(p.note) for p in seen] == [False, True, False]
    assert all(torch.isfinite(value).all() for value in files.load(path, "frlie")[0].values())


# ------------------------------------------------------------------------------------------------------- full disk


def test_a_full_disk_leaves_the_state_before(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Path.write_bytes
    states: list[Path] = []

    def full(path: Path, content: bytes) -> int:
        states.extend([path] if "state" in path.name else [])
        if len(states) < 2:
            return right(path, content)
        right(path, content[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    run = run_of(pictures, tmp_path, "dgaf", "best")
    with pytest.raises(ResourceError, match="disk is full"):
        train(run, quiet)
    monkeypatch.undo()
    assert not list(tmp_path.glob(".*.part"))
    seen: list[Progress] = []
    train(replace(run, resume=True), seen.append)
    assert [p.step for p in seen] == [4, 6]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_a_log_on_a_full_disk() -> None:
    with pytest.raises(ResourceError, match="disk is full"), log_to(Path("/dev/full"), -1) as write:
        write("{}")


# -------------------------------------------------------------------------------------------- sources and recipes


def test_nights_are_wanted_and_only_there(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give --data dark:PATH"):
        train(run_of(pictures, tmp_path, "dgaf", "paper"), quiet)
    with pytest.raises(UsageError, match="of no use to dgaf with --recipe best"):
        train(run_of(pictures, tmp_path, "dgaf", "best", "dark"), quiet)


def test_unpaired_crops_lie_beside_the_pairs(pictures: Path, tmp_path: Path) -> None:
    run = run_of(pictures, tmp_path, "dgaf", "paper", "dark")
    feed = feeding.read(run)
    assert len(feed.unpaired) == 24 and len(feed.pools) == 1
    batches = feeding.batches(run, feed, 0, lambda _: 0.0)
    batch = next(batches)
    batches.close()
    assert batch.unpaired is not None and batch.unpaired.shape == batch.low.shape
    assert set((batch.unpaired * 255).round().flatten().int().tolist()) <= set(range(26))


def batch_of(run: Run, step: int = 0, which: ranks.Ranks = ranks.ALONE) -> data.Batch:
    batches = feeding.batches(run, feeding.read(run), step, lambda _: 0.0, which)
    batch = next(batches)
    batches.close()
    return batch


def test_processes_make_up_one_batch(pictures: Path, tmp_path: Path) -> None:
    run = run_of(pictures, tmp_path, "lw-drgn", "paper")
    run = replace(run, recipe=replace(run.recipe, batch=4, mixup=0.5, noise=0.5))
    whole, parts = batch_of(run, 7), [batch_of(run, 7, ranks.Ranks(rank, 2)) for rank in (0, 1)]
    for name in ("low", "high", "thumbnail", "unpaired"):
        for rank, part in enumerate(parts):
            assert torch.equal(getattr(part, name), getattr(whole, name)[rank::2]), name
    assert not torch.equal(whole.low, batch_of(run, 8).low)
    with pytest.raises(UsageError, match=r"a batch of 4 cannot be shared evenly by 3 processes.*--set batch=6"):
        feeding.read(replace(run, processes=3))


def test_bright_stays_bright(pictures: Path, tmp_path: Path) -> None:
    run = run_of(pictures, tmp_path, "dgaf", "best", "bright")
    batch = batch_of(replace(run, recipe=replace(run.recipe, lit=1.0, batch=16)))
    assert torch.equal(batch.low, batch.high) and batch.high.mean() > 0.1
    assert batch.thumbnail.mean().item() == pytest.approx(batch.high.mean().item(), rel=0.2)
    batch = batch_of(replace(run, recipe=replace(run.recipe, lit=0.5, batch=64)))
    alike = [torch.equal(low, high) for low, high in zip(batch.low, batch.high, strict=True)]
    assert 16 < sum(alike) < 48


def test_more_noise(pictures: Path, tmp_path: Path) -> None:
    run = run_of(pictures, tmp_path, "dgaf", "best")
    for share, least, most in ((0.0, 0, 1e-3), (1.0, 0.8, 4)):
        batch = batch_of(replace(run, recipe=replace(run.recipe, noise=share, batch=8)))
        noise = 255 * batch.low - torch.floor((255 * batch.high).round() / 8)  # of which the dark pictures are made
        assert least <= noise.std().item() <= most


def test_shares_are_shares() -> None:
    assert load("neid", ("mixup=0.25", "lit=1")).lit == 1.0
    for wrong in ("mixup=1.5", "lit=-0.1", "noise=2"):
        with pytest.raises(UsageError, match="from 0 to 1"):
            load("neid", (wrong,))


def test_all_that_is_wrong_with_all_sources_is_named(pictures: Path, tmp_path: Path) -> None:
    run = run_of(pictures, tmp_path, "dgaf", "best")
    folders = (f"{pictures}/low,{pictures}/nowhere", f"{pictures}/mixed/low,{pictures}/high")
    sources = tuple(parse(f"pairs:{each}") for each in folders)
    with pytest.raises(InputError, match=r"nowhere: no such folder; .*21 pictures without partner: 10, 11, 12, "):
        train(replace(run, sources=sources), quiet)


def test_odd_pairs_are_told_before_the_first_step(pictures: Path, tmp_path: Path) -> None:
    run = run_of(pictures, tmp_path, "dgaf", "best")
    sources = (*run.sources, parse(f"pairs:{pictures / 'high'},{pictures / 'high'}"))
    told: list[str] = []
    train(replace(run, sources=sources), at_first(lambda: told.append("the first step")), told.append)
    assert told[0].startswith("24 dark pictures are the same as their reference: 0, 10, ")
    assert told[-1] == "the first step"


def test_pictures_smaller_than_the_crop_are_named(pictures: Path, tmp_path: Path) -> None:
    run = run_of(pictures, tmp_path, "dgaf", "best")
    sources = (parse(f"pairs:{pictures}/mixed/low,{pictures}/mixed/high"),)
    with pytest.raises(InputError, match="1 pictures are smaller than the crop of 32: 2"):
        train(replace(run, sources=sources, recipe=replace(run.recipe, crop=32)), quiet)


def test_a_contact_sheet_shows_what_it_does(pictures: Path, tmp_path: Path) -> None:
    train(run_of(pictures, tmp_path, "dgaf", "best", validate=1, steps=2), quiet)
    with Image.open(tmp_path / "validation.jpg") as sheet:
        assert sheet.size == (900, 204)


def test_earlier_contact_sheets_are_kept_and_thinned_out(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "KEPT", 4)
    train(run_of(pictures, tmp_path, "dgaf", "best", validate=1, steps=12), quiet)
    kept = [int(path.stem) for path in sorted((tmp_path / "validation").iterdir())]
    assert kept == [2, 6, 10, 12]


def test_what_else_lies_beside_the_contact_sheets_stays(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "KEPT", 1)
    mine = [f"holiday{number}.jpg" for number in range(4)]
    (tmp_path / "validation").mkdir()
    for name in mine:
        (tmp_path / "validation" / name).touch()
    train(run_of(pictures, tmp_path, "dgaf", "best", validate=1, steps=2), quiet)
    assert {*mine, "00000002.jpg"} == {path.name for path in (tmp_path / "validation").iterdir()}


@pytest.mark.skipif(os.name != "posix", reason="has no links, or only for some users")
@pytest.mark.parametrize("name", ["log.jsonl", "run.json"])
def test_a_folder_with_links_in_it_is_refused(pictures: Path, tmp_path: Path, name: str) -> None:
    """It may come from others: they would be written through, to any file."""
    (tmp_path / "run").mkdir()
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "run" / name).symlink_to("../mine")
    with pytest.raises(OutputError, match=rf"run/{name}: is a link"):
        train(run_of(pictures, tmp_path / "run", "dgaf", "best", steps=2), quiet)
    assert mine.read_text() == "mine"


def test_a_recipe_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="--recipe worst: neid has best and paper"):
        load("neid", (), "worst")
    for wrong in ("weights.nothing=1", "weights=1", "weights.detail='a'", "shares=[0.5, 0.5]", "schedule='up'"):
        with pytest.raises(UsageError):
            load("neid", (wrong,), "paper")
    with pytest.raises(UsageError):
        load("frlie", ("shares=[0.9, 0.2]",), "paper")
    assert load("neid", ("weights.detail=1",), "paper").weights["detail"] == 1
    assert load("frlie", ("shares=[0.25, 0.75]",), "paper").stage_at(0.3) == 1
