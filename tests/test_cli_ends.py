"""What `lowlight enhance` runs out of, what ends it, and what it refuses before any work."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import Ran, dark_array
from PIL import Image
from test_cli_enhance import saved

from lowlight_cli import files
from lowlight_cli.pictures import Photo

Lowlight = Callable[..., Ran]


def test_memory_is_refused_before_it_is_used(photo: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowlight_cli.engines.memory.available", lambda: 1000)
    ran = lowlight("enhance", photo)
    assert (ran.code, len(ran.lines)) == (7, 1)
    assert ran.err.startswith("error: photo.jpg: ") and "memory" in ran.err
    assert not Path("photo_lit.jpg").exists()


@pytest.mark.parametrize("where", ["lowlight_cli.enhancer.finishing", "lowlight_cli.files.read"])
def test_out_of_memory(photo: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def hungry(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(where, hungry)
    ran = lowlight("enhance", photo)
    assert (ran.code, len(ran.lines)) == (7, 1)
    assert "out of memory" in ran.err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        cv2.error("OpenCV(4.11.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes"),
        RuntimeError("Cannot allocate memory"),
    ],
)
def test_one_picture_runs_out_of_memory_and_the_others_go_on(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    saved("a.png")
    saved("b.png")
    encode = files.encode

    def scarce(photo: Photo, **options: Any) -> bytes:
        if made:
            return encode(photo, **options)
        made.append(None)
        raise error

    made = list[None]()
    monkeypatch.setattr(files, "encode", scarce)
    ran = lowlight("enhance", "a.png", "b.png", "-o", "out/")
    assert ran.code == 1 and "a.png: out of memory" in ran.err
    assert [path.name for path in Path("out").iterdir()] == ["b.png"]


def test_full_disk(photo: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    ran = lowlight("enhance", photo)
    assert (ran.code, ran.err) == (7, "error: photo_lit.jpg: the disk is full; make room or choose another place\n")
    assert [path.name for path in Path().iterdir()] == ["photo.jpg"]


def test_interrupted_while_writing(photo: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    ran = lowlight("enhance", photo)
    assert (ran.code, ran.err) == (130, "error: interrupted; nothing is left half-written\n")
    assert [path.name for path in Path().iterdir()] == ["photo.jpg"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that not even root can write to")
def test_unwritable_target(photo: Path, lowlight: Lowlight) -> None:
    ran = lowlight("enhance", photo, "-o", "/proc/lit.jpg")
    assert (ran.code, len(ran.lines)) == (4, 1)
    assert ran.err.startswith("error: /proc/lit.jpg: ")


def test_unwritable_folder_is_found_before_the_work(
    photo: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr("lowlight_cli.enhancer.Enhancer.load", lambda _: pytest.fail("loaded for nothing"))
    ran = lowlight("enhance", photo, "-o", "new/sub/lit.jpg")
    assert (ran.code, len(ran.lines)) == (4, 1)
    assert "cannot be written to; check its permissions" in ran.err
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("-o", "x.jpg"), "JPEG cannot hold its transparency"),
        (("--format", "bmp"), "BMP cannot hold its transparency"),
        (("-o", "x.webp", "--bit-depth", "16"), "WebP does not hold 16 bits a sample"),
        (("-o", "x.avif", "--bit-depth", "16", "--compare"), "AVIF does not hold 16 bits a sample"),
    ],
)
def test_what_the_target_cannot_hold_is_refused_before_the_work(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], told: str
) -> None:
    Image.fromarray(np.dstack([dark_array(), dark_array()[..., 0]])).save("clear.png")
    monkeypatch.setattr("lowlight_cli.enhancer.Enhancer.load", lambda _: pytest.fail("loaded for nothing"))
    ran = lowlight("enhance", "clear.png", *options)
    assert (ran.code, len(ran.lines)) == (4, 1)
    assert told in ran.err


def test_a_sheet_has_no_transparency_to_hold(folder: Path, lowlight: Lowlight) -> None:
    Image.fromarray(np.dstack([dark_array(), dark_array()[..., 0]])).save("clear.png")
    assert lowlight("enhance", "clear.png", "--compare", "-o", "x.jpg").code == 0


@pytest.mark.parametrize("command", [("enhance", "in/a.png"), ("enhance", "in", "--dry-run"), ("batch", "in")])
@pytest.mark.parametrize("kind", ["jpg", "webp", "bmp", "avif"])
def test_formats_that_never_hold_16_bits(folder: Path, lowlight: Lowlight, command: tuple[str, ...], kind: str) -> None:
    saved("in/a.png")
    ran = lowlight(*command, "--format", kind, "--bit-depth", "16")
    told = f"error: --format {kind} does not hold 16 bits a sample: choose --format png or tiff"
    assert (ran.code, ran.out, ran.lines) == (2, "", [told])


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        ImportError("libopenblas.so: cannot read file data: Cannot allocate memory"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: Error code 12 (Cannot allocate memory)"),
    ],
)
def test_no_memory_by_other_names(
    photo: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("lowlight_cli.enhancer.Enhancer", fail)
    ran = lowlight("enhance", photo)
    assert ran.code == 7 and ran.lines[0].startswith("error: out of memory")
