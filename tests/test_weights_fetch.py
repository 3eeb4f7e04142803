"""From what a user types to a checked file: tags, files, https, the authors' pickles. The hub has its own tests."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import Answer, Hub, serve

from lowlight_cli import disk, networks
from lowlight_cli.engines import cache
from lowlight_cli.errors import LowlightError, OutputError, ResourceError, UsageError, WeightsError
from lowlight_cli.weights import catalog, fetch, files, header, web

BLOCK: dict[str, Any] = {
    "parameters": 383353, "licence": "MIT", "training_data": "none", "recipe": "a test", "input": "exposed",
    "paper": "nobody", "paper_url": "https://example.org",
}  # fmt: skip


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve() as server:
        yield server


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Hub) -> Path:
    """A cache of our own, no table of checkpoints, no pages; the folder for whatever else a test writes."""
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path / "cache"))
    for name in ("LOWLIGHT_OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    hub.pages.clear()
    hub.seen.clear()
    table(monkeypatch)
    return tmp_path


def table(monkeypatch: pytest.MonkeyPatch, *checkpoints: catalog.Checkpoint) -> None:
    """Let `checkpoints` be the whole table."""
    monkeypatch.setattr(catalog, "catalog", lambda: checkpoints)
    monkeypatch.setattr(fetch, "catalog", lambda: checkpoints)


def checkpoint(**fields: Any) -> catalog.Checkpoint:
    """A block of dgaf, whose addresses need not be https."""
    return catalog.Checkpoint.model_construct(**{"network": "dgaf", "tag": "night", **BLOCK, **fields})


def address(hub: Hub, body: bytes, name: str = "/a.safetensors", **answer: Any) -> str:
    """Serve `body`; its address with its hash."""
    hub.pages[name] = Answer(body, **answer)
    return f"{hub.url}{name}#sha256={hashlib.sha256(body).hexdigest()}"


def cached() -> list[str]:
    """What lies in the cache, locks apart."""
    return sorted(path.name for path in fetch.cache_folder().rglob("*") if path.suffix != ".lock")


def refused(weights: str | None, network: str = "dgaf", **options: Any) -> str:
    """The line with which `weights` is refused; the cache is empty afterwards."""
    with pytest.raises(WeightsError) as caught:
        fetch.resolve(network, weights, **options)
    assert "\n" not in str(caught.value) and cached() == []
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------ table, files


def test_tags_names_and_the_default(monkeypatch: pytest.MonkeyPatch, here: Path, ours: bytes) -> None:
    monkeypatch.setattr(catalog, "PACKAGE", here)
    (here / "checkpoints").mkdir()
    known = {"sha256": hashlib.sha256(ours).hexdigest(), "bytes": len(ours)}
    first = checkpoint(tag="night", file="a.safetensors", **known)
    second = checkpoint(tag="day", file="b.safetensors", **known)
    table(monkeypatch, first, second)
    for name in ("a", "b"):
        (here / "checkpoints" / f"{name}.safetensors").write_bytes(ours)
    for weights, wanted in ((None, first), ("night", first), ("day", second), ("dgaf.day", second)):
        got = fetch.resolve("dgaf", weights, offline=True)
        assert got.checkpoint == wanted and got.path.name == wanted.file and got.sha256 == wanted.sha256
    assert "did you mean 'night'" in refused("nigth")
    assert "there are night, day" in refused("xyz")
    assert "dgaf.day is for dgaf, not for neid" in refused("dgaf.day", "neid")
    assert "there are no weights for neid yet" in refused(None, "neid")
    with pytest.raises(UsageError):
        fetch.resolve("nonet", None)

    (here / "checkpoints/a.safetensors").write_bytes(ours[:-1])
    assert "damaged" in refused(None) and "install lowlight-cli again" in refused(None)
    (here / "checkpoints/a.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert "git lfs pull" in refused(None)
    (here / "checkpoints/a.safetensors").unlink()
    assert "is missing" in refused(None)
    assert fetch.local(first) is None and fetch.local(second) is not None
    with pytest.raises(WeightsError, match="shipped"):
        fetch.remove(second)


def test_a_file(here: Path, ours: bytes) -> None:
    path = here / "mine.safetensors"
    path.write_bytes(ours)
    got = fetch.resolve("dgaf", str(path))
    assert got == fetch.Resolved(path, hashlib.sha256(ours).hexdigest(), None)
    assert "holds weights for dgaf, not for frlie" in refused(str(path), "frlie")
    assert "no weights file" in refused(str(here / "none.safetensors"))
    assert "no weights file" in refused("none.safetensors")
    path.write_bytes(b"PK\x03\x04")
    assert "pickle" in refused(str(path))


# ------------------------------------------------------------------------------------------------------------ https


def test_https(hub: Hub, ours: bytes) -> None:
    seen: list[tuple[int, int | None]] = []
    said: list[str] = []
    where = address(hub, ours)
    got = fetch.resolve("dgaf", where, on_progress=lambda *now: seen.append(now), on_message=said.append)
    assert got.path.read_bytes() == ours and got.sha256 == hashlib.sha256(ours).hexdigest() and got.checkpoint is None
    assert seen[-1] == (len(ours), len(ours)) and seen == sorted(seen)
    assert len(said) == 1 and said[0].startswith("fetching") and "127.0.0.1" in said[0]
    assert cached() == [got.path.name]
    files.load(got.path, "dgaf")

    hub.pages.clear()  # from here on the network is not needed
    assert fetch.resolve("dgaf", where, offline=True, on_message=said.append) == got
    assert len(said) == 1 and hub.seen == ["GET /a.safetensors"]
    with pytest.raises(WeightsError, match="holds weights for dgaf, not for neid"):
        fetch.resolve("neid", where)


def test_https_announces_before_it_asks(hub: Hub, ours: bytes) -> None:
    asked: list[int] = []
    fetch.resolve("dgaf", address(hub, ours), on_message=lambda _: asked.append(len(hub.seen)))
    assert asked == [0]


@pytest.mark.parametrize("name", ["LOWLIGHT_OFFLINE", "HF_HUB_OFFLINE", ""])
def test_offline_asks_nobody(hub: Hub, ours: bytes, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name:
        monkeypatch.setenv(name, "1")
    line = refused(address(hub, ours), offline=not name)
    assert (name or "offline mode") in line and "not on this machine" in line
    assert hub.seen == [] and not fetch.cache_folder().exists()


def test_offline_set_to_no_is_online(hub: Hub, ours: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWLIGHT_OFFLINE", "0")
    assert fetch.resolve("dgaf", address(hub, ours)).path.is_file()


def test_addresses_that_are_not_taken(hub: Hub, ours: bytes) -> None:
    assert f"'{hub.url}/a#sha256=HEX'" in refused(f"{hub.url}/a")
    assert "sha256=HEX" in refused(f"{hub.url}/a#sha256=1234")
    digest = "#sha256=" + "0" * 64
    assert "https:// or hf:// only" in refused(f"http://example.org/a{digest}")
    assert "https:// or hf:// only" in refused(f"ftp://example.org/a{digest}")
    assert "https:// or hf:// only" in refused(f"file:///etc/passwd{digest}")
    assert "https:// or hf:// only" in refused(f"https://{digest}")
    for bad in ("https://[bad/", "http://[::1", "https://host:port/a", "https://host:99999/a"):
        assert refused(bad + digest).startswith(f"{bad} is no address")
    hub.pages["/there"] = Answer(b"", 302, {"Location": "http://example.org/a"})
    assert "example.org" in refused(f"{hub.url}/there{digest}")
    address(hub, ours)
    hub.pages["/moved"] = Answer(b"", 302, {"Location": "/a.safetensors"})
    assert fetch.resolve("dgaf", f"{hub.url}/moved#sha256={hashlib.sha256(ours).hexdigest()}").path.is_file()


def test_a_hash_in_capitals(hub: Hub, ours: bytes) -> None:
    where, _, digest = address(hub, ours).rpartition("=")
    assert fetch.resolve("dgaf", f"{where}={digest.upper()}").sha256 == digest


def test_wrong_content_is_not_kept(hub: Hub, ours: bytes) -> None:
    other = address(hub, ours).replace("#sha256=" + hashlib.sha256(ours).hexdigest(), "#sha256=" + "0" * 64)
    assert f"its sha256 is {hashlib.sha256(ours).hexdigest()}, wanted {'0' * 64}" in refused(other)
    hub.pages["/a.safetensors"] = Answer(b"<!doctype html><title>Sign in</title>")
    assert "web page" in refused(other)
    assert "cut off, 1000 of" in refused(address(hub, ours, cut=1000))
    assert "pickle" in refused(address(hub, b"PK\x03\x04"))
    assert "holds weights for dgaf, not for neid" in refused(address(hub, ours), "neid")
    assert "damaged or of another kind" in refused(address(hub, b"a text"))
    assert "empty" in refused(address(hub, b""))
    assert "answers 404" in refused(address(hub, b"", status=404))
    assert "answers 503" in refused(address(hub, b"", status=503))


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = refused(f"http://127.0.0.1:{port}/a#sha256={'0' * 64}")
    assert "cannot be reached" in line and "check the connection" in line


def test_a_server_that_never_answers(hub: Hub, ours: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PATIENCE", 0.1)
    assert "timed out" in refused(address(hub, ours, wait=0.5))


def test_more_than_was_announced(hub: Hub, ours: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    where = address(hub, ours)
    table(monkeypatch, checkpoint(url=where, sha256=where[-64:], bytes=1000))
    assert "longer than the 1000 bytes" in refused("night")
    monkeypatch.setattr(web, "LARGEST", 5000)
    assert "longer than the 5000 bytes" in refused(where)


def test_a_damaged_copy_is_fetched_again(hub: Hub, ours: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    where = address(hub, ours)
    table(monkeypatch, one := checkpoint(url=where, sha256=where[-64:], bytes=len(ours)))
    assert fetch.local(one) is None and fetch.remove(one) is None
    path = fetch.resolve("dgaf").path
    assert fetch.local(one) == path
    path.write_bytes(ours[:-1])
    with pytest.raises(WeightsError, match="is damaged, and offline mode"):
        fetch.resolve("dgaf", offline=True)
    said: list[str] = []
    assert fetch.resolve("dgaf", on_message=said.append).path.read_bytes() == ours
    assert "damaged" in said[0] and said[1].startswith("fetching dgaf.night")
    assert fetch.remove(one) == path and fetch.local(one) is None
    assert cached() == []


def test_two_at_once_fetch_once(hub: Hub, ours: bytes) -> None:
    where = address(hub, ours, wait=0.3)
    said: list[str] = []
    got: list[Path] = []

    def work() -> None:
        got.append(fetch.resolve("dgaf", where, on_message=said.append).path)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == 1 and len(got) == 3
    assert hub.seen == ["GET /a.safetensors"]
    assert sum("waiting" in line for line in said) == 2


def test_a_full_disk(hub: Hub, ours: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        fetch.resolve("dgaf", address(hub, ours))
    assert cached() == []


def test_a_cache_that_cannot_be_written(hub: Hub, ours: bytes, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "file").write_text("")
    monkeypatch.setenv("LOWLIGHT_CACHE", str(here / "file"))
    with pytest.raises(WeightsError, match="LOWLIGHT_CACHE names another folder"):
        fetch.resolve("dgaf", address(hub, ours))


def test_where_the_cache_is(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch.cache_folder() == here / "cache" / "weights"
    monkeypatch.delenv("LOWLIGHT_CACHE")
    assert fetch.cache_folder().parts[-2:] != ("cache", "weights")
    assert "lowlight" in fetch.cache_folder().parts


@pytest.mark.skipif(sys.platform == "win32", reason="every user has a home there")
@pytest.mark.parametrize("old", [False, True])
def test_a_user_without_a_home_keeps_nothing(here: Path, monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    """As platformdirs tells it, and as its older versions do, by a path that begins in the current folder."""

    def homeless(*_: object, **__: object) -> Path:
        if old:
            return Path("~/.cache/lowlight")
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("LOWLIGHT_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_path", homeless)
    assert not fetch.cache_folder().exists()
    assert cache.find("dgaf", "0" * 64) is None
    with pytest.raises(OutputError, match="LOWLIGHT_CACHE"):
        cache.refuse_unwritable()


def test_clear(hub: Hub, ours: bytes) -> None:
    assert fetch.clear() == 0
    fetch.resolve("dgaf", address(hub, ours))
    assert fetch.clear() >= len(ours)
    assert not fetch.cache_folder().exists()


# ------------------------------------------------------------------------------------------------- the authors' files


def pickled(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def blob_id(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


@pytest.fixture(scope="module")
def halves() -> tuple[bytes, bytes]:
    """What FRLIE's authors publish, by its layout: encoder and decoder, and the feature processor."""
    torch.manual_seed(0)
    network = networks.build("frlie")
    one, two = (
        {part: network.get_submodule(part).state_dict() for part in parts}
        for parts in (("encoder", "decoder"), ("feature_processor",))
    )
    return pickled(one), pickled(two)


def official(hub: Hub, *bodies: bytes) -> catalog.Checkpoint:
    """Serve the pickles; the block that names them."""
    sources = []
    for number, body in enumerate(bodies):
        hub.pages[f"/blobs/{number}"] = Answer(body)
        url = f"{hub.url}/blobs/{number}"
        sources.append(catalog.Source.model_construct(url=url, git_blob=blob_id(body), bytes=len(body)))
    about = {"network": "frlie", "tag": "official", "input": "as-is", "licence": "none stated"}
    return checkpoint(sources=tuple(sources), **about)


def test_the_authors_files(hub: Hub, halves: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    table(monkeypatch, one := official(hub, *halves))
    said: list[str] = []
    got = fetch.resolve("frlie", "official", on_message=said.append)
    state, about = files.load(got.path, "frlie")
    torch.manual_seed(0)
    wanted = networks.build("frlie").state_dict()
    assert all(torch.equal(state[name], wanted[name].half().float()) for name in header.inspect(got.path).shapes)
    assert about["tag"] == "official" and about["licence"] == "none stated" and about["input"] == "as-is"
    assert got.sha256 == disk.sha256(got.path) and got.checkpoint == one
    assert cached() == [got.path.name]  # the pickles are gone
    assert said[0].startswith("fetching frlie.official") and "licence none stated" in said[1]

    hub.pages.clear()
    assert fetch.resolve("frlie", offline=True) == got
    assert hub.seen == ["GET /blobs/0", "GET /blobs/1"]

    got.path.write_bytes(got.path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="damaged, and offline mode"):
        fetch.resolve("frlie", offline=True)
    official(hub, *halves)
    assert fetch.resolve("frlie") == got and cached() == [got.path.name]
    assert fetch.remove(one) == got.path and cached() == []


def test_other_content_of_the_authors_is_not_read(
    hub: Hub, halves: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    table(monkeypatch, official(hub, *halves))
    hub.pages["/blobs/1"] = Answer(halves[0])
    assert f"git blob id is {blob_id(halves[0])}, wanted {blob_id(halves[1])}" in refused("official", "frlie")
    hub.pages["/blobs/1"] = Answer(b"<!doctype html>")
    assert "web page" in refused("official", "frlie")
    table(monkeypatch, official(hub, halves[0], pickled({"feature_processor": {"a": torch.zeros(1)}})))
    line = refused("official", "frlie")
    assert "tensors are missing (first feature_processor" in line and "frlie.official" in line and ".part" not in line
    table(monkeypatch, official(hub, halves[0], halves[1][:1000]))
    assert "cut off" in refused("official", "frlie")


def test_github_is_asked_for_bytes() -> None:
    """Without this header it sends JSON around them."""
    table_ = {source.url for one in catalog.read(catalog.catalog_path()) for source in one.sources}
    hosts = {web.host(url) for url in table_}
    assert {host for host in hosts if "github" in host} <= set(web.ACCEPT)


def test_every_refusal_is_ours(hub: Hub) -> None:
    for weights in ("hf://", "hf://a/b", "://", "https://", "", ".", "..", "~", "a/b", "x" * 5000, "\0"):
        with pytest.raises(LowlightError):
            fetch.resolve("dgaf", weights)


def test_a_home_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "names a home" in refused("~nobody-of-that-name/w.safetensors")
    monkeypatch.setenv("LOWLIGHT_CACHE", "~nobody-of-that-name/cache")
    with pytest.raises(WeightsError, match="names a home"):
        fetch.cache_folder()
