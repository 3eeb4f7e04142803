"""Damaged files of every format: no crash, no hang, no flood of memory, always a picture or one line that names it.

The long run, 5,000 files a format, takes minutes: pytest -m slow tests/test_fuzz.py
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran
from fuzz import mutated, wholes

FUZZ = Path(__file__).with_name("fuzz.py")
KINDS = list(wholes())


def fuzzed(count: int, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FUZZ), str(count), *more], capture_output=True, text=True, timeout=1800, check=False
    )


def test_some_mutations() -> None:
    done = fuzzed(30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 faults"), done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1900)
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutations(kind: str) -> None:
    done = fuzzed(5000, "1000", kind)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("0 faults"), done.stdout


def test_what_pillow_logs_is_not_printed(folder: Path, process: Callable[..., Ran]) -> None:
    whole = wholes()["tiff"][1]
    at = whole.index(struct.pack("<HHI", 277, 3, 1))  # SamplesPerPixel
    Path("a.tif").write_bytes(whole[: at + 8] + b"\x08" + whole[at + 9 :])
    ran = process("enhance", "a.tif")
    assert (ran.code, len(ran.lines)) == (3, 1), ran.lines
    assert ran.lines[0].startswith("error: a.tif: damaged or incomplete")


def test_the_command_says_one_line_a_file(folder: Path, process: Callable[..., Ran]) -> None:
    """Libraries in C, too, would like to say something: libpng, libtiff, LibRaw."""
    every = wholes()
    Path("in").mkdir()
    for kind, (suffix, whole) in every.items():
        for seed in range(6):
            Path("in", f"{kind} {seed}{suffix}").write_bytes(mutated(whole, whole, seed))
        Path("in", f"{kind} cut{suffix}").write_bytes(whole[: len(whole) * 4 // 5])
    ran = process("enhance", "in", "--max-pixels", "1e6", "--format", "tiff")
    assert ran.code == 1
    # What is not kept is a note that begins with the file; the GIFs are one note.
    notes = ("in/", "7 files are of kinds that are not read: .gif")
    *errors, last = (line for line in ran.lines if not line.startswith(notes))
    assert all(line.startswith("error: in/") for line in errors), errors
    assert f"{len(errors)} failed" in last
    assert len(errors) >= len(every) - 1  # what is cut; a GIF is not looked for
