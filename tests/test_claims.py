"""A folder that one run at a time writes to."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from lowlight_cli import claims
from lowlight_cli.errors import OutputError, disk_full


@pytest.mark.parametrize("system", ["posix", "nt"])
@pytest.mark.parametrize("keep", [False, True])
def test_one_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch, system: str, keep: bool) -> None:
    """On Windows the lock can only be removed once it is let go."""
    monkeypatch.setattr(claims, "os", SimpleNamespace(name=system))
    where = Path("a/b")
    for _ in range(2):
        with claims.claimed(where, "lock", "busy", keep=keep):
            assert [path.name for path in where.iterdir()] == ["lock"]
            with pytest.raises(OutputError, match="busy"), claims.claimed(where, "lock", "busy", keep=keep):
                pass
            assert [path.name for path in where.iterdir()] == ["lock"]
        assert where.exists() == keep
    with claims.claimed(where, "lock", "busy"):
        (where / "clip").touch()
    assert (where / "clip").exists()


def test_a_folder_that_takes_no_lock(folder: Path) -> None:
    Path("file").touch()
    with pytest.raises(OSError, match=r"Not a directory|exists"), claims.claimed(Path("file/in"), "lock", "busy"):
        pass
    Path("there/lock").mkdir(parents=True)
    with pytest.raises(OSError, match="lock") as refused, claims.claimed(Path("there"), "lock", "busy"):
        pass
    assert Path("there/lock").exists()
    assert refused.value.__cause__ is None  # not itself: whoever follows the causes would never end


@pytest.mark.parametrize("keep", [False, True])
def test_a_folder_that_was_there_stays_where_there_is_no_lock(
    folder: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("filelock.FileLock.acquire", full)
    with pytest.raises(OSError, match="No space"), claims.claimed(Path("out"), "lock", "busy", keep=keep):
        pass
    assert Path("out").exists() == keep


def test_a_cause_that_leads_back_is_no_full_disk() -> None:
    error = OSError(errno.EISDIR, "Is a directory")
    other = ValueError("odd")
    error.__cause__, other.__cause__ = other, error
    assert not disk_full(error)
    other.__context__, other.__cause__ = OSError(errno.ENOSPC, "No space left on device"), None
    assert disk_full(error)
