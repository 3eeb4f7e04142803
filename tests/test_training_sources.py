"""Folders as they come: other depths and orientations, damage, tables out of Excel, what is no picture."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran
from PIL import Image

from lowlight_cli.errors import InputError, UsageError
from lowlight_cli.pictures import colour
from lowlight_cli.training import feeding
from lowlight_cli.training.data import Pair, cut, read_source
from lowlight_cli.training.loop import Run
from lowlight_cli.training.recipe import load
from lowlight_cli.training.sources import held, parse

Command = Callable[..., Ran]


def picture(seed: int, height: int = 60, width: int = 80, level: float = 0.5) -> np.ndarray:
    random = np.random.default_rng(seed)
    smooth = np.kron(random.uniform(0.2, 1, (height // 20 + 1, width // 20 + 1, 3)), np.ones((20, 20, 1)))
    return (smooth[:height, :width] * level * 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **more: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **more)
    return path


def pairs(folder: Path, stems: list[str], side: int = 40, seed: int = 0) -> Path:
    for number, stem in enumerate(stems, seed):
        save(folder / "low" / f"{stem}.png", picture(number, side, side, 0.1))
        save(folder / "high" / f"{stem}.png", picture(number, side, side, 0.9))
    return folder


def stems(held_out: bool, count: int) -> list[str]:
    """Names that are, or are not, held out for validation."""
    return [name for name in map(str, range(4000)) if held(name) == held_out][:count]


def read(text: str, folder: Path) -> list[Pair]:
    return read_source(parse(text), folder / "cache")


def of(folder: Path) -> str:
    return f"pairs:{folder / 'low'},{folder / 'high'}"


def run_of(folder: Path, *texts: str, name: str = "dgaf", kind: str = "best", crop: int = 32, validate: int = 8) -> Run:
    recipe = replace(load(name, (), kind), crop=crop, batch=8, crop_end=0, batch_end=0)
    sources = tuple(map(parse, texts))
    return Run(name, sources, folder / "run", folder / "cache", recipe, steps=1, threads=1, validate=validate)


# ----------------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_as_bright_as_eight(tmp_path: Path, suffix: str) -> None:
    grey = picture(1)[..., 0]
    save(tmp_path / "low" / f"a{suffix}", grey.astype(np.uint16) * 257)
    save(tmp_path / "high" / "a.png", np.dstack([grey] * 3))
    (pair,) = read(of(tmp_path), tmp_path)
    assert pair.low is not None and np.array_equal(pair.low, pair.high)


def test_pictures_stand_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    scene = picture(1)
    save(tmp_path / "low" / "a.jpg", scene[::-1, ::-1], exif=exif, quality=95)
    save(tmp_path / "high" / "a.png", scene)
    (pair,) = read(of(tmp_path), tmp_path)
    assert pair.low is not None and np.abs(pair.low.astype(int) - pair.high).mean() < 4


def test_profiles_are_followed(tmp_path: Path) -> None:
    profile = colour.make_profile("Display P3", colour.DISPLAY_P3)
    save(tmp_path / "a.png", np.full((40, 40, 3), (100, 150, 100), np.uint8), icc_profile=profile)
    (pair,) = read(f"bright:{tmp_path}", tmp_path)
    red, green, blue = pair.high[0, 0].tolist()
    assert red < 90 and 150 < green < 156 and blue < 100


def test_avif_of_ones_own_is_validated_and_keeps_its_noise(tmp_path: Path) -> None:
    for number in range(30):
        save(tmp_path / "low" / f"{number}.avif", picture(number, 40, 40, 0.1))
        save(tmp_path / "high" / f"{number}.png", picture(number, 40, 40, 0.9))
    source = parse(f"pairs:{tmp_path}/low,{tmp_path}/high")
    assert not any(pair.cleaned for pair in read_source(source, tmp_path / "cache"))
    run = Run("dgaf", (source,), tmp_path / "run", tmp_path / "cache", replace(load("dgaf"), crop=16, crop_end=0))
    assert feeding.read(run).validation


def test_lol_as_avif_gets_its_noise_back(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "our485" / "low" / f"{number}.{'avif' if number else 'png'}", picture(number, 40, 40, 0.1))
        save(tmp_path / "our485" / "high" / f"{number}.png", picture(number, 40, 40, 0.9))
    found = read_source(parse(f"lol:{tmp_path}"), tmp_path / "cache")
    assert {pair.stem: pair.cleaned for pair in found} == {"0": False, "1": True, "2": True}


def test_noise_given_back_is_neither_validated_nor_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a codec took away cannot be known; nothing is measured by what is drawn in its place."""
    for number in range(30):
        save(tmp_path / "our485" / "low" / f"{number}.avif", picture(number, 40, 40, 0.1))
        save(tmp_path / "our485" / "high" / f"{number}.png", picture(number, 40, 40, 0.9))
    assert any(pair.validation for pair in read(f"lol:{tmp_path}", tmp_path))
    run = run_of(tmp_path, f"lol:{tmp_path}")
    feed = feeding.read(run)
    assert feed.pools[0] and not feed.validation
    monkeypatch.setattr(feeding, "codec_noise", lambda *_: pytest.fail("a second time"))
    noisy = replace(run, recipe=replace(run.recipe, noise=1.0, lit=0.0))
    next(feeding.batches(noisy, feed, 0, lambda _: 0.0))


def test_a_damaged_avif_is_named(tmp_path: Path) -> None:
    good = save(tmp_path / "a.avif", picture(1)).read_bytes()
    (tmp_path / "b.avif").write_bytes(good[: len(good) // 2])
    with pytest.raises(InputError, match=r"1 files cannot be read as pictures: .*b\.avif \(damaged or incomplete"):
        read(f"bright:{tmp_path}", tmp_path)


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    pairs(tmp_path, ["a", "b"])
    right = [pair.high.copy() for pair in read(of(tmp_path), tmp_path)]
    (flat,), (index,) = ((tmp_path / "cache").glob(f"*.{suffix}") for suffix in ("u8", "json"))
    for spoil in (
        lambda: flat.write_bytes(flat.read_bytes()[:1000]),
        flat.unlink,
        lambda: index.write_text("[[40, 40]"),
        lambda: index.write_text("[[40, 40]]"),
        lambda: index.write_text('{"a": 1}'),
    ):
        spoil()
        again = [pair.high for pair in read(of(tmp_path), tmp_path)]
        assert all(np.array_equal(a, b) for a, b in zip(right, again, strict=True))


def test_what_a_folder_was_before_is_not_kept(tmp_path: Path) -> None:
    """What is read at the time stays readable, other folders' pictures stay."""
    pairs(tmp_path, ["a", "b"])
    save(tmp_path / "lit" / "c.png", picture(3))
    read(f"bright:{tmp_path / 'lit'}", tmp_path)
    before = {path.name for path in (tmp_path / "cache").iterdir()}
    old = read(of(tmp_path), tmp_path)
    pairs(tmp_path, ["d"], seed=5)
    assert len(read(of(tmp_path), tmp_path)) == 3
    assert np.array_equal(old[1].high, picture(1, 40, 40, 0.9))
    assert len(before) == 2 and before < {path.name for path in (tmp_path / "cache").iterdir()}
    assert len(list((tmp_path / "cache").iterdir())) == 4


# ------------------------------------------------------------------------------------------------- what is held out


def test_lol_as_published_is_held_out_by_what_it_shows(tmp_path: Path) -> None:
    """Thirty scenes at three exposures each, under names that tell nothing."""
    root = tmp_path / "lol"
    for number in range(90):
        scene = picture(number // 3, 60, 80, 0.5 + 0.2 * (number % 3))
        save(root / "our485" / "high" / f"{number}.png", np.roll(scene, number % 3, 1))
        save(root / "our485" / "low" / f"{number}.png", scene // 8)
    run = run_of(tmp_path, f"lol:{root}", validate=90)
    feed = feeding.read(run)
    assert any("no scenes.csv" in note and "90 pairs are 30 scenes" in note for note in feed.notes)
    shown = [{int(pair.stem) // 3 for pair in part} for part in (feed.validation, feed.pools[0])]
    assert shown[0] and not shown[0] & shown[1]
    rows = [f"our485,{number},{number % 3}" for number in range(90)]
    (root / "scenes.csv").write_text("\n".join(["folder,stem,scene", *rows]))
    assert {pair.scene for pair in read(f"lol:{root}", tmp_path)} == {"0", "1", "2"}


def test_what_lies_beside_the_pairs_is_trained_on_too(tmp_path: Path) -> None:
    (name,) = stems(True, 1)
    pairs(tmp_path, [*stems(False, 3), name])
    save(tmp_path / "lit" / "mine.png", np.asarray(Image.open(tmp_path / "high" / f"{name}.png")))
    feed = feeding.read(run_of(tmp_path, of(tmp_path), f"bright:{tmp_path / 'lit'}", name="lw-drgn", kind="paper"))
    assert feed.unpaired and not feed.validation
    assert f"1 validation pictures are in the training data too, and are left out of validation: {name}" in feed.notes


def test_pairs_the_wrong_way_round_are_told(tmp_path: Path) -> None:
    """Of each source by itself; one that is over-exposed among others is none."""
    pairs(tmp_path, stems(False, 6))
    right, wrong = of(tmp_path), f"pairs:{tmp_path / 'high'},{tmp_path / 'low'}"
    (note,) = feeding.read(run_of(tmp_path, right, wrong, validate=0)).notes[:1]
    assert note.startswith(f"{tmp_path / 'high'}: most dark pictures are brighter than their reference: are the two")
    first = stems(False, 1)[0]
    save(tmp_path / "low" / f"{first}.png", np.full((40, 40, 3), 250, np.uint8))
    assert not feeding.read(run_of(tmp_path, right, validate=0)).notes


def test_every_source_has_its_turn_in_validation(tmp_path: Path) -> None:
    held_out, others = stems(True, 4), stems(False, 4)
    for number, name in enumerate("ab"):
        pairs(tmp_path / name, held_out[2 * number :][:2] + others, seed=10 * number)
    feed = feeding.read(run_of(tmp_path, of(tmp_path / "a"), of(tmp_path / "b"), validate=2))
    assert [pair.stem for pair in feed.validation] == held_out[::2]


def test_a_source_gives_its_share_of_the_crops(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        pairs(tmp_path / name, stems(False, 8)[4 * number :][:4], seed=10 * number)
    feed = feeding.read(run_of(tmp_path, f"{of(tmp_path / 'a')}@3", of(tmp_path / "b"), validate=0))
    assert feed.weights.tolist() == [0.75, 0.25]
    random, first = np.random.default_rng(0), {pair.stem for pair in feed.pools[0]}
    assert 0.7 < np.mean([feeding._drawn(feed, random).stem in first for _ in range(1000)]) < 0.8


def test_no_validation_is_told(tmp_path: Path) -> None:
    pairs(tmp_path, stems(False, 6))
    assert [note for note in feeding.read(run_of(tmp_path, of(tmp_path))).notes if "nothing is validated" in note]
    assert not feeding.read(run_of(tmp_path, of(tmp_path), validate=0)).notes


def test_all_pairs_held_out(tmp_path: Path) -> None:
    pairs(tmp_path, stems(True, 1))
    with pytest.raises(UsageError, match=r"no pair is left to train on: the only one is held out.*add pairs"):
        feeding.read(run_of(tmp_path, of(tmp_path)))


def test_a_held_out_picture_too_small_for_scores(tmp_path: Path) -> None:
    (name,) = stems(True, 1)
    pairs(tmp_path, stems(False, 4))
    pairs(tmp_path, [name], 8, 9)
    with pytest.raises(InputError, match=rf"1 held-out pictures have less than 11 pixels a side.*: {name}; leave"):
        feeding.read(run_of(tmp_path, of(tmp_path)))
    assert len(feeding.read(run_of(tmp_path, of(tmp_path), validate=0)).pools[0]) == 4


def test_small_pairs_beside_photographs(tmp_path: Path) -> None:
    pairs(tmp_path, stems(False, 4), 20)
    save(tmp_path / "lit" / "a.png", picture(9, 100, 100))
    with pytest.raises(InputError, match=r"4 pictures are smaller than the crop of 32: .*--set crop=20"):
        feeding.read(run_of(tmp_path, of(tmp_path), f"bright:{tmp_path / 'lit'}"))
    run = run_of(tmp_path, of(tmp_path), f"bright:{tmp_path / 'lit'}", crop=20)
    batches = feeding.batches(run, feeding.read(run), 0, lambda _: 0.0)
    assert next(batches).low.shape == (8, 3, 20, 20)
    batches.close()


@pytest.mark.parametrize(
    ("name", "kind", "side", "told"),
    [
        ("lw-drgn", "paper", 90, "leave them out, or lower crop and crop_end with --set crop=88"),
        ("drgn", "paper", 13, "--set crop=12"),
        ("lw-drgn", "paper", 11, "leave them out: a crop has at least 11 pixels a side, in multiples of 4"),
        ("frlie", "paper", 8, "leave them out: a crop has at least 11 pixels a side$"),
        ("dgaf", "best", 8, "at least 11"),
    ],
)
def test_a_common_size_that_is_no_crop(tmp_path: Path, name: str, kind: str, side: int, told: str) -> None:
    pairs(tmp_path, stems(False, 4), side)
    with pytest.raises(InputError, match=rf"4 pictures are smaller than the crop of 96: .*{told}"):
        feeding.read(run_of(tmp_path, of(tmp_path), name=name, kind=kind, crop=96))


@pytest.mark.parametrize(
    ("name", "kind", "side"), [("lw-drgn", "paper", 88), ("lw-drgn", "best", 90), ("dgaf", "best", 11)]
)
def test_a_common_size_below_the_crop_is_the_crop(tmp_path: Path, name: str, kind: str, side: int) -> None:
    pairs(tmp_path, stems(False, 4), side)
    run = run_of(tmp_path, of(tmp_path), name=name, kind=kind, crop=96)
    batches = feeding.batches(run, feeding.read(run), 0, lambda _: 0.0)
    assert next(batches).low.shape == (8, 3, side, side)
    batches.close()


# ------------------------------------------------------------------------------------------------- names and tables


def test_only_pairs_are_two_folders(tmp_path: Path) -> None:
    save(tmp_path / "a,b" / "x.png", picture(1))
    assert len(read(f"bright:{tmp_path}/a,b", tmp_path)) == 1
    with pytest.raises(InputError, match=r"a,c: no such folder.*a --data of its own"):
        read(f"bright:{tmp_path}/a,c", tmp_path)
    pairs(tmp_path / "with, comma", ["a"])
    assert len(read(of(tmp_path / "with, comma"), tmp_path)) == 1
    for text in ("pairs:one", "pairs:one,two,three"):
        with pytest.raises(UsageError, match="two folders"):
            read(text, tmp_path)


def test_pairs_named_as_lol_v2_has_them(tmp_path: Path) -> None:
    """As `lowlight bench` takes them; where names are the same on both sides, they are what counts."""
    for number in (1, 2):
        save(tmp_path / "Low" / f"low0000{number}.png", picture(number, 40, 40, 0.1))
        save(tmp_path / "Normal" / f"normal0000{number}.png", picture(number, 40, 40, 0.9))
    found = read(f"pairs:{tmp_path}/Low,{tmp_path}/Normal", tmp_path)
    assert [pair.stem for pair in found] == ["normal00001", "normal00002"]
    for number, pair in enumerate(found, 1):
        assert pair.low is not None and np.array_equal(pair.low, picture(number, 40, 40, 0.1))
    save(tmp_path / "Low" / "00002.png", picture(3, 40, 40))
    with pytest.raises(InputError, match=r"Low: 00002\.png and low00002\.png are both of pair 00002; remove one"):
        read(f"pairs:{tmp_path}/Low,{tmp_path}/Normal", tmp_path)
    pairs(tmp_path / "same", ["low1", "1"])
    assert len(read(of(tmp_path / "same"), tmp_path)) == 2


def test_folders_inside_are_not_searched_and_told(tmp_path: Path) -> None:
    pairs(tmp_path / "sub", ["a"])
    for side in ("low", "high"):
        (tmp_path / "sub" / side / "s1").mkdir()
        (tmp_path / "sub" / side / "a.png").rename(tmp_path / "sub" / side / "s1" / "a.png")
    for text in (of(tmp_path / "sub"), f"bright:{tmp_path / 'sub' / 'low'}"):
        with pytest.raises(InputError, match=r"low: no picture found for \w+: those in s1 are not searched; give each"):
            read(text, tmp_path)


@pytest.mark.parametrize("weight", ["nan", "inf", "0", "-1"])
def test_a_weight_that_is_none(weight: str) -> None:
    with pytest.raises(UsageError, match="the weight behind @"):
        parse(f"lol:x@{weight}")


def test_a_source_without_a_path() -> None:
    with pytest.raises(UsageError, match="KIND:PATH"):
        parse("bright:")


def test_hidden_files_are_no_pictures(tmp_path: Path) -> None:
    pairs(tmp_path, ["a"])
    (tmp_path / "low" / "._a.png").write_bytes(b"resource fork")
    assert [pair.stem for pair in read(of(tmp_path), tmp_path)] == ["a"]


def test_photographs_alone_may_share_a_stem(tmp_path: Path) -> None:
    save(tmp_path / "z.jpg", picture(1)), save(tmp_path / "z.png", picture(2))
    assert len(read(f"bright:{tmp_path}", tmp_path)) == 2


def test_what_is_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "lit").mkdir()
    (tmp_path / "lit" / "a.heic").write_bytes(b"")
    with pytest.raises(InputError, match=r"lit: no picture found for bright:.*\.avif.*\.tiff"):
        read(f"bright:{tmp_path / 'lit'}", tmp_path)


def sice(folder: Path, content: bytes) -> str:
    pairs(folder, ["1", "2"])
    (folder / "pairs.csv").write_bytes(content)
    return f"sice:{folder}"


def test_a_table_out_of_excel(tmp_path: Path) -> None:
    text = "\ufefflow,high,scene,split\r\n1.png,1.png,Straße,train\r\n2.png,2.png,b,val\r\n"
    found = read(sice(tmp_path, text.encode()), tmp_path)
    assert [(pair.scene, pair.validation) for pair in found] == [("sice Straße", False), ("sice b", True)]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (b"low,high,scene\n1.png,1.png,a\n", r"pairs\.csv: has no column split .it has low, high, scene."),
        (b"low;high;scene;split\n1.png;1.png;a;val\n", r"pairs\.csv: has no column low .*commas"),
        (b"low,high,scene,split\n1.png,1.png,a,val\n2.png\n", r"pairs\.csv, line 3: .*high"),
        (b"low,high,scene,split\n1.png,1.png,a,test\n", r"pairs\.csv, line 2: split is 'test'.* train or val"),
        (b"low,high,scene,split\n1.png,1.png,a,Val\n", r"pairs\.csv, line 2: split is 'Val'.* train or val"),
        (b"low,high,scene,split\n1.png,1.png,\xff,val\n", r"pairs\.csv: .*UTF-8"),
        (b"", r"pairs\.csv: has no column"),
    ],
)
def test_a_table_that_is_wrong(tmp_path: Path, table: bytes, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read(sice(tmp_path, table), tmp_path)


def test_scenes_of_lol_that_are_wrong(tmp_path: Path) -> None:
    pairs(tmp_path / "our485", ["1"])
    (tmp_path / "scenes.csv").write_text("stem,scene\n1,a\n")
    with pytest.raises(InputError, match=r"scenes\.csv: has no column folder"):
        read(f"lol:{tmp_path}", tmp_path)


# ------------------------------------------------------------------------------------------------------------- crops


def test_large_photographs_are_darkened_small() -> None:
    pair = Pair("a", None, picture(1, 1500, 2000), "a", False, False)
    wholes = [cut(pair, 64, np.random.default_rng(seed)) for seed in range(8)]
    short = [min(whole.shape[:2]) for _, _, whole in wholes]
    assert all(piece.shape == (64, 64, 3) for piece, _, _ in wholes)
    assert max(short) <= 3 * 64 and min(short) >= 64 and len(set(short)) > 4
    assert all(whole.shape[1] / whole.shape[0] == pytest.approx(4 / 3, abs=0.02) for _, _, whole in wholes)
    small = Pair("b", None, picture(1, 120, 160), "b", False, False)
    assert max(min(cut(small, 64, np.random.default_rng(seed))[2].shape[:2]) for seed in range(8)) > 0.8 * 120


# ---------------------------------------------------------------------------------------------------------- manifest


@pytest.fixture
def made(folder: Path, lowlight: Command) -> Callable[[], list[dict[str, object]]]:
    """Three photographs, darkened into `out`; what its manifest says."""
    for number in range(3):
        save(Path("bright", f"{number}.png"), picture(number, level=0.9))
    assert lowlight("darken", "bright", "-o", "out").code == 0
    return lambda: [json.loads(line) for line in Path("out", "manifest.jsonl").read_text("utf-8").splitlines()]


def test_a_photograph_that_is_damaged_by_now_keeps_its_line(
    made: Callable[[], list[dict[str, object]]], lowlight: Command
) -> None:
    before = made()
    Path("bright", "1.png").write_bytes(b"nothing")
    assert lowlight("darken", "bright", "-o", "out", "--exist", "skip").code == 1
    assert sorted(made(), key=str) == sorted(before, key=str)


@pytest.mark.parametrize("exist", ["skip", "overwrite"])
def test_interrupted_the_manifest_keeps_what_was_not_touched(
    made: Callable[[], list[dict[str, object]]], exist: str
) -> None:
    from lowlight_cli.training.synthesis import Wish, synthesise

    before = made()
    again = synthesise(Path("bright"), Path("out"), Wish(seed=1), exist=exist)
    next(again)
    at_kill = made_of(Path("out", "manifest.jsonl").read_text("utf-8"))
    again.close()
    for lines in (at_kill, made_of(Path("out", "manifest.jsonl").read_text("utf-8"))):
        assert [lines[f"low/{n}.png"]["seed"] for n in range(3)] == [1, 0, 0]
        assert [lines[f"low/{n}.png"] for n in (1, 2)] == before[1:]
    assert len(made()) == 3 and not list(Path("out").glob(".*.part"))


def made_of(text: str) -> dict[str, dict[str, object]]:
    return {line["low"]: line for line in map(json.loads, filter(None, text.splitlines()))}


def test_what_is_gone_has_no_line(made: Callable[[], list[dict[str, object]]], lowlight: Command) -> None:
    Path("bright", "1.png").unlink()
    lowlight("darken", "bright", "-o", "out", "--exist", "skip")
    assert [line["input"] for line in made()] == ["0.png", "2.png", "1.png"], "its dark picture is still there"
    Path("out", "low", "1.png").unlink()
    lowlight("darken", "bright", "-o", "out", "--exist", "skip")
    assert [line["input"] for line in made()] == ["0.png", "2.png"]
