"""tests/cases: what is typed, how it ends, what is said.

A case is a file: `files` that lie in the folder (made by `FILES`), `without` packages, `args` (`{weights}` is a
checkpoint of dgaf, which is also the default here), `exit`, and patterns for `stderr` and `stdout` (nothing, if not
given). What holds for all: as many lines on stderr as said (one), no traceback, no file but those in `leaves`, inputs
unchanged.
"""

from __future__ import annotations

import io
import re
import struct
import sys
import tomllib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, dark_array
from PIL import Image

CASES = sorted(Path(__file__).with_name("cases").glob("*.toml"))


def picture(kind: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(dark_array()).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says its size and little more."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


FILES: dict[str, Callable[[], bytes]] = {
    "photo.jpg": lambda: picture("JPEG"),
    "photo_lit.jpg": lambda: picture("JPEG"),
    "photo.png": lambda: picture("PNG"),
    "clear.png": lambda: picture("PNG", "RGBA"),
    "cut.jpg": lambda: picture("JPEG")[:700],
    "cut.png": lambda: picture("PNG")[:1500],
    "empty.jpg": lambda: b"",
    "text.jpg": lambda: b"This is no picture.\n",
    "text.safetensors": lambda: b"These are no weights.\n",
    "zero.png": lambda: png_header(0, 0),
    "huge.png": lambda: png_header(60_000, 60_000),
    "photo.heic": lambda: struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(200),
    "paper.pdf": lambda: b"%PDF-1.7\n1 0 obj <<>> endobj\n",
    "-photo.jpg": lambda: picture("JPEG"),
    "note.txt": lambda: b"a note\n",
    "keep.txt": lambda: b"to keep\n",
}
"""What a case may ask for, by the last part of its name."""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(
    path: Path, folder: Path, lowlight: Callable[..., Ran], dgaf_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    assert case.keys() <= {"files", "args", "stdin", "exit", "stderr", "stdout", "lines", "leaves", "without"}
    for name in case.get("without", ()):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    for name in case.get("files", ()):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(FILES[file.name]())
    before = contents(folder)
    if "stdin" in case:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(case["stdin"].encode())))

    ran = lowlight(*(arg.replace("{weights}", str(dgaf_weights)) for arg in case["args"]))

    assert (ran.code, "Traceback" in ran.err) == (case["exit"], False), ran.err
    assert re.match(case["stderr"], ran.err), ran.err
    assert len(ran.lines) == case.get("lines", 1), ran.err
    assert re.fullmatch(case.get("stdout", ""), ran.out), ran.out
    after = contents(folder)
    assert after.keys() - before.keys() == set(case.get("leaves", ()))
    assert {name: after[name] for name in before} == before


def test_every_code_has_a_case() -> None:
    codes = {tomllib.loads(path.read_text("utf-8"))["exit"] for path in CASES}
    assert codes >= {1, 2, 3, 4, 5, 6}  # 0 and 7, 130 and 143 are in test_cli_enhance.py and test_cli_process.py
