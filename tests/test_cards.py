"""Model cards: what the script reads out of a run, and whether the cards in docs/models/ are those of weights.toml."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from safetensors import safe_open

from lowlight_cli.training.recipe import load as load_recipe
from lowlight_cli.training.run import Progress, Run, Scores
from lowlight_cli.training.sources import Source
from lowlight_cli.weights import card, header
from lowlight_cli.weights.catalog import Checkpoint, bundled, catalog

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "docs" / "models"
sys.path.insert(0, str(ROOT / "docs"))

import make_cards  # noqa: E402
from cards import curve, log  # noqa: E402
from cards.scenes import CASES  # noqa: E402

SHIPPED = [checkpoint for checkpoint in catalog() if checkpoint.file]
every_card = pytest.mark.parametrize("checkpoint", SHIPPED, ids=lambda checkpoint: checkpoint.name)


def scores(step: int) -> Scores:
    """A curve that gains half a dB of GT-mean a doubling."""
    return Scores(20 + math.log2(step), 22 + 0.5 * math.log2(step), 0.8, 12)


def ran(folder: Path, steps: int, **more: Any) -> None:
    """A run's folder as `lowlight train` leaves it: two steps a second, looked at every 500."""
    folder.mkdir(parents=True)
    sources = (Source("lol", (Path("/secret/lol"),), 1.0), Source("bright", (Path("/secret/bright"),), 3.0))
    recipe = load_recipe("dgaf")
    run = Run("dgaf", sources, folder, Path("/secret/cache"), recipe, steps, **more)
    (folder / "run.json").write_text(run.described())
    lines = [
        Progress(step, 2.0 if step < 100 else 1.0, 1e-3, 2.0, step / steps, 0, 0, None if step % 500 else scores(step))
        for step in range(20, steps + 1, 20)
    ]
    (folder / "log.jsonl").write_text("".join(line.line() + "\n" for line in lines))


def dgaf() -> Checkpoint:
    return next(checkpoint for checkpoint in SHIPPED if checkpoint.network == "dgaf")


def test_the_licence_of_a_repository_is_that_of_every_file() -> None:
    free, bound = (dgaf().model_copy(update={"licence": licence}) for licence in ("CC0-1.0", "CC-BY-NC-4.0"))
    assert "license: cc0-1.0" in card.front_matter([free, free])
    for checkpoints in ([free, bound], [bound, free]):
        assert "license: other" in card.front_matter(checkpoints)


def test_a_bar_in_a_cell_ends_no_column() -> None:
    assert card.table(("a",), [("x|y",)]).splitlines()[-1] == r"| x\|y |"


def test_a_run_in_two_legs(tmp_path: Path) -> None:
    """Steps add up, hours are those of the steps, the trend is that of the curve, and no path comes along."""
    ran(tmp_path / "dgaf.real", 4000)
    ran(tmp_path / "dgaf.real.2", 2000, init=Path("/secret/first.safetensors"))
    ran(tmp_path / "dgaf.realistic", 20)
    folders = log.legs_of(tmp_path, "dgaf.real")
    assert [folder.name for folder in folders] == ["dgaf.real", "dgaf.real.2"]
    kept = tmp_path / "kept.jsonl"
    log.write(kept, log.read_runs(folders, "a processor, 2 threads"))
    assert "secret" not in kept.read_text() and kept.stat().st_size < 50_000
    legs = log.read(kept)
    assert log.hours(legs) == pytest.approx(6000 / 2 / 3600, rel=1e-3)
    assert [leg.setting["steps"] for leg in legs] == [4000, 2000] and legs[1].points[-1].step == 6000
    assert legs[1].setting["init"] == "first.safetensors" and legs[0].setting["sources"] == {"lol": 1.0, "bright": 3.0}
    assert legs[0].setting["config"] == json.loads((folders[0] / "run.json").read_bytes())["config"]
    text = make_cards.text(dgaf(), legs)
    assert "6,000 steps in 0.8 hours, not counting validation, in 2 legs" in text
    assert "pairs of LOL 25%, well-lit photographs, darkened on the way 75%" in text
    assert "a processor, 2 threads" in text and "of 12 whole pictures" in text


def test_the_card_of_a_run_holds_its_numbers(tmp_path: Path) -> None:
    ran(tmp_path / "dgaf.real", 4000)
    legs = log.read_runs(log.legs_of(tmp_path, "dgaf.real"), "a processor")
    measured = dgaf().metrics[0].model_copy(update={"dataset": "lol", "psnr_gt_mean": 24.5, "psnr": 19.87})
    checkpoint = dgaf().model_copy(update={"metrics": (measured,)})
    text = make_cards.text(checkpoint, legs)
    assert "| 19.87 | 24.50 |" in text
    assert f"it ended at {scores(4000).psnr:.2f} dB, {scores(4000).psnr_gt_mean:.2f} dB GT-mean" in text
    assert "rises by +0.50 ± 0.00 dB a doubling" in text
    assert "2.0 doublings, about 12,000 more steps" in text  # a dB to 25.5 at half a dB each
    far = checkpoint.model_copy(update={"metrics": (measured.model_copy(update={"psnr_gt_mean": 15.0}),)})
    assert "steps alone will not do it" in make_cards.text(far, legs)
    there = checkpoint.model_copy(update={"metrics": (measured.model_copy(update={"psnr_gt_mean": 26.0}),)})
    assert "is reached with 26.00 dB" in make_cards.text(there, legs)


def test_a_curve_that_does_not_rise() -> None:
    noisy = [(100 * number, 25 + 0.3 * (-1) ** number) for number in range(1, 11)]
    trend = log.trend(noisy)
    assert trend and not trend.rises
    assert log.trend(noisy[:4]) is None  # three late points make no trend


def test_a_short_curve_says_where_it_went(tmp_path: Path) -> None:
    ran(tmp_path / "dgaf.real", 1000)
    text = make_cards.text(dgaf(), log.read_runs(log.legs_of(tmp_path, "dgaf.real"), ""))
    assert f"went from {scores(500).psnr_gt_mean:.2f} to {scores(1000).psnr_gt_mean:.2f} dB" in text


def test_thinning_loses_no_second_no_score_and_no_note() -> None:
    points = [
        log.Point(20 * n, 1.5, float(n % 7), {"psnr": float(n)} if n % 50 == 0 else None, "all", "!" * (n == 77))
        for n in range(1, 1001)
    ]
    kept = log.thinned(points)
    assert len(kept) < 180 and kept[-1].step == 20_000
    assert sum(point.seconds for point in kept) == pytest.approx(1500)
    assert [point.scores["psnr"] for point in kept if point.scores] == list(range(50, 1001, 50))
    assert [point.step for point in kept if point.note] == [1540]


def test_a_run_that_does_not_tell_what_it_is_called(tmp_path: Path) -> None:
    """As those that made the shipped weights: it is called by the hash of its run.json."""
    ran(tmp_path / "dgaf.real", 100)
    path = tmp_path / "dgaf.real" / "run.json"
    described = json.loads(path.read_text())
    del described["config"]
    path.write_text(json.dumps(described))
    (leg,) = log.read_runs([path.parent], "")
    assert leg.setting["config"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_line_that_a_kill_cut_short(tmp_path: Path) -> None:
    ran(tmp_path / "dgaf.real", 100)
    with (tmp_path / "dgaf.real" / "log.jsonl").open("a") as file:
        file.write('{"step": 120, "los')
    (leg,) = log.read_runs(log.legs_of(tmp_path, "dgaf.real"), "")
    assert leg.points[-1].step == 100


def test_the_curve_is_drawn_where_its_values_are(tmp_path: Path) -> None:
    ran(tmp_path / "dgaf.real", 4000)
    legs = log.read_runs(log.legs_of(tmp_path, "dgaf.real"), "")
    svg = ElementTree.fromstring(curve.drawn("dgaf.real", legs))
    space = "{http://www.w3.org/2000/svg}"
    lines = svg.findall(f"{space}polyline")
    texts = ["".join(text.itertext()) for text in svg.iter(f"{space}text")]
    assert {"loss", "held-out scenes, dB", "steps", "PSNR", "GT-mean PSNR"} <= set(texts)
    at_mean = np.array([pair.split(",") for pair in (lines[1].get("points") or "").split()], float)
    assert len(at_mean) == 8 and at_mean[-1, 0] == curve.PANELS[1][1]
    rises = -np.diff(at_mean[:, 1])
    doubled = [rises[0], at_mean[1, 1] - at_mean[3, 1], at_mean[3, 1] - at_mean[7, 1]]  # 500, 1000, 2000, 4000 steps
    assert np.ptp(doubled) < 0.3 and (rises > 0).all()
    assert "prefers-color-scheme: dark" in (svg.findtext(f"{space}style") or "")


def test_the_cases_are_what_they_say() -> None:
    """Each dark one is dark, has a lit reference, and is the same again; the bright one is its own reference."""
    for case in CASES:
        low, high = case.pair()
        assert low.shape == high.shape == (200, 300, 3)
        assert np.array_equal(low, case.pair()[0])
        if case.light is None:
            assert np.array_equal(low, high)
        else:
            assert low.mean() < 0.4 * high.mean() and 70 < high.mean() < 150, case.name


@every_card
def test_cards_and_weights_agree(checkpoint: Checkpoint) -> None:
    """Run docs/make_cards.py where this fails: weights.toml or a log changed after the cards were made."""
    legs = log.read(MODELS / "logs" / f"{checkpoint.name}.jsonl")
    page = MODELS / f"{checkpoint.name}.md"
    assert page.is_file(), f"{checkpoint.name} has no card: run docs/make_cards.py"
    assert page.read_text("utf-8") == make_cards.text(checkpoint, legs), "run docs/make_cards.py"
    for picture in (f"{checkpoint.name}.jpg", f"{checkpoint.name}.failures.jpg"):
        assert (MODELS / "images" / picture).is_file(), picture
    front = yaml.safe_load(page.read_text("utf-8").split("---\n")[1])
    values = [each["value"] for result in front["model-index"][0]["results"] for each in result["metrics"]]
    assert values == [value for m in checkpoint.metrics for value in (m.psnr, m.psnr_gt_mean, m.ssim, m.niqe) if value]
    if legs:
        assert (MODELS / "curves" / f"{checkpoint.name}.svg").read_text("utf-8") == curve.drawn(checkpoint.name, legs)


@every_card
def test_logs_are_of_the_runs_that_made_the_weights(checkpoint: Checkpoint) -> None:
    legs = log.read(MODELS / "logs" / f"{checkpoint.name}.jsonl")
    file = bundled(checkpoint)
    if not legs or not file:
        pytest.skip("no log was kept")
    with safe_open(file, "np") as opened:
        assert opened.metadata()["config"] == legs[-1].setting["config"]


def test_no_card_of_what_is_not_shipped_and_no_private_path() -> None:
    names = {checkpoint.name for checkpoint in SHIPPED}
    for path in MODELS.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert path.stem.removesuffix(".failures") in names, path
            if path.suffix == ".jsonl":
                assert path.stat().st_size < 50_000
                assert not any("/" in str(leg.setting["init"]) for leg in log.read(path))
    assert (MODELS / "README.md").read_text("utf-8") == make_cards.index(SHIPPED)
    assert sum(path.stat().st_size for path in MODELS.glob("images/*")) < 2_000_000


def test_only_the_run_that_made_the_weights_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make_cards, "MODELS", tmp_path / "models")
    ran(tmp_path / "runs" / dgaf().name, 100)
    words = [dgaf().name, "--runs", str(tmp_path / "runs"), "--hardware", "a processor", "--text"]
    make_cards.main(words)
    kept = tmp_path / "models" / "logs" / f"{dgaf().name}.jsonl"
    page = tmp_path / "models" / f"{dgaf().name}.md"
    assert "is not the run that made" in capsys.readouterr().err and not kept.exists()
    assert "Its log was not kept" in page.read_text("utf-8")
    config = json.loads((tmp_path / "runs" / dgaf().name / "run.json").read_bytes())["config"]
    inspected = header.inspect(bundled(dgaf()) or tmp_path)
    ours = dataclasses.replace(inspected, metadata={**inspected.metadata, "config": config})
    monkeypatch.setattr(header, "inspect", lambda path: ours)
    make_cards.main(words)
    assert log.read(kept)[0].setting["config"] == config and "on a processor, bf16" in page.read_text("utf-8")
    assert (tmp_path / "models" / "curves" / f"{dgaf().name}.svg").is_file()


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_cards.main(["dgaf.none"])
    assert "not shipped: dgaf.none" in capsys.readouterr().err


def test_logs_are_json(tmp_path: Path) -> None:
    """Null where the loss was no number."""
    ran(tmp_path / "dgaf.real", 40)
    path = tmp_path / "dgaf.real" / "log.jsonl"
    path.write_text(path.read_text().replace('"loss": 2.0', '"loss": null'))
    legs = log.read_runs([tmp_path / "dgaf.real"], "")
    log.write(tmp_path / "kept.jsonl", legs)
    assert [json.loads(line).get("loss") for line in (tmp_path / "kept.jsonl").read_text().splitlines()[1:]] == [
        None
    ] * 2
    assert "not measured" in curve.drawn("dgaf.real", log.read(tmp_path / "kept.jsonl"))
