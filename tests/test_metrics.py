"""The metrics against scikit-image, their doctests, and what they refuse."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import convolve2d
from skimage.color import rgb2gray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio as peak
from torchmetrics.functional.image import structural_similarity_index_measure as similarity

from lowlight_cli.errors import UsageError
from lowlight_cli.exposure import to_linear, to_srgb
from lowlight_cli.metrics import gt_mean, psnr, ssim, table
from lowlight_cli.metrics.alone import colour_shift, luma, whitened
from lowlight_cli.metrics.brisque import features as brisque_features
from lowlight_cli.metrics.colour import delta_e, luma_error
from lowlight_cli.metrics.fsim import fsim
from lowlight_cli.metrics.niqe import features as niqe_features
from lowlight_cli.metrics.niqe import niqe_own
from lowlight_cli.metrics.once import sharing
from lowlight_cli.metrics.perceptual import lpips
from lowlight_cli.metrics.ssim import ms_ssim, ssim_matlab

Picture = NDArray[np.float32]
SIZES = [(11, 11), (11, 40), (32, 48), (61, 37), (139, 11), (75, 523)]


def pair(size: tuple[int, int], kind: str) -> tuple[Picture, Picture]:
    """A picture and a reference, 8-bit values as float32."""
    random = np.random.default_rng(3)
    slope = np.linspace(0, 1, size[0] * size[1] * 3).reshape(*size, 3)
    noise = random.random((*size, 3))
    made = {"noise": noise, "slope": slope, "dark": slope * 0.05, "flat": np.full((*size, 3), 0.4)}[kind]
    high = np.clip(slope + 0.1 * (random.random((*size, 3)) - 0.5), 0, 1)
    return tuple((np.rint(each * 255) / 255).astype(np.float32) for each in (made, high))  # type: ignore[return-value]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["noise", "slope", "dark", "flat"])
def test_as_scikit_image(size: tuple[int, int], kind: str) -> None:
    made, high = pair(size, kind)
    x, y = made.astype(np.float64), high.astype(np.float64)  # of single precision, scikit-image computes in that
    wanted = structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1, data_range=1
    )
    assert ssim(made, high) == pytest.approx(wanted, abs=1e-9)
    assert psnr(made, high) == pytest.approx(peak_signal_noise_ratio(high, made, data_range=1), abs=1e-6)


def test_the_borders_are_left_out() -> None:
    # scikit-image crops 5 pixels from its map before the mean, so only there may a change at the rim be seen
    made, high = pair((40, 40), "slope")
    _, whole = structural_similarity(
        made,
        high,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1,
        data_range=1,
        full=True,
    )
    assert ssim(made, high) == pytest.approx(whole[5:-5, 5:-5].mean(), abs=1e-6)
    assert abs(ssim(made, high) - whole.mean()) > 1e-4


def test_equal_pictures() -> None:
    _, high = pair((20, 20), "slope")
    assert psnr(high, high) == float("inf")
    assert ssim(high, high) == pytest.approx(1, abs=1e-12)


def test_gt_mean_matches_the_grey_mean() -> None:
    _, high = pair((30, 30), "slope")
    grey = np.array([0.299, 0.587, 0.114])
    matched = gt_mean(high * np.float32(0.2), high * np.float32(0.5))
    assert matched.dtype == np.float32
    assert float((matched @ grey).mean()) == pytest.approx(float((high * 0.5 @ grey).mean()), abs=1e-5)
    assert np.isfinite(gt_mean(np.zeros_like(high), high)).all()  # black stays black, and divides by nothing
    assert gt_mean(high * np.float32(0.9), high).max() <= 1


@pytest.mark.parametrize(("channel", "factor"), [(0, 1 / 0.299), (1, 1 / 0.587), (2, 1 / 0.114)])
def test_gt_mean_takes_the_grey_of_bt_601(channel: int, factor: float) -> None:
    coloured = np.zeros((4, 4, 3), np.float32)
    coloured[..., channel] = 0.5
    grey = np.full((4, 4, 3), 0.05, np.float32)  # 0.05 / (0.5 * weight), of 0.5
    assert gt_mean(coloured, grey)[0, 0, channel] == pytest.approx(0.05 * factor, rel=1e-5)


def test_gt_mean_clips() -> None:
    halves, white = np.full((2, 4, 3), 0.1, np.float32), np.ones((2, 4, 3), np.float32)
    halves[1] = 0.9
    assert gt_mean(halves, white)[:, 0, 0].tolist() == pytest.approx([0.2, 1])


@pytest.mark.parametrize(("level", "share"), [(253, 0), (254, 1), (255, 1)])
def test_what_counts_as_white(level: int, share: float) -> None:
    dark, bright = np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.float32)
    bright[..., 1] = level / 255
    assert whitened(bright, dark) == share and whitened(bright, bright) == 0
    dark[..., 2] = level / 255  # one that was white is no news
    assert whitened(np.ones_like(bright), dark) == 1 - share


@pytest.mark.parametrize(("level", "angle"), [(16, 0), (17, 90)])
def test_what_is_bright_enough_to_have_a_colour(level: int, angle: float) -> None:
    red = np.zeros((4, 4, 3), np.float32)
    red[..., 0] = level / 255
    assert colour_shift(red[..., ::-1], red) == pytest.approx(angle)


def test_without_reference() -> None:
    _, bright = pair((30, 30), "slope")
    dark = bright * np.float32(0.4) + np.float32(0.07)
    assert luma(bright) == pytest.approx(rgb2gray(bright).mean(), abs=1e-3)  # scikit-image's weights are Rec. 709's too
    assert colour_shift(to_srgb(3 * to_linear(dark)), dark) < 0.05  # a gain in linear light turns no colour
    assert colour_shift(dark[..., ::-1], dark) > 1
    assert whitened(np.minimum(dark * 100, 1), dark) == 1 and whitened(dark, dark) == 0
    assert colour_shift(bright, np.zeros_like(bright)) == 0


OF_TWO = (psnr, gt_mean, ssim, ssim_matlab, ms_ssim, fsim, lpips, delta_e, luma_error, whitened, colour_shift)
OF_ONE = (luma, niqe_own, niqe_features, brisque_features)


@pytest.mark.parametrize("metric", OF_TWO, ids=lambda metric: metric.__name__)
def test_two_pictures_have_one_shape(metric: Callable[..., float]) -> None:
    x = np.zeros((20, 20, 3), np.float32)
    with pytest.raises(ValueError, match="one shape"):
        metric(x, x[:19])


@pytest.mark.parametrize("metric", [*OF_TWO, *OF_ONE], ids=lambda metric: f"{metric.__module__}.{metric.__name__}")
def test_what_is_no_float_picture_has_no_number(metric: Callable[..., float]) -> None:
    """Levels of 8 bits would give another number, such as a PSNR of -20 dB, and grey a number or an odd error."""
    x = np.zeros((20, 20, 3), np.float32)
    for wrong in (x.astype(np.uint8), x > 0, x[..., 0], x[..., :1], x[None], x.repeat(2, 2)[..., :4]):
        for given in [(wrong,)] if metric in OF_ONE else [(wrong, wrong), (wrong, x), (x, wrong)]:
            with pytest.raises(ValueError, match=r"\(H, W, 3\) floats in 0 to 1 are wanted, got"):
                metric(*given)


def test_ssim_wants_a_window() -> None:
    x = np.zeros((10, 20, 3), np.float32)
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(x, x)


@pytest.mark.parametrize(
    "module",
    [
        "metrics.checks",
        "metrics.psnr",
        "metrics.ssim",
        "metrics.alone",
        "metrics.colour",
        "metrics.fsim",
        "metrics.niqe",
        "metrics.brisque",
        "metrics.once",
        "bench.intervals",
        "bench.tasks",
    ],
)
def test_doctests(module: str) -> None:
    outcome = doctest.testmod(importlib.import_module(f"lowlight_cli.{module}"))
    assert outcome.attempted and not outcome.failed


# --------------------------------------------------------------------------------- against independent implementations


def noisy(size: tuple[int, int], seed: int, amount: float) -> tuple[Picture, Picture]:
    """A smooth picture and a noisy, darker one, 8-bit levels."""
    random = np.random.default_rng(seed)
    coarse = random.random((6, 7, 3)).astype(np.float32)
    high = np.clip(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), 0, 1)
    made = np.clip(high * 0.8 + random.normal(0, amount, (*size, 3)), 0, 1)
    return tuple((np.rint(each * 255) / 255).astype(np.float32) for each in (made, high))  # type: ignore[return-value]


def tensors(*pictures: Picture) -> list[Any]:
    return [torch.from_numpy(picture).double().permute(2, 0, 1)[None] for picture in pictures]


@pytest.mark.parametrize(("size", "seed"), [((176, 176), 0), ((179, 190), 2)])
def test_as_torchmetrics(size: tuple[int, int], seed: int) -> None:
    """PSNR, SSIM and MS-SSIM; its mean of SSIM takes in mirrored borders, so SSIM is that of its map without them."""
    made, high = noisy(size, seed, 0.02 + 0.05 * seed)
    x, y = tensors(made, high)
    assert psnr(made, high) == pytest.approx(float(peak(x, y, data_range=1.0)), abs=1e-4)

    def inside(x: Any, y: Any) -> float:
        _, whole = similarity(x, y, data_range=1.0, return_full_image=True)
        return float(whole[..., 5:-5, 5:-5].mean())

    assert ssim(made, high) == pytest.approx(inside(x, y), abs=1e-4)
    wanted = 1.0
    for exponent in (0.0448, 0.2856, 0.3001, 0.2363):
        _, structure = similarity(x, y, data_range=1.0, return_contrast_sensitivity=True)
        wanted *= float(structure) ** exponent
        x, y = (torch.nn.functional.avg_pool2d(each, 2) for each in (x, y))
    assert ms_ssim(made, high) == pytest.approx(wanted * inside(x, y) ** 0.1333, abs=1e-4)


def test_ms_ssim_wants_room() -> None:
    made, high = noisy((175, 200), 0, 0.1)
    assert np.isnan(ms_ssim(made, high))
    assert table.METRICS["ms_ssim"].measure(*noisy((176, 176), 0, 0.1)) < 1


def test_ms_ssim_of_a_negative_is_0() -> None:
    """Its structure is below 0 at every scale, which no fraction may be the power of."""
    _, high = noisy((176, 176), 0, 0.1)
    assert ms_ssim(1 - high, high) == 0.0


def test_ssim_as_matlab_writes_it() -> None:
    """ssim_index.m word for word: windows by plain convolution, the valid part, 8-bit grey."""
    made, high = noisy((40, 52), 1, 0.1)
    weights = np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])
    a, b = (np.rint((picture.astype(np.float64) * 255) @ weights) for picture in (made, high))
    ramp = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(ramp, ramp) / ramp.sum() ** 2
    mu_a, mu_b = convolve2d(a, window, "valid"), convolve2d(b, window, "valid")
    var_a, var_b = convolve2d(a * a, window, "valid") - mu_a**2, convolve2d(b * b, window, "valid") - mu_b**2
    cov = convolve2d(a * b, window, "valid") - mu_a * mu_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    wanted = ((2 * mu_a * mu_b + c1) * (2 * cov + c2)) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))
    assert ssim_matlab(made, high) == pytest.approx(wanted.mean(), abs=1e-9)
    assert abs(ssim_matlab(made, high) - ssim(made, high)) > 1e-3  # they are two things


def ciede2000(one: tuple[float, float, float], two: tuple[float, float, float]) -> float:
    """Sharma, Wu, Dalal 2005, equations 2 to 22, for two colours in CIELAB."""
    (l1, a1, b1), (l2, a2, b2) = one, two
    mean = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    g = 0.5 * (1 - math.sqrt(mean**7 / (mean**7 + 25**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = math.hypot(a1, b1), math.hypot(a2, b2)
    h1, h2 = (math.degrees(math.atan2(b, a)) % 360 if a or b else 0.0 for a, b in ((a1, b1), (a2, b2)))
    dh = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    big = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(dh / 2))
    if c1 * c2 == 0:
        h = h1 + h2
    elif abs(h1 - h2) <= 180:
        h = (h1 + h2) / 2
    else:
        h = (h1 + h2 + (360 if h1 + h2 < 360 else -360)) / 2
    level, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    t = (
        1
        - 0.17 * math.cos(math.radians(h - 30))
        + 0.24 * math.cos(math.radians(2 * h))
        + 0.32 * math.cos(math.radians(3 * h + 6))
        - 0.20 * math.cos(math.radians(4 * h - 63))
    )
    sl = 1 + 0.015 * (level - 50) ** 2 / math.sqrt(20 + (level - 50) ** 2)
    sc, sh = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    turn = -math.sin(math.radians(60 * math.exp(-(((h - 275) / 25) ** 2))))
    turn *= 2 * math.sqrt(chroma**7 / (chroma**7 + 25**7))
    dl, dc, dh = (l2 - l1) / sl, (c2 - c1) / sc, big / sh
    return math.sqrt(dl**2 + dc**2 + dh**2 + turn * dc * dh)


def test_delta_e() -> None:
    """By another CIEDE2000, itself held to published pairs, and OpenCV's CIELAB."""
    assert ciede2000((50, 2.6772, -79.7751), (50, 0, -82.7485)) == pytest.approx(2.0425, abs=1e-4)
    assert ciede2000((50, 2.5, 0), (73, 25, -18)) == pytest.approx(27.1492, abs=1e-4)
    made, high = noisy((16, 18), 2, 0.15)
    labs = [cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).reshape(-1, 3) for picture in (made, high)]
    wanted = np.mean([ciede2000(tuple(a), tuple(b)) for a, b in zip(*map(np.ndarray.tolist, labs), strict=True)])
    assert delta_e(made, high) == pytest.approx(wanted, abs=0.01)  # OpenCV's CIELAB is in single precision
    assert delta_e(high, high) == 0


def test_luma_error() -> None:
    made, high = noisy((16, 18), 2, 0.15)
    wanted = abs(rgb2gray(made).mean() - rgb2gray(high).mean())
    assert luma_error(made, high) == luma_error(high, made) == pytest.approx(wanted, abs=1e-3)


def test_gt_mean_ssim_is_ssim_after_it() -> None:
    made, high = noisy((30, 30), 2, 0.05)
    value = table.METRICS["ssim_gt_mean"].measure(made, high)
    assert value == ssim(gt_mean(made, high), high) and value > ssim(made, high)


# ----------------------------------------------------------------------------------------------------------- the table


def test_choosing() -> None:
    kept, missing = table.chosen([], True)
    assert [metric.key for metric in kept] == ["psnr", "psnr_gt_mean", "ssim"] and not missing
    kept, missing = table.chosen(["MS-SSIM", "delta_e"], True)
    assert [metric.key for metric in kept] == ["psnr", "psnr_gt_mean", "ssim", "ms_ssim", "delta_e"] and not missing
    kept, missing = table.chosen(["all"], True, offline=True)
    told = {line.split(":")[0] for line in missing}
    wanted = {key for key, metric in table.METRICS.items() if metric.reference or key not in table.PLAIN}
    assert {metric.key for metric in kept} == {key for key in wanted if table.METRICS[key].title not in told}
    assert told <= {"LPIPS", "NIQE", "BRISQUE"}  # the others need nothing but the extra `metrics`
    kept, missing = table.chosen(["ms-ssim"], False)
    assert not any(metric.reference for metric in kept) and missing == ("MS-SSIM: not available: it wants a reference",)
    with pytest.raises(UsageError, match="did you mean 'delta-e'"):
        table.chosen(["deltae"], True)


def test_of_what_more_is_better() -> None:
    less, neither = ({key for key, each in table.METRICS.items() if each.higher is kind} for kind in (False, None))
    assert less == {"lpips", "delta_e", "luma_error", "niqe", "niqe_own", "brisque"}  # distances, or of faults
    assert neither == {"luma", "whitened", "colour_shift"}
    made, high = noisy((200, 196), 1, 0.1)
    for metric in (metric for metric in table.METRICS.values() if metric.reference and not metric.lacking(True)):
        assert (metric.measure(high, high) > metric.measure(made, high)) == metric.higher, metric.key


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    kept, missing = table.chosen(["delta-e"], True)
    assert "delta_e" not in {metric.key for metric in kept}
    assert missing == ("dE 2000: not available: pip install 'lowlight-cli[metrics]'",)


# --------------------------------------------------------------------------------------------- computed once, together


def test_sharing_changes_no_value() -> None:
    """Several results beside one reference, each with what was computed for the others still there or forgotten."""
    _, high = noisy((200, 196), 1, 0)
    made = [noisy((200, 196), 1, amount)[0] for amount in (0.02, 0.1, 0.2)]
    metrics = [metric for metric in table.METRICS.values() if not metric.lacking(True)]
    alone = [{metric.key: metric.measure(each, high) for metric in metrics} for each in made]
    assert len({values["fsim"] for values in alone}) == 3
    with sharing(high) as forget:
        for each, values in zip(made, alone, strict=True):
            assert {metric.key: metric.measure(each, high) for metric in metrics} == values
            forget()
    assert {metric.key: metric.measure(made[0], high) for metric in metrics} == alone[0]


def test_what_is_of_the_reference_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    module = importlib.import_module("lowlight_cli.metrics.fsim")
    congruency = module._congruency
    monkeypatch.setattr(module, "_congruency", lambda plane: asked.append(1) or congruency(plane))
    made, high = noisy((40, 40), 1, 0.1)
    with sharing(high) as forget:
        for number in range(5):
            fsim(made + np.float32(number / 100), high)
            forget()
    assert len(asked) == 6
    fsim(made, high)
    assert len(asked) == 8  # nothing is kept beyond


def test_a_picture_may_change_where_nothing_is_shared() -> None:
    made, high = noisy((40, 40), 1, 0.1)
    before = ssim(made, high)
    made[:20] = 0
    assert ssim(made, high) < before - 0.1
