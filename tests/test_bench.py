"""The room bench/: sets found and matched, baselines, measuring, intervals, verifying."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bench_kit import Picture, pairs, picture, save

from lowlight_cli.bench import export, intervals, known, methods, page, report, run, sets, verify
from lowlight_cli.errors import InputError, UsageError, WeightsError
from lowlight_cli.metrics import table
from lowlight_cli.weights.catalog import Checkpoint, Metric, find, stated

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
    differences = random.normal(0.3, 0.5, 2000)
    told = intervals.paired(list(differences), [0.0] * 2000)
    assert told and told.high - told.low == pytest.approx(2 * 1.96 * differences.std() / 2000**0.5, rel=0.05)
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
    return known.model_copy(update={"metrics": (Metric(protocol="test", dataset="lol", **metric),)})


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
    assert known.OVERLAP in notes and any("NOT the published pixels" in line for line in notes)
    assert any("structural_similarity" in line for line in notes) and any("knowledge of" in line for line in notes)
    assert any("few pictures (8)" in line for line in notes)
    told = report.stated(result)
    assert told and [row[0] for row in told.rows] == ["frlie"] and all(row[1] == report.MARK for row in told.rows)
    assert report.stated(measured(eight, None, "sice")) is None
    text = report.as_markdown([result])
    assert known.OVERLAP in text and report.REMARK in text
    assert "\n- \\* sees the reference" in text  # else a list in the list
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[1].count("---") == len(shown.columns) and lines[2].startswith("| frlie.official |")


def test_published_figures_of_all_papers() -> None:
    figures = stated()
    assert {figure.network for figure in figures} == {"jcrnet", "neid", "frlie", "drgn", "lw-drgn", "dgaf"}
    assert {(f.dataset, f.psnr) for f in figures if f.network == "jcrnet"} == {("LOL", 24.901)}


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
    assert all(figure["mark"] == report.MARK for figure in document["published"])


# -------------------------------------------------------------------------------------------------------- verifying


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
    for metrics, other in ((None, dataset), (checkpoint(psnr=1.0), sets.DataSet("sice", "SICE", eight.pairs))):
        with pytest.raises(UsageError, match="nothing to verify"):
            verify.refuse_nothing(ready(metrics), [other])
    with pytest.raises(UsageError, match="--limit"):
        verify.refuse_nothing(ready(checkpoint(psnr=1.0)), [sets.DataSet("lol", "LOL", eight.pairs, limited=True)])
