"""Pictures side by side: --compare, and `lowlight compare`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran, dark_array
from PIL import Image

from lowlight_cli import sheets
from lowlight_cli.networks import NETWORKS
from lowlight_cli.pictures import Photo, encode, read
from lowlight_cli.weights import catalog, fetch
from lowlight_cli.weights.catalog import Checkpoint
from lowlight_cli.weights.fetch import Resolved

Command = Callable[..., Ran]


def pictures(*names: str) -> list[tuple[str, np.ndarray]]:
    return [(name, np.full((60, 90, 3), 0.2 + number / 10, np.float32)) for number, name in enumerate(names)]


def places(sheet: np.ndarray, value: float) -> tuple[int, int]:
    """How many rows and columns of a sheet show a picture of one value."""
    there = np.isclose(sheet, value).all(2)
    return int(there.any(1).sum()), int(there.any(0).sum())


def test_each_picture_stands_whole_under_its_label() -> None:
    sheet = sheets.labelled(pictures("one", "two", "three"), 2)
    assert sheet.dtype == np.float32
    assert sheet.min() >= 0 and sheet.max() <= 1
    for value in (0.2, 0.3, 0.4):
        assert places(sheet, value) == (60, 90)
    assert not np.array_equal(sheet, sheets.labelled(pictures("one", "too", "three"), 2))
    assert sheets.labelled(pictures("one"), 1).shape[1] < sheet.shape[1]


def test_labels_that_are_too_long_are_cut() -> None:
    wide = sheets.labelled(pictures("a name that is much longer than its picture is wide", "b"), 2)
    assert wide.shape == sheets.labelled(pictures("a", "b"), 2).shape
    sheets.labelled([("no room at all", np.zeros((1, 1, 3), np.float32))], 1)
    sheets.labelled([("Ärger 漢字", np.zeros((400, 300, 3), np.float32))], 1)


def test_beside_leaves_out_what_would_not_fit() -> None:
    pixels = np.full((40, 60, 3), 0.5, np.float32)
    alpha = np.full((40, 60), 255, np.uint8)
    photo = Photo(pixels, alpha=alpha, icc=b"profile", source=np.zeros((40, 60, 3), np.uint8), depth=16)
    shown = sheets.beside(photo, photo.with_pixels(pixels * 1.5))
    assert (shown.alpha, shown.icc, shown.source, shown.depth) == (None, None, None, 16)
    assert places(shown.pixels, 0.5) == places(shown.pixels, 0.75) == (40, 60)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_what_is_transparent_shows_the_paper(kind: type[np.unsignedinteger]) -> None:
    """And not what the reader made up for the network to see."""
    alpha = np.full((40, 60), np.iinfo(kind).max, kind)
    alpha[:, 20:] = np.iinfo(kind).max // 2
    alpha[:, 40:] = 0
    photo = Photo(np.full((40, 60, 3), 0.5, np.float32), alpha=alpha)
    sheet = sheets.beside(photo, photo.with_pixels(photo.pixels + np.float32(0.25))).pixels
    for level in (0.5, 0.75):
        assert places(sheet, level) == (40, 20)
        between = np.isclose(sheet, (level + sheets.PAPER) / 2, atol=2e-3).all(2)
        assert (int(between.any(1).sum()), int(between.any(0).sum())) == (40, 20)
        assert np.count_nonzero(np.isclose(sheet, level).all(2)) == 40 * 20


def test_beside_declares_the_colours_that_it_has() -> None:
    """A camera's mark of Adobe RGB, with no profile beside it, would be believed by the next reader."""
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0xA001: 65_535, 0xA005: {1: "R03"}})
    pixels = np.full((40, 60, 3), 0.5, np.float32)
    photo = Photo(pixels, exif=exif.tobytes().removeprefix(b"Exif\0\0"), icc=b"profile", format="jpeg")
    shown = sheets.beside(photo, photo)
    again = Image.open(io.BytesIO(encode(shown))).getexif()
    assert again.get_ifd(0x8769)[0xA001] == 1
    assert again.get_ifd(0xA005)[1] == "R98"
    assert read(encode(shown)).icc is None


def test_compare_writes_input_and_result(photo: Path, lowlight: Command) -> None:
    assert lowlight("enhance", photo, "-o", "plain.png").code == 0
    ran = lowlight("enhance", photo, "--compare", "-o", "both.png", "--json")
    assert ran.code == 0
    before, after, both = (read(Path(name)).pixels for name in (photo, "plain.png", "both.png"))
    height, width, _ = before.shape
    assert both.shape[0] > height and both.shape[1] > 2 * width
    columns = (both.shape[1] - 2 * width) // 3
    top = both.shape[0] - height - columns
    assert np.array_equal(both[top : top + height, columns : columns + width], before)
    assert np.array_equal(both[top : top + height, 2 * columns + width : -columns], after)
    event = json.loads(ran.out.splitlines()[0])
    assert (event["width"], event["height"], event["tiles"]) == (width, height, 1)


def test_compare_measures_the_result_alone(photo: Path, lowlight: Command) -> None:
    told = [
        json.loads(lowlight("enhance", photo, *more, "--json").out.splitlines()[0])["luma"]
        for more in (["-o", "one.png"], ["--compare", "-o", "both.png"])
    ]
    assert told[0] == told[1]


def test_compare_of_a_panorama(folder: Path, lowlight: Command) -> None:
    """Side by side it is wider than the SHORT numbers of its EXIF hold."""
    exif = Image.Exif()
    exif[0x0100], exif[0x010F] = 33_000, "Camera"
    short = exif.tobytes().replace(b"\1\0\0\4\0\0\0\1\0\0\x80\xe8", b"\1\0\0\3\0\0\0\1\x80\xe8\0\0")
    assert short != exif.tobytes()
    Image.fromarray(dark_array(8, 33_000)).save("wide.png", exif=short)
    ran = lowlight("enhance", "wide.png", "--compare", "-o", "both.png")
    assert ran.code == 0, ran.err
    with Image.open("both.png") as both:
        assert both.width > 66_000
        assert (both.getexif()[0x0100], both.getexif()[0x010F]) == (both.width, "Camera")


def test_tiles_are_told(folder: Path, lowlight: Command) -> None:
    Image.fromarray(dark_array(390, 500)).save("large.png")
    ran = lowlight("enhance", "large.png", "--tile", 384, "-v")
    assert ran.code == 0
    assert any("500x390 in 4 tiles" in line for line in ran.lines)
    ran = lowlight("enhance", "large.png", "--tile", "384", "--json", "-o", "again.png")
    assert json.loads(ran.out.splitlines()[0])["tiles"] == 4
    ran = lowlight("enhance", "large.png", "--tile", "off", "--memory", "1MB", "-o", "never.png")
    assert ran.code == 7
    assert "large.png" in ran.err and "--tile off" in ran.err
    assert not Path("never.png").exists()


def test_the_mean_of_eight(photo: Path, lowlight: Command) -> None:
    assert lowlight("enhance", photo, "-o", "one.png").code == 0
    assert lowlight("enhance", photo, "--self-ensemble", "-o", "mean.png").code == 0
    one, mean = (read(Path(name)).pixels for name in ("one.png", "mean.png"))
    assert not np.array_equal(one, mean)
    assert np.abs(one - mean).mean() < 0.05


@pytest.mark.parametrize(
    ("option", "text"),
    [("--tile", "7"), ("--tile", "on"), ("--memory", "much"), ("--memory", "0GB"), ("--memory", "4XB")],
)
def test_sizes_that_are_none(photo: Path, lowlight: Command, option: str, text: str) -> None:
    ran = lowlight("enhance", photo, option, text)
    assert ran.code == 2
    assert f"{text!r} is neither" in ran.err


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("512MB", 512 * 10**6),
        ("4GiB", 4 * 2**30),
        ("1.5g", 15 * 10**8),
        ("2 kib", 2048),
        ("7700000", 7_700_000),
        ("auto", None),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    from lowlight_cli.cli.options import _memory

    assert _memory(text) == size


@pytest.fixture
def shipped(seeded: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """dgaf and neid come with the program, with seeded weights; the others do not."""
    names = ["neid", "dgaf"]
    table = [
        Checkpoint(
            network=name, tag="seeded", file=f"{name}.seeded.safetensors", sha256="0" * 64, bytes=1, parameters=1,
            licence="MIT", training_data="none", recipe="none", input="as-is", paper="a paper", paper_url="https://a.b",
        )
        for name in names
    ]  # fmt: skip
    monkeypatch.setattr(sheets, "catalog", lambda: tuple(table))
    monkeypatch.setattr(fetch, "resolve", lambda name, *_, **__: Resolved(seeded(name), "0" * 64, None))
    return names


def test_every_model_that_is_there(photo: Path, lowlight: Command, shipped: list[str]) -> None:
    ran = lowlight("compare", photo)
    assert (ran.code, ran.out) == (0, "photo_compare.jpg\n")
    missing = ", ".join(name for name in NETWORKS if name not in shipped)
    assert ran.lines == [f"left out, no weights are shipped: {missing}"]
    with Image.open("photo_compare.jpg") as sheet:
        assert sheet.width > 2 * 56 and sheet.height > 2 * 40
    ran = lowlight("compare", photo)
    assert ran.code == 4
    assert "photo_compare.jpg exists" in ran.err
    assert lowlight("compare", photo, "--exist", "skip").lines == ["photo_compare.jpg exists: skipped"]


@pytest.mark.parametrize("side", [1024, 30])
def test_compare_of_what_is_transparent(folder: Path, lowlight: Command, shipped: list[str], side: int) -> None:
    """In every picture of the sheet."""
    picture = np.dstack([dark_array(40, 60), np.full((40, 60), 255, np.uint8)])
    picture[:, 30:] = (255, 0, 0, 0)
    Image.fromarray(picture).save("clear.png")
    assert lowlight("compare", "clear.png", "-o", "sheet.png", "--side", side).code == 0
    sheet = np.asarray(Image.open("sheet.png"), np.int16)
    plain = (abs(sheet - round(sheets.PAPER * 255)) <= 1).all(2)
    width, height, gap, band = min(side, 60), min(side, 60) * 2 // 3, 3, 15
    for row, column in ((0, 0), (0, 1), (1, 0)):  # the input and two results
        top, left = gap + row * (height + band + gap) + band, gap + column * (width + gap)
        shown = plain[top : top + height, left : left + width]
        assert shown[:, width // 2 :].all() and not shown[:, : width // 2].all(0).any()


def test_compare_tells_what_it_does_not_show(folder: Path, lowlight: Command, shipped: list[str]) -> None:
    pages = [Image.fromarray(dark_array(24, 30, seed=seed)) for seed in range(3)]
    pages[0].save("three.tif", save_all=True, append_images=pages[1:])
    ran = lowlight("compare", "three.tif", "-o", "sheet.png")
    assert (ran.code, ran.lines[0]) == (0, "three.tif: only its first page is shown")
    assert lowlight("compare", "three.tif", "-o", "other.png", "-q").err == ""


def test_compare_as_json(photo: Path, lowlight: Command, shipped: list[str]) -> None:
    ran = lowlight("compare", photo, "-o", "sheet.png", "--side", 32, "--json")
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert [event["event"] for event in events] == ["model", "model", "sheet"]
    assert {event["name"] for event in events[:2]} == {f"{name}.seeded" for name in shipped}
    assert (events[2]["status"], events[2]["width"], events[2]["height"]) == ("done", 32, 23)
    assert read(Path("sheet.png")).format == "png"
    again = json.loads(lowlight("compare", photo, "-o", "sheet.png", "--exist", "skip", "--json").out)
    assert (again["event"], again["output"], again["status"]) == ("sheet", "sheet.png", "skipped")


def test_compare_makes_its_folder(photo: Path, lowlight: Command, shipped: list[str]) -> None:
    assert lowlight("compare", photo, "-o", "new/sheet.png").code == 0
    assert Path("new/sheet.png").exists()


@pytest.mark.parametrize("name", ["IMG.heic", "IMG.NEF", "IMG.data", "IMG"])
def test_a_sheet_is_a_jpeg_where_the_photo_s_own_kind_is_not_written(
    photo: Path, lowlight: Command, shipped: list[str], name: str
) -> None:
    photo.rename(name)
    assert lowlight("compare", name, "-o", "sheets").out == "sheets/IMG.jpg\n"
    assert read(Path("sheets/IMG.jpg")).format == "jpeg"


def test_compare_replaces_nothing_that_came_meanwhile(
    photo: Path, lowlight: Command, shipped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sheets.labelled

    def meanwhile(*args: object) -> object:
        Path("sheet.png").write_text("of another run")
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(sheets, "labelled", meanwhile)
    ran = lowlight("compare", photo, "-o", "sheet.png")
    assert (ran.code, ran.lines) == (4, ["error: sheet.png exists: choose --exist skip, overwrite or number"])
    Path("sheet.png").unlink()
    ran = lowlight("compare", photo, "-o", "sheet.png", "--exist", "skip", "--json")
    assert json.loads(ran.out.splitlines()[-1])["status"] == "skipped"
    assert Path("sheet.png").read_text() == "of another run"
    assert lowlight("compare", photo, "-o", "sheet.png", "--exist", "number").out == "sheet_2.png\n"
    assert lowlight("compare", photo, "-o", "sheet.png", "--exist", "overwrite").code == 0
    assert read(Path("sheet.png")).format == "png"


def test_compare_into_a_folder_that_a_slash_tells(photo: Path, lowlight: Command, shipped: list[str]) -> None:
    assert lowlight("compare", photo, "-o", "2024.05/").out == "2024.05/photo.jpg\n"


def test_compare_without_weights(photo: Path, lowlight: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "catalog", tuple)
    ran = lowlight("compare", photo)
    assert ran.code == 5
    assert "no weights are shipped" in ran.err


@pytest.mark.parametrize(
    ("args", "code"), [(("missing.jpg",), 3), (("photo.jpg", "-o", "photo.jpg"), 2), (("photo.jpg", "-o", "a.xyz"), 2)]
)
def test_what_cannot_be_compared(photo: Path, lowlight: Command, args: tuple[str, ...], code: int) -> None:
    ran = lowlight("compare", *args)
    assert ran.code == code
    assert len(ran.lines) == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((".",), ". is a folder: name one picture; `lowlight enhance .` brightens all that are in it"),
        (("sub",), "sub is a folder: name one picture; `lowlight enhance sub` brightens all that are in it"),
        (("-",), "`lowlight compare` does not read from stdin: name a picture"),
        (("photo.jpg", "-o", "-"), "`lowlight compare` does not write to stdout: name a file with -o"),
    ],
)
def test_folders_and_pipes_are_not_compared(
    photo: Path, lowlight: Command, shipped: list[str], args: tuple[str, ...], message: str
) -> None:
    Path("sub").mkdir()
    ran = lowlight("compare", *args)
    assert (ran.code, ran.out, ran.lines) == (2, "", [f"error: {message}"])
    assert {path.name for path in Path().iterdir()} == {"photo.jpg", "sub"}


def test_the_first_checkpoint_that_is_shipped_is_taken() -> None:
    for checkpoint in sheets.shipped()[0]:
        each = [other for other in catalog.catalog() if other.network == checkpoint.network and other.file]
        assert each[0] == checkpoint
