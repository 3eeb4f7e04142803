"""Enhancement without a network, to measure the networks against; and looking the reference up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bench_kit import Picture, pairs, picture, save

from lowlight_cli.bench import baselines, run, sets
from lowlight_cli.bench.journal import Journal, key
from lowlight_cli.bench.lookup import lookup
from lowlight_cli.metrics import table
from lowlight_cli.pictures import read


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


def test_what_another_version_measured_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key("method", "pixels")
    monkeypatch.setattr("lowlight_cli.__version__", "0")
    assert key("method", "pixels") != before


def test_a_journal_goes_on_behind_a_torn_line(tmp_path: Path) -> None:
    path, metrics = tmp_path / "before.jsonl", (table.METRICS["psnr"],)
    Journal(path).keep("first", metrics, {"psnr": 20.0}, 1.0)
    path.write_text(path.read_text() + path.read_text()[:30])
    Journal(path).keep("second", metrics, {"psnr": float("nan")}, None)
    first, second = (Journal(path).find(each, metrics) for each in ("first", "second"))
    assert first == ({"psnr": 20.0}, 1.0)
    assert second and np.isnan(second[0]["psnr"])
