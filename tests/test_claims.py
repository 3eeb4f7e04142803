"""A folder that one run at a time writes to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from lowlight_cli import claims
from lowlight_cli.errors import OutputError


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
    with pytest.raises(OSError, match="lock"), claims.claimed(Path("there"), "lock", "busy"):
        pass
    assert Path("there/lock").exists()
