"""`lowlight export` writes one file, which holds what the network is, or says why not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran, dark_array
from engine_kit import pictures
from PIL import Image

from lowlight_cli.networks import build
from lowlight_cli.weights import files
from lowlight_cli.weights.fetch import Resolved

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


def test_export_writes_one_file(
    lowlight: Callable[..., Ran], resolved: Callable[[str], Resolved], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's own checkpoint, in half precision, read by a runtime that knows nothing of us."""
    import onnxruntime

    ran = lowlight("export", "-o", "own.onnx", "--fp16")
    assert (ran.code, ran.out) == (0, "own.onnx\n"), ran.err
    assert "fp16" in ran.err and "at 5 sizes: " in ran.err and "grey levels at most" in ran.err
    graph = onnxruntime.InferenceSession("own.onnx", providers=["CPUExecutionProvider"])
    batch = np.ascontiguousarray(pictures(2, 33, 50).transpose(0, 3, 1, 2))
    module = build("dgaf").eval()
    module.load_state_dict(files.load(resolved("dgaf").path, "dgaf")[0])
    import torch

    with torch.inference_mode():
        wanted = module(torch.from_numpy(batch)).clamp(0, 1).numpy()
    assert np.abs(graph.run(None, {"input": batch})[0] - wanted).mean() * 255 < 0.5
    assert graph.get_modelmeta().custom_metadata_map["precision"] == "fp16"
    assert sorted(path.name for path in folder.iterdir()) == ["own.onnx"]
    again = lowlight("export", "-o", "own.onnx")
    assert again.code == 4 and "choose --exist skip or overwrite" in again.err
    told = json.loads(lowlight("export", "-o", "own.onnx", "--exist", "skip", "--json").out)
    assert (told["event"], told["status"], told["output"]) == ("exported", "skipped", "own.onnx")
    told = json.loads(lowlight("export", "-o", "own.onnx", "--exist", "overwrite", "--json").out)
    assert (told["status"], told["precision"], told["bytes"]) == ("done", "fp32", Path("own.onnx").stat().st_size)
    assert told["difference"]["largest"] < 1


def test_eight_bits_are_kept_to_their_bounds(lowlight: Callable[..., Ran], folder: Path) -> None:
    """The file is written where the picture is kept, and refused with the figures where it is not."""
    for name in ("a.png", "b.png"):
        Image.fromarray(dark_array(64, 64, seed=len(name))).save(name)
    ran = lowlight("export", "-o", "small.onnx", "--int8", "--pictures", ".")
    if ran.code == 0:
        operators = {node.op_type for node in onnx.load("small.onnx").graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    else:
        assert ran.code == 1 and re.search(r"dgaf in int8 is off by .* allowed are 0\.5 on average", ran.err), ran.err
        assert not Path("small.onnx").exists()


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["--fp16", "--int8"], 2, "exclude each other"),
        (["--int8"], 2, "--pictures"),
        (["--fp16"], 2, "-o FILE.onnx"),
        (["-o", "own.pth"], 2, "end it with .onnx"),
        (["--pictures", "nowhere", "--int8", "-o", "own.onnx"], 2, "not a folder"),
        (["-m", "dgav"], 2, "did you mean 'dgaf'"),
    ],
)
def test_export_refuses(lowlight: Callable[..., Ran], folder: Path, args: list[str], code: int, told: str) -> None:
    ran = lowlight("export", *args)
    assert ran.code == code and told in ran.err


def test_an_export_that_cannot_be_written_is_not_made(
    lowlight: Callable[..., Ran], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lowlight_cli.engines import export

    monkeypatch.setattr(export, "exported", lambda *_: pytest.fail("exported for nothing"))
    Path("file").write_text("")
    Path("folder.onnx").mkdir()
    for target in ("file/own.onnx", "folder.onnx"):
        ran = lowlight("export", "-o", target, "--exist", "overwrite")
        assert ran.code == 4 and target in ran.err, ran.err
