"""`lowlight darken`: pairs out of bright photographs, the same for the same name and seed whatever else is there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ran, bright
from PIL import Image

from lowlight_cli.errors import UsageError
from lowlight_cli.training import data
from lowlight_cli.training.darken import STRENGTH, darkened, physical
from lowlight_cli.training.sources import parse
from lowlight_cli.training.synthesis import Wish, synthesise

Command = Callable[..., Ran]


def manifest(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(out, "manifest.jsonl").read_text("utf-8").splitlines()]


def hashes(out: str) -> dict[str, str]:
    files = sorted(path for path in Path(out).rglob("*.*") if path.suffix != ".jsonl")
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def luma(path: Path) -> float:
    with Image.open(path) as picture:
        return float(np.asarray(picture.convert("L")).mean() / 255)


def test_pairs_that_training_takes(photographs: Path, lowlight: Command) -> None:
    ran = lowlight("darken", photographs, "-o", "out", "--pairs", "--seed", 3, "--strength", "0.01,0.05")
    assert (ran.code, ran.out) == (0, f"{Path('out/manifest.jsonl')}\n")
    assert ran.lines == ["3 dark pictures"]
    assert set(hashes("out")) == {f"{k}/{n}.png" for k in ("low", "high") for n in ("one", "two", "trip_three")}
    lines = manifest("out")
    assert [line["input"] for line in lines] == ["one.png", "trip/three.png", "two.jpg"]
    for line in lines:
        assert line["sha256"] == hashlib.sha256((photographs / line["input"]).read_bytes()).hexdigest()
        assert (line["schema"], line["method"], line["seed"]) == ("lowlight-darken-2", "physical", 3)
        assert (line["width"], line["height"]) == (80, 60)
        assert 0.01 <= line["parameters"]["light"] <= 0.05
        assert luma(Path("out", line["low"])) < 0.6 * luma(Path("out", line["high"]))
        assert luma(Path("out", line["high"])) == pytest.approx(line["parameters"]["reference"], abs=0.08)
    pairs = data.read_source(parse("pairs:out/low,out/high"), Path("cache"))
    assert [pair.stem for pair in pairs] == ["one", "trip_three", "two"]


@pytest.mark.skipif(os.name != "posix", reason="has no links, or only for some users")
@pytest.mark.parametrize("exist", ["error", "skip", "overwrite"])
def test_no_file_is_changed_through_a_link(photographs: Path, lowlight: Command, exist: str) -> None:
    """A folder that came from others may hold any."""
    Path("out").mkdir()
    mine = Path("mine").absolute()
    for content in ("mine", '{"low": "low/a.png"}'):
        mine.write_text(content)
        Path("out/manifest.jsonl").unlink(missing_ok=True)
        Path("out/manifest.jsonl").symlink_to(mine)
        ran = lowlight("darken", photographs, "-o", "out", "--exist", exist)
        assert (ran.code, len(ran.lines), mine.read_text()) == (4, 1, content), ran.err
        assert exist == "error" or "out/manifest.jsonl: is a link" in ran.err


def test_keep_is_no_format_here(photographs: Path, lowlight: Command) -> None:
    ran = lowlight("darken", photographs, "-o", "out", "--format", "keep")
    assert ran.code == 2 and "choose one of jpeg, png" in ran.err and not Path("out").exists()


def test_the_same_for_the_same_name_and_seed(photographs: Path, lowlight: Command) -> None:
    lowlight("darken", photographs, "-o", "all", "--pairs")
    (photographs / "one.png").unlink()
    bright(photographs / "another.png", 9)
    assert lowlight("darken", photographs, "-o", "some", "--pairs").code == 0
    every, some = hashes("all"), hashes("some")
    assert {name for name in some if some[name] == every.get(name)} == set(some) - {
        "low/another.png",
        "high/another.png",
    }
    assert lowlight("darken", photographs, "-o", "other", "--pairs", "--seed", 1).code == 0
    assert not set(hashes("other").values()) & set(some.values())
    old, new = ({line["low"]: line for line in manifest(out)} for out in ("all", "some"))
    assert old["low/two.png"] == new["low/two.png"]


def test_several_of_each_reduced_as_jpeg(photographs: Path, lowlight: Command) -> None:
    ran = lowlight("darken", photographs, "-o", "out", "--per-picture", 2, "--side", 40, "--format", "jpg")
    assert ran.lines == ["6 dark pictures"]
    made = hashes("out")
    assert set(made) == {f"low/{n}_{k}.jpg" for n in ("one", "two", "trip_three") for k in (1, 2)}
    assert len(set(made.values())) == 6
    with Image.open("out/low/one_1.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (40, 30))
    assert {line["high"] for line in manifest("out")} == {None}


def test_a_side_never_enlarges(photographs: Path, lowlight: Command) -> None:
    assert lowlight("darken", photographs, "-o", "out", "--pairs", "--side", 160).code == 0
    assert {(line["width"], line["height"]) for line in manifest("out")} == {(80, 60)}
    for kind in ("low", "high"):
        with Image.open(f"out/{kind}/one.png") as picture:
            assert picture.size == (80, 60)


def test_going_on(photographs: Path, lowlight: Command) -> None:
    args = ("darken", photographs, "-o", "out", "--pairs")
    lowlight(*args)
    made, told = hashes("out"), manifest("out")
    ran = lowlight(*args)
    assert ran.code == 4
    assert "manifest.jsonl exists: choose --exist skip or overwrite" in ran.err
    Path("out/high/two.png").unlink()
    with Path("out/manifest.jsonl").open("a") as file:
        file.write('{"low": "low/thr')  # as a run that was killed leaves it
    ran = lowlight(*args, "--exist", "skip")
    assert ran.lines == ["1 dark pictures, 2 photographs skipped"]
    assert (hashes("out"), manifest("out")) == (made, told)
    ran = lowlight(*args, "--exist", "skip", "--seed", 5)
    assert ran.lines == ["3 dark pictures"]
    assert hashes("out") != made
    assert lowlight(*args, "--exist", "overwrite").lines == ["3 dark pictures"]
    assert hashes("out") == made


def test_a_picture_that_exists_is_not_replaced(photographs: Path, lowlight: Command) -> None:
    mine = bright(Path("out/low/two.png"))
    before = mine.read_bytes()
    ran = lowlight("darken", photographs, "-o", "out")
    assert (ran.code, mine.read_bytes()) == (4, before)
    assert "two.png exists" in ran.err
    assert not Path("out/manifest.jsonl").exists()


def test_one_that_cannot_be_read(photographs: Path, lowlight: Command) -> None:
    (photographs / "broken.png").write_bytes((photographs / "one.png").read_bytes()[:200])
    ran = lowlight("darken", photographs, "-o", "out", "--json")
    assert ran.code == 1
    assert any("broken.png" in line and line.startswith("error: ") for line in ran.lines)
    assert ran.lines[-1] == "3 dark pictures, 1 failed"
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert [event["input"] for event in events] == ["one.png", "trip/three.png", "two.jpg"]
    assert {event["event"] for event in events} == {"darkened"}


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("missing", "-o", "out"), 3, "missing: no such folder"),
        (("empty", "-o", "out"), 3, "no picture in folder empty"),
        (("bright", "-o", "bright"), 2, "is the folder of the photographs"),
        (("bright", "-o", "out", "--strength", "0.5"), 2, "not LOW,HIGH"),
        (("bright", "-o", "out", "--strength", "0.5,0.1"), 2, "out of range"),
        (("bright", "-o", "out", "--strength", "0,0.1"), 2, "out of range"),
        (("bright", "-o", "out", "--format", "gif"), 2, "gif"),
        (("bright", "-o", "out", "--method", "gamma"), 2, "physical"),
        (("bright", "-o", "bright/one.png"), 4, "one.png"),
    ],
)
def test_what_cannot_be_done(photographs: Path, lowlight: Command, args: tuple[str, ...], code: int, told: str) -> None:
    Path("empty").mkdir()
    ran = lowlight("darken", *args)
    assert ran.code == code
    assert told in ran.err
    assert len(ran.lines) == 1


def test_two_photographs_of_one_name(photographs: Path, lowlight: Command) -> None:
    bright(photographs / "one.jpg")
    ran = lowlight("darken", photographs, "-o", "out")
    assert ran.code == 2
    assert "would share the name one" in ran.err


def test_output_inside_the_photographs_folder(photographs: Path) -> None:
    inside = photographs / "dark"
    for _ in range(2):
        assert len(list(synthesise(photographs, inside, Wish(pairs=True), exist="overwrite"))) == 3


def test_a_wish_without_sense() -> None:
    for wrong in (
        {"method": "gamma"},
        {"like": Path("nights")},
        {"seed": -1},
        {"per_picture": 0},
        {"side": 0},
        {"strength": (0.2, 2.0)},
    ):
        with pytest.raises(UsageError):
            Wish(**wrong)


def test_what_was_drawn_is_told() -> None:
    picture = np.random.default_rng(0).integers(90, 256, (64, 80, 3), dtype=np.uint8)
    shares = []
    for seed in range(80):
        pair = darkened(picture, np.random.default_rng(seed))
        assert all(
            np.array_equal(*both)
            for both in zip((pair.low, pair.high), physical(picture, np.random.default_rng(seed)), strict=True)
        )
        told = pair.parameters
        assert 0 <= told["lamps"] <= 4
        assert told["jpeg"] is None or 60 <= told["jpeg"] < 97
        json.dumps(told)
        shares.append(told["light"])
    hardly = [share for share in shares if share > STRENGTH[1]]
    assert 0 < len(hardly) < 24
    assert min(hardly) >= 0.3
    assert min(shares) >= STRENGTH[0]
