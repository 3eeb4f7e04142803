"""The Python API: the same type, size, depth and channels back; threads; errors; what the docstrings show."""

from __future__ import annotations

import doctest
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import dark_array, run_with_threads
from PIL import Image

import lowlight_cli
from lowlight_cli import DEFAULT_MODEL, Enhancer, LowlightError, enhance, read, write
from lowlight_cli.errors import DeviceError, InputError, ResourceError, UsageError, WeightsError
from lowlight_cli.exposure import LUMA
from lowlight_cli.pictures import Photo


@pytest.fixture(scope="module")
def enhancer(dgaf_weights: Path) -> Enhancer:
    return Enhancer(weights=dgaf_weights, precision="fp32")


@pytest.fixture
def default_weights(monkeypatch: pytest.MonkeyPatch, dgaf_weights: Path) -> None:
    """Seeded weights where this checkout ships none for the default model."""
    from lowlight_cli.weights import catalog, fetch

    shipped = any(each.network == DEFAULT_MODEL and each.file for each in catalog.catalog())
    if not shipped:
        resolved = fetch.Resolved(dgaf_weights, "0" * 64, None)
        monkeypatch.setattr(fetch, "resolve", lambda *_, **__: resolved)
    lowlight_cli.enhancer._kept.cache_clear()


FLOATS = [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, *FLOATS])
def test_arrays_come_back_as_they_were(enhancer: Enhancer, kind: type[np.generic], channels: int | None) -> None:
    dark = dark_array()
    image: Any = dark.astype(kind) / 255 if kind in FLOATS else dark.astype(kind) * (257 if kind is np.uint16 else 1)
    image = image.astype(kind)
    if channels in (None, 1):
        image = image[..., 0] if channels is None else image[..., :1]
    elif channels == 4:
        image = np.concatenate((image, image[..., :1]), axis=2)
    kept = image.copy()
    lit = enhancer.enhance(image)
    assert (type(lit), lit.shape, lit.dtype) == (np.ndarray, image.shape, image.dtype)
    assert np.array_equal(image, kept)  # what was given is not written to
    assert lit[..., :3].mean() > 1.5 * image[..., :3].mean()
    if channels == 4:
        assert np.array_equal(lit[..., 3], image[..., 3])


def test_depths_agree(enhancer: Enhancer) -> None:
    dark = dark_array()
    eight = enhancer.enhance(dark).astype(float) / 255
    sixteen = enhancer.enhance(dark.astype(np.uint16) * 257).astype(float) / 65535
    real = enhancer.enhance(dark.astype(np.float64) / 255)
    assert np.abs(eight - real).max() <= 0.51 / 255
    assert np.abs(sixteen - real).max() <= 0.51 / 65535 + 1e-6


def test_grey_is_the_same_as_three_equal_channels(enhancer: Enhancer) -> None:
    grey = dark_array()[..., 0]
    three = enhancer.enhance(np.stack([grey] * 3, axis=2)).astype(np.float32)
    assert np.abs(enhancer.enhance(grey) - three @ LUMA).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (1, 40, 3), (40, 1, 3), (7, 13), (17, 33, 4)])
def test_every_size(enhancer: Enhancer, shape: tuple[int, ...]) -> None:
    assert enhancer.enhance(np.full(shape, 20, np.uint8)).shape == shape


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("kind", [">u2", ">f4"])
def test_byte_order_comes_back(enhancer: Enhancer, kind: str, channels: int) -> None:
    image = np.full((5, 6, channels), 0.02 if kind == ">f4" else 900).astype(kind)
    assert enhancer.enhance(image).dtype == image.dtype


def test_views_and_foreign_byte_order(enhancer: Enhancer) -> None:
    dark = dark_array()
    wanted = enhancer.enhance(dark[::2, ::-1].copy())
    assert np.array_equal(enhancer.enhance(dark[::2, ::-1]), wanted)
    assert np.array_equal(enhancer.enhance(np.asfortranarray(dark[::2, ::-1])), wanted)
    big = (dark.astype(np.uint16) * 257).astype(">u2")
    lit = enhancer.enhance(big)
    assert lit.dtype == big.dtype
    assert np.array_equal(lit, enhancer.enhance(big.astype(np.uint16)))


@pytest.mark.parametrize(
    ("mode", "back"),
    [
        ("L", "L"), ("LA", "LA"), ("RGB", "RGB"), ("RGBA", "RGBA"), ("I;16", "I;16"), ("1", "L"), ("P", "RGB"),
        ("PA", "RGBA"), ("La", "LA"), ("CMYK", "RGB"), ("YCbCr", "RGB"), ("HSV", "RGB"), ("RGBX", "RGB"),
    ],
)  # fmt: skip
def test_pil_images(enhancer: Enhancer, mode: str, back: str) -> None:
    image = Image.fromarray(dark_array())
    if mode == "I;16":
        image = Image.fromarray(dark_array()[..., 0].astype(np.uint16) * 257)
    elif mode == "PA":
        image = image.convert("P").convert("PA")
    elif mode == "La":
        image = image.convert("LA").convert("La")
    else:
        image = image.convert(mode)
    image.info["icc_profile"] = b"profile"
    lit = enhancer.enhance(image)
    assert (type(lit), lit.mode, lit.size) == (Image.Image, back, image.size)
    assert lit.info.get("icc_profile") == (None if mode == "CMYK" else b"profile")
    if mode in ("LA", "RGBA"):
        assert lit.getchannel("A").tobytes() == image.getchannel("A").tobytes()


def test_transparency_of_a_palette(enhancer: Enhancer) -> None:
    image = Image.fromarray(dark_array()).convert("P")
    image.info["transparency"] = 0
    lit = enhancer.enhance(image)
    assert lit.mode == "RGBA" and "transparency" not in lit.info
    assert lit.getchannel("A").tobytes() == image.convert("RGBA").getchannel("A").tobytes()


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ([[1, 2]], TypeError, "wanted a NumPy array or a PIL image, got builtins.list"),
        ("photo.jpg", TypeError, "builtins.str"),
        (np.zeros((4, 4), np.int64), InputError, "int64"),
        (np.zeros((4, 4), bool), InputError, "bool"),
        (np.zeros((4, 4), np.uint32), InputError, "uint32"),
        (np.zeros((4, 4), complex), InputError, "complex"),
        (np.zeros(4, np.uint8), InputError, "channels last"),
        (np.zeros((2, 4, 4, 3), np.uint8), InputError, "channels last"),
        (np.zeros((3, 40, 40), np.uint8), InputError, "channels last"),
        (np.zeros((0, 4, 3), np.uint8), InputError, "no pixels"),
        (np.full((4, 4), np.nan, np.float32), InputError, "not finite"),
        (np.full((4, 4), np.inf), InputError, "not finite"),
        (np.full((4, 4), 200.0), InputError, "reaches from 200 to 200: divide it by its white"),
        (Image.new("F", (4, 4)), InputError, "mode F"),
        (Image.new("I", (4, 4)), InputError, "mode I"),
    ],
)
def test_what_is_no_picture(enhancer: Enhancer, image: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        enhancer.enhance(image)


def test_overshoot_is_clipped(enhancer: Enhancer) -> None:
    image = dark_array().astype(np.float32) / 255
    image[0, 0], image[1, 1] = -0.02, 1.04
    lit = enhancer.enhance(image)
    assert lit.min() >= 0 and lit.max() <= 1


# ------------------------------------------------------------------------------------------------------------ threads


def test_threads_share_an_enhancer(dgaf_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first picture of each thread comes at the same time: one load, and each gets its own result."""
    from lowlight_cli import engines

    loads: list[object] = []
    load = engines.load
    monkeypatch.setattr(engines, "load", lambda *a, **k: loads.append(a) or load(*a, **k))
    shared = Enhancer(weights=dgaf_weights)
    images = [dark_array(24 + 8 * (i % 3), 40, seed=i) for i in range(24)]
    gate = threading.Barrier(6)

    def work(index: int) -> list[np.ndarray[Any, Any]]:
        gate.wait()
        return [shared.enhance(image) for image in images[index::6]]

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(work, range(6)))
    alone = Enhancer(weights=dgaf_weights)
    assert len(loads) == 1
    for index in range(6):
        for image, lit in zip(images[index::6], results[index], strict=True):
            assert np.array_equal(lit, alone.enhance(image))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are started anew there")
def test_a_forked_process_goes_on(dgaf_weights: Path) -> None:
    """A pool of processes, once its parent has brightened a picture: torch's threads are not forked."""
    code = (
        "import sys, torch, numpy, multiprocessing\nfrom lowlight_cli import Enhancer\ntorch.set_num_threads(2)\n"
        "enhancer = Enhancer(weights=sys.argv[1], engine='torch', precision='fp32')\n"
        "dark = numpy.full((96, 128, 3), 9, numpy.uint8)\nlit = enhancer.enhance(dark)\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "    other = pool.map_async(enhancer.enhance, [dark]).get(timeout=30)[0]\n"
        "assert abs(lit.astype(int) - other).max() <= 1\n"
    )
    run_with_threads(code, dgaf_weights)


def test_what_cannot_be_written(tmp_path: Path, photo: Path) -> None:
    for slip in ({"quality": 900}, {"quality": 0}, {"depth": 12}):
        with pytest.raises(UsageError, match="out of range"):
            write(tmp_path / "a.jpg", read(photo), **slip)  # type: ignore[arg-type]
    assert not (tmp_path / "a.jpg").exists()


def test_same_again(enhancer: Enhancer) -> None:
    assert np.array_equal(enhancer.enhance(dark_array()), enhancer.enhance(dark_array()))


# ------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("name", ["neid", "frlie"])
def test_exposed_networks_see_an_exposed_picture(
    seeded: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from lowlight_cli.exposure import apply_gain, auto_gain

    other = Enhancer(name, seeded(name), precision="fp32")
    engine, _ = other.load()
    seen: list[Any] = []
    forward = type(engine).forward
    monkeypatch.setattr(type(engine), "forward", lambda self, batch: seen.append(batch) or forward(self, batch))
    picture = dark_array().astype(np.float32) / 255
    other.enhance_picture(picture)
    assert np.allclose(seen[0][0], apply_gain(picture, auto_gain(picture)))
    assert seen[0].mean() > 2 * picture.mean()


def test_strength_and_gate_need_no_network() -> None:
    dark = dark_array()
    assert np.array_equal(Enhancer(weights="nowhere.safetensors", strength=0).enhance(dark), dark)
    assert np.array_equal(Enhancer(weights="nowhere.safetensors", gate=0.01).enhance(dark), dark)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "jrcnet"}, UsageError, "did you mean 'jcrnet'"),
        ({"device": "gpu"}, UsageError, "unknown device 'gpu'"),
        ({"precision": "fp8"}, UsageError, "unknown precision 'fp8'"),
        ({"engine": "jax"}, UsageError, "unknown engine 'jax'"),
        ({"strength": 1.5}, UsageError, "strength 1.5"),
        ({"exposure": 0.1}, UsageError, "exposure 0.1"),
        ({"gate": 2.0}, UsageError, "gate 2.0"),
    ],
)
def test_slips_are_found_before_anything_is_loaded(
    arguments: dict[str, Any], error: type[LowlightError], message: str
) -> None:
    with pytest.raises(error, match=message):
        Enhancer(**arguments)


def test_errors_come_with_the_first_picture(dgaf_weights: Path) -> None:
    with pytest.raises(WeightsError, match="nowhere"):
        Enhancer(weights="nowhere.safetensors").enhance(dark_array())
    with pytest.raises(DeviceError, match="cuda:99"):
        Enhancer(weights=dgaf_weights, device="cuda:99").enhance(dark_array())


def test_a_device_of_torchs_is_one(dgaf_weights: Path) -> None:
    import torch

    assert Enhancer(device=torch.device("cpu")).settings == Enhancer(device="cpu").settings
    Enhancer(device=torch.device("mps", 0))
    assert Enhancer(weights=dgaf_weights, device=torch.device("cpu", 0)).load()[0].device == "cpu"
    assert Enhancer(device=torch.device("cuda", 1)).settings == Enhancer(device="cuda:1").settings
    with pytest.raises(UsageError, match="meta"):
        Enhancer(device=torch.device("meta"))


def test_photo(enhancer: Enhancer, photo: Path) -> None:
    source = read(photo)
    write(Path("lit.jpg"), enhancer.enhance_photo(source))
    assert read(Path("lit.jpg")).pixels.mean() > source.pixels.mean()


def test_paths_may_be_text(tmp_path: Path, photo: Path) -> None:
    lowlight_cli.write(str(tmp_path / "copy.png"), lowlight_cli.read(str(photo)))
    again = lowlight_cli.read(str(tmp_path / "copy.png"))
    assert np.array_equal(again.pixels, lowlight_cli.read(photo).pixels)
    with pytest.raises(LowlightError, match="no such file"):
        lowlight_cli.read(str(tmp_path / "gone.png"))


@pytest.mark.usefixtures("default_weights")
def test_function_keeps_its_enhancer(monkeypatch: pytest.MonkeyPatch) -> None:
    from lowlight_cli import engines

    loads: list[object] = []
    load = engines.load
    monkeypatch.setattr(engines, "load", lambda *a, **k: loads.append(a) or load(*a, **k))
    dark = dark_array()
    first, second = enhance(dark), enhance(dark)
    assert np.array_equal(first, second) and first.mean() > dark.mean()
    assert len(loads) == 1
    assert np.array_equal(enhance(dark, strength=0.0), dark)
    half = [enhance(dark, strength=tenths / 10).mean() for tenths in (2, 4, 6, 8, 10, 2)]
    assert half[0] == half[5] < half[1] < half[2] < half[3] < half[4] == first.mean()
    assert len(loads) == 1
    assert enhance(Image.fromarray(dark), DEFAULT_MODEL).size == (56, 40)


@pytest.mark.usefixtures("default_weights")
@pytest.mark.parametrize("module", ["lowlight_cli", "lowlight_cli.enhancer"])
def test_examples_in_docstrings(module: str) -> None:
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    failed, tried = doctest.testmod(sys.modules[module], optionflags=flags)
    assert (failed, tried > 0) == (0, True)


def test_the_mean_of_eight_flips_and_turns(dgaf_weights: Path) -> None:
    picture = dark_array(24, 40).astype(np.float32) / 255
    enhancer = Enhancer("dgaf", dgaf_weights, precision="fp32")
    each = []
    for turns in range(4):
        for flip in (1, -1):
            turned = enhancer.enhance_picture(np.ascontiguousarray(np.rot90(picture, turns)[:, ::flip]))
            each.append(np.rot90(turned[:, ::flip], -turns))
    told: list[int] = []
    mean = Enhancer("dgaf", dgaf_weights, precision="fp32", self_ensemble=True).enhance_picture(picture, told.append)
    assert told == [1] * 8
    assert np.abs(mean - np.mean(each, axis=0)).max() < 1e-5
    assert np.abs(mean - each[0]).max() > 1e-6


def test_how_pictures_are_cut(dgaf_weights: Path) -> None:
    picture = dark_array(400, 700)
    told: list[int] = []
    enhancer = Enhancer("dgaf", dgaf_weights, tile=384, memory=8 * 10**9)
    enhancer.enhance_picture(picture.astype(np.float32) / 255, told.append)
    assert told == [6]
    assert enhancer.enhance(picture).shape == picture.shape
    with pytest.raises(UsageError, match="choose auto, off or at least 384"):
        Enhancer(tile=7)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"strength": "0.5"}, r"strength '0.5' is not a number; choose 0 to 1$"),
        ({"strength": None}, r"strength None is not a number"),
        ({"gate": "off"}, r"gate 'off' is not a number; choose 0 to 1, or None"),
        ({"exposure": "off"}, r"exposure 'off' is not a number; choose 0.2 to 0.8, auto or None"),
        ({"exposure": 0.9}, r"exposure 0.9 is out of range; choose 0.2 to 0.8, auto or None"),
        ({"exposure": np.zeros(3)}, r"exposure .* is not a number"),
        ({"model": None}, r"unknown model 'None'"),
        ({"tile": "auto"}, r"tile 'auto' is not a number; choose a number of pixels, 0 for off, or None"),
        ({"memory": "4GB"}, r"memory '4GB' is not a number; choose a number of bytes, or None"),
        ({"tile": False}, r"tile False is not a number; choose a number of pixels, 0 for off, or None"),
    ],
)
def test_what_only_the_command_understands(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Enhancer(**options)


@pytest.mark.parametrize("kind", ["bfloat16", "float64"])
def test_what_the_host_has_set_torch_to(dgaf_weights: Path, kind: str) -> None:
    """Its default type is not ours, and its random numbers are not used."""
    import torch

    def lit() -> np.ndarray[Any, Any]:
        return Enhancer(weights=dgaf_weights, engine="torch", precision="fp32").enhance(dark_array())

    wanted, before = lit(), torch.get_rng_state()
    torch.set_default_dtype(getattr(torch, kind))
    try:
        found = lit()
        assert torch.get_default_dtype() == getattr(torch, kind)
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.array_equal(found, wanted)
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_are_shared_once(dgaf_weights: Path) -> None:
    import torch

    torch.set_num_threads(8)
    for at_once, part in ((2, 4), (2, 4), (4, 2)):
        shared = Enhancer(weights=dgaf_weights, engine="torch", device="cpu")
        shared.expect(2, at_once=at_once)
        shared.load()
        assert torch.get_num_threads() == part


# --------------------------------------------------------------------------------------------- memory, and giving up


@pytest.mark.parametrize("where", ["lowlight_cli.enhancer.finishing", "lowlight_cli.borders.content"])
@pytest.mark.parametrize("way", ["enhance", "enhance_photo", "enhance_picture"])
def test_memory_that_runs_out_anywhere_is_one_error(
    enhancer: Enhancer, monkeypatch: pytest.MonkeyPatch, way: str, where: str
) -> None:
    def hungry(*_: object) -> None:
        raise MemoryError

    picture = dark_array().astype(np.float32) / 255
    given = Photo(picture) if way == "enhance_photo" else picture
    monkeypatch.setattr(where, hungry)
    with pytest.raises(ResourceError, match=r"^out of memory: use a smaller model or picture$"):
        getattr(enhancer, way)(given)
    monkeypatch.undo()
    assert getattr(enhancer, way)(given) is not None


def test_a_picture_is_given_up_by_raising_in_on_tiles(enhancer: Enhancer) -> None:
    class GivenUp(Exception):
        pass

    def give_up(tiles: int) -> None:
        raise GivenUp(tiles)

    picture = dark_array().astype(np.float32) / 255
    wanted = enhancer.enhance_picture(picture)
    with pytest.raises(GivenUp, match=r"^1$"):
        enhancer.enhance_picture(picture, give_up)
    with pytest.raises(GivenUp, match=r"^1$"):
        enhancer.enhance_photo(Photo(picture), on_tiles=give_up)
    np.testing.assert_array_equal(enhancer.enhance_picture(picture), wanted)
