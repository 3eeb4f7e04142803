"""`--resume`: what is the same is passed, what is not is done again, and a dry run tells which."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, dark_array
from PIL import Image
from test_batch import lines, made, sha256, tree

from lowlight_cli.folders.manifest import LOCK, NAME
from lowlight_cli.pictures.placing import part

Lowlight = Callable[..., Ran]


def test_resume_skips_what_is_the_same(folder: Path, lowlight: Lowlight) -> None:
    made("in/a.png", "in/b.png", "in/c.png")
    assert lowlight("batch", "in").code == 0
    before = {name: Path(f"in_lit/{name}").stat().st_mtime_ns for name in tree("in_lit")}
    ran = lowlight("batch", "in", "--resume", "--json")
    assert [json.loads(line).get("status") for line in ran.out.splitlines()] == ["skipped"] * 3 + [None]
    assert (ran.code, ran.lines[0][:9]) == (0, "3 skipped")
    assert {name: Path(f"in_lit/{name}").stat().st_mtime_ns for name in tree("in_lit")} == before
    assert len(lines("in_lit")) == 3
    ran = lowlight("batch", "in", "--resume", "--dry-run")
    assert ran.out.count("(exists: skipped)") == 3


def test_resume_after_pictures_that_got_numbers(folder: Path, lowlight: Lowlight) -> None:
    """Of an input there are two results then, and the first is still known."""
    made("in/a.png", "in/b.png")
    assert lowlight("batch", "in").code == 0
    assert lowlight("batch", "in", "--exist", "number").code == 0
    assert len(lines("in_lit")) == 4
    ran = lowlight("batch", "in", "--resume")
    assert (ran.code, ran.out, ran.lines[0][:9]) == (0, "", "2 skipped"), ran.err


def test_resume_does_again_what_is_not_the_same(
    folder: Path, lowlight: Lowlight, seeded: Callable[[str], Path]
) -> None:
    made(*[f"in/{name}.png" for name in "abcdef"])
    assert lowlight("batch", "in").code == 0
    reference = {name: sha256(f"in_lit/{name}") for name in tree("in_lit")}
    Image.fromarray(dark_array(20, 28, seed=99)).save("in/a.png")  # another input
    Path("in_lit/b.png").unlink()
    whole = Path("in_lit/c.png").read_bytes()
    Path("in_lit/c.png").write_bytes(whole[:-1])  # not whole
    Path("in_lit/d.png").write_bytes(bytes(len(Path("in_lit/d.png").read_bytes())))  # of the right size, but no more
    made("in/g.png")
    ran = lowlight("batch", "in", "--resume")
    assert (ran.code, set(ran.out.split())) == (0, {f"in_lit/{name}.png" for name in "abcdg"})
    assert all(sha256(f"in_lit/{name}.png") == reference[f"{name}.png"] for name in "bcdef")
    assert sha256("in_lit/a.png") != reference["a.png"]
    for changed in (["--strength", "0.5"], ["--no-provenance"], ["-m", "frlie", "-w", str(seeded("frlie"))]):
        ran = lowlight("batch", "in", "--resume", *changed)
        assert (ran.code, len(ran.out.split())) == (0, 7), ran.err
        assert lowlight("batch", "in", "--resume", *changed).out == ""


def test_what_a_kill_has_left_goes_where_the_picture_fails_now(folder: Path, lowlight: Lowlight) -> None:
    made("in/a.png")
    Path("in/b.png").write_bytes(b"no picture")
    Path("in_lit").mkdir()
    part(Path("in_lit/b.png")).write_bytes(b"half")
    assert lowlight("batch", "in").code != 0
    assert tree("in_lit") == {"a.png"}


def test_a_dry_run_tells_what_resume_would_do(folder: Path, lowlight: Lowlight, seeded: Callable[[str], Path]) -> None:
    made(*[f"in/{name}.png" for name in "abcd"])
    assert lowlight("batch", "in").code == 0
    Path("in_lit/a.png").unlink()
    Path("in_lit/b.png").write_bytes(Path("in_lit/b.png").read_bytes()[:-1])  # not whole
    Path("in_lit/c.png").rename(part(Path("in_lit/c.png")))  # it was killed between the line and the name
    before = tree("in_lit")
    every = [f"in/{name}.png -> in_lit/{name}.png" for name in "abcd"]
    skipped = " (exists: skipped)"
    ran = lowlight("batch", "in", "--resume", "--dry-run")
    assert (ran.code, ran.out.splitlines()) == (0, [*every[:2], every[2] + skipped, every[3] + skipped])
    for changed in (["--strength", "0.5"], ["--no-provenance"], ["-m", "frlie", "-w", str(seeded("frlie"))]):
        ran = lowlight("batch", "in", "--resume", "--dry-run", *changed)
        assert (ran.code, ran.out.splitlines()) == (0, every), ran.err
    ran = lowlight("batch", "in", "--resume", "--dry-run", "-w", "nowhere.safetensors")
    assert (ran.code, ran.out.splitlines()) == (0, every)
    assert ran.lines == ["the weights are not at hand, and a dry run fetches none: all counts as to be made"]
    assert tree("in_lit") == before
    assert lowlight("batch", "in", "--resume").out.split() == ["in_lit/a.png", "in_lit/b.png"]


def test_a_dry_run_leaves_to_exist_what_another_folder_made(folder: Path, lowlight: Lowlight) -> None:
    made("in/a.png", "other/a.png")
    assert lowlight("batch", "in", "-o", "lit").code == 0
    for exist, code in (("error", 4), ("skip", 0)):
        again = ("batch", "other", "-o", "lit", "--resume", "--strength", "0.5", "--exist", exist)
        dry, ran = lowlight(*again, "--dry-run"), lowlight(*again)
        assert (dry.code, ran.code, ran.out) == (code, code, "")
        assert dry.out == ("" if code else "other/a.png -> lit/a.png (exists: skipped)\n")


@pytest.mark.skipif(os.name != "posix", reason="links need no rights there")
def test_a_dry_run_tells_of_an_input_that_is_gone(folder: Path, lowlight: Lowlight) -> None:
    made("in/a.png")
    assert lowlight("batch", "in").code == 0
    Path("in/a.png").unlink()
    Path("in/a.png").symlink_to("nowhere")
    dry, ran = (lowlight("batch", "in", "--resume", *more) for more in (("--dry-run",), ()))
    assert (dry.code, ran.code) == (3, 3)
    assert dry.lines[0] == ran.lines[0] == "error: in/a.png: no such file or folder"


def test_resume_leaves_foreign_files_alone(folder: Path, lowlight: Lowlight) -> None:
    made("in/a.png", "in/b.png")
    Path("in_lit").mkdir()
    Path("in_lit/a.png").write_text("mine")
    ran = lowlight("batch", "in", "--resume")
    assert (ran.code, ran.out) == (1, "in_lit/b.png\n")
    assert ran.lines[0].startswith("error: in_lit/a.png exists")
    made("other/b.png")
    Image.fromarray(dark_array(20, 28, seed=7)).save("other/b.png")
    kept = sha256("in_lit/b.png")
    assert lowlight("batch", "other", "-o", "in_lit", "--resume").code == 4
    assert sha256("in_lit/b.png") == kept
    assert Path("in_lit/a.png").read_text() == "mine"


def test_a_moved_folder_is_known_by_its_content(folder: Path, lowlight: Lowlight) -> None:
    made("in/a.png")
    assert lowlight("batch", "in", "-o", "lit").code == 0
    Path("in").rename("moved")
    assert (lowlight("batch", "moved", "-o", "lit", "--resume").out, len(lines("lit"))) == ("", 1)


def test_torn_and_foreign_lines(folder: Path, lowlight: Lowlight) -> None:
    made("in/a.png", "in/b.png", "in/c.png")
    assert lowlight("batch", "in").code == 0
    manifest = Path("in_lit") / NAME
    first, second, third = manifest.read_bytes().splitlines(keepends=True)
    torn = json.loads(third)["input"]  # whichever was written last
    deep = b"[" * 100_000 + b"]" * 100_000 + b"\n"
    manifest.write_bytes(first + b'\n[]\n"x"\n{"schema": 7}\n\xff\xfe\n' + deep + second + third[:-40])
    ran = lowlight("batch", "in", "--resume")
    assert ran.code == 1, "the file whose line was torn is foreign now"
    assert lowlight("batch", "in", "--resume", "--exist", "overwrite").out == f"in_lit/{torn}\n"
    content = manifest.read_bytes()
    assert content.startswith(first) and content.endswith(b"\n") and second in content
    assert json.loads(content.splitlines()[-1])["input"] == torn


def test_zeros_that_a_crash_of_the_machine_has_left(folder: Path, lowlight: Lowlight) -> None:
    """File systems fill the end of a file with them, whole blocks of it."""
    made("in/a.png")
    assert lowlight("batch", "in").code == 0
    manifest = Path("in_lit") / NAME
    before = manifest.read_bytes()
    manifest.write_bytes(before + bytes(10_000))
    made("in/b.png")
    assert lowlight("batch", "in", "--resume").out == "in_lit/b.png\n"
    assert manifest.read_bytes().startswith(before)
    assert [line["input"] for line in lines("in_lit")] == ["a.png", "b.png"]


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_stays_empty_goes_if_it_was_not_there(folder: Path, lowlight: Lowlight, there: bool) -> None:
    made("in/a.png")
    if there:
        Path("out").mkdir()
    assert lowlight("batch", "in", "-o", "out", "-w", "nowhere.safetensors").code == 5
    assert Path("out").exists() == there


def test_a_second_run_says_what_to_choose(folder: Path, lowlight: Lowlight) -> None:
    made("in/a.png")
    assert lowlight("batch", "in").code == 0
    ran = lowlight("batch", "in")
    assert (ran.code, len(ran.lines)) == (4, 1)
    assert ran.err.startswith("error: in_lit has results of an earlier batch: add --resume")
    assert lowlight("batch", "in", "--exist", "skip").code == 0
    assert lowlight("batch", "in", "--exist", "number").out == "in_lit/a_2.png\n"
    assert lowlight("batch", "in", "--exist", "overwrite").out == "in_lit/a.png\n"


@pytest.mark.skipif(os.name != "posix", reason="has no links, or only for some users")
@pytest.mark.parametrize("words", [(), ("--resume",), ("--exist", "overwrite")])
@pytest.mark.parametrize("name", [NAME, LOCK])
def test_no_file_is_changed_through_a_link(folder: Path, lowlight: Lowlight, name: str, words: tuple[str, ...]) -> None:
    """A folder that came from others may hold any."""
    made("in/a.png")
    Path("in_lit").mkdir()
    Path("settings").write_text("mine\nand mine")
    Path("in_lit", name).symlink_to("../settings")
    ran = lowlight("batch", "in", *words)
    assert (ran.code, len(ran.lines)) == (4, 1), ran.err
    assert f"in_lit/{name}: is a link" in ran.err and "delete it" in ran.err
    assert (Path("settings").read_text(), tree("in_lit")) == ("mine\nand mine", set())
    assert Path("in_lit", name).is_symlink()
    Path("in_lit", name).unlink()
    Path("in_lit", name).symlink_to("../nowhere")
    assert lowlight("batch", "in", *words).code == 4 and not Path("nowhere").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_a_manifest_that_is_no_file_is_a_line(folder: Path, process: Callable[..., Ran]) -> None:
    """In a process of its own, which can be stopped if it does not end."""
    made("in/a.png")
    Path("in_lit").mkdir()
    os.mkfifo(Path("in_lit", NAME))
    ran = process("batch", "in")
    assert (ran.code, len(ran.lines)) == (4, 1), ran.err
    assert f"in_lit/{NAME}: cannot be written" in ran.err


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_what_is_made_again_is_as_private_as_before(folder: Path, lowlight: Lowlight) -> None:
    made("in/a.png", "in/b.png")
    assert lowlight("batch", "in").code == 0
    result = Path("in_lit/a.png")
    result.chmod(0o600)
    for words in (("--exist", "overwrite"), ("--resume", "--strength", "0.5")):
        before = result.stat().st_ino
        assert lowlight("batch", "in", *words).code == 0
        assert result.stat().st_ino != before
        assert [path.stat().st_mode & 0o777 for path in (result, Path("in_lit/b.png"))] == [0o600, 0o644]
