"""`lowlight batch`: what is searched, written, recorded, skipped and refused."""

from __future__ import annotations

import doctest
import errno
import hashlib
import json
import os
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ran, dark_array
from PIL import Image

from lowlight_cli import Enhancer
from lowlight_cli.errors import OutputError
from lowlight_cli.files import Saving, Work, enhance_files
from lowlight_cli.folders import batch as batches
from lowlight_cli.folders import search
from lowlight_cli.folders.manifest import NAME, claimed
from lowlight_cli.targets import Job

Lowlight = Callable[..., Ran]


def made(*names: str) -> None:
    """Dark pictures, each another one."""
    for seed, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(dark_array(20, 28, seed=seed)).save(name)


def tree(root: str) -> set[str]:
    """The files below, without the batch's own."""
    paths = (path for path in Path(root).rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix() for path in paths} - {NAME, ".lowlight-batch.lock"}


def lines(root: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(root) / NAME).read_text().splitlines()]


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_tree_and_manifest(folder: Path, lowlight: Lowlight, dgaf_weights: Path) -> None:
    made("in/a.png", "in/may/b.jpg", "in/may/1/c.webp")
    ran = lowlight("batch", "in")
    assert ran.code == 0, ran.err
    assert tree("in_lit") == tree("in") == set(ran.out.replace("in_lit/", "").split())
    assert ran.lines[-1].startswith("3 lit with dgaf")
    told = {each["input"]: each for each in lines("in_lit")}
    assert told.keys() == tree("in")
    for name, each in told.items():
        assert (each["schema"], each["folder"]) == ("lowlight-manifest-1", str(Path("in").resolve()))
        assert (each["output"], each["error"], each["device"], each["size"]) == (name, None, "cpu", [28, 20])
        assert each["input_sha256"] == sha256(f"in/{name}")
        assert each["output_sha256"] == sha256(f"in_lit/{name}")
        assert each["output_bytes"] == Path(f"in_lit/{name}").stat().st_size
        assert each["weights"] == sha256(dgaf_weights)
        assert list(each["seconds"]) == ["read", "run", "write"] and all(v > 0 for v in each["seconds"].values())
        assert 0 < each["luma"]["before"] < each["luma"]["after"] < 1
        assert {when: set(shares) for when, shares in each["clipped"].items()} == {
            "before": {"black", "white"}, "after": {"black", "white"},
        }  # fmt: skip


def test_same_files_as_enhance(folder: Path, lowlight: Lowlight) -> None:
    made("in/a.png", "in/b.jpg")
    look = ("--strength", "0.8", "--exposure", "0.4", "--format", "webp", "--quality", "80")
    assert lowlight("enhance", "in", "-o", "one", *look).code == lowlight("batch", "in", "-o", "two", *look).code == 0
    assert tree("one") == tree("two") == {"a.webp", "b.webp"}
    assert all(sha256(f"one/{name}") == sha256(f"two/{name}") for name in tree("one"))


def test_include_and_exclude(folder: Path, lowlight: Lowlight) -> None:
    made("in/a.png", "in/B.JPG", "in/thumbs/a.jpg", "in/may/raw/c.jpg", "in/may/d.jpg", "in/.hidden/e.jpg")
    ran = lowlight("batch", "in", "--include", "*.jpg", "--exclude", "thumbs", "--exclude", "may/raw", "--dry-run")
    assert ran.out.splitlines() == ["in/B.JPG -> in_lit/B.JPG", "in/may/d.jpg -> in_lit/may/d.jpg"]
    assert not Path("in_lit").exists()
    ran = lowlight("batch", "in", "--include", "*.tif")
    assert (ran.code, ran.err) == (3, "error: no picture in folder in fits --include *.tif; 5 others are there\n")
    assert not Path("in_lit").exists()
    assert lowlight("batch", "in", "--exclude", "*").err.startswith("error: no picture in folder in: looked for")


@pytest.mark.parametrize(
    ("glob", "path", "wanted"),
    [
        ("*.jpg", "a/b/IMG.JPG", True),
        ("*.jpg", "a.jpg/b.png", True),  # a folder of that name
        ("raw", "a/raw/b/c.png", True),
        ("/raw", "a/raw/c.png", False),
        ("a/*.png", "a/b/c.png", False),
        ("a/**/*.png", "a/c.png", True),
        ("a/**/*.png", "a/b/b/c.png", True),
        ("a/**", "a/b.png", True),
        ("a/**", "b/a/b.png", False),
        ("**/a/?.png", "b/a/b.png", True),
        ("[ab].png", "x/b.png", True),
        ("a\\b", "a/b/c.png", True),
        ("caf\u00e9", "cafe\u0301/a.png", True),  # as macOS writes it
        ("cafe\u0301/[\u00e9].png", "CAFE\u0301/E\u0301.png", True),
    ],
)
def test_globs(glob: str, path: str, wanted: bool) -> None:
    assert search.matches(glob, Path(path)) == wanted


def test_doctests() -> None:
    failed, tried = doctest.testmod(search)
    assert tried and not failed


@pytest.mark.skipif(os.name != "posix", reason="links need no rights there")
def test_links(folder: Path, lowlight: Lowlight) -> None:
    """Loops end, what a link leads to is found once, and by its real name where that is in the folder too."""
    made("in/z/a.png", "elsewhere/b.png")
    for name, target in {
        "loop": ".", "up": "../..", "a_second_way": "z", "z/back": "../z", "out": "../elsewhere", "z/deep": "../../in",
        "file.png": "z/a.png", "self.jpg": "self.jpg",
    }.items():  # fmt: skip
        Path("in", name).symlink_to(target)
    os.mkfifo("in/pipe.jpg")
    ran = lowlight("batch", "in")
    assert tree("in_lit") == {"z/a.png", "out/b.png", "file.png"}
    assert (ran.code, ran.lines[0]) == (1, "error: in/self.jpg: no such file or folder")


def test_output_inside_the_folder(folder: Path, lowlight: Lowlight) -> None:
    made("in/a.png")
    for _ in range(2):
        assert lowlight("batch", "in", "-o", "in/lit", "--resume").code == 0
    assert tree("in") - {f"lit/{NAME}", "lit/.lowlight-batch.lock"} == {"a.png", "lit/a.png"}


def test_a_failure_does_not_stop_the_rest(folder: Path, lowlight: Lowlight) -> None:
    made("in/a.png", "in/c.png", "in/e.png")
    Path("in/b.png").write_text("text")
    Path("in/d.png").write_bytes(b"")
    ran = lowlight("batch", "in")
    assert ran.code == 1
    assert tree("in_lit") == {"a.png", "c.png", "e.png"}
    assert [line.split(":")[1].strip() for line in ran.lines[:2]] == ["in/b.png", "in/d.png"]
    assert ran.lines[2].startswith("3 lit with dgaf") and ", 2 failed, " in ran.lines[2]
    wrong = {each["input"]: each for each in lines("in_lit") if each["error"]}
    assert {name: each["error"]["code"] for name, each in wrong.items()} == {"b.png": 3, "d.png": 3}
    assert wrong["b.png"]["input_sha256"] == sha256("in/b.png")
    assert wrong["b.png"]["output_sha256"] is None


def test_all_fail_alike(folder: Path, lowlight: Lowlight) -> None:
    Path("in").mkdir()
    Path("in/a.png").write_text("text")
    assert lowlight("batch", "in").code == 3


@pytest.mark.parametrize("stage", ["opened", "brightened", "saved"])
def test_a_fault_of_ours_does_not_stop_the_rest(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    made("in/a.png", "in/b.png", "in/c.png")
    real: Callable[..., Any] = getattr(batches, stage)

    def odd(first: Any, *args: Any, **named: Any) -> Any:
        job = first.job if isinstance(first, Work) else first
        if job.source.name == "b.png":
            raise ZeroDivisionError("odd")
        return real(first, *args, **named)

    monkeypatch.setattr(batches, stage, odd)
    ran = lowlight("batch", "in")
    assert (ran.code, tree("in_lit")) == (1, {"a.png", "c.png"})
    assert ran.lines[0] == "error: in/b.png: this is a bug in lowlight: ZeroDivisionError: odd"


# ----------------------------------------------------------------------------------------- what is refused, what fails


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["batch", "nowhere"], 3, "nowhere: no such folder"),
        (["batch", "x" * 300], 3, f"{'x' * 300}: no such folder"),
        (["batch", "in", "-o", "x" * 300], 4, f"{'x' * 300} cannot be written to"),
        (["batch", "in/a.png"], 2, "in/a.png is not a folder: use `lowlight enhance in/a.png`"),
        (["batch", "in", "-o", "in"], 2, "-o in is the folder itself"),
        (["batch", "in", "-o", "in/a.png"], 2, "-o in/a.png is the name of one picture"),
        (["batch", "in", "-o", "-"], 2, "-o - is the name of one picture"),
        (["batch", "in", "-o", "in/note/x"], 4, "in/note/x cannot be written to (Not a directory)"),
        (["batch", "in", "--resume", "--exist", "number"], 2, "--resume and --exist number exclude each other"),
        (["batch", "in", "-w", "nowhere.safetensors"], 5, "no weights file nowhere.safetensors"),
        (["batch", "in", "--device", "cuda:99"], 6, "device 'cuda:99'"),
    ],
)
def test_refused(folder: Path, lowlight: Lowlight, args: list[str], code: int, message: str) -> None:
    made("in/a.png")
    Path("in/note").write_text("a note")
    ran = lowlight(*args)
    assert (ran.code, len(ran.lines)) == (code, 1), ran.err
    assert ran.err.startswith(f"error: {message}")
    assert {path.name for path in Path().iterdir()} == {"in"}


def test_two_batches_on_one_folder(folder: Path, lowlight: Lowlight) -> None:
    made("in/a.png")
    with claimed(Path("in_lit")):
        ran = lowlight("batch", "in")
        with pytest.raises(OutputError, match="another batch"), claimed(Path("in_lit")):
            pass
    assert (ran.code, len(ran.lines)) == (4, 1)
    assert ran.err.startswith("error: another batch writes to in_lit: wait for it")
    assert lowlight("batch", "in").code == 0


def test_a_manifest_that_cannot_be_written_ends_all(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(*[f"in/{index}.png" for index in range(12)])
    calls = iter(range(100))
    real = os.fsync

    def full(handle: int) -> None:
        if next(calls) > 4:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    ran = lowlight("batch", "in")
    assert ran.code == 7 and "disk is full" in ran.lines[-1]
    monkeypatch.undo()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells which file is written")
@pytest.mark.parametrize(("command", "again"), [("batch", "--resume"), ("enhance", "--exist skip")])
def test_a_full_disk_ends_all_soon(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, command: str, again: str
) -> None:
    made(*[f"in/{index:02}.png" for index in range(40)])
    real, written = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal written
        if Path(f"/proc/self/fd/{handle}").readlink().suffix in (".part", ".tmp"):
            written += 1
            if written > 3:
                raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    ran = lowlight(command, "in")
    assert ran.code == 7
    assert re.search(rf"the disk is full: .* failed.*{again} goes on", ran.lines[-1])
    assert len(ran.lines) < 12  # and not a line for each of forty
    monkeypatch.setattr(os, "fsync", real)
    assert lowlight(command, "in", *again.split()).code == 0
    assert len(list(Path("in_lit").glob("*.png"))) == 40


def test_few_pictures_are_held(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    made(*[f"in/{index:02}.png" for index in range(30)])
    most, real = 0, batches.opened
    seen: list[weakref.ref[Work]] = []

    def counted(*args: Any, **named: Any) -> Work:
        nonlocal most
        most = max(most, sum(work is not None and work.photo is not None for work in (each() for each in seen)))
        work = real(*args, **named)
        seen.append(weakref.ref(work))
        return work

    monkeypatch.setattr(batches, "opened", counted)
    assert lowlight("batch", "in", "-q").code == 0
    assert len(seen) == 30
    assert 1 <= most <= 2 * (batches.THREADS + 1) + 1


def test_nor_by_what_is_done(folder: Path) -> None:
    """A result, or an error in its place, may wait for its turn."""
    made("dark.png", "there.png")
    jobs = [Job(Path("dark.png"), Path(name)) for name in ("lit.png", "there.png")]
    done, failed = enhance_files(Enhancer(strength=0), jobs, Saving(compare=True))
    assert done.size and not done.error and isinstance(failed.error, OutputError)
    assert done.photo is done.original is failed.photo is failed.original is None


def test_non_ascii_and_deep_names(folder: Path, lowlight: Lowlight) -> None:
    made("in/ä ö/日本.png", f"in/{'d' * 100}/{'n' * 240}.png")
    for _ in range(2):
        assert lowlight("batch", "in", "--resume").code == 0
    assert tree("in_lit") == tree("in")
    assert len(lines("in_lit")) == 2
    with Image.open("in_lit/ä ö/日本.png") as lit, Image.open("in/ä ö/日本.png") as dark:
        assert np.asarray(lit).mean() > np.asarray(dark).mean()
