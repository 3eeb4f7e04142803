"""`lowlight bench`: what is told before the first network runs, so that no work is lost by it."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lowlight_cli.bench import sets

Run = Callable[..., tuple[int, str, str]]

OUTPUTS = ("--json", "--markdown", "--csv", "--latex", "--report", "--resume")


def save(path: Path, seed: int, size: tuple[int, int] = (32, 24)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(path)


@pytest.fixture
def bench(folder: Path, no_weights: None, call: Run) -> Run:
    """Two pairs in one/, and nothing but baselines to measure on them."""
    for number, name in enumerate(("a.png", "b.png")):
        for part in ("low", "high"):
            save(Path("one") / part / name, number)
    return functools.partial(call, "bench", "-q", "-d", "one")


# ------------------------------------------------------------------------------------ nothing is written over pictures


@pytest.mark.parametrize("option", OUTPUTS)
@pytest.mark.parametrize("name", ["one/low/a.png", "one/low/c.png", "theirs/b.jpg", "link"])
def test_a_picture_is_never_replaced(bench: Run, option: str, name: str) -> None:
    """Nor put among the pictures of a set, where it would be one the next time."""
    for picture in ("a", "b"):
        save(Path("theirs") / f"{picture}.jpg", 1)
    Path("link").symlink_to("one/low/a.png")
    before = {path: path.read_bytes() for path in sorted(Path().rglob("*.*g"))}
    code, out, err = bench("--limit", 1, "--external", "theirs=theirs", option, name)
    assert (code, out) == (2, "") and f"{option} {name}" in err and "picture" in err and err.count("\n") == 1
    assert {path: path.read_bytes() for path in sorted(Path().rglob("*.*g"))} == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--json same.txt --csv same.txt", "--csv same.txt"),
        ("--csv here.txt --report {whole}/here.txt", "--report {whole}/here.txt"),
        ("--resume here.txt --json ./other/../here.txt", "--resume here.txt"),
        ("--markdown made/link --latex made/it", "--latex made/it"),
    ],
)
def test_two_outputs_are_two_files(bench: Run, tmp_path: Path, words: str, told: str) -> None:
    for folder in ("other", "made"):
        Path(folder).mkdir()
    Path("here.txt").touch()
    Path("made/link").symlink_to("it")
    code, out, err = bench(*words.format(whole=tmp_path).split())
    assert (code, out) == (2, "") and told.format(whole=tmp_path) in err and err.count("\n") == 1
    assert not Path("same.txt").exists() and not Path("here.txt").read_text()


def test_weights_that_are_measured_are_no_place_to_write_to(bench: Run, dgaf_weights: Path) -> None:
    whole = dgaf_weights.read_bytes()
    code, out, err = bench("-m", "dgaf", "-w", dgaf_weights, "--json", dgaf_weights)
    assert (code, out) == (2, "") and f"--json {dgaf_weights}" in err and dgaf_weights.read_bytes() == whole


def test_devices_take_any_number_of_outputs(bench: Run) -> None:
    assert bench("--json", os.devnull, "--csv", os.devnull)[0] == 0


# ------------------------------------------------------------------------------------- what cannot be measured is told


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lowlight_cli.bench.run.measure", "lowlight_cli.bench.tasks.measure"):
        monkeypatch.setattr(name, lambda *_: pytest.fail("measured first"))
    monkeypatch.setattr("lowlight_cli.enhancer.Enhancer.load", lambda _: pytest.fail("loaded first"))


def second(*, high: tuple[int, int] = (32, 24)) -> None:
    """Another set, of which the third reference may be of another size."""
    for number in range(3):
        save(Path(f"two/low/{number}.png"), number)
        save(Path(f"two/high/{number}.png"), number, high if number == 2 else (32, 24))


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("words", [("--resume", "kept"), ("--task", "people")])
def test_all_that_does_not_fit_is_told_before_the_work(
    bench: Run, dgaf_weights: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all sets and all results at once."""
    monkeypatch.setattr("lowlight_cli.bench.detectors.detector", lambda _: None)
    second(high=(33, 24))
    for dataset, names in (("one", "ab"), ("two", "012")):
        for name in names:
            save(Path(f"theirs/{dataset}/{name}.jpg"), 1, (32, 24) if name != "b" else (24, 32))
    code, out, err = bench("-d", "two", "-m", "dgaf", "-w", dgaf_weights, "--external", "theirs=theirs", *words)
    assert (code, out) == (3, "") and err.count("\n") == 1, err
    assert "2 pictures cannot be measured" in err and not Path("kept").exists()
    assert "theirs/one/b.jpg is 24x32, its pair 32x24" in err
    assert "two/low/2.png and two/high/2.png differ in size (32x24 and 33x24)" in err


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("data", "told"),
    [(b"text", "is text, not a picture"), (b"\x89PNG\r\n\x1a\n", "damaged"), (b"", "is empty")],
)
def test_what_is_no_picture_is_told_before_the_work(bench: Run, data: bytes, told: str) -> None:
    second()
    Path("two/high/2.png").write_bytes(data)
    code, out, err = bench("-d", "two")
    assert (code, out) == (3, "") and f"two/high/2.png: {told}" in err and err.count("\n") == 1


@pytest.mark.usefixtures("no_work")
def test_what_is_too_small_is_told_before_the_work(bench: Run) -> None:
    save(Path("two/0.png"), 1, (32, 10))
    code, out, err = bench("-d", "two")
    assert (code, out) == (3, "") and "two/0.png is too small" in err


def test_a_picture_that_lies_on_its_side_is_no_fault(bench: Run) -> None:
    """EXIF turns it: only read does it have its reference's size."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for part in ("low", "high"):
        save(Path(f"one/{part}/c.png"), 3, (24, 32))
    save(Path("one/low/c.png"), 3, (32, 24))
    Image.open("one/low/c.png").save("one/low/c.jpg", exif=exif)
    Path("one/low/c.png").unlink()
    assert bench()[0] == 0


def cut(path: str) -> None:
    """Leave two thirds of a file: its header still tells its size."""
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) * 2 // 3])


@pytest.mark.usefixtures("no_work")
def test_all_that_is_damaged_is_told_before_the_work(bench: Run) -> None:
    second()
    for dataset, names in (("one", "ab"), ("two", "012")):
        for name in names:
            save(Path(f"theirs/{dataset}/{name}.png"), 1)
    damaged = ["one/low/a.png", "one/high/a.png", "theirs/one/a.png"]  # all of one pair
    for path in damaged:
        cut(path)
    Path("two/low/0.png").write_text("text")
    Path("two/high/1.png").write_bytes(b"")
    code, out, err = bench("-d", "two", "--external", "theirs=theirs")
    assert (code, out) == (3, "") and "5 pictures cannot be measured" in err and err.count("\n") == 1
    assert all(f"{path}: damaged" in err for path in damaged)
    assert "two/low/0.png: is text" in err and "two/high/1.png: is empty" in err


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a file damaged when the first pair is measured, after all were looked at."""

    def once_begun(path: str) -> None:
        whole = Path(path).read_bytes()

        def reading(pair: sets.Pair) -> tuple[sets.Picture, sets.Picture | None]:
            Path(path).write_bytes(whole[:600])
            return sets.read_pair(pair)

        monkeypatch.setattr("lowlight_cli.bench.run.read_pair", reading)

    return once_begun


def test_sets_before_the_one_that_fails_are_written(bench: Run, failing: Callable[[str], None]) -> None:
    second()
    failing("two/high/2.png")
    code, out, err = bench("-d", "two", "--json", "all.json", "--csv", "all.csv", "--report", "all.html")
    assert code == 3 and "two/high/2.png" in err and "input\t" in out
    (dataset,) = json.loads(Path("all.json").read_text())["sets"]
    assert dataset["name"] == "one" and dataset["pictures"] == 2
    assert "one" in Path("all.csv").read_text() and "two" not in Path("all.csv").read_text()
    assert "one: means over pictures" in Path("all.html").read_text()


def test_nothing_is_written_where_the_first_set_fails(bench: Run, failing: Callable[[str], None]) -> None:
    second()
    Path("all.json").write_text("of before")
    failing("one/high/b.png")
    assert bench("-d", "two", "--json", "all.json")[0] == 3 and Path("all.json").read_text() == "of before"


# ------------------------------------------------------------------------------------------- what transparency hides


@pytest.mark.parametrize("where", ["low", "high", "theirs"])
def test_transparent_parts_are_told(bench: Run, where: str) -> None:
    """What lies under them is made up by the reader."""
    for name in ("a", "b"):
        save(Path(f"theirs/{name}.png"), 1)
    folder = {"low": Path("one/low"), "high": Path("one/high"), "theirs": Path("theirs")}[where]
    for name, opacity in (("a", 0), ("b", 255)):
        picture = Image.open(folder / f"{name}.png").convert("RGBA")
        picture.paste((9, 9, 9, opacity), (0, 0, 8, 8))
        picture.save(folder / f"{name}.png")
    code, out, _ = bench("--external", "theirs=theirs", "--json", "all.json")
    whose = {"low": "dark pictures", "high": "references", "theirs": "results of theirs"}[where]
    told = f"1 of 2 {whose} has transparent parts, measured as filled from around them: a"
    assert code == 0 and f"# {told}\n" in out
    (dataset,) = json.loads(Path("all.json").read_text())["sets"]
    assert told in dataset["notes"]


def test_opaque_pictures_are_not_told(bench: Run) -> None:
    for name in ("a", "b"):
        Image.open(f"one/low/{name}.png").convert("RGBA").save(f"one/low/{name}.png")
    assert "transparent" not in bench()[1]


# ----------------------------------------------------------------------------------------------------- folders inside


def test_pairs_in_folders_inside_are_not_taken_and_that_is_said(bench: Run) -> None:
    for part in ("low", "high"):
        save(Path(f"sub/{part}/s1/a.png"), 1)
    code, out, err = bench("-d", "sub")
    told = "sub: no pair for sub; pictures in folders inside low/ and high/ are not taken (2): put them into low/"
    assert (code, out) == (3, "") and told in err and err.count("\n") == 1
    for part in ("low", "high"):
        save(Path(f"sub/{part}/b.png"), 2)
    code, out, _ = bench("-d", "sub")
    assert code == 0 and "# pictures in folders inside low/ and high/ are not taken (2)\n" in out
    assert "not taken" not in bench()[1]


# ------------------------------------------------------------------------------------------------------------- names


def test_spaces_around_a_name_are_no_part_of_it(bench: Run) -> None:
    for name in ("a", "b"):
        save(Path(f"theirs/{name}.png"), 1)
    code, out, _ = bench("--external", " my own =theirs")
    assert code == 0 and "\nmy own\texternal\t" in out
    code, out, err = bench("--external", "input =theirs")
    assert (code, out) == (2, "") and "'input'" in err
