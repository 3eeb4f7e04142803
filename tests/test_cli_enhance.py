"""`lowlight enhance` in this process: formats, targets, what exists, what is told."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran, dark_array
from PIL import Image

from lowlight_cli.engines import ENGINES

Lowlight = Callable[..., Ran]


def saved(path: str | Path, seed: int = 0, **options: object) -> Path:
    """A dark picture of its own at `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(dark_array(seed=seed)).save(path, **options)
    return path


def opened(path: str | Path) -> Image.Image:
    """The picture, its file closed again."""
    with Image.open(path) as image:
        image.load()
    return image


def mean(path: str | Path) -> float:
    return float(np.asarray(opened(path).convert("RGB")).mean())


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.bmp", "a.avif"])
def test_every_format_keeps_its_kind(folder: Path, lowlight: Lowlight, name: str) -> None:
    source = saved(name)
    ran = lowlight("enhance", name)
    target = source.with_stem("a_lit")
    assert (ran.code, ran.out) == (0, f"{target}\n")
    before, after = opened(source), opened(target)
    assert (after.format, after.size) == (before.format, before.size)
    assert mean(target) > mean(source) + 5


@pytest.mark.parametrize("name", ["lit.png", "lit.tiff", "lit.webp", "lit.avif", "lit.bmp", "lit.jpeg"])
def test_output_suffix_decides(photo: Path, lowlight: Lowlight, name: str) -> None:
    assert lowlight("enhance", photo, "-o", name).out == f"{name}\n"
    assert opened(name).size == opened(photo).size


def test_format_decides(photo: Path, lowlight: Lowlight) -> None:
    assert lowlight("enhance", photo, "--format", "png").out == "photo_lit.png\n"
    assert lowlight("enhance", photo, "--format", "jpg").out == "photo_lit.jpg\n"
    assert opened("photo_lit.png").format == "PNG"


def test_deep_stays_deep(folder: Path, lowlight: Lowlight) -> None:
    import cv2

    deep = dark_array().astype(np.uint16) * 257
    Path("deep.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    assert lowlight("enhance", "deep.png").code == 0
    lit = cv2.imdecode(np.fromfile("deep_lit.png", np.uint8), cv2.IMREAD_UNCHANGED)
    assert lit.dtype == np.uint16 and len(np.unique(lit)) > 300
    assert lowlight("enhance", "deep.png", "--bit-depth", "8", "-o", "flat.png").code == 0
    assert cv2.imdecode(np.fromfile("flat.png", np.uint8), cv2.IMREAD_UNCHANGED).dtype == np.uint8


def test_strength_zero_is_the_input(folder: Path, lowlight: Lowlight) -> None:
    saved("a.png")
    assert lowlight("enhance", "a.png", "--strength", "0").code == 0
    assert np.array_equal(np.asarray(opened("a.png")), np.asarray(opened("a_lit.png")))


def test_look_options_work(folder: Path, lowlight: Lowlight) -> None:
    saved("a.png")
    for name, options in {
        "half": ["--strength", "0.5"],
        "full": [],
        "dim": ["--exposure", "0.25"],
        "bright": ["--exposure", "0.6"],
    }.items():
        assert lowlight("enhance", "a.png", "-o", f"{name}.png", *options).code == 0
    assert mean("a.png") < mean("half.png") < mean("full.png")
    assert mean("dim.png") == pytest.approx(0.25 * 255, abs=4)
    assert mean("bright.png") == pytest.approx(0.6 * 255, abs=4)
    assert lowlight("enhance", "a.png", "-o", "off.png", "--exposure", "off", "--gate", "off").code == 0
    assert mean("off.png") == mean("full.png")
    assert lowlight("enhance", "off.png", "-o", "auto.png", "--exposure", "auto").code == 0
    assert mean("auto.png") > mean("off.png") * 0.9


def test_gate_leaves_bright_pictures_alone(folder: Path, lowlight: Lowlight) -> None:
    saved("a.png")
    ran = lowlight("enhance", "a.png", "--gate", "0.05")
    assert "a.png: bright already, left alone" in ran.err
    assert ran.lines[-1].startswith("1 left alone (bright already), ") and " lit" not in ran.lines[-1]
    assert np.array_equal(np.asarray(opened("a.png")), np.asarray(opened("a_lit.png")))
    assert "a.png: bright already, left alone" in lowlight("enhance", "a.png", "-o", "b.png", "--gate", "0").err


@pytest.mark.parametrize("gate", ["0.9", "0"])
def test_what_a_strength_of_0_leaves_is_not_called_bright(folder: Path, lowlight: Lowlight, gate: str) -> None:
    saved("a.png")
    ran = lowlight("enhance", "a.png", "--strength", "0", "--gate", gate)
    assert ran.code == 0 and "bright" not in ran.err
    assert np.array_equal(np.asarray(opened("a.png")), np.asarray(opened("a_lit.png")))


def test_quality(photo: Path, lowlight: Lowlight) -> None:
    for quality in ("20", "95"):
        assert lowlight("enhance", photo, "-o", f"{quality}.jpg", "--quality", quality).code == 0
    assert Path("20.jpg").stat().st_size < Path("95.jpg").stat().st_size * 0.8


def test_metadata(folder: Path, lowlight: Lowlight) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8825)[1] = "N"
    saved("a.jpg", exif=exif)
    for name, options in {"all": [], "placeless": ["--strip-gps"], "none": ["--strip-metadata"]}.items():
        assert lowlight("enhance", "a.jpg", "-o", f"{name}.jpg", *options).code == 0
    kept = {name: opened(f"{name}.jpg").getexif() for name in ("all", "placeless", "none")}
    assert [each.get(0x010F) for each in kept.values()] == ["Maker", "Maker", None]
    assert [bool(each.get_ifd(0x8825)) for each in kept.values()] == [True, False, False]


# ---------------------------------------------------------------------------------------------------------- targets


def test_folder_is_mirrored(folder: Path, lowlight: Lowlight) -> None:
    for index, name in enumerate(["days/a.jpg", "days/sub/b.PNG", "days/.hidden/c.jpg", "days/sub/.d.jpg"]):
        saved(name, seed=index)
    Path("days/note.txt").write_text("no picture")
    ran = lowlight("enhance", "days")
    assert ran.out.splitlines() == [str(Path("days_lit/a.jpg")), str(Path("days_lit/sub/b.PNG"))]
    assert ran.err.startswith("2 lit with dgaf")
    assert lowlight("enhance", "days", "-o", "out", "--format", "webp").out.splitlines() == [
        str(Path("out/a.webp")),
        str(Path("out/sub/b.webp")),
    ]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("clip.mp4", "-o", "p.png"), 2, "error: -o p.png names one picture: name a clip, such as p.mp4; `lowl"),
        (("a.mp4", "b.mp4", "-o", "p.png"), 2, "error: -o p.png names one picture"),
        (("https://a.org/b.mp4",), 3, "error: https://a.org/b.mp4 is an address: `lowlight video` takes those of"),
        (("http://a.org/b.jpg",), 3, "error: http://a.org/b.jpg is an address: `lowlight video` takes those of clips"),
    ],
)
def test_what_is_for_another_command(
    folder: Path, lowlight: Lowlight, words: tuple[str, ...], code: int, told: str
) -> None:
    ran = lowlight("enhance", *words)
    assert (ran.code, len(ran.lines)) == (code, 1)
    assert ran.err.startswith(told)


@pytest.mark.parametrize("command", ["enhance", "batch"])
def test_clips_in_a_folder_are_left_out_and_told_once(folder: Path, lowlight: Lowlight, command: str) -> None:
    saved("night/a.png")
    for name in ("b.mp4", "c.MOV", "notes.txt"):
        Path("night", name).write_bytes(b"")
    ran = lowlight(command, "night")
    assert ran.code == 0
    assert ran.err.count("lowlight video") == 1
    assert "night/b.mp4" in ran.err
    assert "notes.txt" not in ran.err
    assert not {".mp4", ".MOV", ".mov"} & {path.suffix for path in Path("night_lit").iterdir()}


def test_folder_inside_itself_is_not_done_twice(folder: Path, lowlight: Lowlight) -> None:
    saved("a.jpg")
    assert lowlight("enhance", ".", "-o", "out").out == f"{Path('out/a.jpg')}\n"
    assert lowlight("enhance", ".", "-o", "out", "--exist", "skip").out == ""


@pytest.mark.skipif(os.name != "posix", reason="pipes have no names there")
def test_a_folder_s_pipes_are_passed_and_its_links_followed(folder: Path, lowlight: Lowlight) -> None:
    """As `batch` does: reading a pipe that nobody writes to would never end."""
    saved("days/a.jpg"), saved("more/b.jpg", 1)
    os.mkfifo("days/pipe.jpg")
    Path("days/link").symlink_to(Path("more").absolute())
    ran = lowlight("enhance", "days", "-o", "out", "--dry-run")
    assert ran.out.splitlines() == ["days/a.jpg -> out/a.jpg", "days/link/b.jpg -> out/link/b.jpg"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are others there")
@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("enhance", "shut"), "folder shut cannot be read"),
        (("batch", "shut", "-o", "out"), "folder shut cannot be read"),
        (("darken", "shut", "-o", "dark"), "folder shut cannot be read"),
        (("enhance", "shut/a.jpg"), "shut/a.jpg: cannot be read"),
        (("enhance", "shut/a.mp4"), "shut/a.mp4: cannot be read"),
        (("video", "shut/a.mp4"), "shut/a.mp4: cannot be read"),
        (("enhance", "closed.jpg"), "closed.jpg: cannot be read"),
        (("compare", "closed.jpg"), "closed.jpg: cannot be read"),
        (("video", f"{'long' * 70}.mp4"), "long.mp4: File name too long"),
    ],
)
def test_what_may_not_be_read_is_an_input(folder: Path, lowlight: Lowlight, args: tuple[str, ...], told: str) -> None:
    saved("shut/a.jpg"), saved("closed.jpg")
    Path("closed.jpg").chmod(0)
    Path("shut").chmod(0)
    if os.access("shut", os.R_OK) and "long" not in told:
        Path("shut").chmod(0o700)
        pytest.skip("this user may read everything")
    ran = lowlight(*args)
    Path("shut").chmod(0o700)
    assert (ran.code, len(ran.lines)) == (3, 1)
    assert told in ran.err


def test_several_inputs(folder: Path, lowlight: Lowlight) -> None:
    saved("a.jpg"), saved("b.png", 1), saved("days/c.jpg", 2)
    assert lowlight("enhance", "a.jpg", "b.png").out.splitlines() == ["a_lit.jpg", "b_lit.png"]
    ran = lowlight("enhance", "a.jpg", "b.png", "days", "-o", "out")
    assert ran.out.splitlines() == [str(Path("out", name)) for name in ("a.jpg", "b.png", "days/c.jpg")]


def test_names_of_all_kinds(folder: Path, lowlight: Lowlight) -> None:
    for name in ("naïve 夜 🌙.jpg", "[bold]x.jpg", "-dash.jpg", "a'b\".jpg"):
        saved(name)
        ran = lowlight("enhance", "-q", "--", name)
        assert (ran.code, ran.out) == (0, f"{Path(name).stem}_lit.jpg\n")


def test_exist(photo: Path, lowlight: Lowlight) -> None:
    lit = Path("photo_lit.jpg")
    assert lowlight("enhance", photo).code == 0
    first = lit.read_bytes()
    ran = lowlight("enhance", photo, "--exist", "skip")
    assert (ran.code, ran.out, lit.read_bytes()) == (0, "", first)
    assert "photo_lit.jpg exists: skipped" in ran.err
    assert lowlight("enhance", photo, "--exist", "number").out == "photo_lit_2.jpg\n"
    assert lowlight("enhance", photo, "--exist", "number").out == "photo_lit_3.jpg\n"
    assert lowlight("enhance", photo, "--exist", "overwrite", "--strength", "0.2").code == 0
    assert lit.read_bytes() != first


def test_one_of_several_exists(folder: Path, lowlight: Lowlight) -> None:
    saved("a.jpg"), saved("b.jpg", 1), saved("a_lit.jpg", 2)
    ran = lowlight("enhance", "a.jpg", "b.jpg")
    assert (ran.code, ran.out) == (1, "b_lit.jpg\n")
    assert ran.lines[0] == "error: a_lit.jpg exists: choose --exist skip, overwrite or number"
    assert ran.lines[1].startswith("1 lit with dgaf") and ", 1 failed, " in ran.lines[1]


def test_dry_run_does_nothing(folder: Path, lowlight: Lowlight) -> None:
    saved("a.jpg"), saved("b.jpg"), saved("b_lit.jpg")
    ran = lowlight("enhance", "a.jpg", "b.jpg", "--dry-run", "--exist", "skip")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == ["a.jpg -> a_lit.jpg", "b.jpg -> b_lit.jpg (exists: skipped)"]
    assert sorted(path.name for path in folder.iterdir()) == ["a.jpg", "b.jpg", "b_lit.jpg"]
    assert lowlight("enhance", "a.jpg", "b.jpg", "--dry-run").code == 1
    assert lowlight("enhance", "b.jpg", "--dry-run").code == 4
    events = [json.loads(line) for line in lowlight("enhance", "a.jpg", "--dry-run", "--json").out.splitlines()]
    assert events == [
        {"schema": "lowlight-1", "event": "plan", "input": "a.jpg", "output": "a_lit.jpg", "status": "planned"}
    ]


# ------------------------------------------------------------------------------------------------------ what is told


def test_json(folder: Path, lowlight: Lowlight, dgaf_weights: Path) -> None:
    from lowlight_cli import disk

    saved("a.jpg"), saved("b_lit.jpg"), saved("b.jpg"), Path("c.jpg").write_text("text")
    ran = lowlight("enhance", "a.jpg", "b.jpg", "c.jpg", "--json", "--exist", "skip")
    assert ran.code == 1
    done, skipped, failed, summary = (json.loads(line) for line in ran.out.splitlines())
    assert {each["schema"] for each in (done, skipped, failed, summary)} == {"lowlight-1"}
    assert (done["event"], done["status"], done["input"], done["output"]) == ("file", "done", "a.jpg", "a_lit.jpg")
    assert (done["model"], done["weights"]) == ("dgaf", disk.sha256(dgaf_weights))
    assert done["engine"] in ENGINES and (done["device"], done["width"], done["height"]) == ("cpu", 56, 40)
    assert done["precision"] in ("fp32", "bf16")
    assert list(done["seconds"]) == ["import", "weights", "read", "run", "write"]
    assert done["luma"]["before"] < done["luma"]["after"]
    assert set(done["clipped"]["after"]) == {"black", "white"}
    assert (skipped["status"], failed["status"]) == ("skipped", "failed")
    assert failed["error"]["code"] == 3 and "is text" in failed["error"]["message"]
    assert {key: summary[key] for key in ("event", "done", "skipped", "failed", "exit_code")} == {
        "event": "summary", "done": 1, "skipped": 1, "failed": 1, "exit_code": 1,
    }  # fmt: skip


def test_quiet_and_verbose(photo: Path, lowlight: Lowlight) -> None:
    assert lowlight("enhance", photo, "-q").err == ""
    ran = lowlight("enhance", photo, "-v", "--exist", "overwrite")
    assert ran.out == "photo_lit.jpg\n"
    assert ran.lines[0].startswith("photo.jpg: 56x40, ")
    assert all(f"{stage} " in ran.lines[0] for stage in ("import", "weights", "read", "run", "write"))
    assert ran.lines[1].startswith("1 lit with dgaf")
    assert " on cpu in " in ran.lines[1]


def test_debug_shows_where(folder: Path, lowlight: Lowlight) -> None:
    ran = lowlight("enhance", "nowhere.jpg", "-m", "dgav", "--debug")
    assert ran.err.startswith("Traceback")
    assert ran.lines[-1].startswith("error: unknown model 'dgav'")


def test_a_fault_of_ours_is_one_line(photo: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("lowlight_cli.enhancer.finishing", broken)
    ran = lowlight("enhance", photo)
    assert (ran.code, ran.err) == (
        1,
        "error: this is a bug in lowlight: ZeroDivisionError: oops; --debug shows where: report it\n",
    )


def test_environment_is_below_the_flag(photo: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWLIGHT_FORMAT", "png")
    monkeypatch.setenv("LOWLIGHT_QUIET", "1")
    ran = lowlight("enhance", photo)
    assert (ran.out, ran.err) == ("photo_lit.png\n", "")
    assert lowlight("enhance", photo, "--format", "webp").out == "photo_lit.webp\n"
    monkeypatch.setenv("LOWLIGHT_DEVICE", "cuda:99")
    assert lowlight("enhance", photo, "-o", "x.jpg").code == 2  # contradicts LOWLIGHT_FORMAT
    assert lowlight("enhance", photo, "-o", "x.png").code == 6


# ------------------------------------------------------------------------------------------- what runs out, what ends


def test_stdin_to_file(photo: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(photo.read_bytes())))
    assert lowlight("enhance", "-", "-o", "lit.png").out == "lit.png\n"
    assert opened("lit.png").size == (56, 40)


def test_a_window_is_protected_unasked(folder: Path, lowlight: Lowlight) -> None:
    room = np.full((240, 320, 3), 22, np.uint8)
    window = (slice(40, 140), slice(90, 220))
    room[window] = (150, 175, 215)
    Image.fromarray(room).save("room.png")
    for name, words in {"plain": (), "asked": ("--protect-highlights",), "off": ("--no-protect-highlights",)}.items():
        assert lowlight("enhance", "room.png", "-o", f"{name}.png", "--weights", "real", *words).code == 0
    blue = {
        name: np.ptp(np.asarray(opened(f"{name}.png"), np.float32)[window].mean((0, 1))) for name in ("plain", "off")
    }
    assert blue["plain"] > 30 > blue["off"]
    assert Path("plain.png").read_bytes() == Path("asked.png").read_bytes()
