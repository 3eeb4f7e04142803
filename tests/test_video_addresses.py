"""Clips from addresses: whole ones, live ones, ones that do not answer."""

from __future__ import annotations

import functools
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import video_kit as kit
from conftest import Ran

from lowlight_cli.cli import report
from lowlight_cli.errors import UsageError
from lowlight_cli.video import addresses
from lowlight_cli.video.addresses import Address, address, local, option
from lowlight_cli.video.opening import sequential

Lowlight = Callable[..., Ran]
SAME = ("--strength", "0")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """Serves the folder; its address."""
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()
        thread.join()


def played(clip: Path, offset: float, end: bool = True, port: int = 0) -> tuple[str, threading.Thread]:
    """A camera: it plays a clip once, over TCP, and its clock has run for `offset` seconds; its address.

    Where it does not `end`, it keeps the line open and falls silent.
    """
    listening = socket.create_server(("127.0.0.1", port))
    port = listening.getsockname()[1]

    def serve() -> None:
        line, _ = listening.accept()
        with listening, line, line.makefile("wb") as sink, av.open(str(clip)) as source:
            with av.open(sink, "w", format="mpegts") as out:
                copies = [out.add_stream_from_template(stream, opaque=True) for stream in source.streams]
                for packet in source.demux():
                    if packet.size and packet.dts is not None:
                        shift = round(offset / packet.time_base)
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = copies[packet.stream.index]
                        out.mux(packet)
            sink.flush()
            if not end:
                time.sleep(2)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return f"tcp://127.0.0.1:{port}", thread


def test_a_file_on_a_server(folder: Path, lowlight: Lowlight, server: str) -> None:
    """As from the disk: every frame, and the sound to the byte; named after the address."""
    (folder / "there").mkdir()
    clip = kit.write(Path("there/night.mp4"), kit.pictures(10), sound="aac")
    ran = lowlight("video", f"{server}/there/night.mp4?token=1", *SAME)
    assert ran.code == 0, ran.err
    assert ran.out.split() == ["night_lit.mp4"]
    before, after = kit.known(clip), kit.known(Path("night_lit.mp4"))
    assert (after.ticks, after.packets, after.kinds) == (before.ticks, before.packets, before.kinds)
    ran = lowlight("video", f"{server}/there/night.mp4", "-o", "lit/%d.png", "--end", "0.08", *SAME)
    assert ran.code == 0, ran.err
    assert len(list(Path("lit").iterdir())) == 2


def test_an_address_on_this_machine_is_a_file(folder: Path, lowlight: Lowlight) -> None:
    """Its result lies beside it, and never in its place."""
    (folder / "a b").mkdir()
    clip = kit.write(Path("a b/night#1.mkv"), kit.pictures(3)).absolute()
    ran = lowlight("video", f"FILE://localhost{folder}/a%20b/night%231.mkv", "-o", "a b/night#1.mkv", *SAME, "--exist",
                   "overwrite")  # fmt: skip
    assert (ran.code, len(ran.lines)) == (2, 1), ran.err
    assert "is its own input" in ran.err
    ran = lowlight("video", clip.as_uri(), *SAME)
    assert ran.code == 0, ran.err
    assert ran.out == f"{clip.with_stem('night#1_lit')}\n"


def test_an_address_in_capitals(folder: Path, lowlight: Lowlight, server: str) -> None:
    kit.write(Path("night.mp4"), kit.pictures(3))
    ran = lowlight("video", f"{server}/night.mp4".replace("http", "HTTP"), *SAME)
    assert ran.code == 0, ran.err
    assert len(kit.shown(Path("night_lit.mp4"))) == 3


def test_a_live_source(folder: Path, lowlight: Lowlight) -> None:
    """Its clock may show anything: the result begins at 0; what else it sends is told to be left out."""
    ticks = [number * 3600 for number in range(12)]
    clip = kit.write(Path("cam.ts"), kit.pictures(12), base=Fraction(1, 90_000), ticks=ticks, sound="mp2")
    url, thread = played(clip, 5000.0)
    ran = lowlight("video", url, "-o", "out.mkv", *SAME)
    thread.join(timeout=10)
    assert ran.code == 0, ran.err
    after = kit.known(Path("out.mkv"))
    assert after.kinds == ("video",)
    assert "plays live: its picture alone is kept" in ran.err
    assert [float(tick) for tick in after.ticks] == pytest.approx([number * 0.04 for number in range(12)], abs=2e-3)
    url, thread = played(clip, 70.0)
    ran = lowlight("video", url, "-o", "part.mkv", "--end", "0.2", *SAME)
    thread.join(timeout=10)
    assert ran.code == 0, ran.err
    assert len(kit.known(Path("part.mkv")).ticks) == 5


def test_progress_of_an_address_without_a_path(
    folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is called by the address, as it has no name."""
    monkeypatch.setattr(report, "EVERY", 0)
    ticks = [number * 3600 for number in range(12)]
    url, thread = played(kit.write(Path("cam.ts"), kit.pictures(12), base=Fraction(1, 90_000), ticks=ticks), 10.0)
    ran = lowlight("video", url, "-o", "out.mkv", *SAME)
    thread.join(timeout=10)
    assert ran.code == 0, ran.err
    assert f"{url}: 5/?, " in ran.err


def test_a_live_source_that_falls_silent(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came is written, and it is said."""
    monkeypatch.setattr(addresses, "PATIENCE", (5.0, 0.5))
    noise = np.random.default_rng(0)
    shown = [noise.integers(0, 60, (96, 128, 3), np.uint8) for _ in range(60)]  # enough for FFmpeg to look into
    ticks = [number * 3600 for number in range(60)]
    url, _ = played(kit.write(Path("cam.ts"), shown, base=Fraction(1, 90_000), ticks=ticks), 10.0, end=False)
    ran = lowlight("video", url, "-o", "out.mkv", *SAME)
    assert ran.code == 0, ran.err
    assert "nothing has come for 0.5 s: it ends there" in ran.err
    assert len(kit.known(Path("out.mkv")).ticks) >= 58


@pytest.mark.parametrize(
    ("url", "code", "told"),
    [
        ("rtsp://user:secret@127.0.0.1:1/night", 3, "rtsp://127.0.0.1:1/night: cannot be opened (Connection refused)"),
        ("nosuch://127.0.0.1/x", 3, "FFmpeg here does not know this kind of address"),
        ("/dev/video99", 3, "/dev/video99: "),
        ("{server}/none.mp4", 3, "/none.mp4: cannot be opened"),
        ("{server}/page.mp4", 3, "/page.mp4: is not a clip that can be read"),
    ],
)
def test_what_cannot_be_opened_is_a_line(
    folder: Path, lowlight: Lowlight, server: str, url: str, code: int, told: str
) -> None:
    Path("page.mp4").write_text("<html>log in</html>" * 50)
    ran = lowlight("video", url.replace("{server}", server), "-o", "out.mp4")
    assert (ran.code, len(ran.lines)) == (code, 1), ran.err
    assert told in ran.err
    assert "secret" not in ran.err


def test_what_does_not_answer(folder: Path, lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "PATIENCE", (0.3, 0.3))
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        ran = lowlight("video", f"tcp://127.0.0.1:{deaf.getsockname()[1]}", "-o", "out.mp4")
    assert (ran.code, len(ran.lines)) == (3, 1), ran.err
    assert "does not answer" in ran.err


def test_addresses() -> None:
    assert address("night.mp4", {}) is None
    assert address("C:/night.mp4", {}) is None
    assert address("-", {}) is None
    assert address("/dev/video0", {}) == Address("/dev/video0")
    assert address("RTSP://Cam/A", {}) == Address("rtsp://Cam/A")
    assert local("file:///a/b%20c.mp4") == local("file://localhost/a/b%20c.mp4") == "/a/b c.mp4"
    assert local("file:///C:/a%25b.mp4") == "C:/a%b.mp4"
    assert local("file://nas/night.mp4") == "//nas/night.mp4"
    assert local("a%20b.mp4") == "a%20b.mp4" and local("http://a/b%20c.mp4") == "http://a/b%20c.mp4"
    camera = Address("rtsp://me:pass@cam/a/night.mkv", {"stimeout": "5"})
    assert (str(camera), camera.name, camera.stored) == ("rtsp://cam/a/night.mkv", "night.mkv", False)
    for url in ("rtsp://admin:p@ss@cam/night", "rtsp://admin:p?a@ss@cam/night", "rtsp://a:b@c:d@cam/night"):
        assert str(Address(url)) == "rtsp://cam/night"
    assert str(Address("https://cam/@night")) == "https://cam/@night"
    assert camera.settings == {"rtsp_transport": "tcp", "stimeout": "5"}
    assert Address("https://a/b%20c.mp4?x=1").name == "b c.mp4"
    assert option("video_size=1280x720") == ("video_size", "1280x720")
    with pytest.raises(UsageError, match="is not KEY=VALUE"):
        option("video_size")


def test_a_live_source_needs_a_name(folder: Path, lowlight: Lowlight) -> None:
    ran = lowlight("video", "rtsp://camera/")
    assert (ran.code, len(ran.lines)) == (2, 1), ran.err
    assert "gives no name for the result: name a file with -o" in ran.err
    ran = lowlight("video", "rtsp://camera/", "--preview", "3")
    assert (ran.code, len(ran.lines)) == (2, 1), ran.err


def test_an_interruption_ends_a_live_source(folder: Path, dgaf_weights: Path) -> None:
    """There is no other end: what came is the result, and whole."""
    from lowlight_cli import Enhancer
    from lowlight_cli.video.making import Course
    from lowlight_cli.video.run import enhance_clip

    ticks = [number * 3600 for number in range(12)]
    clip = kit.write(Path("cam.ts"), kit.pictures(12), base=Fraction(1, 90_000), ticks=ticks)

    def enough(course: Course) -> None:
        if course.done == 5:
            raise KeyboardInterrupt

    url, _ = played(clip, 10.0)
    made = enhance_clip(Enhancer(strength=0, weights=dgaf_weights), Address(url), Path("out.mkv"), on_frame=enough)
    assert made.frames == len(kit.shown(Path("out.mkv"))) == 5
    assert [path.name for path in folder.glob("*out*")] == ["out.mkv"]


def test_only_files_are_read_through_to_a_moment(folder: Path, server: str) -> None:
    """Recordings of MPEG-TS may be joined, and a seek finds any of them; over a network, it would fetch all of it."""
    ticks = [number * 3600 for number in range(6)]
    kit.write(Path("cam.ts"), kit.pictures(6), base=Fraction(1, 90_000), ticks=ticks)
    kit.write(Path("night.mp4"), kit.pictures(3))
    for source, through in (("cam.ts", True), ("night.mp4", False), (f"{server}/cam.ts", False)):
        with av.open(source) as container:
            assert sequential(container) == through, source


def test_a_part_of_an_address(folder: Path, lowlight: Lowlight, server: str) -> None:
    ticks = [number * 3600 for number in range(75)]
    clip = kit.write(Path("cam.ts"), kit.pictures(75), base=Fraction(1, 90_000), ticks=ticks)
    for source, target in ((clip, "file.mkv"), (f"{server}/cam.ts", "address.mkv")):
        ran = lowlight("video", source, *SAME, "--start", "2", "-o", target, "--codec", "ffv1")
        assert ran.code == 0, ran.err
    assert np.array_equal(*(np.array(kit.shown(Path(each))) for each in ("file.mkv", "address.mkv")))
