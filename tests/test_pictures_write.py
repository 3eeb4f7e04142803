"""Writing a file: whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from pictures_kit import noise, photo_of, saved, seen, smooth

from lowlight_cli import disk
from lowlight_cli.errors import OutputError, ResourceError, UsageError
from lowlight_cli.files import Saving
from lowlight_cli.pictures import encode, place, read, write

ARRAY = noise(12, 10, 3, np.uint8)
PHOTO = photo_of(ARRAY, name="in.png")


def test_a_file_is_written_and_nothing_else(tmp_path: Path):
    target = tmp_path / "Фото 夜景.png"
    write(target, PHOTO)
    assert np.array_equal(seen(target.read_bytes()), ARRAY)
    assert list(tmp_path.iterdir()) == [target]


def test_a_format_that_there_is_not_is_told_before_any_file():
    with pytest.raises(UsageError, match="format 'xyz' is not known; choose one of jpeg, png"):
        Saving(format="xyz")
    assert Saving(format="JPG").kind(Path("out.png")) == "JPG"


def test_an_old_file_is_replaced(tmp_path: Path):
    target = tmp_path / "out.png"
    target.write_bytes(b"old")
    write(target, PHOTO)
    assert np.array_equal(seen(target.read_bytes()), ARRAY)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_an_old_file_keeps_its_permissions_and_a_new_one_obeys_the_umask(tmp_path: Path):
    """Those that say who may read it, and no more."""

    def replace(target: Path) -> None:
        with disk.replaced(target) as part:
            part.write_bytes(b"new")

    before = os.umask(0o027)
    try:
        for number, make in enumerate((lambda target: write(target, PHOTO), replace)):
            new, old = tmp_path / f"new{number}.png", tmp_path / f"old{number}.png"
            for mode, kept in ((0o600, 0o600), (0o664, 0o664), (0o444, 0o444), (0o4755, 0o755)):
                old.write_bytes(b"old")
                old.chmod(mode)
                make(old)
                assert old.read_bytes() != b"old" and stat.S_IMODE(old.stat().st_mode) == kept
                old.unlink()
            make(new)
            assert stat.S_IMODE(new.stat().st_mode) == 0o640
    finally:
        os.umask(before)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files to others")
def test_a_private_file_of_somebody_else_stays_his(tmp_path: Path):
    old = tmp_path / "old.png"
    old.write_bytes(b"old")
    os.chown(old, 1000, 1001)
    old.chmod(0o600)
    write(old, PHOTO)
    new = old.stat()
    assert (new.st_uid, new.st_gid, stat.S_IMODE(new.st_mode)) == (1000, 1001, 0o600)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files to others")
def test_permissions_are_not_kept_without_their_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They would lock out those who could read the file."""
    old, new = tmp_path / "old.png", tmp_path / "new.png"
    old.write_bytes(b"old")
    os.chown(old, 1000, 1001)
    old.chmod(0o600)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    write(old, PHOTO)
    write(new, PHOTO)
    assert old.stat().st_mode == new.stat().st_mode
    monkeypatch.undo()
    os.chown(old, os.geteuid(), 1001)
    old.chmod(0o600)
    monkeypatch.setattr(os, "chown", refuse)
    write(old, PHOTO)
    assert stat.S_IMODE(old.stat().st_mode) == 0o600  # its group has no part in it


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_transparency_of_16_bits_is_rounded_to_8(kind: str) -> None:
    """To the nearest: 257 codes to one, 128 down and 129 up."""
    array = np.zeros((256, 257, 4), np.uint16)
    array[..., 3] = np.arange(1, 65_793).reshape(256, 257).clip(max=65_535)
    again = read(encode(photo_of(array), format=kind, depth=8)).alpha
    assert np.array_equal(again, np.rint(array[..., 3] / 257).astype(np.uint8))


def test_a_quality_that_is_asked_for_is_no_lossless_webp() -> None:
    photo = read(saved(smooth(), "WEBP", lossless=True))
    assert b"VP8L" in encode(photo) and b"VP8L" not in encode(photo, quality=60)


def test_the_longest_name_there_is(tmp_path: Path):
    target = tmp_path / ("x" * 251 + ".png")
    write(target, PHOTO)
    assert target.exists()


@pytest.mark.parametrize("links", [True, False])
def test_what_is_to_be_new_replaces_nothing(tmp_path: Path, monkeypatch, links):
    if not links:  # as on FAT

        def refused(*_: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refused)
    target = tmp_path / "out.png"
    place(target, b"first", anew=True)
    with pytest.raises(FileExistsError):
        place(target, b"second", anew=True)
    assert (target.read_bytes(), target.stat().st_nlink) == (b"first", 1)
    place(target, b"third")
    assert target.read_bytes() == b"third"
    assert list(tmp_path.iterdir()) == [target]


def test_of_many_who_write_at_once_one_does(tmp_path: Path):
    target, start, done = tmp_path / "out.png", threading.Barrier(8), []

    def write_new(data: bytes) -> None:
        start.wait()
        try:
            place(target, data, anew=True)
        except FileExistsError:
            return
        done.append(data)

    threads = [threading.Thread(target=write_new, args=(bytes([number]),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [target.read_bytes()]
    assert list(tmp_path.iterdir()) == [target]


def test_a_first_name_that_a_result_has_too_is_not_written_into(tmp_path: Path):
    """What is left where a program is killed between giving the last name and taking away the first."""
    first, target = tmp_path / ".first.part", tmp_path / "a.png"
    first.write_bytes(b"result")
    os.link(first, target)
    with pytest.raises(KeyboardInterrupt):
        place(target, b"another", beside=first, ready=_interrupted)
    assert target.read_bytes() == b"result"
    assert list(tmp_path.iterdir()) == [target]


def _interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error"), SystemExit(143)])
def test_nothing_half_written_stays(tmp_path: Path, monkeypatch, failing, error):
    target = tmp_path / "out.png"
    target.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise error

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError if isinstance(error, OSError) else type(error)):
        write(target, PHOTO)
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(tmp_path: Path, monkeypatch, number):
    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=r"out.png: the disk is full; make room"):
        write(tmp_path / "out.png", PHOTO)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_full_disk_for_real(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("lowlight_cli.pictures.placing.secrets.token_hex", lambda _: "x")
    (tmp_path / ".lowlight-x.tmp").symlink_to("/dev/full")
    with pytest.raises(OutputError):  # "x": a name that is taken is never written through
        write(tmp_path / "out.png", PHOTO)


def test_targets_that_cannot_be(tmp_path: Path):
    with pytest.raises(OutputError, match="there is no folder"):
        write(tmp_path / "none" / "out.png", PHOTO)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match="a folder has that name"):
        write(tmp_path / "folder.png", PHOTO)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / "file" / "out.png", PHOTO)
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / ("x" * 300 + ".png"), PHOTO)
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / "nul\0byte.png", PHOTO)
    assert {path.name for path in tmp_path.iterdir()} == {"folder.png", "file"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_a_file_takes_the_place_of_files_alone(tmp_path: Path):
    """A root's `-o /dev/null` would else leave the machine with a picture of that name."""
    pipe, link, weights = tmp_path / "pipe.png", tmp_path / "link.png", tmp_path / "new"
    folder = tmp_path / "folder.png"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    folder.symlink_to(tmp_path)
    weights.write_bytes(b"weights")
    for target in (pipe, link, folder):
        with pytest.raises(OutputError, match="a folder has that name" if target == folder else "it is not a file"):
            write(target, PHOTO)
        with pytest.raises(OutputError, match="it is not a file"):
            disk.settle(weights, target)
        with pytest.raises(OutputError, match="it is not a file"), disk.replaced(target):
            pass
        with pytest.raises(FileExistsError):
            place(target, b"", anew=True)
    assert stat.S_ISFIFO(pipe.stat().st_mode) and link.is_symlink() and folder.is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"pipe.png", "link.png", "folder.png", "new"}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_without_permission(tmp_path: Path, monkeypatch, number):
    def denied(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(OutputError, match="check its permissions or choose another"):
        write(tmp_path / "out.png", PHOTO)


def test_a_file_that_another_program_has_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows does not let it be replaced; the folder is not to blame."""
    target = tmp_path / "out.png"
    target.write_bytes(b"old")
    told = "The process cannot access the file because it is being used by another process"

    def refused(part: Path, name: Path) -> None:
        raise PermissionError(errno.EACCES, told, str(part), 32, str(name))

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(OutputError, match=f"out.png: cannot be written, {told}; close it in other programs"):
        place(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"] and target.read_bytes() == b"old"


def test_names_that_differ_by_case_or_suffix_alone_and_a_path_longer_than_most(folder: Path, lowlight):
    deep = Path("in", *(f"{'夜景' * 20}{level}" for level in range(12)))  # 1,500 bytes
    deep.mkdir(parents=True)
    names = ["in/a.png", "in/A.png", "in/a.PNG", "in/a.tif", str(deep / "ö.png")]
    for name in names:
        write(Path(name), PHOTO)
    if len(list(Path("in").glob("*.*"))) < 4:
        pytest.skip("a file system that knows no case")
    for command, out in (("enhance", "one"), ("batch", "two")):
        ran = lowlight(command, "in", "-o", out)
        assert ran.code == 0, ran.err
        assert sorted(ran.out.splitlines()) == sorted(out + name.removeprefix("in") for name in names)
        assert all(Path(out + name.removeprefix("in")).stat().st_size for name in names)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no such file system here")
def test_a_folder_that_takes_no_files_is_not_said_to_be_missing():
    """The system itself says so of /proc."""
    with pytest.raises(OutputError, match=r"^/proc/x\.png: cannot be written, the folder cannot be written to") as told:
        place(Path("/proc/x.png"), b"data")
    assert "no folder" not in str(told.value)


def test_what_a_kill_has_left_goes_with_time(tmp_path: Path) -> None:
    """Files of ours that nobody writes to any more, and nothing else."""
    left = ".lowlight-0123456789ab.tmp"
    foreign = (".lowlight-0123456789ab.part", ".lowlight-mine.tmp", "photo.tmp", f"x{left}", f"{left}.jpg")
    alive = ".lowlight-ba9876543210.tmp"
    for name in (left, alive, *foreign):
        (tmp_path / name).write_bytes(b"half a picture")
    (tmp_path / ".lowlight-000000000000.tmp").mkdir()
    for path in tmp_path.iterdir():
        if path.name != alive:
            os.utime(path, (0, 0))
    place(tmp_path / "out.png", b"whole")
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {alive, *foreign, ".lowlight-000000000000.tmp", "out.png"}


def test_a_large_folder_is_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []
    right = os.scandir
    monkeypatch.setattr(os, "scandir", lambda where: searched.append(os.fspath(where)) or right(where))
    for number in range(3):
        place(tmp_path / f"{number}.png", b"whole")
    assert searched == [str(tmp_path)]


@pytest.mark.skipif(os.name != "posix", reason="limits as POSIX has them")
def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from lowlight_cli.pictures import place;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); place(Path(sys.argv[1]), bytes(2000))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "out.png"], capture_output=True, text=True, check=False
    )
    assert "larger than this system lets one be (2,000 bytes); raise `ulimit -f`" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())
