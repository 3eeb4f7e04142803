"""Where each set is found, and what is refused of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench_kit import SIZE, pairs, picture, save

from lowlight_cli.bench import known, sets
from lowlight_cli.errors import InputError, UsageError
from lowlight_cli.training import data
from lowlight_cli.training.sources import parse


@pytest.mark.parametrize("place", ["lol/eval15", "eval15", "LOLdataset/eval15"])
def test_eval15_is_found_where_it_usually_lies(tmp_path: Path, place: str) -> None:
    pairs(tmp_path / place, range(9, 12), ".webp")
    (tmp_path / place / "low" / "notes.txt").write_text("not a picture")
    found = sets.find("lol", tmp_path)
    assert [pair.stem for pair in found.pairs] == ["9", "10", "11"]
    assert found.pairs[0].low.suffix == ".webp" and found.pairs[0].high.suffix == ".png"
    assert known.OVERLAP in found.notes and not found.limited
    assert [pair.stem for pair in sets.find("lol", tmp_path, 2).pairs] == ["9", "10"]
    assert sets.find("lol", tmp_path, 2).limited and not sets.find("lol", tmp_path, 3).limited


def lol(folder: Path) -> Path:
    """our485 and siblings in miniature: forty scenes, two pictures each, every third low by a lossy codec."""
    lines = ["stem,folder,scene"]
    for stem in range(80):
        part = "our485" if stem % 2 else "siblings"
        suffix = ".avif" if stem % 3 == 0 else ".png"
        save(folder / part / "low" / f"{stem}{suffix}", picture(stem, 0.12))
        save(folder / part / "high" / f"{stem}.png", picture(stem))
        lines.append(f"{stem},{part},{stem // 2}")
    (folder / "scenes.csv").write_text("\n".join(lines))
    return folder


def test_held_out_scenes_are_those_of_training(tmp_path: Path) -> None:
    lol(tmp_path / "lol")
    found = {pair.stem for pair in sets.find("lol-scenes", tmp_path).pairs}
    read = data.read_source(parse(f"lol:{tmp_path / 'lol'}"), tmp_path / "cache")
    assert found == {pair.stem for pair in read if pair.validation and not pair.cleaned}
    assert found and any(pair.validation and pair.cleaned for pair in read)


def test_held_out_scenes_want_to_know_the_scenes(tmp_path: Path) -> None:
    (lol(tmp_path / "lol") / "scenes.csv").unlink()  # else each picture would be its own scene, and siblings leak
    with pytest.raises(InputError, match=r"scenes\.csv"):
        sets.find("lol-scenes", tmp_path)


def test_sice_is_its_validation_split(tmp_path: Path) -> None:
    pairs(tmp_path / "sice", range(3))
    rows = ["low,high,scene,split", "0.png,0.png,a,train", "1.png,1.png,b,val", "2.png,2.png,b,val"]
    (tmp_path / "sice" / "pairs.csv").write_text("\n".join(rows))
    assert [pair.stem for pair in sets.find("sice", tmp_path).pairs] == ["1", "2"]
    assert sets.find("sice", tmp_path / "sice").pairs


@pytest.mark.parametrize(
    ("name", "place"), [("lol-v2-real", "LOL-v2/Real_captured"), ("lol-v2-syn", "LOLv2/Synthetic")]
)
def test_the_second_lol(tmp_path: Path, name: str, place: str) -> None:
    """Its two names of a pair are one: low00690 and normal00690."""
    for stem in ("00690", "00700"):
        save(tmp_path / place / "Test" / "Low" / f"low{stem}.png", picture(1, 0.1))
        save(tmp_path / place / "Test" / "Normal" / f"normal{stem}.png", picture(1))
    found = sets.find(name, tmp_path)
    assert [(pair.stem, pair.high and pair.high.name) for pair in found.pairs] == [
        ("00690", "normal00690.png"),
        ("00700", "normal00700.png"),
    ]
    assert found.paired and found.notes[0] == "NOT the whole set: 2 here, 100 as it is mostly packed"
    assert ("may have seen" in " ".join(found.notes)) == (name == "lol-v2-real")


def test_fivek(tmp_path: Path) -> None:
    pairs(tmp_path / "FiveK" / "test", range(2))
    assert len(sets.find("fivek", tmp_path).pairs) == 2


@pytest.mark.parametrize("name", [name for name, known in sets.SETS.items() if not known.paired])
def test_sets_without_reference(tmp_path: Path, name: str) -> None:
    save(tmp_path / name / "Cat" / "1.png", picture(1))
    save(tmp_path / name / "2.webp", picture(2))
    (tmp_path / name / "list.txt").write_text("")
    found = sets.find(name, tmp_path)
    assert [pair.stem for pair in found.pairs] == ["Cat_1", "2"] or [pair.stem for pair in found.pairs] == [
        "2",
        "Cat_1",
    ]
    assert not found.paired and all(pair.high is None for pair in found.pairs)
    assert "NOT the whole set: 2 here" in found.notes[0]


def test_dark_pictures_of_ones_own(tmp_path: Path) -> None:
    save(tmp_path / "mine" / "a.png", picture(1, 0.1))
    found = sets.find(str(tmp_path / "mine"), tmp_path)
    assert not found.paired and sets.read_pair(found.pairs[0])[1] is None
    save(tmp_path / "mine" / "a.webp", picture(1))
    with pytest.raises(InputError, match="share a stem"):
        sets.find(str(tmp_path / "mine"), tmp_path)


@pytest.mark.parametrize("name", sets.SETS)
def test_a_missing_set_says_where_to_get_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        sets.find(name, tmp_path)
    told = str(caught.value)
    assert str(tmp_path) in told and "https://" in told and "--root" in told and "\n" not in told
    looks = sets.SETS[name].parts or (f"a folder {name}",)
    assert all(part in told for part in looks) and sets.SETS[name].places[0] in told


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'lol'"):
        sets.find("lool", tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        sets.find(str(tmp_path / "nothing"), tmp_path)
    (tmp_path / "low").mkdir()
    (tmp_path / "high").mkdir()
    with pytest.raises(InputError, match="no pair"):
        sets.find(str(tmp_path), tmp_path)


def test_pictures_without_partner_are_refused(tmp_path: Path) -> None:
    pairs(tmp_path, range(2))
    save(tmp_path / "low" / "7.png", picture(7))
    with pytest.raises(InputError, match=r"1 pictures .* no partner, first 7"):
        sets.find(str(tmp_path), tmp_path)
    save(tmp_path / "high" / "7.png", picture(7))
    save(tmp_path / "high" / "7.webp", picture(7))
    with pytest.raises(InputError, match="share a stem"):
        sets.find(str(tmp_path), tmp_path)


@pytest.mark.parametrize(("low", "high"), [("Low", "High"), ("low", "Normal"), ("LOW", "normal")])
def test_folders_of_ones_own_may_be_spelt_as_elsewhere(tmp_path: Path, low: str, high: str) -> None:
    """As LOL v2 spells them; as dark pictures, the references would count too."""
    save(tmp_path / low / "low1.png", picture(1, 0.1))
    save(tmp_path / high / "normal1.png", picture(1))
    save(tmp_path / high / "inside" / "2.png", picture(2))
    found = sets.find(str(tmp_path), tmp_path)
    assert [(pair.low.parent.name, pair.high and pair.high.parent.name) for pair in found.pairs] == [(low, high)]
    assert found.paired and found.notes == (f"pictures in folders inside {low}/ and {high}/ are not taken (1)",)


@pytest.mark.parametrize(("there", "missing"), [("low", "high"), ("Low", "high"), ("High", "low")])
def test_one_of_both_folders_is_refused(tmp_path: Path, there: str, missing: str) -> None:
    save(tmp_path / there / "1.png", picture(1))
    with pytest.raises(InputError, match=rf"/{missing}: no such folder; a data set is a folder with .*{there}/"):
        sets.find(str(tmp_path), tmp_path)


def test_two_names_of_one_pair_are_refused(tmp_path: Path) -> None:
    """`1` and `low1` would be one pair, of which one picture would never be measured."""
    pairs(tmp_path, range(1, 3))
    save(tmp_path / "low" / "low1.png", picture(7))
    save(tmp_path / "high" / "normal1.png", picture(7))
    with pytest.raises(InputError, match=r"low: 1\.png and low1\.png are both of pair 1"):
        sets.find(str(tmp_path), tmp_path)


def test_pairs_of_unequal_or_tiny_size_are_refused(tmp_path: Path) -> None:
    for stem, low, high in (("a", SIZE, (24, 30)), ("b", (10, 30), (10, 30))):
        for part, size in (("low", low), ("high", high)):
            save(tmp_path / part / f"{stem}.png", np.zeros((*size, 3), np.uint8))
    unequal, tiny = sets.find(str(tmp_path), tmp_path).pairs
    with pytest.raises(InputError, match=r"differ in size .36x24 and 30x24"):
        sets.read_pair(unequal)
    with pytest.raises(InputError, match="11 pixels"):
        sets.read_pair(tiny)
