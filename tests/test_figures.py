"""docs/make_figures.py, and whether README.md and docs/models.md tell what weights.toml has."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lowlight_cli.bench.report import SCHEMA
from lowlight_cli.weights.catalog import Checkpoint, catalog

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("make_figures", ROOT / "docs" / "make_figures.py")
assert spec and spec.loader
make_figures = importlib.util.module_from_spec(spec)
sys.modules["make_figures"] = make_figures
spec.loader.exec_module(make_figures)

TABLE = """\
# a comment
[[checkpoint]]
network = "dgaf"
tag = "real"
sha256 = "aa"
metrics = [
    { protocol = "old", dataset = "lol", psnr = 1.00, psnr_gt_mean = 2.00, ssim = 0.3000 },
    { protocol = "old", dataset = "nights", psnr = 9.00 },
]

[[checkpoint]]
network = "neid"
tag = "lol"
sha256 = "bb"
metrics = []

[[degradation]]
network = "dgaf"
tag = "real"
metrics = []
"""


def row(method: str, sha256: str | None, **values: float) -> dict[str, Any]:
    return {"method": method, "network": {"weights_sha256": sha256} if sha256 else None, **values}


def measured(name: str, *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "pictures": 7,
        "limited": False,
        "pixels_sha256": "p",
        "rows": list(rows),
        **more,
    }


def saved(path: Path, *sets: dict[str, Any]) -> Path:
    stated = [{"network": "neid", "dataset": "LOL", "split": "its own pairs", "psnr": 22.831, "ssim": 0.78}]
    path.write_text(json.dumps({"schema": SCHEMA, "sets": sets, "published": stated}))
    return path


LOL = measured(
    "lol",
    row("dgaf.real", "aa", psnr=21.5349, psnr_gt_mean=25.024, ssim=0.80231),
    row("input", None, psnr=7.77, psnr_gt_mean=18.79, ssim=0.195),
)
DICM = measured(
    "dicm", row("dgaf.real", "aa", luma=0.4361, niqe_own=3.125), row("neid.lol", "bb", luma=0.5, niqe_own=4.0)
)


def test_figures_go_where_they_are_told(tmp_path: Path) -> None:
    sets, stated = make_figures.read([saved(tmp_path / "a.json", LOL, DICM)])
    table = tomllib.loads(make_figures.weights(TABLE, sets))
    by = {"protocol": "lowlight bench: full resolution, 8 bits"}
    dgaf, neid = (block["metrics"] for block in table["checkpoint"])
    assert dgaf == [
        {**by, "dataset": "lol", "psnr": 21.53, "psnr_gt_mean": 25.02, "ssim": 0.8023},
        {"protocol": "old", "dataset": "nights", "psnr": 9.0},
        {**by, "dataset": "dicm", "luma": 0.436, "niqe_own": 3.12},
    ]
    assert neid == [{**by, "dataset": "dicm", "luma": 0.5, "niqe_own": 4.0}]
    assert table["degradation"][0]["metrics"] == [] and make_figures.weights(TABLE, {}) == TABLE
    text = make_figures.figures(sets, stated)
    lines = text.splitlines()
    assert lines[0] == "| model | eval15 of LOL | DICM | as published |"
    assert lines[2:5] == [
        "| `neid.lol` | - | 0.50 / 4.00 | 22.83 / - / 0.780 |",
        "| `dgaf.real` | 21.53 / 25.02 / 0.802 | 0.44 / 3.12 | - |",
        "| no network: input | 7.77 / 18.79 / 0.195 | - |  |",
    ]
    assert "As published: by the authors' weights, `neid` on its own pairs." in lines
    assert "DICM (7 pictures)" in text and "NIQE (own fit)" in text and "our own model of good photographs" in text
    assert "`lowlight bench --root DATA -d lol -d dicm --metric niqe-own --precision fp32`" in text
    page = f"before\n{make_figures.MARK}\nold\n{make_figures.MARK}\nafter\n"
    made = make_figures.page(page, text)
    assert "old" not in made and made.startswith("before\n") and made.endswith("after\n")
    assert make_figures.page(made, text) == made


def test_files_of_figures_are_joined_row_by_row(tmp_path: Path) -> None:
    newer = measured("lol", row("neid.lol", "bb", psnr=18.0, psnr_gt_mean=23.0, ssim=0.7))
    sets, _ = make_figures.read([saved(tmp_path / "a.json", LOL), saved(tmp_path / "b.json", newer)])
    assert set(sets["lol"]["rows"]) == {"dgaf.real", "input", "neid.lol"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (measured("lol", row("dgaf.real", "cc", psnr=1.0)), "other weights than weights.toml names"),
        (measured("lol", row("dgaf.real", "aa", psnr=1.0), limited=True), "--limit"),
        (measured("lol", row("dgaf.real", "aa", psnr=1.0), pixels_sha256="q"), "other pictures"),
    ],
)
def test_figures_that_are_not_of_this_are_refused(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(SystemExit, match=told):
        sets, _ = make_figures.read([saved(tmp_path / "a.json", LOL), saved(tmp_path / "b.json", given)])
        make_figures.weights(TABLE, sets)


@pytest.mark.parametrize("name", ["README.md", "docs/models.md"])
@pytest.mark.parametrize("checkpoint", [each for each in catalog() if each.file], ids=lambda each: each.name)
def test_pages_tell_what_weights_toml_has(checkpoint: Checkpoint, name: str) -> None:
    """Run docs/make_figures.py where this fails: it writes all three from one measurement."""
    _, told, _ = (ROOT / name).read_text("utf-8").split(make_figures.MARK)
    (line,) = re.findall(rf"(?m)^\| `{re.escape(checkpoint.name)}` \|.*$", told)
    cells = line.split("|")[2:4]
    for metric in checkpoint.metrics:
        if metric.dataset in ("lol", "lol-scenes"):
            shown = [float(value) for value in cells[metric.dataset == "lol-scenes"].split("/")]
            stated = (metric.psnr, metric.psnr_gt_mean, metric.ssim)
            assert shown == [pytest.approx(value, abs=0.00051) for value in stated], metric.dataset
