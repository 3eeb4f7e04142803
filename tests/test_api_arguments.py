"""What the API is told: arguments of the wrong kind, sources of a picture, what is to come; and weights that fail."""

from __future__ import annotations

import copy
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ran, dark_array, run_with_threads

from lowlight_cli import Enhancer, enhance, read, write
from lowlight_cli.errors import InputError, UsageError, WeightsError


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"weights": b"x"}, "weights b'x' are neither a name nor a path"),
        ({"weights": 7}, "weights 7 are neither"),
        ({"engine": ["torch"]}, "unknown engine"),
        ({"precision": ["fp32"]}, "unknown precision"),
        ({"strength": np.array(0.5)}, "is not a number"),
        ({"gate": False}, "gate False is not a number; choose 0 to 1, or None"),
        ({"strength": True}, "strength True is not a number"),
        ({"protect_highlights": "off"}, "protect_highlights 'off' is neither True nor False"),
        ({"self_ensemble": "no"}, "self_ensemble 'no' is neither"),
        ({"offline": None}, "offline None is neither"),
    ],
)
def test_arguments_of_the_wrong_kind(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Enhancer(**options)


def test_arguments_of_the_function() -> None:
    for slip in ({"model": ["dgaf"]}, {"model": None}, {"strength": np.array(0.5)}, {"strength": 2}):
        with pytest.raises(UsageError):
            enhance(dark_array(), **slip)  # type: ignore[arg-type]


def test_what_is_no_photo(tmp_path: Path, photo: Path) -> None:
    for other in (dark_array(), "a.jpg"):
        with pytest.raises(TypeError, match="wanted what `read` gives, got"):
            write(tmp_path / "a.png", other)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="wanted what `read` gives, got"):
            Enhancer().enhance_photo(other)  # type: ignore[arg-type]
    for quality in ("90", True):
        with pytest.raises(UsageError, match=f"quality {quality!r}"):
            write(tmp_path / "a.jpg", read(photo), quality=quality)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("a.*"))


def test_sources_of_a_picture(photo: Path) -> None:
    data = photo.read_bytes()
    wanted = read(photo).pixels
    with photo.open("rb") as file:
        for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), file, str(photo)):
            assert np.array_equal(read(source).pixels, wanted)
    with photo.open("rb") as file:
        assert read(file).name == "photo.jpg"
    with pytest.raises(InputError, match=r"^picture: is empty"):
        read(b"")
    with pytest.raises(InputError, match=r"^picture: its read\(\) gives str, not bytes; open it in mode 'rb'"):
        read(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"photo.jpg: cannot be read \(read of closed file\)"):
        read(file)
    for other in (None, 3, dark_array()):
        with pytest.raises(TypeError, match=r"^wanted a path, bytes or a file .*, got \S+$"):
            read(other)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------- what is to come


@pytest.mark.parametrize("slip", [(0.5, 1), ("x", 2), (-1, 1), (10, 0), (10, -3), (10, 2.5), (10, True)])
def test_expecting_what_cannot_be(slip: Any) -> None:
    with pytest.raises(UsageError, match="choose a whole number"):
        Enhancer().expect(*slip)


@pytest.mark.parametrize("sent", [copy.copy, lambda each: pickle.loads(pickle.dumps(each))])
def test_what_is_expected_travels(dgaf_weights: Path, sent: Callable[[Enhancer], Enhancer]) -> None:
    enhancer = Enhancer(weights=dgaf_weights, engine="torch", device="cpu")
    enhancer.expect(1000, at_once=3)
    assert sent(enhancer).at_once == 3


def test_the_next_enhancer_has_all_threads_again(dgaf_weights: Path) -> None:
    import torch

    torch.set_num_threads(8)
    shared = Enhancer(weights=dgaf_weights, engine="torch", device="cpu")
    shared.expect(2, at_once=4)
    shared.load()
    assert torch.get_num_threads() == 2
    Enhancer(weights=dgaf_weights, engine="torch", device="cpu").load()
    assert torch.get_num_threads() == 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are started anew there")
def test_a_fork_of_a_process_that_used_torch(dgaf_weights: Path) -> None:
    """The first picture of a child, where it was not by an enhancer that its parent used torch."""
    code = (
        "import sys, torch, numpy, multiprocessing\nfrom lowlight_cli import Enhancer\nimport lowlight_cli.enhancer\n"
        "torch.set_num_threads(2)\ntorch.relu(torch.rand(4000000)).sum()\n"
        "def lit(_):\n"
        "    enhancer = Enhancer(weights=sys.argv[1], engine='torch', precision='fp32')\n"
        "    return enhancer.enhance(numpy.full((200, 300, 3), 9, numpy.uint8)).mean()\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "    assert pool.map_async(lit, [0]).get(timeout=30)[0] > 9\n"
    )
    run_with_threads(code, dgaf_weights)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are started anew there")
def test_a_fork_of_a_process_that_shared_its_threads(dgaf_weights: Path) -> None:
    """An enhancer for one picture at a time restores the number of threads, but not of those that were not forked."""
    code = (
        "import sys, torch, numpy, multiprocessing\nfrom lowlight_cli import Enhancer\n"
        "def lit(at_once):\n"
        "    enhancer = Enhancer(weights=sys.argv[1], engine='torch', device='cpu', precision='fp32')\n"
        "    enhancer.expect(2, at_once=at_once)\n"
        "    lit = enhancer.enhance(numpy.full((200, 300, 3), 9, numpy.uint8)).mean()\n"
        "    return lit, torch.get_num_threads()\n"
        "torch.set_num_threads(2)\ntorch.relu(torch.rand(4000000)).sum()\nassert lit(2)[1] == 1\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "    mean, threads = pool.map_async(lit, [1]).get(timeout=30)[0]\n"
        "assert mean > 9 and threads == 1 and lit(1)[1] == 2\n"
    )
    run_with_threads(code, dgaf_weights)


# ------------------------------------------------------------------------------------------- weights without a picture


@pytest.fixture
def hopeless(tmp_path: Path) -> Path:
    """A checkpoint whose every value is a number, and whose results are none."""
    import torch

    from lowlight_cli.networks import build
    from lowlight_cli.weights import files

    state = {name: torch.full_like(value, 60_000.0) for name, value in build("neid").state_dict().items()}
    path = tmp_path / "hopeless.safetensors"
    files.save(path, state, {"network": "neid", "tag": "hopeless", "input": "as-is"})
    return path


def test_weights_that_compute_no_picture(hopeless: Path) -> None:
    dark = dark_array()
    with pytest.raises(WeightsError, match=r"compute no picture, .* not finite: take others$"):
        Enhancer("neid", hopeless, engine="torch", precision="fp32").enhance(dark)
    with pytest.raises(WeightsError, match="try the precision fp32, this is bf16"):
        Enhancer("neid", hopeless, engine="torch", device="cpu", precision="bf16").enhance(dark)


def test_no_picture_is_no_file(lowlight: Callable[..., Ran], hopeless: Path, photo: Path) -> None:
    ran = lowlight("enhance", photo, "-m", "neid", "-w", hopeless, "-o", "lit.png", "--engine", "torch")
    assert ran.code == WeightsError.exit_code and "photo.jpg: the weights compute no picture" in ran.err
    assert not Path("lit.png").exists()
    Path("dark").mkdir()
    photo.rename("dark/photo.jpg")
    ran = lowlight("batch", "dark", "-m", "neid", "-w", hopeless, "-o", "lit", "--engine", "torch")
    assert ran.code == WeightsError.exit_code and "1 failed" in ran.err
    assert not list(Path("lit").glob("*.jpg"))
