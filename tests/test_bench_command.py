"""`lowlight bench` as it is typed, on sets of a few small pictures and a network of random weights."""

from __future__ import annotations

import csv
import functools
import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lowlight_cli import networks
from lowlight_cli.bench import known, methods
from lowlight_cli.enhancer import Enhancer
from lowlight_cli.weights import catalog, files

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "dgaf.tiny.safetensors"
    about = {"network": "dgaf", "input": "exposed", "tag": "tiny", "licence": "MIT", "data": "none", "recipe": "none"}
    files.save(path, networks.build("dgaf").state_dict(), about)
    return path


@pytest.fixture
def run(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, call: Run) -> Run:
    """An installation that ships dgaf.tiny, and eval15 with three pairs in data/lol."""
    package = tmp_path / "package"
    (package / "checkpoints").mkdir(parents=True)
    (package / "checkpoints" / weights.name).write_bytes(weights.read_bytes())
    (package / "weights.toml").write_text(catalog.block(weights))
    random = np.random.default_rng(0)
    for stem in ("1", "22", "111"):
        high = random.integers(0, 256, (24, 32, 3), np.uint8)
        for part, pixels in (("low", high // 8), ("high", high)):
            folder = tmp_path / "data" / "lol" / "eval15" / part
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{stem}.png")
    monkeypatch.setattr(catalog, "PACKAGE", package)
    catalog.read.cache_clear()
    for name in ("LOWLIGHT_DATA", "LOWLIGHT_DEVICE", "LOWLIGHT_PRECISION", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return functools.partial(call, "bench")


def test_everything_that_ships(run: Run, tmp_path: Path) -> None:
    code, out, err = run("--precision", "fp32", "--json", "all.json", "--markdown", "all.md", "-v")
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines() if not line.startswith("#")]
    assert rows[0][2:5] == ["PSNR", "GT-mean PSNR*", "SSIM"]
    assert {"dgaf.tiny", "input", "LIME-like", "CLAHE (L)"} <= {row[0] for row in rows}
    assert f"# {known.OVERLAP}" in out
    (document,) = json.loads(Path("all.json").read_text())["sets"]
    assert document["pictures"] == 3 and [p["stem"] for p in document["rows"][0]["pictures"]] == [
        "1",
        "22",
        "111",
    ]
    (network,) = (row for row in document["rows"] if row["network"])
    assert network["network"]["checkpoint"] == "dgaf.tiny" and network["network"]["precision"] == "fp32"
    assert len(network["network"]["weights_sha256"]) == 64
    assert known.OVERLAP in Path("all.md").read_text()
    assert 'dataset = "lol", psnr = ' in err and "wrote all.json" in err


def test_a_folder_a_model_a_file_and_their_results(run: Run, weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "lol" / "eval15"
    code, out, _ = run(
        "-d", folder, "-m", "dgaf", "-w", weights, "-w", "tiny", "--external", f"theirs={folder / 'high'}"
    )
    rows = {line.split("\t")[0]: line.split("\t") for line in out.splitlines()}
    assert code == 0 and known.OVERLAP not in out
    assert rows["theirs"][1:3] == ["external", "100.00"] and rows["theirs"][5] == "-"
    assert rows["dgaf.tiny"][2:5] == rows[f"dgaf ({weights})"][2:5]


def test_verify(run: Run, tmp_path: Path) -> None:
    code, _, err = run("--verify")
    assert code == 2 and "nothing to verify" in err
    run("--json", "first.json", "-q")
    measured = next(row for row in json.loads(Path("first.json").read_text())["sets"][0]["rows"] if row["network"])
    table = tmp_path / "package" / "weights.toml"
    block = table.read_text()
    for error, wanted in ((0.03, 0), (0.07, 1)):
        figures = (
            f'{{ protocol = "test", dataset = "lol", psnr = {measured["psnr"] + error}, ssim = {measured["ssim"]} }}'
        )
        table.write_text(block.replace("metrics = []", f"metrics = [{figures}]"))
        catalog.read.cache_clear()
        code, _, err = run("--verify")
        assert code == wanted
        assert ("1 of 2 figures in weights.toml differ here: dgaf.tiny on lol psnr" in err) == bool(wanted)
        assert "ssim" in err and "holds" in err


def test_no_shipped_weights(run: Run, tmp_path: Path) -> None:
    (tmp_path / "package" / "weights.toml").write_text("")
    catalog.read.cache_clear()
    code, out, err = run("--limit", 1)
    assert code == 0 and "baselines only" in err and "not all of them" in out


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--root", "nowhere"), 3, "LOL v1 (Wei et al."),
        (("-d", "lool"), 2, "did you mean 'lol'"),
        (("-m", "dgav"), 2, "did you mean 'dgaf'"),
        (("-w", "tiny"), 2, "one -m"),
        (("--external", "x"), 2, "NAME=DIR"),
        (("--json", "notes.txt/a.json"), 4, "notes.txt is a file, not a folder"),
        (("--resume", "notes.txt/no/a"), 4, "notes.txt is a file, not a folder"),
        (("--resume", "data"), 4, "is a folder"),
        (("--markdown", "data"), 4, "is a folder"),
        (("--report", "data"), 4, "is a folder"),
        (("--metric", "deltae"), 2, "did you mean 'delta-e'"),
        (("--verify", "--limit", "1"), 2, "drop --limit"),
    ],
)
def test_what_cannot_be_done_is_told_before_the_work(run: Run, words: tuple[str, ...], code: int, told: str) -> None:
    Path("notes.txt").touch()
    done, out, err = run(*words)
    assert (done, out) == (code, "") and told in err and err.count("error:") == 1


@pytest.mark.parametrize("option", ["--json", "--markdown", "--csv", "--latex", "--report", "--resume"])
@pytest.mark.parametrize("name", ["shut/new", "shut/made/new", "here"])
def test_what_may_not_be_written_is_told_before_the_work(
    run: Run, option: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("shut").mkdir()
    Path("here").write_text("")
    monkeypatch.setattr(os, "access", lambda _, mode, **__: not mode & os.W_OK)  # root may write everywhere
    monkeypatch.setattr(Enhancer, "load", lambda self: pytest.fail("a network was loaded first"))
    code, out, err = run("-m", "dgaf", option, name)
    assert (code, out) == (4, "") and "cannot be written to" in err and name in err


def test_folders_of_results_are_made(run: Run) -> None:
    words = ("-m", "dgaf", "--limit", 1, "--resume", "new/kept/a.jsonl", "--json", "new/a.json", "--report", "new/b/a")
    assert run(*words)[0] == 0
    assert all(Path(name).stat().st_size for name in ("new/kept/a.jsonl", "new/a.json", "new/b/a"))


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (
            "--speed -m dgaf --verify -d nosuch --root . --limit 1 --metric lpips --markdown f --csv f --frames 3",
            "--dataset, --root, --limit, --frames, --metric, --markdown, --csv, --verify",
        ),
        ("--speed -m dgaf --clip a.mp4 --task faces", "--clip, --task"),
        ("--speed --external x=y --resume f --latex f --report f", "--external, --resume, --latex, --report"),
        (
            "--clip a.mp4 --csv f --report f --latex f --resume f --metric fsim --json f -d lol --runs 3",
            "--dataset, --metric, --resume, --json, --csv, --latex, --report, --runs",
        ),
        ("--task faces --resume f", "--resume"),
        ("--task faces --csv f --latex f --report f --verify --size 9x9", "--csv, --latex, --report, --verify, --size"),
        ("--frames 9", "--frames"),
        ("-m dgaf --size 9x9 --runs 3", "--size, --runs"),
    ],
)
def test_what_is_typed_beside_and_would_do_nothing_is_refused(run: Run, words: str, refused: str) -> None:
    """All of it by name, before anything is measured or written; what is set once for all is not held against it."""
    code, out, err = run(*words.split())
    assert (code, out) == (2, "") and err.count("\n") == 1 and not Path("f").exists()
    assert f" {refused}" in err and "leave" in err


def test_the_place_of_sets_may_be_set_for_all_commands(
    run: Run, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    """LOWLIGHT_DATA is not typed beside --speed: what follows is the fault that --size has."""
    monkeypatch.setenv("LOWLIGHT_DATA", "data")
    code, _, err = run("--speed", "-m", "dgaf", "-w", weights, "--size", "9")
    assert code == 2 and "WIDTHxHEIGHT" in err


def test_help_imports_neither_torch_nor_cv2() -> None:
    code = (
        "import sys; from lowlight_cli.cli import app; code = app.run(['bench', '--help']);"
        "sys.exit(code or bool({'torch', 'cv2', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--external" in done.stdout and "--verify" in done.stdout


def test_every_form_of_a_result(run: Run) -> None:
    code, _, err = run("-m", "dgaf", "--report", "all.html", "--csv", "all.csv", "--latex", "all.tex")
    assert code == 0
    text = Path("all.html").read_text("utf-8")
    assert "LOL v1 eval15" in text and html.escape(known.OVERLAP) in text and '"111"' in text
    assert len(Path("all.csv").read_text().splitlines()) == 1 + 3 * 10
    assert "dgaf.tiny" in Path("all.tex").read_text()
    assert all(f"wrote all.{kind}" in err for kind in ("csv", "tex", "html"))


def test_training_pairs_that_are_not_there_yet(run: Run, tmp_path: Path) -> None:
    """Empty folders beside eval15, of a set that is half unpacked: nothing to look up, and all else is measured."""
    for part in ("low", "high"):
        (tmp_path / "data" / "lol" / "our485" / part).mkdir(parents=True)
    code, out, err = run("-m", "dgaf")
    assert code == 0 and "dgaf.tiny\t" in out and "look-up" not in out, err


@pytest.mark.parametrize("name", ["reference", "input", "LIME-like", "look-up in our485"])
def test_names_that_tables_and_the_page_use_themselves(run: Run, name: str) -> None:
    code, out, err = run("-m", "dgaf", "--external", f"{name}=data/lol/eval15/high", "--report", "all.html")
    assert (code, out) == (2, "") and f"{name!r}" in err and "another name" in err and not Path("all.html").exists()


# ------------------------------------------------------------------------------------------------------- several sets


def dicm(folder: Path, count: int = 2) -> None:
    """DICM's pictures beside eval15."""
    random = np.random.default_rng(1)
    (folder / "data" / "dicm").mkdir(parents=True)
    for stem in range(count):
        picture = random.integers(0, 60, (30, 28, 3), np.uint8)
        Image.fromarray(picture).save(folder / "data" / "dicm" / f"{stem}.png")


def test_several_sets_in_one_command(run: Run, tmp_path: Path) -> None:
    """A table each, every checkpoint in both, and one file of each kind with both."""
    dicm(tmp_path)
    files = (
        "--json",
        "all.json",
        "--csv",
        "all.csv",
        "--markdown",
        "all.md",
        "--latex",
        "all.tex",
        "--report",
        "all.html",
    )
    code, out, _ = run("-d", "lol", "-d", "dicm", *files, "--metric", "niqe-own")
    assert code == 0
    first, second = out.split("# === ")[1:]
    assert first.startswith("LOL v1 eval15\n") and second.startswith("DICM\n")
    assert all(any(line.startswith("dgaf.tiny\t") for line in part.splitlines()) for part in (first, second))
    lol, dark = json.loads(Path("all.json").read_text())["sets"]
    assert (lol["name"], lol["pictures"], dark["name"], dark["pictures"]) == ("lol", 3, "dicm", 2)
    assert {row["method"] for row in dark["rows"]} == {row["method"] for row in lol["rows"]}
    assert lol["rows"][0]["psnr"] and "psnr" not in dark["rows"][0] and dark["rows"][0]["luma"]
    rows = list(csv.DictReader(Path("all.csv").read_text().splitlines()))
    assert {(row["set"], row["psnr"] == "") for row in rows} == {("lol", False), ("dicm", True)}
    assert [line for line in Path("all.md").read_text().splitlines() if line.startswith("#")] == [
        "## LOL v1 eval15", "## DICM",
    ]  # fmt: skip
    assert Path("all.tex").read_text().count("\\begin{table}") == 2
    assert "DICM: means over pictures" in Path("all.html").read_text("utf-8")


def test_results_of_another_program_on_several_sets(run: Run, tmp_path: Path) -> None:
    dicm(tmp_path)
    shutil.copytree(tmp_path / "data" / "lol" / "eval15" / "high", tmp_path / "theirs" / "lol")
    words = ("-d", "lol", "-d", "dicm", "-m", "dgaf", "--external", "theirs=theirs")
    code, _, err = run(*words)
    assert code == 3 and "dicm: no such folder" in err
    shutil.copytree(tmp_path / "data" / "dicm", tmp_path / "theirs" / "dicm")
    code, out, _ = run(*words)
    assert code == 0 and out.count("theirs\texternal\t") == 2 and "theirs\texternal\t100.00" in out


def test_the_same_json_twice(run: Run) -> None:
    """All but the time it took, and when."""
    found = []
    for name in ("one.json", "two.json"):
        assert run("-m", "dgaf", "--precision", "fp32", "--json", name, "--metric", "all", "--offline")[0] == 0
        text = re.sub(r'"(seconds|measured)": [^\n]*', r'"\1"', Path(name).read_text())
        found.append(text)
    assert found[0] == found[1]


def test_what_was_measured_is_not_measured_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--resume: the same figures out of the file, until a picture, the weights, the look or the metrics are others."""
    asked: list[tuple[int, ...]] = []
    enhance = Enhancer.enhance_picture

    def counted(self: Enhancer, picture: Any) -> Any:
        asked.append(picture.shape)
        return enhance(self, picture)

    monkeypatch.setattr(Enhancer, "enhance_picture", counted)
    words = ("-m", "dgaf", "--resume", "before.jsonl", "--json")
    assert run(*words, "one.json")[0] == 0 and len(asked) == 4  # three pictures and one to warm up
    assert run(*words, "two.json")[0] == 0 and len(asked) == 4
    one, two = (re.sub('"measured": [^\n]*', "", Path(name).read_text()) for name in ("one.json", "two.json"))
    assert one == two  # seconds too

    lines = Path("before.jsonl").read_text().splitlines(keepends=True)
    cut = next(number for number, line in enumerate(lines) if "psnr" in line)
    Path("before.jsonl").write_text("".join(lines[:cut]) + lines[cut][:40])  # as where the power failed
    assert run(*words, "three.json")[0] == 0 and len(asked) == 8
    assert run(*words, "three.json")[0] == 0 and len(asked) == 8
    assert run(*words, "four.json", "--metric", "fsim")[0] == 0 and len(asked) == 12
    assert run(*words, "four.json")[0] == 0 and len(asked) == 12  # what is there of more metrics will do

    picture = tmp_path / "data" / "lol" / "eval15" / "low" / "22.png"
    Image.fromarray(np.asarray(Image.open(picture)) ^ 1).save(picture)
    assert run(*words, "five.json")[0] == 0 and len(asked) == 14

    # a page shows pictures: these are made, with the figures that are there
    assert run(*words, "six.json", "--report", "all.html")[0] == 0 and len(asked) == 17
    five, six = (re.sub('"measured": [^\n]*', "", Path(name).read_text()) for name in ("five.json", "six.json"))
    assert five == six and Path("all.html").read_text("utf-8").count('"dgaf.tiny": "/9j/') == 3

    monkeypatch.setattr(methods, "EDITION", 0)
    assert run(*words, "seven.json")[0] == 0 and len(asked) == 21


def test_a_file_that_is_no_journal_is_left_alone(run: Run) -> None:
    Path("notes.txt").write_text("my notes\n")
    code, out, err = run("-m", "dgaf", "--resume", "notes.txt")
    assert (code, out) == (3, "") and "not what a bench left" in err and Path("notes.txt").read_text() == "my notes\n"
