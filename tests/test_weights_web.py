"""Servers that answer nonsense, and addresses that say too much."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Ran

from lowlight_cli.errors import WeightsError
from lowlight_cli.weights import fetch

DIGEST = "#sha256=" + "0" * 64


class Server(socketserver.ThreadingTCPServer):
    """Sends `answer`, whatever it is asked."""

    daemon_threads = True
    answer = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/a.safetensors"


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(self.server.answer)  # type: ignore[attr-defined]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server(("127.0.0.1", 0), Handler) as here:
        thread = threading.Thread(target=here.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield here
        here.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nbody", "does not answer like a web server"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n", "not answer like a web server"),
        (b"\x1b[31mgarbage\r\n\r\n", "does not answer like a web server"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf", "came cut off"),
        (b"", "cannot be reached"),
        (b"HTTP/1.1 302 Found\r\nLocation: https://user:secret@host/a\r\n\r\n", "not taken"),
    ],
    ids=["length", "redirect", "status", "cut", "silence", "password"],
)
def test_nonsense_is_not_the_connections_fault(server: Server, answer: bytes, told: str) -> None:
    server.answer = answer
    with pytest.raises(WeightsError, match=told) as caught:
        fetch.resolve("dgaf", server.url + DIGEST)
    assert ("connection" in str(caught.value)) == (told == "cannot be reached")
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_what_a_server_says_cannot_command_the_terminal(
    server: Server, photo: Path, lowlight: Callable[..., Ran]
) -> None:
    server.answer = b"HTTP/1.1 500 \x1b[31mEVIL\x1b]0;t\x07\r\nContent-Length: 0\r\n\r\n"
    ran = lowlight("enhance", photo, "-w", server.url + DIGEST)
    assert ran.code == 5 and r"the server answers 500 \x1b[31mEVIL\x1b]0;t\x07" in ran.lines[-1]


@pytest.mark.parametrize(
    "address",
    [
        "https://user:secret@host/x",
        "https://secret@host/x",
        "https://user:secret@[bad/x",
        "https://user:se/secret@host/x",
        "https://user:se#secret@host/x",
        "http://user:secret@localhost/x",
        "ftp://user:secret@host/x",
    ],
)
@pytest.mark.parametrize("digest", [DIGEST, ""])
def test_a_password_is_not_repeated(photo: Path, lowlight: Callable[..., Ran], address: str, digest: str) -> None:
    ran = lowlight("enhance", photo, "-w", address + digest)
    assert ran.code == 5 and "secret" not in ran.err + ran.out
    assert ran.lines == [
        "error: the address of the weights holds a name or password, which is not taken: leave out ...@"
    ]


def test_an_at_sign_elsewhere_is_none(server: Server) -> None:
    server.answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(WeightsError, match="answers 404"):
        fetch.resolve("dgaf", f"{server.url}/package@1.0/a?to=b@c{DIGEST}")


@pytest.mark.parametrize("address", ["http://localhost/a b", "https://a..b/x", "http://localhost/\u591c"])
def test_what_cannot_be_asked_for(server: Server, address: str) -> None:
    with pytest.raises(WeightsError, match="check its spelling"):
        fetch.resolve("dgaf", address + DIGEST)


def test_what_a_kill_has_left_goes_with_the_next_try(server: Server) -> None:
    cache = fetch.cache_folder()
    left, others = cache / f".part-{'0' * 64}.safetensors", cache / f".part-{'1' * 64}.safetensors"
    for folder in (left, others):
        folder.mkdir(parents=True)
        (folder / "half.safetensors").write_bytes(b"half")
    with pytest.raises(WeightsError):
        fetch.resolve("dgaf", server.url + DIGEST)
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == [others.name]  # it may be at work
    fetch.clear()
    assert not cache.exists()


def test_a_disk_without_locks(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")  # as filelock 3.16 does

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    with pytest.raises(WeightsError, match=r"cannot write to .*: FileSystem does not .*; LOWLIGHT_CACHE names another"):
        fetch.resolve("dgaf", server.url + DIGEST)
