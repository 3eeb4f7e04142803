"""`lowlight batch --watch`: pictures are taken when they are complete, and when they are replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Ran, dark_array
from PIL import Image

from lowlight_cli.folders import watch

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
    assert ran.lines[-1] == "error: interrupted; nothing is left half-written"
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


def test_two_with_one_name_do_not_end_it(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in").mkdir()
    for name in ("a.png", "a.jpg"):
        Image.fromarray(dark_array(20, 28)).save(Path("in", name))
    left = iter(range(4))

    def pause(_: float) -> None:
        moment = next(left, None)
        if moment == 2:
            Path("in/b.png").write_bytes(content(2))
        if moment is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", pause)
    ran = lowlight("batch", "in", "--watch", "--format", "webp")
    assert (ran.code, ran.out) == (130, "in_lit/b.webp\n")
    assert ran.lines[1].startswith("error: in/a.jpg and in/a.png would both become in_lit/a.webp")


@pytest.mark.parametrize("other", [["--dry-run"], ["--exist", "number"]])
def test_refused(folder: Path, lowlight: Lowlight, other: list[str]) -> None:
    Path("in").mkdir()
    ran = lowlight("batch", "in", "--watch", *other)
    assert (ran.code, ran.err) == (2, f"error: --watch and {' '.join(other)} exclude each other\n")
