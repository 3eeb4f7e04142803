"""The page of `lowlight bench --report`: what is in it, and what it does in a browser; and CSV and LaTeX."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lowlight_cli.bench import export, methods, page, run, sets
from lowlight_cli.metrics.table import METRICS

Picture = NDArray[np.float32]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=900,900",
)  # fmt: skip
browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[run.Result, page.Gallery]:
    """Four pairs, a network that is good and one that is bad where the other is good; a hostile name."""
    folder = tmp_path_factory.mktemp("set")
    random = np.random.default_rng(0)
    for number, stem in enumerate(("a", "b", "c", "d<b>")):
        high = (np.linspace(60, 180, 36)[None, :, None] + random.normal(0, 3, (24, 36, 3))).astype(np.uint8)
        for part, pixels in (("low", high // (4 + number)), ("high", high)):
            (folder / part).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / part / f"{stem}.png")
    dataset = sets.find(str(folder), folder)
    good = methods.Method(
        "good </script><i>", "network", lambda pair, low: np.minimum(low * (4 + (pair.stem == "c")), 1)
    )
    bad = methods.Method("bad", "network", lambda pair, low: np.minimum(low * (6 - (pair.stem == "c")), 1))
    measured = [good, bad, *methods.baselines()]
    gallery = page.Gallery(measured)
    return run.measure(dataset, measured, on_picture=gallery), gallery


@pytest.fixture(scope="module")
def text(made: tuple[run.Result, page.Gallery]) -> str:
    return page.as_html([made[0]], [made[1]])


class Parts(HTMLParser):
    """What a page has: tags with attributes, text by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_nothing_is_loaded_from_outside(text: str) -> None:
    tags = Parts(text).tags
    assert not [tag for tag, given in tags if tag in ("link", "iframe") or given.get("src")]
    (policy,) = [given["content"] for tag, given in tags if given.get("http-equiv") == "Content-Security-Policy"]
    assert policy and policy.startswith("default-src 'none'; img-src data:")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp", text)


def test_names_cannot_break_out(text: str) -> None:
    assert "<i>" not in text and "good &lt;/script&gt;&lt;i&gt;" in text
    assert text.count("</script>") == 2 and "<b>" not in text


def test_a_set_named_like_a_place_of_the_template(text: str, made: tuple[run.Result, page.Gallery]) -> None:
    result, gallery = made
    named = replace(result, dataset=replace(result.dataset, title="%DATA%"))
    told = page.as_html([named], [gallery])
    assert "<h2>%DATA%</h2>" in told and told.count("data:image/jpeg") == text.count("data:image/jpeg")


def test_the_data_are_those_of_the_result(text: str, made: tuple[run.Result, page.Gallery]) -> None:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    (data,) = json.loads(found[1])
    result = made[0]
    assert data["values"]["psnr"]["bad"] == next(r for r in result.rows if r.method.name == "bad").values("psnr")
    assert [method["name"] for method in data["methods"]] == [row.method.name for row in result.rows]
    shown = data["pictures"]["a"]
    assert set(shown) == {"input", "reference", "good </script><i>", "bad"}  # no baseline where there are networks
    with Image.open(io.BytesIO(base64.b64decode(shown["reference"]))) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.float32)
    with Image.open(result.dataset.pairs[0].high) as high:
        assert np.abs(pixels - np.asarray(high, np.float32)).mean() < 5  # by JPEG


def test_of_many_pairs_the_worst_are_kept(made: tuple[run.Result, page.Gallery]) -> None:
    """Worst of either shown method: c for the one, the others for the other."""
    result, _ = made
    named = [row.method for row in result.rows]
    gallery = page.Gallery(named, most=2)
    again = run.measure(result.dataset, named, on_picture=gallery)
    worst = {
        stem: min(row.values("psnr")[number] for row in again.rows if row.method.kind == "network")
        for number, stem in enumerate(score.stem for score in again.rows[0].scores)
    }
    assert set(gallery.pictures) == set(sorted(worst, key=worst.__getitem__)[:2])
    assert all(set(pictures) == {"input", "reference", *gallery.names} for pictures in gallery.pictures.values())


def test_baselines_are_shown_where_there_is_nothing_else() -> None:
    assert "LIME-like" in page.Gallery(methods.baselines()).names


def in_chromium(folder: Path, text: str, *flags: str, script: str = "") -> str:
    """The page's DOM after its own script and another."""
    file = folder / "page.html"
    file.write_text(text.replace("</body>", f"<script>{script}</script></body>"), "utf-8")
    data = folder / "profile"
    shutil.rmtree(data, ignore_errors=True)
    done = subprocess.run(
        [CHROMIUM or "", *FLAGS, f"--user-data-dir={data}", *flags, file.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


SCRIPT = """{
const out = {}, text = (table, column) => [...table.tBodies[0].rows].map(row => row.cells[column].textContent);
const order = () => [...document.querySelectorAll("#pictures h3")].map(h => h.textContent.slice(8));
const choose = (id, name) => { $(id).value = name; $(id).dispatchEvent(new Event("change")); };
const means = document.querySelector("table.sorts"), heads = means.querySelectorAll("th button");
out.first = text(means, 2); heads[2].click(); heads[2].click(); out.ascending = text(means, 2);
out.sort = heads[2].parentElement.getAttribute("aria-sort");
heads[0].click(); out.names = text(means, 0);
choose("method", "good <" + "/script><i>"); out.good = order(); choose("method", "bad"); out.bad = order();
out.points = document.querySelectorAll("#scatter a circle").length;
out.bars = [...document.querySelectorAll("#histogram text")].filter(t => +t.textContent in [0, 1, 2, 3, 4]).length;
choose("metric", "ssim"); out.caption = $("every").caption.textContent; out.cell = text($("every"), 1)[0];
const slide = document.querySelector("#pictures .slide"); slide.value = 20; slide.dispatchEvent(new Event("input"));
out.clip = document.querySelector("#pictures .left").style.clipPath; out.told = slide.getAttribute("aria-valuetext");
out.label = slide.getAttribute("aria-label");
const unnamed = [...document.querySelectorAll("input, select, img, svg")].filter(e =>
  !(e.labels?.length || e.getAttribute("aria-label") || e.getAttribute("alt")));
out.unnamed = unnamed.length; out.sizes = [...document.querySelectorAll("#pictures img")].map(i => i.src.slice(0, 22));
document.body.textContent = JSON.stringify(out); document.title = "done";
}"""


@browser
def test_in_a_browser(tmp_path: Path, text: str, made: tuple[run.Result, page.Gallery]) -> None:
    """Tables sort, pictures come worst first, charts and slider do what they say, everything has a name."""
    dom = in_chromium(tmp_path, text, "--dump-dom", script=SCRIPT)
    found = re.search(r"<body>(\{.*\})\s*</body>", dom, re.DOTALL)
    assert found, dom[:2000]
    out = json.loads(html.unescape(found[1]))
    levels = [float(cell) for cell in out["ascending"]]
    assert levels == sorted(levels) and out["sort"] == "ascending" and sorted(out["first"]) == sorted(out["ascending"])
    assert out["names"] == sorted(out["names"], reverse=True)
    result = made[0]
    for name, shown in (("good </script><i>", out["good"]), ("bad", out["bad"])):
        row = next(row for row in result.rows if row.method.name == name)
        assert shown == [score.stem for score in sorted(row.scores, key=lambda score: score.values["psnr"])]
    assert out["good"] != out["bad"] and out["points"] == 4 and out["bars"] >= 2
    assert out["caption"] == "SSIM of every picture" and out["cell"] == f"{result.rows[0].values('ssim')[0]:.4f}"
    assert out["clip"].startswith("inset(0") and "80%" in out["clip"] and out["told"] == "20 % input"
    assert "covers bad" in out["label"] and out["unnamed"] == 0
    assert set(out["sizes"]) == {"data:image/jpeg;base64"}


SETS = """{
const out = {};
const seen = () => [[...$("metric").options].map(o => o.text), document.querySelectorAll("#pictures h3").length,
  $("every").tBodies[0].rows.length, document.querySelectorAll("#scatter circle").length];
out.sections = [...document.querySelectorAll("section h2")].map(h => h.textContent);
out.choice = [...$("set").options].map(o => o.text); out.hidden = $("set").parentElement.hidden;
out.first = seen(); $("set").value = "1"; $("set").dispatchEvent(new Event("change")); out.second = seen();
document.body.textContent = JSON.stringify(out);
}"""


@browser
def test_another_set_in_a_browser(tmp_path: Path, made: tuple[run.Result, page.Gallery]) -> None:
    """A section each; charts, tables and pictures are those of the set that is chosen."""
    for stem in ("x", "y"):
        Image.new("RGB", (240, 30), (9, 8, 7)).save(tmp_path / f"{stem}.png")
    dark = sets.find(str(tmp_path), tmp_path)
    methods_ = [methods.Method("good", "network", lambda _, low: low * 3), *methods.baselines()]
    gallery = page.Gallery(methods_)
    result = run.measure(dark, methods_, on_picture=gallery)
    text = page.as_html([made[0], result], [made[1], gallery])
    dom = in_chromium(tmp_path, text, "--dump-dom", script=SETS)
    found = re.search(r"<body>(\{.*\})\s*</body>", dom, re.DOTALL)
    assert found, dom[:2000]
    out = json.loads(html.unescape(found[1]))
    assert out["sections"] == out["choice"] == [made[0].dataset.title, dark.title] and not out["hidden"]
    assert out["first"] == [["PSNR", "GT-mean PSNR*", "SSIM"], 4, 4, 4]
    assert out["second"] == [["luma", "whitened", "colour shift"], 2, 2, 2]


SPACES = """{
const out = {chosen: $("method").value, pictures: document.querySelectorAll("#pictures h3").length};
out.bars = [...document.querySelectorAll("#histogram rect")].map(bar => bar.getAttribute("height"));
$("metric").value = "niqe"; $("metric").dispatchEvent(new Event("change"));
out.none = [...document.querySelectorAll("#histogram rect")].map(bar => bar.getAttribute("height"));
document.body.textContent = JSON.stringify(out);
}"""


@browser
def test_names_with_spaces_and_metrics_without_numbers_in_a_browser(
    tmp_path: Path, made: tuple[run.Result, page.Gallery]
) -> None:
    """A choice is the name itself, not what is left of its spaces; a chart of nothing has bars of no height."""
    named = [methods.Method("two  spaces ", "network", lambda _, low: low * 3), *methods.baselines()]
    gallery = page.Gallery(named)
    result = run.measure(made[0].dataset, named, on_picture=gallery)
    nothing = [
        run.Row(row.method, tuple(replace(each, values={**each.values, "niqe": math.nan}) for each in row.scores))
        for row in result.rows
    ]
    empty = replace(result, rows=tuple(nothing), metrics=(*result.metrics, METRICS["niqe"]))
    dom = in_chromium(tmp_path, page.as_html([empty], [gallery]), "--dump-dom", script=SPACES)
    found = re.search(r"<body>(\{.*\})\s*</body>", dom, re.DOTALL)
    assert found, dom[:2000]
    out = json.loads(html.unescape(found[1]))
    assert out["chosen"] == "two  spaces " and out["pictures"] == 4 and max(map(float, out["bars"])) == 300
    assert set(out["none"]) == {"0"}


@browser
@pytest.mark.parametrize(("scheme", "dark"), [("1", False), ("0", True)])
def test_light_and_dark(tmp_path: Path, text: str, scheme: str, dark: bool) -> None:
    shot = tmp_path / "shot.png"
    in_chromium(tmp_path, text, f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shot}")
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("L"), np.float32)
    assert (np.median(pixels) < 40) if dark else (np.median(pixels) > 240)
    assert pixels.std() > 10  # something is written on it


# ------------------------------------------------------------------------------------------------------ CSV, LaTeX


def test_csv(made: tuple[run.Result, page.Gallery]) -> None:
    result = made[0]
    rows = list(csv.DictReader(io.StringIO(export.as_csv([result]))))
    assert len(rows) == 4 * len(result.rows)
    mean = np.mean([float(row["psnr"]) for row in rows if row["method"] == "bad"])
    assert mean == pytest.approx(next(row.mean("psnr") for row in result.rows if row.method.name == "bad"))
    assert {row["kind"] for row in rows} == {"network", "baseline"}


def test_latex(made: tuple[run.Result, page.Gallery]) -> None:
    text = export.as_latex([made[0]])
    assert not re.search(r"\\\\\s*[*\[]", text)  # what TeX would take for a part of the line's end
    assert "{*} sees the reference" in text and r"good \textless{}/script" in text
    lines = text.splitlines()
    body = lines[lines.index("\\midrule") + 1 : lines.index("\\bottomrule")]
    assert len(body) == len(made[0].rows) and {line.count("&") for line in body} == {6}
    assert all(line.endswith(r"\\") for line in body)
    assert not re.search(r"(?<!\\)[%_#]", "\n".join(body)) and any(r"(95 \%)" in line for line in lines)
