"""The room bench/: sets found and matched, baselines, measuring, intervals, verifying."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lowlight_cli.bench import baselines, export, intervals, methods, page, published, report, run, sets, verify
from lowlight_cli.bench.journal import Journal
from lowlight_cli.bench.lookup import lookup
from lowlight_cli.errors import InputError, UsageError, WeightsError
from lowlight_cli.metrics import table
from lowlight_cli.pictures import read
from lowlight_cli.training import data
from lowlight_cli.training.sources import parse
from lowlight_cli.weights.catalog import Checkpoint, Metric, find

Picture = NDArray[np.float32]
SIZE = (24, 36)


def picture(number: int, scale: float = 1.0) -> NDArray[np.uint8]:
    random = np.random.default_rng(number)
    slope = np.linspace(20, 200, SIZE[0] * SIZE[1] * 3).reshape(*SIZE, 3)
    return np.asarray(np.clip((slope + random.normal(0, 12, slope.shape)) * scale, 0, 255), np.uint8)


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))


def pairs(folder: Path, stems: range, suffix: str = ".png") -> Path:
    for stem in stems:
        save(folder / "low" / f"{stem}{suffix}", picture(stem, 0.12))
        save(folder / "high" / f"{stem}.png", picture(stem))
    return folder


# ------------------------------------------------------------------------------------------------------------- sets


@pytest.mark.parametrize("place", ["lol/eval15", "eval15", "LOLdataset/eval15"])
def test_eval15_is_found_where_it_usually_lies(tmp_path: Path, place: str) -> None:
    pairs(tmp_path / place, range(9, 12), ".webp")
    (tmp_path / place / "low" / "notes.txt").write_text("not a picture")
    found = sets.find("lol", tmp_path)
    assert [pair.stem for pair in found.pairs] == ["9", "10", "11"]
    assert found.pairs[0].low.suffix == ".webp" and found.pairs[0].high.suffix == ".png"
    assert sets.OVERLAP in found.notes and not found.limited
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


# -------------------------------------------------------------------------------------------------------- baselines


@pytest.mark.parametrize("name", baselines.BASELINES)
@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0])
def test_a_baseline_gives_a_picture(name: str, scale: float) -> None:
    low = picture(1, scale).astype(np.float32) / 255
    kept = low.copy()
    made = baselines.BASELINES[name](low)
    assert made.shape == low.shape and made.dtype == np.float32
    assert made.min() >= 0 and made.max() <= 1 + 1e-6 and np.isfinite(made).all()
    assert (low == kept).all()


@pytest.mark.parametrize("function", [baselines.gamma_to_mean, baselines.gain_to_mean, baselines.encoded_gain_to_mean])
def test_the_mean_is_reached_and_bright_pictures_stay(function: Callable[[Picture], Picture]) -> None:
    low, high = (picture(1, scale).astype(np.float32) / 255 for scale in (0.1, 1.2))
    assert float(function(low).mean()) == pytest.approx(baselines.MEAN, abs=1e-3)
    assert high.mean() > baselines.MEAN and np.allclose(function(high), high, atol=1e-5)


def test_auto_levels() -> None:
    """A channel's range is stretched over all of white, by itself; a flat one stays in range."""
    random = np.random.default_rng(0)
    low = (random.random((60, 60, 3)) * (0.1, 0.2, 0.05) + (0.02, 0.0, 0.3)).astype(np.float32)
    made = baselines.auto_levels(low)
    assert np.allclose(made.reshape(-1, 3).mean(0), 0.5, atol=0.02)
    assert (made == 0).mean() == pytest.approx(0.005, abs=0.002) == (made == 1).mean()


def test_look_up(tmp_path: Path) -> None:
    """What was seen at another exposure is found again; other sets, and eval15 alone, have no such row."""
    pairs(tmp_path / "lol" / "our485", range(5))
    save(tmp_path / "lol" / "eval15" / "low" / "9.png", picture(3, 0.3))  # the scene of 3, brighter
    save(tmp_path / "lol" / "eval15" / "high" / "9.png", picture(3))
    dataset = sets.find("lol", tmp_path)
    memory = lookup(dataset)
    assert memory and memory.kind == "baseline"
    (row,) = run.measure(dataset, [memory]).rows
    assert row.mean("psnr") == table.CEILING
    assert lookup(sets.find(str(tmp_path / "lol" / "our485"), tmp_path)) is None
    (tmp_path / "lol" / "our485").rename(tmp_path / "elsewhere")
    assert lookup(dataset) is None


def test_what_was_looked_up_is_not_looked_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of pictures need not be decoded for a figure that is known; it is another once one of them is."""
    pairs(tmp_path / "lol" / "our485", range(3))
    pairs(tmp_path / "lol" / "eval15", range(9, 11))
    dataset = sets.find("lol", tmp_path)

    def measured() -> run.Row:
        memory = lookup(dataset)
        assert memory
        return run.measure(dataset, [memory], journal=Journal(tmp_path / "before.jsonl")).rows[0]

    asked: list[Path] = []
    monkeypatch.setattr("lowlight_cli.bench.lookup.read", lambda path: asked.append(path) or read(path))
    first = measured()
    count = len(asked)
    assert count > 3 and measured().scores == first.scores and len(asked) == count
    save(tmp_path / "lol" / "our485" / "high" / "1.png", picture(7))
    measured()
    assert len(asked) == 2 * count


def test_lime_keeps_edges() -> None:
    low = np.full((80, 80, 3), 0.02, np.float32)
    low[:, 40:] = 0.2
    made = baselines.lime(low)
    assert made[40, 10, 0] > 0.2 and made[40, 70, 0] > 0.5
    assert made[40, 39, 0] < made[40, 40, 0]


# -------------------------------------------------------------------------------------------------------- measuring


def own(name: str, make: Callable[[Picture], Picture], **more: object) -> methods.Method:
    return methods.Method(name, "network", lambda _, low: make(low), **more)  # type: ignore[arg-type]


@pytest.fixture
def eight(tmp_path: Path) -> sets.DataSet:
    return sets.find(str(pairs(tmp_path / "eight", range(8))), tmp_path)


def test_measuring(eight: sets.DataSet) -> None:
    done: list[float] = []
    result = run.measure(eight, [*methods.baselines(), own("half", lambda x: x * 0 + np.float32(0.5))], done.append)
    assert len(done) == 8 * 10
    assert [row.mean("psnr") for row in result.rows] == sorted((row.mean("psnr") for row in result.rows), reverse=True)
    row = next(row for row in result.rows if row.method.name == "half")
    high = picture(3) / 255
    wanted = -10 * np.log10(np.mean((high - 128 / 255) ** 2))  # 0.5 becomes the level 128
    assert row.scores[3].stem == "3" and row.scores[3].values["psnr"] == pytest.approx(wanted, abs=1e-4)
    assert row.seconds is not None and row.seconds > 0
    again = run.measure(eight, methods.baselines())
    assert again.pixels == result.pixels
    assert run.measure(sets.DataSet("x", "x", eight.pairs[:7]), methods.baselines()).pixels != result.pixels
    with pytest.raises(UsageError, match="'input'"):
        run.measure(eight, [*methods.baselines(), own("input", lambda x: x)])


def test_external_results(eight: sets.DataSet, tmp_path: Path) -> None:
    for stem in range(8):
        save(tmp_path / "theirs" / f"{stem}.webp", picture(stem))
    (row,) = run.measure(eight, [methods.external(f"peer={tmp_path / 'theirs'}", eight)]).rows
    assert row.mean("psnr") == table.CEILING and row.mean("ssim") == pytest.approx(1) and row.seconds is None
    (tmp_path / "theirs" / "5.webp").unlink()
    with pytest.raises(InputError, match="1 of 8 results are missing, first 5"):
        methods.external(f"peer={tmp_path / 'theirs'}", eight)
    save(tmp_path / "theirs" / "5.png", picture(5)[:20])
    with pytest.raises(InputError, match="36x20"):
        run.measure(eight, [methods.external(f"peer={tmp_path / 'theirs'}", eight)])
    for text in ("peer", "=x", "peer=", f"input={tmp_path / 'theirs'}"):
        with pytest.raises(UsageError):
            methods.external(text, eight)


def test_external_results_are_named_as_the_low_pictures(tmp_path: Path) -> None:
    """Also where their names say that they are low ones, and where they lie in folders of their own."""
    folder = tmp_path / "LOL-v2" / "Real_captured" / "Test"
    for stem in (690, 691):
        save(folder / "Low" / f"low00{stem}.png", picture(stem, 0.12))
        save(folder / "Normal" / f"normal00{stem}.png", picture(stem))
        save(tmp_path / "theirs" / f"low00{stem}.png", picture(stem))
        save(tmp_path / "exdark" / "Boat" / f"{stem}.png", picture(stem, 0.12))
        save(tmp_path / "others" / "Boat" / f"{stem}.jpg", picture(stem))
    dataset = sets.find("lol-v2-real", tmp_path)
    (row,) = run.measure(dataset, [methods.external(f"peer={tmp_path / 'theirs'}", dataset)]).rows
    assert row.mean("psnr") == table.CEILING
    dark = sets.find("exdark", tmp_path)
    (row,) = run.measure(dark, [methods.external(f"peer={tmp_path / 'others'}", dark)]).rows
    assert len(row.scores) == 2 and row.mean("luma") > 0.3


def test_choosing() -> None:
    assert all(find(each.network, each.weights).file for each in methods.choose([], []))
    default = find("frlie").tag
    chosen = [methods.Choice("frlie", default), methods.Choice("frlie", "official")]
    assert methods.choose(["frlie", "frlie.official"], []) == chosen
    assert methods.choose(["dgaf"], ["./a.safetensors", "b"])[0] == methods.Choice("dgaf", "./a.safetensors")
    for models in ([], ["dgaf", "neid"], ["dgaf.own"], ["dgav"]):
        with pytest.raises(UsageError):
            methods.choose(models, ["own"])
    with pytest.raises(WeightsError):
        methods.choose(["frlie.nothing"], [])


def test_intervals() -> None:
    random = np.random.default_rng(0)
    base = random.normal(20, 3, 200)
    worse = intervals.paired(list(base - 0.5 + random.normal(0, 0.5, 200)), list(base))
    equal = intervals.paired(list(base + random.normal(0, 0.5, 200)), list(base))
    assert worse and not worse.tie and worse.low < -0.5 < worse.high < 0
    assert 0.05 < worse.high - worse.low < 0.25  # 2 * 1.96 * 0.5 / sqrt(200) is 0.14: paired, not the 3 dB of pictures
    assert equal and equal.tie
    assert intervals.paired([3.0, 1.0, 2.0], [2.0] * 3) == intervals.paired([3.0, 1.0, 2.0], [2.0] * 3)  # seeded
    assert intervals.paired([1.0], [2.0]) is None


def test_without_reference_nothing_is_best(tmp_path: Path) -> None:
    """What describes is told, nothing is compared, and no figure that wants a reference is made up."""
    for stem in range(3):
        save(tmp_path / "dicm" / f"{stem}.png", picture(stem, 0.12))
    dataset = sets.find("dicm", tmp_path)
    result = run.measure(dataset, [own("white", lambda x: np.ones_like(x)), *methods.baselines()])
    assert not result.ranked and result.rows[0].method.name == "white"  # as given
    assert {metric.key for metric in result.metrics} == {"luma", "whitened", "colour_shift"}
    assert result.rows[0].mean("luma") == pytest.approx(1) and result.rows[0].mean("whitened") == 100
    shown = report.measured(result)
    assert "PSNR" not in " ".join(shown.columns) and all(len(row) == len(shown.columns) for row in shown.rows)
    notes = report.notes(result)
    assert notes[0].startswith("DICM: 3 pictures, 36x24") and any("no row is best" in line for line in notes)
    assert report.stated(result) is None and not verify.claims(result)
    (told,) = json.loads(report.as_json([result]))["sets"]
    assert not told["paired"] and not any(row["best"] or row["against_best"] for row in told["rows"])
    assert "no row is best" in report.as_markdown([result])


def test_more_metrics(eight: sets.DataSet) -> None:
    """As columns, in JSON, and where a picture is too small as no number; what is not here is said, not made up."""
    result = run.measure(eight, methods.baselines(), more=["delta-e", "ms-ssim", "lpips"], offline=True)
    shown = report.measured(result)
    assert shown.columns[2:7] == ("PSNR", "GT-mean PSNR*", "SSIM", "MS-SSIM", "dE 2000")
    assert {row[5] for row in shown.rows} == {"-"} and all(float(row[6]) > 0 for row in shown.rows)
    notes = report.notes(result)
    assert any(line.startswith("LPIPS: not available") for line in notes)
    assert any("CIEDE2000" in line for line in notes)
    assert "MS-SSIM: no number for 8 of 8 pairs, which its mean leaves out" in notes
    assert not any(line.startswith("dE 2000: no number") for line in notes)
    (told,) = json.loads(report.as_json([result]))["sets"]
    assert told["rows"][0]["ms_ssim"] is None and told["rows"][0]["pictures"][0]["delta_e"] > 0
    assert told["missing"] and "MS-SSIM" in told["definitions"]
    gallery = page.Gallery(methods.baselines())
    assert "null" in page.as_html([result], [gallery]) and ",," in export.as_csv([result])


def test_what_is_there_is_checked(tmp_path: Path) -> None:
    pairs(tmp_path / "eval15", range(22, 24))
    (line,) = (
        line for line in report.notes(run.measure(sets.find("lol", tmp_path), methods.baselines())) if "36x24" in line
    )
    assert "NOT all 600x400 as published" in line and "NOT the published pixels (22, 23)" in line
    dataset = sets.find("lol", tmp_path)
    size = [run.Looked(600, 400, digest * 4) for _, digest in sets.SETS["lol"].pixels[1:3]]  # 22 and 23, as published
    result = run.Result(dataset, run.measure(dataset, methods.baselines()).rows, "", (), tuple(size))
    assert report.checked(result) == ["600x400", "pixels as published"]


# -------------------------------------------------------------------------------------------------------- reporting


def checkpoint(**metric: float) -> Checkpoint:
    known = find("frlie", "official")
    return known.model_copy(update={"metrics": (Metric(protocol="test", dataset="LOL eval15", **metric),)})


def measured(eight: sets.DataSet, known: Checkpoint | None, name: str = "lol") -> run.Result:
    loaded = methods.Loaded("frlie", known, "a" * 64, "torch", "cpu", "fp32")
    dataset = sets.DataSet(name, sets.SETS[name].title, eight.pairs, notes=sets.SETS[name].notes)
    brighter = own("frlie.official", lambda x: np.minimum(x * np.float32(8.3), 1), loaded=loaded)
    return run.measure(dataset, [brighter, *methods.baselines()])


def test_tables(eight: sets.DataSet) -> None:
    result = measured(eight, None)
    shown = report.measured(result)
    assert shown.rows[0][:2] == ("frlie.official", "network") and shown.rows[0][-1] == "-"
    assert len(shown.rows) == 10 and all(len(row) == len(shown.columns) for row in shown.rows)
    assert "*" in shown.columns[3]
    notes = report.notes(result)
    assert sets.OVERLAP in notes and any("NOT the published pixels" in line for line in notes)
    assert any("structural_similarity" in line for line in notes) and any("knowledge of" in line for line in notes)
    assert any("few pictures (8)" in line for line in notes)
    told = report.stated(result)
    assert told and [row[0] for row in told.rows] == ["frlie"] and all(row[1] == published.MARK for row in told.rows)
    assert report.stated(measured(eight, None, "sice")) is None
    text = report.as_markdown([result])
    assert sets.OVERLAP in text and report.REMARK in text
    assert "\n- \\* sees the reference" in text  # else a list in the list
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[1].count("---") == len(shown.columns) and lines[2].startswith("| frlie.official |")


def test_published_figures_of_all_papers() -> None:
    figures = published.published()
    assert {figure.network for figure in figures} == {"jcrnet", "neid", "frlie", "drgn", "lw-drgn", "dgaf"}
    assert {(f.dataset, f.psnr) for f in published.published({"jcrnet"})} == {("LOL", 24.901)}


def test_json(eight: sets.DataSet) -> None:
    result = measured(eight, checkpoint(psnr=1.0))
    document = json.loads(report.as_json([result]))
    (told,) = document["sets"]
    assert document["schema"] == report.SCHEMA and told["pixels_sha256"] == result.pixels
    assert {"numpy", "torch", "python", "processor", "lowlight"} <= document["environment"].keys()
    first = told["rows"][0]
    assert first["best"] and first["network"]["weights_sha256"] == "a" * 64 and first["network"]["precision"] == "fp32"
    assert first["network"]["checkpoint"] == "frlie.official"
    for row in told["rows"]:
        assert len(row["pictures"]) == 8
        assert row["psnr"] == pytest.approx(np.mean([each["psnr"] for each in row["pictures"]]))
        assert row["best"] or row["against_best"]["low"] <= row["against_best"]["high"]
    assert all(figure["mark"] == published.MARK for figure in document["published"])


# -------------------------------------------------------------------------------------------------------- verifying


@pytest.mark.parametrize("text", ["lol", "eval15", "LOL eval15", "LOL v1, eval15"])
def test_a_set_is_known_by_its_names(text: str) -> None:
    assert sets.same(text, "lol") and not sets.same(text, "lol-scenes") and not sets.same(text, "sice")


def test_verifying(eight: sets.DataSet) -> None:
    row = next(row for row in measured(eight, None).rows if row.method.loaded)
    for error, holds in ((0.0, True), (0.04, True), (0.06, False), (-0.06, False)):
        result = measured(eight, checkpoint(psnr=row.mean("psnr") + error, ssim=row.mean("ssim")))
        level, ssim = verify.claims(result)
        assert (level.figure, level.holds, ssim.holds) == ("psnr", holds, True)
        assert "frlie.official on lol psnr" in str(level)


def test_nothing_to_verify_is_not_verified(eight: sets.DataSet) -> None:
    def ready(known: Checkpoint | None) -> list[methods.Method]:
        return [row.method for row in measured(eight, known).rows]

    dataset = sets.DataSet("lol", "LOL", eight.pairs)
    verify.refuse_nothing(ready(checkpoint(psnr=1.0)), [dataset])
    for known, other in ((None, dataset), (checkpoint(psnr=1.0), sets.DataSet("sice", "SICE", eight.pairs))):
        with pytest.raises(UsageError, match="nothing to verify"):
            verify.refuse_nothing(ready(known), [other])
    with pytest.raises(UsageError, match="--limit"):
        verify.refuse_nothing(ready(checkpoint(psnr=1.0)), [sets.DataSet("lol", "LOL", eight.pairs, limited=True)])
