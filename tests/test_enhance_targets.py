"""targets.plan: what is written where, refused before any work."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran
from numpy.typing import NDArray
from PIL import Image

from lowlight_cli.errors import InputError, OutputError, UsageError
from lowlight_cli.folders.search import chosen
from lowlight_cli.pictures import FORMATS
from lowlight_cli.targets import EXIST, PIPE, Job, landed, plan

posix = pytest.mark.skipif(os.name != "posix", reason="links need no rights there")


def made(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def planned(inputs: list[str], output: str | None = None, **options: str | None) -> list[tuple[str, str]]:
    jobs = plan([Path(i) for i in inputs], output, formats=FORMATS, search=chosen(), **options)  # type: ignore[arg-type]
    return [(job.source.as_posix(), job.target.as_posix()) for job in jobs]


@pytest.mark.parametrize(
    ("inputs", "output", "suffix", "targets"),
    [
        (["a.jpg"], None, None, ["a_lit.jpg"]),
        (["a.jpg"], None, ".png", ["a_lit.png"]),
        (["d/a.JPG"], None, ".jpg", ["d/a_lit.JPG"]),
        (["a.jpg"], "b.webp", None, ["b.webp"]),
        (["a.jpg"], "b.JPEG", ".jpg", ["b.JPEG"]),
        (["a.jpg"], "new", None, ["new/a.jpg"]),
        (["a.jpg"], "d", ".tif", ["d/a.tif"]),
        (["a.jpg"], "2024.05/", None, ["2024.05/a.jpg"]),
        (["a.jpg"], "new.png/", None, ["new.png/a.jpg"]),
        (["a.jpg", "d/c.png"], "new.png/", None, ["new.png/a.jpg", "new.png/c.png"]),
        (["d"], "new.png/", None, ["new.png/a.JPG", "new.png/c.png", "new.png/e/f.bmp"]),
        (["a.jpg", "d/c.png"], "v1.2", None, ["v1.2/a.jpg", "v1.2/c.png"]),
        (["noname"], None, None, ["noname_lit"]),
        (["d"], None, None, ["d_lit/a.JPG", "d_lit/c.png", "d_lit/e/f.bmp"]),
        (["d"], "out", ".png", ["out/a.png", "out/c.png", "out/e/f.png"]),
        (["d", "a.jpg"], "out", None, ["out/d/a.JPG", "out/d/c.png", "out/d/e/f.bmp", "out/a.jpg"]),
        (["d/e/.."], "out", None, ["out/a.JPG", "out/c.png", "out/e/f.bmp"]),
        (["-"], None, None, ["-"]),
        (["-"], "b.png", None, ["b.png"]),
        (["a.jpg"], "-", None, ["-"]),
    ],
)
def test_targets(folder: Path, inputs: list[str], output: str | None, suffix: str | None, targets: list[str]) -> None:
    made("a.jpg", "d/a.JPG", "d/c.png", "d/e/f.bmp", "d/note.txt", "noname")
    assert [target for _, target in planned(inputs, output, suffix=suffix)] == targets


def test_this_folder(folder: Path) -> None:
    made("a.jpg")
    assert planned(["."]) == [("a.jpg", f"{folder.as_posix()}_lit/a.jpg")]


def test_the_folder_above(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made("trip/b.jpg", "trip/day/a.jpg")
    monkeypatch.chdir("trip/day")
    lit = f"{folder.as_posix()}/trip_lit"
    assert [target for _, target in planned([".."])] == [f"{lit}/b.jpg", f"{lit}/day/a.jpg"]


@pytest.mark.parametrize("here", ["..", "../../trip", "../day/.."])
def test_a_folder_is_called_by_its_real_name_beside_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, here: str
) -> None:
    made("trip/b.jpg", "trip/day/a.jpg")
    monkeypatch.chdir("trip/day")
    targets = [target for _, target in planned(["a.jpg", here], "out")]
    assert targets == ["out/a.jpg", "out/trip/b.jpg", "out/trip/day/a.jpg"]


def test_two_inputs_for_one_target_fail_both_and_the_others_do_not(folder: Path) -> None:
    made("a.jpg", "a.png", "b.jpg")
    found = plan([Path("a.jpg"), Path("a.png"), Path("b.jpg")], "out/", formats=FORMATS, suffix=".bmp", apart=True)
    target = Path("out/a.bmp")
    told = [f"a.jpg and a.png would both become {target}", f"a.png and a.jpg would both become {target}"]
    assert [str(job.error).partition(":")[0] for job in found[:2]] == told and found[2].error is None
    assert all(isinstance(job.error, UsageError) for job in found[:2])


@pytest.mark.parametrize(
    ("inputs", "output", "suffix", "message"),
    [
        ([], None, None, "nothing to do"),
        (["a.jpg"], "a.jpg", None, "its own input"),
        (["a.jpg", "a_lit.jpg"], None, None, "also an input, and a.jpg would replace it"),
        (["a.jpg", "a.jpg"], None, None, "both become"),
        (["a.jpg", "a.png"], "out", ".bmp", "both become"),
        (["a.jpg", "d"], "out.png", None, "names one picture"),
        (["d"], "d", None, "its own input"),
        (["a.jpg"], "out.txt", None, "no format has the suffix '.txt'"),
        (["a.jpg"], "out.png", ".jpg", "contradict"),
        (["-", "-"], None, None, "- is one picture"),
        (["a.jpg", "a.png"], "-", None, "- is one picture"),
        (["d"], "-", None, "stdout takes one picture"),
        (["-"], "d", None, "has no name"),
        (["-"], "new.png/", None, "has no name"),
        (["/"], None, None, "no folder beside it"),
    ],
)
def test_refused(folder: Path, inputs: list[str], output: str | None, suffix: str | None, message: str) -> None:
    made("a.jpg", "a.png", "a_lit.jpg", "d/c.png")
    with pytest.raises(UsageError, match=message):
        planned(inputs, output, suffix=suffix)


@posix
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_to_an_input_is_that_input(folder: Path, link: object) -> None:
    made("a.jpg")
    link("a.jpg", "b.jpg")  # type: ignore[operator]
    with pytest.raises(UsageError, match=r"b\.jpg is its own input"):
        planned(["a.jpg"], "b.jpg")


def test_folder_without_pictures(folder: Path) -> None:
    made("d/note.txt", "d/.hidden.jpg", "d/.git/a.jpg")
    with pytest.raises(InputError, match="no picture in folder d"):
        planned(["d"])


def jobs(*inputs: str, exist: str = "error") -> list[Job]:
    return plan([Path(i) for i in inputs], None, formats=FORMATS, exist=exist, search=chosen())


def test_what_exists(folder: Path) -> None:
    made("a.jpg", "b.jpg", "a_lit.jpg", "a_lit_2.jpg")
    first, second = jobs("a.jpg", "b.jpg")
    assert isinstance(first.error, OutputError) and second == Job(Path("b.jpg"), Path("b_lit.jpg"))
    assert [job.skip for job in jobs("a.jpg", "b.jpg", exist="skip")] == [True, False]
    assert [job.target.name for job in jobs("a.jpg", "b.jpg", exist="overwrite")] == ["a_lit.jpg", "b_lit.jpg"]
    assert [job.target.name for job in jobs("a.jpg", "b.jpg", exist="number")] == ["a_lit_3.jpg", "b_lit.jpg"]


@posix
@pytest.mark.parametrize(
    ("exist", "code", "out", "told"),
    [
        ("error", 4, "", "error: away.jpg is a link to nothing: choose --exist skip, overwrite or number"),
        ("skip", 0, "", "away.jpg exists: skipped"),
        ("number", 0, "away_2.jpg\n", "1 lit"),
        ("overwrite", 0, "away.jpg\n", "1 lit"),
    ],
)
@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_link_to_nothing(
    photo: Path, lowlight: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch,
    exist: str, code: int, out: str, told: str, meanwhile: bool,
) -> None:  # fmt: skip
    """The disk that it leads to is not there now, and will be again."""
    real, link = os.fsync, Path("away.jpg")

    def then(handle: int) -> None:
        monkeypatch.setattr(os, "fsync", real)
        link.symlink_to("/mnt/away/x.jpg")
        real(handle)

    if meanwhile:
        monkeypatch.setattr(os, "fsync", then)
    else:
        link.symlink_to("/mnt/away/x.jpg")
    ran = lowlight("enhance", photo, "-o", "away.jpg", "--exist", exist)
    assert (ran.code, ran.out, ran.lines[0][: len(told)]) == (code, out, told)
    assert link.is_symlink() == (exist != "overwrite")
    assert {path.name for path in Path().iterdir()} == {"photo.jpg", "away.jpg", *out.split()}


@posix
def test_a_link_to_nothing_where_one_file_is_written(photo: Path, lowlight: Callable[..., Ran]) -> None:
    for name in ("a.onnx", "low/photo.jpg", "lit/photo.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).symlink_to("/mnt/away/x")
    Path("in").mkdir()
    photo.rename("in/photo.jpg")
    for words in (
        ("export", "-o", "a.onnx"),
        ("darken", "in", "-o", ".", "--format", "jpg"),
        ("batch", "in", "-o", "lit"),
    ):
        ran = lowlight(*words)
        assert ran.code == 4 and "choose --exist skip" in ran.err, ran.err
    assert all(Path(name).is_symlink() for name in ("a.onnx", "low/photo.jpg", "lit/photo.jpg"))


def test_numbers_that_are_taken_meanwhile(folder: Path) -> None:
    made("a.jpg", "a_lit.jpg")
    [job] = jobs("a.jpg", exist="number")
    made("a_lit_2.jpg", "a_lit_3.jpg")
    tried = []

    def put(job: Job) -> None:
        tried.append(job.target.name)
        job.target.open("x").close()

    assert landed(job, put).target.name == "a_lit_4.jpg"
    assert tried == ["a_lit_2.jpg", "a_lit_4.jpg"]


def test_numbers_avoid_other_targets(folder: Path) -> None:
    """`a.jpg` would become out/a_2.jpg, but that is what `a_2.jpg` becomes."""
    made("a.jpg", "a_2.jpg", "out/a.jpg")
    found = plan([Path("a.jpg"), Path("a_2.jpg")], Path("out"), formats=FORMATS, exist="number")
    assert [job.target.name for job in found] == ["a_3.jpg", "a_2.jpg"]


@posix
def test_numbers_avoid_links_to_nothing(folder: Path) -> None:
    """Their names are taken: nothing could be written there."""
    made("a.jpg", "a_lit.jpg")
    Path("a_lit_2.jpg").symlink_to("/mnt/away/x.jpg")
    [job] = jobs("a.jpg", exist="number")
    assert job.target == Path("a_lit_3.jpg")


def test_missing_inputs_are_jobs_with_an_error(folder: Path) -> None:
    made("a.jpg")
    Path("broken.jpg").symlink_to("nowhere")
    errors = [job.error for job in jobs("a.jpg", "gone.jpg", "broken.jpg", "x" * 300 + ".jpg")]
    assert errors[0] is None
    assert all(isinstance(error, InputError) for error in errors[1:])


def test_a_folder_where_the_target_should_be(folder: Path) -> None:
    made("a.jpg", "a_lit.jpg/x")
    assert all(isinstance(jobs("a.jpg", exist=each)[0].error, OutputError) for each in EXIST)


def test_pipe_is_a_dash() -> None:
    assert Path("-") == PIPE


def test_the_same_command_again_goes_on(folder: Path, lowlight: Callable[..., Ran], dark: NDArray[np.uint8]) -> None:
    """`*.png` names the results of the first run too: they stay, and nothing is made of them."""
    for name in ("a.png", "b.png"):
        Image.fromarray(dark).save(name)
    assert lowlight("enhance", "*.png", "--exist", "skip").code == 0
    Image.fromarray(dark).save("c.png")
    before = {path.name: path.read_bytes() for path in Path().glob("*.png")}
    plan = lowlight("enhance", "*.png", "--exist", "skip", "--dry-run")
    assert (plan.code, plan.out.count("(exists: skipped)"), "c.png -> c_lit.png" in plan.out) == (0, 4, True)
    ran = lowlight("enhance", "*.png", "--exist", "skip")
    assert (ran.code, ran.out) == (0, "c_lit.png\n")
    assert "b_lit.png exists: skipped" in ran.lines and "b_lit.png is the result of another input: skipped" in ran.lines
    assert {path.name for path in Path().glob("*.png")} == {*before, "c_lit.png"}
    assert all(Path(name).read_bytes() == data for name, data in before.items())


def test_what_stays_is_no_way_around_the_refusals(folder: Path) -> None:
    """A picture in place of itself, one that is not there yet, and two results of one name."""
    made("a.jpg", "a.png")
    for inputs, output, options in (
        (["a.jpg"], "a.jpg", {}), (["a.jpg", "a_lit.jpg"], None, {}), (["a.jpg", "a.png"], None, {"suffix": ".webp"}),
    ):  # fmt: skip
        with pytest.raises(UsageError):
            planned(inputs, output, exist="skip", **options)
