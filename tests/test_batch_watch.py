"""`lowlight batch --watch`: pictures are taken when they are complete, and when they are replaced."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Ran, dark_array, environment, program
from PIL import Image

from lowlight_cli.folders import watch
from lowlight_cli.folders.manifest import NAME, followed

Lowlight = Callable[..., Ran]


def content(seed: int) -> bytes:
    path = Path("scratch.png")
    Image.fromarray(dark_array(20, 28, seed=seed)).save(path)
    data = path.read_bytes()
    path.unlink()
    return data


def test_what_lands(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause of the watch is a moment in which something happens in the folder."""
    Path("in/sub").mkdir(parents=True)
    whole, other = content(1), content(2)
    there: list[list[str]] = []

    def moments() -> Iterator[None]:
        Path("in/a.png").write_bytes(whole)
        yield  # seen for the first time
        Path("in/a.png").stat()
        yield  # complete
        Path("in/sub/b.png").write_bytes(whole[:300])
        yield
        Path("in/sub/b.png").write_bytes(whole)  # it was still being copied
        yield
        Path("in/c.png").touch()  # begun, and nothing in it
        yield
        yield
        Path("in/a.png").write_bytes(other)
        yield
        yield
        yield
        raise KeyboardInterrupt

    script = moments()

    def pause(_: float) -> None:
        there.append(sorted(path.name for path in Path("in_lit").rglob("*.png")))
        next(script)

    monkeypatch.setattr(watch.time, "sleep", pause)
    ran = lowlight("batch", "in", "--watch")
    assert ran.code == 130
    assert ran.lines[0] == "waiting for pictures in in; Ctrl-C ends it"
    assert ran.lines[-1] == "ended: 3 lit" and "error" not in ran.err
    assert ran.out.split() == ["in_lit/a.png", "in_lit/sub/b.png", "in_lit/a.png"]
    assert there[:4] == [[], [], ["a.png"], ["a.png"]]
    assert there[-1] == ["a.png", "b.png"]
    monkeypatch.undo()


def test_what_is_done_is_not_done_again(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in").mkdir()
    Path("in/a.png").write_bytes(content(1))
    assert lowlight("batch", "in").code == 0
    left = iter(range(3))

    def pause(_: float) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", pause)
    ran = lowlight("batch", "in", "--watch")
    assert (ran.code, ran.out) == (130, "")
    assert ran.lines[1].startswith("1 skipped")


def ended_after(pauses: int, monkeypatch: pytest.MonkeyPatch, do: Callable[[int], None] = lambda _: None) -> None:
    """Let the watch pause so many times, without waiting, and end it as by Ctrl-C; `do` has the number of each."""
    moments = iter(range(pauses))

    def pause(_: float) -> None:
        moment = next(moments, None)
        if moment is None:
            raise KeyboardInterrupt
        do(moment)

    monkeypatch.setattr(watch.time, "sleep", pause)


def bitmap(seed: int, moment: int) -> None:
    """A picture, always of the same size, that was written at this second."""
    Image.fromarray(dark_array(20, 28, seed=seed)).save("in/a.bmp")
    os.utime("in/a.bmp", (moment, moment))


def test_another_picture_of_the_same_size_is_another_one(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("in").mkdir()
    bitmap(1, 1_000)
    ended_after(6, monkeypatch, lambda moment: bitmap(2, 2_000) if moment == 2 else None)
    ran = lowlight("batch", "in", "--watch")
    assert (ran.code, ran.out) == (130, "in_lit/a.bmp\nin_lit/a.bmp\n")


def test_what_goes_and_comes_back_is_looked_at_again(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as of a disk that is taken out, its result removed meanwhile."""
    Path("in").mkdir()
    bitmap(1, 1_000)

    def later(moment: int) -> None:
        if moment == 2:
            Path("in/a.bmp").unlink()
            Path("in_lit/a.bmp").unlink()
        elif moment == 3:
            bitmap(1, 1_000)

    ended_after(7, monkeypatch, later)
    ran = lowlight("batch", "in", "--watch")
    assert (ran.code, ran.out) == (130, "in_lit/a.bmp\nin_lit/a.bmp\n")


def test_two_with_one_name_fail_and_the_others_are_made(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("in").mkdir()
    for name in ("a.png", "a.jpg", "b.jpg"):
        Image.fromarray(dark_array(20, 28)).save(Path("in", name))

    def later(moment: int) -> None:
        if moment == 2:
            Path("in/c.png").write_bytes(content(2))

    ended_after(5, monkeypatch, later)
    ran = lowlight("batch", "in", "--watch", "--format", "webp")
    assert (ran.code, ran.out) == (130, "in_lit/b.webp\nin_lit/c.webp\n")
    assert [line for line in ran.lines if line.startswith("error: in/")] == [
        "error: in/a.jpg and in/a.png would both become in_lit/a.webp: enhance them apart, with -o",
        "error: in/a.png and in/a.jpg would both become in_lit/a.webp: enhance them apart, with -o",
    ]
    assert not Path("in_lit/a.webp").exists()


def test_two_with_one_name_do_not_replace_what_one_of_them_has_made(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("in").mkdir()
    for name in ("a.png", "a.jpg"):
        Path("in", name).write_bytes(content(1))
        ran = lowlight("batch", "in", "--resume", "--format", "webp", "--include", name, "--exist", "overwrite")
        assert ran.code == 0
    made = Path("in_lit/a.webp").stat().st_mtime_ns
    for other in ((), ("--strength", "0.5")):
        ended_after(2, monkeypatch)
        ran = lowlight("batch", "in", "--watch", "--format", "webp", "--exist", "overwrite", *other)
        assert (ran.code, ran.out) == (130, "")
    assert Path("in_lit/a.webp").stat().st_mtime_ns == made


@pytest.mark.parametrize("way", ["may not be read", "goes away"])
def test_a_folder_that_cannot_be_read_is_left_out(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    for name in ("a/1", "b/2", "c/3"):
        Path("in", name).parent.mkdir(parents=True)
        Path("in", f"{name}.png").write_bytes(content(1))
    real = os.scandir

    def scandir(path: str) -> object:
        if Path(path) == Path("in/b"):
            if way == "may not be read":  # for root, too
                raise PermissionError(13, "Permission denied", path)
            if Path(path).exists():
                Path(path).rename("gone")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    ended_after(4, monkeypatch)
    ran = lowlight("batch", "in", "--watch")
    assert (ran.code, ran.out) == (130, "in_lit/a/1.png\nin_lit/c/3.png\n")
    told = [line for line in ran.lines if "in/b" in line]
    reason = "Permission denied" if way == "may not be read" else "No such file or directory"
    assert told == [f"warning: folder in/b cannot be read ({reason}): it is left out until it can be"]


def test_what_fits_nothing_is_waited_for(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in").mkdir()
    Path("in/a.png").write_bytes(content(1))

    def later(moment: int) -> None:
        if moment == 1:
            Path("in/b.webp").write_bytes(content(2))

    ended_after(4, monkeypatch, later)
    ran = lowlight("batch", "in", "--watch", "--include", "*.webp")
    assert (ran.code, ran.out) == (130, "in_lit/b.webp\n")
    assert ran.lines[0] == "waiting for pictures in in; Ctrl-C ends it"


@pytest.mark.parametrize("names", [(), ("in/a.png",)])
def test_wrong_weights_are_told_before_any_picture_comes(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    Path("in").mkdir()
    for name in names:
        Path(name).write_bytes(content(1))
    ended_after(0, monkeypatch)
    ran = lowlight("batch", "in", "--watch", "-w", "nowhere.safetensors")
    assert (ran.code, len(ran.lines)) == (5, 1)


@pytest.mark.parametrize("other", [["--dry-run"], ["--exist", "number"]])
def test_refused(folder: Path, lowlight: Lowlight, other: list[str]) -> None:
    Path("in").mkdir()
    ran = lowlight("batch", "in", "--watch", *other)
    assert (ran.code, ran.err) == (2, f"error: --watch and {' '.join(other)} exclude each other\n")


def test_waiting_is_no_work(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds of a round are those of its pictures, however long they were waited for."""
    Path("in").mkdir()
    clock, hours = time.perf_counter, [0]

    def later(moment: int) -> None:
        hours[0] += 3600
        if moment in (0, 3):
            Path(f"in/{moment}.png").write_bytes(content(moment))

    monkeypatch.setattr(time, "perf_counter", lambda: clock() + hours[0])
    ended_after(6, monkeypatch, later)
    told = [line for line in lowlight("batch", "in", "--watch").lines if line.startswith("1 lit with")]
    assert len(told) == 2 and all(float(line.split(", ")[-1].removesuffix(" s")) < 600 for line in told)


def one_by_one(monkeypatch: pytest.MonkeyPatch, room: str) -> None:
    """Let a picture come with every second pause, one for each letter, and end; the disk has room for a `y`."""
    real, letters, there = os.fsync, dict(enumerate(room)), iter(room)

    def fsync(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink().suffix in (".part", ".tmp") and next(there) != "y":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    def later(moment: int) -> None:
        if moment % 2 == 0 and moment // 2 in letters:
            Path(f"in/{moment // 2}.png").write_bytes(content(moment))

    monkeypatch.setattr(os, "fsync", fsync)
    ended_after(2 * len(room) + 2, monkeypatch, later)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells which file is written")
def test_a_full_disk_ends_it_though_the_pictures_come_one_by_one(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("in").mkdir()
    with monkeypatch.context() as full:
        one_by_one(full, "ynnnnn")
        ran = lowlight("batch", "in", "--watch")
    assert (ran.code, ran.out) == (7, "in_lit/0.png\n")
    assert re.search(r"the disk is full: .* failed.*--resume goes on", ran.lines[-1])
    assert sorted(path.name for path in Path("in").iterdir()) == ["0.png", "1.png", "2.png", "3.png"]
    ended_after(2, monkeypatch)  # room is made, and the service started again
    assert lowlight("batch", "in", "--watch").out == "in_lit/1.png\nin_lit/2.png\nin_lit/3.png\n"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells which file is written")
def test_room_in_between_is_room(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in").mkdir()
    one_by_one(monkeypatch, "nnynn")
    ran = lowlight("batch", "in", "--watch")
    assert (ran.code, ran.out, ran.lines[-1]) == (130, "in_lit/2.png\n", "ended: 1 lit, 4 failed")


def test_what_an_earlier_round_made_is_known(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in").mkdir()
    bitmap(1, 1_000)
    ended_after(6, monkeypatch, lambda moment: bitmap(1, 2_000) if moment == 2 else None)
    ran = lowlight("batch", "in", "--watch")
    assert (ran.code, ran.out) == (130, "in_lit/a.bmp\n")
    assert any(line.startswith("1 skipped") for line in ran.lines)


def line(name: str, content: str) -> str:
    """A line of the manifest."""
    told = {"folder": "/in", "input": name, "output": name, "input_sha256": content, "weights": "w", "settings": "s"}
    made = {"output_sha256": content, "output_bytes": 1, "error": None}
    return json.dumps({"schema": "lowlight-manifest-1", **told, **made}) + "\n"


def test_a_manifest_is_read_once(folder: Path) -> None:
    """What was read is not read again, whatever became of it; what is added is; and all of another manifest is."""
    manifest, known = Path(NAME), followed(folder)

    def contents() -> dict[str, str]:
        return {name: record.input_sha256 for (name, _), record in next(known).items()}

    def add(text: str) -> None:
        with manifest.open("a") as file:
            file.write(text)

    assert contents() == {}
    add(line("a", "1") + line("b", "2") + line("c", "3")[:40])
    assert contents() == {"a": "1", "b": "2"}
    with manifest.open("r+") as file:
        file.write("x" * len(line("a", "1").strip()))
    add(line("c", "3")[40:] + line("b", "4"))
    assert contents() == {"a": "1", "b": "4", "c": "3"}
    manifest.write_text(line("d", "5"))
    assert contents() == {"d": "5"}
    Path("other").write_text(line("e", "6") * 2)
    Path("other").replace(manifest)
    assert contents() == {"e": "6"}
    manifest.unlink()
    assert contents() == {}
    add(line("f", "7") * 9)
    assert contents() == {"f": "7"}


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_while_it_waits(folder: Path, dgaf_weights: Path, name: str, code: int) -> None:
    Path("in").mkdir()
    Path("in/a.png").write_bytes(content(1))
    words, variables = program(["batch", "in", "--watch"]), environment(dgaf_weights)
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=variables) as running:
        assert running.stderr
        while not running.stderr.readline().startswith("1 lit with"):
            assert running.poll() is None
        time.sleep(0.5)  # until it waits again
        running.send_signal(getattr(signal, name))
        _, told = running.communicate(timeout=30)
    assert (running.returncode, told) == (code, "ended: 1 lit\n")
