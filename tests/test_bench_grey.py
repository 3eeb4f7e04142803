"""What `lowlight bench` measures of grey pictures is what `lowlight enhance` writes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lowlight_cli.bench import methods, run, sets
from lowlight_cli.enhancer import Enhancer
from lowlight_cli.files import enhance_files
from lowlight_cli.metrics import table
from lowlight_cli.targets import Job


def test_grey_pictures_are_measured_as_they_are_written(folder: Path, dgaf_weights: Path) -> None:
    """The file that is written, measured as another program's result, has the figures of the network itself."""
    high = np.random.default_rng(0).integers(40, 220, (40, 60), np.uint8)
    for part, pixels in (("low", high // 8), ("high", high)):
        Path("set", part).mkdir(parents=True)
        Image.fromarray(pixels).save(f"set/{part}/a.png")
    enhancer = Enhancer("dgaf", dgaf_weights, device="cpu", precision="fp32")
    (done,) = enhance_files(enhancer, [Job(Path("set/low/a.png"), Path("lit/a.png"))])
    assert not done.error
    with Image.open("lit/a.png") as lit:
        assert lit.mode == "L"
    dataset = sets.find("set", folder)
    own = methods.network(methods.Choice("dgaf", str(dgaf_weights)), enhancer)
    rows = run.measure(dataset, [own, methods.external("written=lit", dataset)]).rows
    assert rows[0].scores[0].values == rows[1].scores[0].values and rows[0].mean("psnr") < table.CEILING
