"""A network that is added as docs/development.md tells it can be trained and used, with nothing else done."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import numpy as np
import pytest
from conftest import SMALL
from counting import count
from numpy.typing import NDArray
from PIL import Image

from lowlight_cli.networks import NETWORKS, Descriptor
from lowlight_cli.training import recipe

GUIDE = Path(__file__).parent.parent / "docs" / "development.md"


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The network of the guide: its file, its line, and an empty recipe. Its name."""
    file, line = (
        dedent(text) for text in re.findall(r"^ +```python\n(.*?)^ +```", GUIDE.read_text("utf-8"), re.M | re.S)
    )
    module = ModuleType("lowlight_cli.networks.name")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(file, module.__dict__)
    monkeypatch.setitem(NETWORKS, "name", eval(line, {"Descriptor": Descriptor}))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "name.toml").touch()
    monkeypatch.setattr(recipe, "FOLDER", tmp_path / "recipes")
    return "name"


def test_its_line_is_true(added: str) -> None:
    work = count(added)
    assert work.parameters == pytest.approx(NETWORKS[added].parameters, rel=0.03)
    assert work.gmacs == pytest.approx(NETWORKS[added].gmacs, rel=0.03)


def test_it_is_trained_and_enhances(
    added: str, pairs: Path, folder: Path, dark: NDArray[np.uint8], call: Callable[..., tuple[int, str, str]]
) -> None:
    data = f"pairs:{pairs / 'low'},{pairs / 'high'}"
    code, out, err = call("train", "-m", added, "--data", data, "--steps", "2", "--threads", "1", "-q", *SMALL)
    assert code == 0, err
    Image.fromarray(dark).save("dark.png")
    code, _, err = call("enhance", "dark.png", "-m", added, "-w", out.strip())
    assert code == 0, err
    with Image.open("dark_lit.png") as lit:
        assert lit.size == (dark.shape[1], dark.shape[0])


def test_a_recipe_that_its_paper_has_not(
    added: str, pairs: Path, folder: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    data = f"pairs:{pairs / 'low'},{pairs / 'high'}"
    code, _, err = call("train", "-m", added, "--data", data, "--steps", "2", "--recipe", "paper")
    assert code == 2
    assert "--recipe paper: name has best" in err
