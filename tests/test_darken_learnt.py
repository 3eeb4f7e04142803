"""`lowlight darken --method drgn|dgaf`: from a training run's degradation to pairs, and what comes with the program."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Ran, bright, dark_array
from hub_server import Answer, serve
from numpy.typing import NDArray
from PIL import Image
from test_darken_command import hashes, luma, manifest

from lowlight_cli import disk
from lowlight_cli.networks import DEGRADATIONS, NETWORKS, build, module
from lowlight_cli.training import data, learnt
from lowlight_cli.training.darken import COLOURED, sensor
from lowlight_cli.training.loop import Run, train
from lowlight_cli.training.recipe import load
from lowlight_cli.training.sources import parse
from lowlight_cli.weights import catalog, files

Command = Callable[..., Ran]
Bytes = NDArray[np.uint8]


@pytest.fixture
def nights(folder: Path) -> Path:
    """Two dark pictures, one of them smaller than the photographs."""
    (folder / "nights").mkdir()
    for number, (height, width) in enumerate(((40, 56), (90, 120))):
        Image.fromarray(dark_array(height, width, number)).save(folder / "nights" / f"{number}.png")
    return Path("nights")


def made(path: Path, network: str) -> Path:
    """A degradation with its initial weights."""
    torch.manual_seed(0)
    files.save(path, module(network).state_dict(), {"network": network, "input": "as-is", "tag": "mine"})
    return path


@pytest.mark.parametrize("network", DEGRADATIONS)
def test_budgets_of_degradations(network: str) -> None:
    assert files.parameters(network) / 1e6 == pytest.approx(DEGRADATIONS[network].parameters, abs=5e-4)
    assert network not in NETWORKS


# ----------------------------------------------------------------------------------------------------- from training


@pytest.mark.parametrize(("model", "degradation"), [("lw-drgn", "lw-drgn-degradation"), ("dgaf", "dgaf-darkening")])
def test_a_papers_run_leaves_its_degradation_for_darken(
    folder: Path, nights: Path, photographs: Path, lowlight: Command, model: str, degradation: str
) -> None:
    for number in range(24):
        high = bright(folder / "high" / f"{number}.png", number, (32, 32))
        dark = (np.asarray(Image.open(high)) * 0.1).astype(np.uint8)
        (folder / "low").mkdir(exist_ok=True)
        Image.fromarray(dark).save(folder / "low" / high.name)
    settings = ("crop=32", "batch=1", *(("weights.perceptual=0",) if model == "dgaf" else ()))
    sources = ("pairs:low,high", *(("dark:nights",) if model == "dgaf" else ()))
    recipe = load(model, settings, "paper")
    path = train(
        Run(model, tuple(map(parse, sources)), folder / "run", folder / "cache", recipe, steps=2, validate=0),
        lambda _: None,
    )
    beside = path.with_name(f"{degradation}.own.safetensors")
    state, metadata = files.load(beside, degradation)
    assert (metadata["tag"], metadata["recipe"], metadata["input"]) == ("own", f"{model} paper", "as-is")
    if model == "lw-drgn":
        whole = files.load(path, model)[0]
        assert all(torch.equal(value, whole[f"deg.{name}"]) for name, value in state.items())
    method = "dgaf" if model == "dgaf" else "drgn"
    like = () if model == "dgaf" else ("--like", nights)
    ran = lowlight("darken", photographs, "-o", "out", "--method", method, "-w", beside, *like)
    assert (ran.code, ran.lines) == (0, ["3 dark pictures"])
    assert {line["weights"] for line in manifest("out")} == {disk.sha256(beside)}
    ran = lowlight("darken", photographs, "-o", "other", "--method", method, "-w", path, *like)
    assert ran.code == 5
    assert f"holds weights for {model}, --method {method} wants {degradation}" in ran.err


def test_best_leaves_none(folder: Path) -> None:
    for number in range(24):
        for side in ("low", "high"):
            bright(folder / side / f"{number}.png", number, (32, 32))
    recipe = load("lw-drgn", ("crop=32", "batch=1", "crop_end=0"))
    run = Run("lw-drgn", (parse("pairs:low,high"),), folder / "run", folder / "cache", recipe, steps=1, validate=0)
    assert [path.name for path in train(run, lambda _: None).parent.glob("*.own.*")] == ["lw-drgn.own.safetensors"]


def test_darkening_starts_as_a_dimming_that_keeps_colours() -> None:
    torch.manual_seed(1)
    darkening = module("dgaf-darkening")
    x = torch.full((1, 3, 32, 32), 0.5)
    x[:, 0] = 1.0
    with torch.no_grad():
        red, green, blue = darkening(x)[0, :, 16, 16].tolist()
    assert (red, green, blue) == pytest.approx((0.27, 0.047, 0.047), abs=0.1)
    assert red > 3 * max(green, blue)


# ------------------------------------------------------------------------------------------------------- the command


def options(method: str) -> tuple[str, ...]:
    return ("--method", method, *(("--like", "nights") if method == "drgn" else ()))


@pytest.mark.parametrize("method", learnt.METHODS)
def test_pairs_by_what_comes_with_the_program(photographs: Path, nights: Path, lowlight: Command, method: str) -> None:
    words = ("darken", photographs, *options(method), "--pairs", "--seed", 3, "--per-picture", 2)
    ran = lowlight(*words, "-o", "out")
    assert (ran.code, ran.lines) == (0, ["6 dark pictures"])
    lines = manifest("out")
    shipped = catalog.find(learnt.METHODS[method][0])
    for line in lines:
        assert (line["schema"], line["method"], line["seed"]) == ("lowlight-darken-2", method, 3)
        assert line["weights"] == shipped.sha256
        assert 0.5 <= line["parameters"]["light"] / line["parameters"]["learnt"] <= 2
        if method == "drgn":
            assert len(line["like"]) == 64
            assert line["parameters"]["night_sha256"] == disk.sha256(nights / line["parameters"]["night"])
        else:
            assert line["like"] is None and "night" not in line["parameters"]
        high = np.asarray(Image.open(photographs / line["input"]).convert("RGB"))
        assert np.array_equal(np.asarray(Image.open(Path("out", line["high"]))), high)
    assert len({line["parameters"]["light"] for line in lines}) == 6
    pairs = data.read_source(parse("pairs:out/low,out/high"), Path("cache"))
    assert len(pairs) == 6

    again = hashes("out")
    (photographs / "one.png").unlink()
    bright(photographs / "another.png", 9)
    assert lowlight(*words, "-o", "some").code == 0
    some = hashes("some")
    assert {name for name in some if some[name] != again.get(name)} == {name for name in some if "another" in name}
    assert lowlight(*words, "-o", "some", "--exist", "skip").lines == ["0 dark pictures, 3 photographs skipped"]


def test_other_nights_or_weights_are_another_wish(
    photographs: Path, nights: Path, lowlight: Command, folder: Path
) -> None:
    words = ("darken", photographs, "-o", "out", "--exist", "skip", *options("drgn"))
    lowlight(*words)
    assert lowlight(*words).lines == ["0 dark pictures, 3 photographs skipped"]
    Image.fromarray(dark_array(64, 64, 5)).save(nights / "third.png")
    assert lowlight(*words).lines == ["3 dark pictures"]
    mine = made(folder / "mine.safetensors", "drgn-degradation")
    assert lowlight(*words, "-w", mine).lines == ["3 dark pictures"]
    assert {line["weights"] for line in manifest("out")} == {disk.sha256(mine)}


def test_strength_is_the_share_of_light_that_is_left(photographs: Path, nights: Path, lowlight: Command) -> None:
    for method in learnt.METHODS:
        means = []
        for share in (0.01, 0.1, 0.5):
            out = f"{method}{share}"
            lowlight("darken", photographs, "-o", out, *options(method), "--strength", f"{share},{share}")
            assert all(line["parameters"]["light"] == pytest.approx(share) for line in manifest(out))
            means.append(luma(Path(out, "low/one.png")))
        assert means[0] < 0.6 * means[1] < 0.36 * means[2]


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("--method", "drgn"), 2, "--like FOLDER"),
        (("--method", "drgn", "--like", "none"), 3, "none: no such folder; --like"),
        (("--method", "drgn", "--like", "empty"), 3, "no picture in folder empty: --like"),
        (("--method", "dgaf", "--like", "nights"), 2, "--like is for --method drgn"),
        (("--like", "nights"), 2, "--method physical has neither"),
        (("-w", "night"), 2, "--method physical has neither"),
        (("--method", "dgaf", "-w", "dawn"), 5, "no weights 'dawn' for dgaf-darkening"),
        (("--method", "dgaf", "-w", "none.safetensors"), 5, "no weights file none.safetensors"),
        (("--method", "dgaf", "-w", "drgn.safetensors"), 5, "holds weights for drgn-degradation, --method dgaf wants"),
        (("--method", "drgn", "--like", "nights", "-w", "broken.safetensors"), 5, "broken.safetensors"),
    ],
)
def test_what_cannot_be_done(
    photographs: Path, nights: Path, lowlight: Command, args: tuple[str, ...], code: int, told: str
) -> None:
    Path("empty").mkdir()
    Path("broken.safetensors").write_bytes(b"no")
    if "drgn.safetensors" in args:
        made(Path("drgn.safetensors"), "drgn-degradation")
    ran = lowlight("darken", photographs, "-o", "out", *args)
    assert ran.code == code
    assert told in ran.err
    assert len(ran.lines) == 1
    assert not Path("out").exists()


def test_a_night_that_is_none(photographs: Path, nights: Path, lowlight: Command) -> None:
    for night in nights.iterdir():
        night.write_bytes(b"nothing")
    ran = lowlight("darken", photographs, "-o", "out", *options("drgn"), "--json")
    assert ran.code == 3
    assert ran.lines[-1] == "0 dark pictures, 3 failed"
    assert any(line.startswith("error: ") and "nights" in line for line in ran.lines)


@pytest.mark.parametrize("network", learnt.METHODS["drgn"])
@pytest.mark.parametrize("named", [True, False])
def test_weights_from_an_address(
    photographs: Path, nights: Path, lowlight: Command, monkeypatch: pytest.MonkeyPatch, network: str, named: bool
) -> None:
    """It is said that they are fetched, and once they are here, no server is asked."""
    monkeypatch.setenv("LOWLIGHT_CACHE", "cache")
    body = made(Path("mine.safetensors"), network).read_bytes()
    page = f"/{network}.mine.safetensors" if named else "/mine.safetensors"
    words = ("darken", photographs, "-o", "out", *options("drgn"), "--exist", "skip")
    with serve() as server:
        server.pages[page] = Answer(body)
        address = f"{server.url}{page}#sha256={hashlib.sha256(body).hexdigest()}"
        ran = lowlight(*words, "-w", address)
        assert (ran.code, ran.lines[-1]) == (0, "3 dark pictures")
        assert any(line.startswith(f"fetching {server.url}{page} from 127.0.0.1") for line in ran.lines)
        assert len(server.seen) == 1 or not named
    assert {line["weights"] for line in manifest("out")} == {hashlib.sha256(body).hexdigest()}
    assert lowlight(*words, "-w", address).lines == ["0 dark pictures, 3 photographs skipped"]


def test_an_address_with_weights_of_something_else(
    photographs: Path, nights: Path, lowlight: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOWLIGHT_CACHE", "cache")
    body = made(Path("mine.safetensors"), "dgaf-darkening").read_bytes()
    with serve() as server:
        server.pages["/a.safetensors"] = Answer(body)
        address = f"{server.url}/a.safetensors#sha256={hashlib.sha256(body).hexdigest()}"
        ran = lowlight("darken", photographs, "-o", "out", *options("drgn"), "-w", address)
    assert ran.code == 5 and "holds weights for dgaf-darkening" in ran.err
    assert not Path("out").exists() and not list(Path("cache").rglob("*.safetensors"))


def test_hidden_files_are_no_nights(photographs: Path, nights: Path, lowlight: Command) -> None:
    (nights / "._0.png").write_bytes(b"resource fork")
    assert lowlight("darken", photographs, "-o", "out", *options("drgn"), "--per-picture", 4).code == 0


def test_nights_come_in_the_order_of_their_names(nights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a seed draws the same ones from every disk."""
    real = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(sorted(real(folder), reverse=True)))
    names = [night.path.name for night in learnt.load("drgn", None, nights).nights]
    assert names == sorted(names) and len(names) > 1


def test_nights_are_decoded_once(nights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2, 12):
        Image.fromarray(dark_array(64, 64, number)).save(nights / f"{number}.png")
    darken = learnt.load("drgn", None, nights)
    right, opened = learnt.read, []
    monkeypatch.setattr(learnt, "read", lambda path: [opened.append(path), right(path)][1])
    picture = scene()[:32, :32]
    alike = [darken(picture, np.random.default_rng(seed)).low for _ in range(2) for seed in range(30)]
    assert len(opened) == len(set(opened)) > 8
    monkeypatch.setattr(learnt, "KEPT", 64 * 64 * 3 * 2)  # room for two
    again = [darken(picture, np.random.default_rng(seed)).low for seed in range(30)]
    assert all(np.array_equal(a, b) for a, b in zip(alike, again + again, strict=True))


def test_darkening_enhances_nothing(photographs: Path, lowlight: Command) -> None:
    mine = made(Path("mine.safetensors"), "dgaf-darkening")
    ran = lowlight("enhance", photographs / "one.png", "-m", "dgaf", "-w", mine)
    assert ran.code == 5 and "`lowlight darken -w` takes it" in ran.err
    assert lowlight("enhance", photographs / "one.png", "-m", "dgaf-darkening").code == 2
    assert lowlight("train", "-m", "dgaf-darkening").code == 2
    with pytest.raises(Exception, match="unknown model"):
        build("dgaf-darkening")


def test_the_list_has_them_with_their_licence(lowlight: Command) -> None:
    rows = {row.split("\t")[0]: row for row in lowlight("weights", "list").out.splitlines()}
    for checkpoint in catalog.degradations():
        assert checkpoint.licence in rows[checkpoint.name]
    assert lowlight("weights", "verify", *(each.name for each in catalog.degradations())).code == 0


# ---------------------------------------------------------------------------------------------------------- pictures


def scene() -> Bytes:
    """A photograph of a cup, (150, 225, 3)."""
    from skimage import data as pictures

    return np.asarray(Image.fromarray(pictures.coffee()).resize((225, 150), Image.Resampling.BOX))


@pytest.mark.parametrize("method", learnt.METHODS)
def test_the_shipped_degradations_darken_and_keep_the_scene(method: str, nights: Path) -> None:
    darken = learnt.load(method, None, nights if method == "drgn" else None)
    picture = scene()
    for seed in range(2):
        pair = darken(picture, np.random.default_rng(seed))
        assert pair.low.mean() < 0.4 * picture.mean()
        blurred = [np.asarray(Image.fromarray(each).reduce(3), float) for each in (pair.low, pair.high)]
        for channel in range(3):
            low, high = (each[..., channel].ravel() for each in blurred)
            assert np.corrcoef(low, high)[0, 1] > 0.75
        assert pair.parameters["learnt"] < 0.15


@pytest.mark.parametrize("method", learnt.METHODS)
def test_a_large_photograph_in_tiles(method: str, nights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Darkening network sees 18 pixels: exactly the whole; DeG's means are those of a reduced copy."""
    darken = learnt.load(method, None, nights if method == "drgn" else None)
    random = np.random.default_rng(0)
    picture = np.concatenate([random.integers(0, 40, scene().shape, dtype=np.uint8), scene()], 2)[:, :, -3:]
    x = np.divide(picture, 255, dtype=np.float32)
    if method == "drgn":
        x = np.concatenate([np.divide(dark_array(*x.shape[:2]), 255, dtype=np.float32), x], 2)
    whole = darken._run(x)
    monkeypatch.setattr(learnt, "SIDE", 100)
    monkeypatch.setattr(learnt, "overlap", lambda _: 32)
    tiled = darken._run(x)
    assert tiled.shape == whole.shape
    assert np.abs(tiled - whole).max() < (1e-5 if method == "dgaf" else 0.02)


def test_a_small_night_goes_on_in_its_mirror() -> None:
    night = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    window = learnt._window(night, 5, 3, np.random.default_rng(0))
    assert (window[..., 0] * 255).round().tolist() == [[0, 3, 3], [6, 9, 9], [6, 9, 9], [0, 3, 3], [0, 3, 3]]


def test_noise_of_smeared_channels_is_shared_as_told() -> None:
    """Grey light and noise of several levels: rounding takes little of the correlation."""
    grey = np.full((160, 160, 3), 0.2, np.float32)
    seen = []
    for seed in range(60):
        low, told = sensor(grey, np.random.default_rng(seed))
        if told["shot"] < 3e-4 or told["jpeg"]:
            continue
        channels = low.reshape(-1, 3).astype(float).T
        found = np.corrcoef(channels)[np.triu_indices(3, 1)]
        assert found == pytest.approx([told["coloured"]] * 3, abs=0.05)
        seen.append((told["smeared"], told["coloured"]))
    assert {smeared for smeared, _ in seen} == {True, False}
    assert all((coloured > 0) == smeared for smeared, coloured in seen)
    assert max(coloured for _, coloured in seen) < COLOURED


def test_colour_correlation_leaves_the_noise_as_strong() -> None:
    grey = np.full((128, 128, 3), 0.2, np.float32)
    ratios = []
    for seed in range(40):
        low, told = sensor(grey, np.random.default_rng(seed))
        if told["jpeg"] or told["shot"] < 3e-4:
            continue
        deviation = np.sqrt(told["shot"] * 0.2 + told["read"] ** 2)
        code = 0.2 ** (1 / 2.4) * 1.055 - 0.055
        slope = 1.055 / 2.4 * 0.2 ** (1 / 2.4 - 1) * told["gamma"] * code ** (told["gamma"] - 1)
        ratios.append(low.std((0, 1)).mean() / 255 / (slope * deviation))
    assert len(ratios) > 5
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)
