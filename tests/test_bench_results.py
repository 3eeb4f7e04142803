"""`lowlight bench --external`, and the files that a bench writes: each result to its pair, each file whole."""

from __future__ import annotations

import errno
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lowlight_cli.bench import detectors, methods, run, sets, speed, tasks
from lowlight_cli.bench.journal import Journal
from lowlight_cli.bench.report import Table
from lowlight_cli.cli import measuring, report
from lowlight_cli.errors import InputError, ResourceError
from lowlight_cli.metrics import table

Run = Callable[..., tuple[int, str, str]]


def save(path: Path, seed: int, scale: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8) // scale).save(path)


def pair(folder: Path, name: str, seed: int) -> None:
    save(folder / "low" / name, seed, 8)
    save(folder / "high" / name, seed)


@pytest.fixture
def bench(folder: Path, no_weights: None, call: Run) -> Run:
    """No network is there, so that the baselines are measured alone."""
    return functools.partial(call, "bench", "-q")


# ------------------------------------------------------------------------------------------------------ each its pair


@pytest.mark.parametrize("above", ["", "../{name}/", "{whole}/"])
def test_results_on_sets_that_are_paths(bench: Run, tmp_path: Path, above: str) -> None:
    """In DIR, by the name of each set's folder; never in the sets themselves, whatever their paths are."""
    above = above.format(name=tmp_path.name, whole=tmp_path)
    for number, name in enumerate(("one", "two")):
        pair(tmp_path / name, "1.png", number)
        save(tmp_path / name / "1.png", number, 8)  # what would be taken if the path were
    (tmp_path / "theirs").mkdir()
    words = ("-d", f"{above}one", "-d", f"{above}two/", "--external", "theirs=theirs")
    code, out, err = bench(*words)
    assert (code, out) == (3, "") and f"theirs{os.sep}one: no such folder" in err
    for number, name in enumerate(("one", "two")):
        save(tmp_path / "theirs" / name / "1.png", number)
    code, out, _ = bench(*words)
    assert code == 0 and out.count("theirs\texternal\t100.00") == 2


def test_two_sets_of_one_folder_name_are_refused_beside_results(bench: Run, tmp_path: Path) -> None:
    for name in ("a/test", "b/test"):
        pair(tmp_path / name, "1.png", 1)
    save(tmp_path / "theirs" / "test" / "1.png", 1)
    words = ("-d", "a/test", "-d", "b/test")
    code, out, err = bench(*words, "--external", "theirs=theirs")
    assert (code, out) == (2, "") and "a/test" in err and "b/test" in err and "one folder" in err
    assert bench(*words)[0] == 0


def sice(folder: Path, names: list[str]) -> sets.DataSet:
    for number, name in enumerate(names):
        pair(folder / "sice", name, number)
    rows = [f"{name},{name},{number},val" for number, name in enumerate(names)]
    (folder / "sice" / "pairs.csv").write_text("\n".join(["low,high,scene,split", *rows]))
    return sets.find("sice", folder)


def test_pairs_in_folders_of_their_own(tmp_path: Path) -> None:
    """As SICE comes: 0/1.png and 1/1.png are two pairs, and so are their results."""
    names = ["0/1.png", "0/2.png", "1/1.png"]
    dataset = sice(tmp_path, names)
    assert [each.stem for each in dataset.pairs] == ["0_1", "0_2", "1_1"]
    for number, name in enumerate(names):
        save(tmp_path / "theirs" / name, number)
        save(tmp_path / "flat" / name.replace("/", "_"), number)
    for folder in ("theirs", "flat"):
        (row,) = run.measure(dataset, [methods.external(f"peer={tmp_path / folder}", dataset)]).rows
        assert row.values("psnr") == [table.CEILING] * 3


def test_a_page_has_the_pictures_of_all_of_them(bench: Run, tmp_path: Path) -> None:
    sice(tmp_path, ["0/1.png", "1/1.png"])
    for name in ("0/1.png", "1/1.png"):
        save(tmp_path / "theirs" / name, 1)
    assert bench("-d", "sice", "--root", tmp_path, "--external", "theirs=theirs", "--report", "a.html")[0] == 0
    assert Path("a.html").read_text("utf-8").count('"theirs": "/9j/') == 2


def test_results_without_the_folders(tmp_path: Path) -> None:
    """A name that only one pair has will do; with --limit too one that several have will not."""
    dataset = sice(tmp_path, ["0/1.png", "0/2.png", "1/1.png"])
    save(tmp_path / "flat" / "1.png", 0)
    save(tmp_path / "flat" / "2.png", 1)
    assert list(sets.results(tmp_path / "flat", dataset)) == ["0_2"]
    limited = sets.find("sice", tmp_path, 1)
    with pytest.raises(InputError, match="1 of 1 results are missing, first 0_1"):
        methods.external(f"peer={tmp_path / 'flat'}", limited)


def test_folders_of_pairs_that_would_be_called_the_same(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="share a stem"):
        sice(tmp_path, ["a/b_c.png", "a_b/c.png"])


def test_references_beside_the_results(tmp_path: Path) -> None:
    """The low picture's own name first; what else could be a pair's result is not chosen among."""
    save(tmp_path / "set" / "low" / "low1.png", 1, 8)
    save(tmp_path / "set" / "high" / "normal1.png", 1)
    dataset = sets.find(str(tmp_path / "set"), tmp_path)
    theirs = tmp_path / "theirs"
    save(theirs / "normal1.png", 1)
    save(theirs / "low1.jpg", 1, 2)
    assert sets.results(theirs, dataset) == {"1": theirs / "low1.jpg"}
    (theirs / "low1.jpg").rename(theirs / "1.jpg")
    with pytest.raises(InputError, match=r"1\.jpg and normal1\.png may both be the result of 1"):
        sets.results(theirs, dataset)
    (theirs / "normal1.png").unlink()
    assert sets.results(theirs, dataset) == {"1": theirs / "1.jpg"}
    save(theirs / "low" / "2.png", 2)  # deeper than the pairs: none of theirs
    save(theirs / "low" / "1.png", 2)
    assert sets.results(theirs, dataset) == {"1": theirs / "1.jpg"}
    save(theirs / "1.png", 1)
    with pytest.raises(InputError, match=r"1\.jpg and 1\.png may both"):
        sets.results(theirs, dataset)


# --------------------------------------------------------------------------------------------------------- each whole


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_files_are_written_though_nobody_reads_the_tables(
    bench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lowlight bench --csv a.csv --json a.json | head`, with several sets too."""
    for name in ("one", "two"):
        pair(tmp_path / name, "1.png", 1)

    def gone(*_: object) -> None:
        raise report.ReaderGone

    monkeypatch.setattr(report, "raw", gone)
    words = ("-d", "one", "-d", "two")
    assert bench(*words, "--csv", "a.csv", "--json", "a.json")[0] == 141
    assert len(json.loads(Path("a.json").read_text())["sets"]) == 2 and "two,input" in Path("a.csv").read_text()
    assert bench(*words)[0] == 141


def test_files_are_written_though_nobody_reads_what_is_said(
    bench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lowlight bench ... 2>&1 | head`: the first of these messages may already fail."""
    pair(tmp_path / "one", "1.png", 1)

    def gone(message: str) -> None:
        if message.startswith("wrote"):
            raise BrokenPipeError

    monkeypatch.setattr(report, "note", gone)
    names = {"--json": "q.json", "--csv": "q.csv", "--latex": "q.tex", "--markdown": "q.md", "--report": "q.html"}
    assert bench("-d", "one", *(word for each in names.items() for word in each))[0] == 141
    assert all(Path(name).stat().st_size for name in names.values())


def test_files_of_other_measurements_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise report.ReaderGone

    dataset = sice(tmp_path, ["1.png"])
    monkeypatch.setattr(report, "raw", gone)
    for room in (tasks, speed):
        monkeypatch.setattr(room, "measure", lambda *_, **__: None)
        monkeypatch.setattr(room, "table", lambda _: Table(("method",), ()))
        monkeypatch.setattr(room, "as_json", lambda _: "{}")
    with pytest.raises(report.ReaderGone):
        measuring.task("faces", [dataset], [[]], tmp_path / "task.json")
    with pytest.raises(report.ReaderGone):
        measuring.speed([], "9x9", 1, measuring.Running("auto", "auto", "auto", True), tmp_path / "speed.json")
    assert (tmp_path / "task.json").read_text() == (tmp_path / "speed.json").read_text() == "{}"


def test_tables_are_shown_though_their_file_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor are those lost that were made before a set that cannot be measured."""
    one, two = sice(tmp_path / "1", ["1.png"]), sice(tmp_path / "2", ["1.png"])
    (tmp_path / "2" / "sice" / "low" / "1.png").write_text("text")
    monkeypatch.setattr(tasks, "detector", lambda _: detectors.Detector(lambda _: [], "a blind one"))
    with pytest.raises(InputError, match=r"1\.png"):
        measuring.task("faces", [one, two], [methods.baselines()] * 2, tmp_path / "task.json")
    assert capsys.readouterr().out.startswith("method\t") and not (tmp_path / "task.json").exists()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError):
        measuring.task("faces", [one], [methods.baselines()], tmp_path / "task.json")
    assert capsys.readouterr().out.startswith("method\t")


def test_a_full_disk_leaves_the_file_that_was_there(
    bench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair(tmp_path / "one", "1.png", 1)
    Path("a.json").write_text("good")
    before = set(tmp_path.iterdir())
    monkeypatch.setattr(os, "fsync", full)
    code, _, err = bench("-d", "one", "--json", "a.json")
    assert code == 7 and "a.json: the disk is full" in err
    assert Path("a.json").read_text() == "good" and set(tmp_path.iterdir()) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_device(bench: Run, tmp_path: Path) -> None:
    pair(tmp_path / "one", "1.png", 1)
    code, _, err = bench("-d", "one", "--json", "/dev/full")
    assert code == 7 and "the disk is full" in err


def test_a_full_disk_under_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "a.jsonl")
    monkeypatch.setattr(Path, "open", lambda *_, **__: full())
    with pytest.raises(ResourceError, match=r"a\.jsonl: the disk is full"):
        journal.keep("key", (), {}, None)


def test_a_link_leads_on_to_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    measuring._write(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "real.json").read_text() == "new"


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="has no /dev/stdout")
@pytest.mark.parametrize("piped", [False, True])
def test_stdout_is_written_in_its_place(tmp_path: Path, piped: bool) -> None:
    """Also where it is a file: one that took its place would lose what is printed afterwards."""
    code = (
        "from pathlib import Path; from lowlight_cli.cli import measuring, report;"
        "measuring._write(Path('/dev/stdout'), 'first'); import os; os.lseek(1, 0, 2) if not PIPED else 0;"
        "report.raw(b' and more')"
    ).replace("PIPED", str(piped))
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE if piped else out, check=True)
    assert (done.stdout if piped else (tmp_path / "out").read_bytes()) == b"first and more"
