"""Weights from a hub and to a hub, against a server that speaks its protocol."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml
from hub_server import Answer, Hub, serve
from huggingface_hub import constants

from lowlight_cli.errors import ResourceError, UsageError, WeightsError
from lowlight_cli.weights import catalog, fetch, files, hub, publish

REPO, FILE = "me/lowlight", "dgaf.night.safetensors"
BLOCK: dict[str, Any] = {
    "network": "dgaf", "parameters": 383353, "licence": "MIT", "training_data": "LOL v1, bright photographs darkened",
    "recipe": "a test", "input": "exposed", "paper": "nobody, 2023", "paper_url": "https://example.org",
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with serve() as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Hub) -> Path:
    """The hub's client with a cache of its own, no token, and our server as its hub; the cache."""
    for name in ("HF_TOKEN", "LOWLIGHT_OFFLINE", "HF_HUB_OFFLINE", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path / "ours"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # the client's pauses between tries
    server.repos.clear()
    server.storage.clear()
    server.seen.clear()
    server.token, server.remark, server.cut = "", "", None
    return tmp_path / "hub"


def table(monkeypatch: pytest.MonkeyPatch, *checkpoints: catalog.Checkpoint) -> None:
    for module in (catalog, fetch, publish):
        monkeypatch.setattr(module, "catalog", lambda: checkpoints)


def kept(home: Path) -> list[str]:
    """Files in the hub's cache that hold or point to content."""
    found = [path for kind in ("blobs", "snapshots") for path in home.glob(f"*/{kind}/**/*")]
    return sorted(str(path.relative_to(home)) for path in found if not path.is_dir())


def refused(home: Path, weights: str | None, network: str = "dgaf", **options: Any) -> str:
    """The line with which `weights` is refused; nothing is kept."""
    with pytest.raises(WeightsError) as caught:
        fetch.resolve(network, weights, **options)
    assert "\n" not in str(caught.value) and kept(home) == []
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("hf://a/b/c.safetensors", ("a/b", "c.safetensors", None, None)),
        ("hf://a/b/d/c.safetensors@main", ("a/b", "d/c.safetensors", "main", None)),
        ("hf://a/b@v1/c.safetensors", ("a/b", "c.safetensors", "v1", None)),
        ("hf://models/a/b/c.safetensors", ("a/b", "c.safetensors", None, None)),
        (f"hf://a/b/c.safetensors@{'0' * 40}#sha256={'1' * 64}", ("a/b", "c.safetensors", "0" * 40, "1" * 64)),
    ],
)
def test_references(text: str, wanted: tuple[str, str, str | None, str | None]) -> None:
    reference = hub.parse(text)
    assert (reference.repo, reference.file, reference.revision, reference.sha256) == wanted
    assert reference.pinned == (wanted[2] == "0" * 40)
    assert hub.parse(str(reference)) == hub.Reference(*wanted[:3])


@pytest.mark.parametrize("text", ["hf://a/b", "hf://a@x/b/c", "hf://a/b@x/c@y", "hf:///a/b", "hf://datasets/a/b/c"])
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(WeightsError):
        hub.parse(text)


def test_a_pinned_file(server: Hub, home: Path, ours: bytes) -> None:
    commit = server.add(REPO, {FILE: ours})
    address = f"hf://{REPO}/{FILE}@{commit}"
    seen: list[tuple[int, int | None]] = []
    said: list[str] = []
    got = fetch.resolve("dgaf", address, on_progress=lambda *now: seen.append(now), on_message=said.append)
    assert got.path.read_bytes() == ours and got.sha256 == hashlib.sha256(ours).hexdigest()
    assert seen[-1] == (len(ours), len(ours))
    assert len(said) == 1 and "fetching" in said[0] and server.url in said[0]
    files.load(got.path, "dgaf")

    asked = len(server.seen)  # a pinned file that is cached costs no request
    assert fetch.resolve("dgaf", address, on_message=said.append) == got
    assert fetch.resolve("dgaf", address, offline=True) == got
    assert len(server.seen) == asked and len(said) == 1


def test_a_file_that_may_change(server: Hub, ours: bytes) -> None:
    first = server.add(REPO, {FILE: ours})
    said: list[str] = []
    address = f"hf://{REPO}/{FILE}"
    got = fetch.resolve("dgaf", address, on_message=said.append)
    assert f"hf://{REPO}/{FILE}@{first}" in said[-1] and "may change" in said[-1]
    assert fetch.resolve("dgaf", address, offline=True) == got
    server.add(REPO, {"README.md": b"new"})
    fetch.resolve("dgaf", address, on_message=said.append)
    assert str(server.repos[REPO].commits[-1][0]) in said[-1]


def test_a_hub_that_is_away_leaves_what_is_cached(server: Hub, ours: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add(REPO, {FILE: ours})
    got = fetch.resolve("dgaf", f"hf://{REPO}/{FILE}")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said: list[str] = []
    assert fetch.resolve("dgaf", f"hf://{REPO}/{FILE}", on_message=said.append) == got
    assert "cannot reach" in said[-1] and "the copy on this machine is used" in said[-1]


def test_announced_before_the_first_request(server: Hub, ours: bytes) -> None:
    server.add(REPO, {FILE: ours})
    asked: list[int] = []
    fetch.resolve("dgaf", f"hf://{REPO}/{FILE}", on_message=lambda _: asked.append(len(server.seen)))
    assert asked[0] == 0


def test_offline_asks_nobody(server: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "offline mode" in refused(home, f"hf://{REPO}/{FILE}", offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in refused(home, f"hf://{REPO}/{FILE}@{'0' * 40}")
    assert server.seen == []


def test_what_a_hub_refuses(server: Hub, home: Path, ours: bytes) -> None:
    server.add(REPO, {FILE: ours})
    assert "no such repository, or it is private" in refused(home, f"hf://you/lowlight/{FILE}")
    assert "no such file" in refused(home, f"hf://{REPO}/none.safetensors")
    assert "no such revision" in refused(home, f"hf://{REPO}/{FILE}@{'0' * 40}")
    server.token, server.repos[REPO].gated = "secret", True
    assert "agreed to the terms" in refused(home, f"hf://{REPO}/{FILE}")
    assert "not a .safetensors file" in refused(home, f"hf://{REPO}/model.pth")
    assert "how the hub names things" in refused(home, "hf://-a-/b--c/x.safetensors")


def test_a_token_opens_what_is_private(server: Hub, home: Path, ours: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add(REPO, {FILE: ours})
    server.token, server.repos[REPO].private = "secret", True
    assert "set HF_TOKEN" in refused(home, f"hf://{REPO}/{FILE}")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert fetch.resolve("dgaf", f"hf://{REPO}/{FILE}").path.is_file()


def test_nobody_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    line = refused(home, f"hf://{REPO}/{FILE}")
    assert "cannot reach http://127.0.0.1" in line and "check the connection" in line


def test_an_endpoint_that_is_no_hub(server: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.pages[f"/{REPO}/resolve/main/{FILE}"] = Answer(b"<html>")
    assert "hub" in refused(home, f"hf://{REPO}/{FILE}")
    server.pages.clear()


def test_wrong_content_is_not_kept(server: Hub, home: Path, ours: bytes) -> None:
    commit = server.add(REPO, {FILE: ours, "text.safetensors": b"a text", "page.safetensors": b"<html></html>"})
    assert f"wanted {'0' * 64}" in refused(home, f"hf://{REPO}/{FILE}@{commit}#sha256={'0' * 64}")
    assert "holds weights for dgaf, not for neid" in refused(home, f"hf://{REPO}/{FILE}@{commit}", "neid")
    assert "damaged or of another kind" in refused(home, f"hf://{REPO}/text.safetensors@{commit}")
    assert "web page" in refused(home, f"hf://{REPO}/page.safetensors@{commit}")
    server.cut = 1000
    assert "hf://" in refused(home, f"hf://{REPO}/{FILE}@{commit}")


def test_a_file_of_any_size_is_not_fetched(
    server: Hub, home: Path, ours: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = server.add(REPO, {FILE: ours})
    monkeypatch.setattr(hub, "LARGEST", 5000)
    assert "not one of our files" in refused(home, f"hf://{REPO}/{FILE}@{commit}")
    assert not any("/storage/" in line for line in server.seen)


def test_what_others_cached_stays(server: Hub, home: Path, ours: bytes) -> None:
    """A foreign file that another program keeps in the hub's cache is refused, not deleted."""
    commit = server.add(REPO, {"other.safetensors": b"another program's"})
    huggingface_hub.hf_hub_download(REPO, "other.safetensors", revision=commit, endpoint=server.url)
    before = kept(home)
    for address in (f"hf://{REPO}/other.safetensors@{commit}", f"hf://{REPO}/other.safetensors"):
        with pytest.raises(WeightsError):
            fetch.resolve("dgaf", address)
    assert kept(home) == before != []


def test_of_the_table(server: Hub, home: Path, ours: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = server.add(REPO, {FILE: ours})
    known = {"sha256": hashlib.sha256(ours).hexdigest(), "bytes": len(ours)}
    one = catalog.Checkpoint(tag="night", url=f"hf://{REPO}/{FILE}@{commit}", **known, **BLOCK)
    table(monkeypatch, one)
    assert fetch.local(one) is None
    got = fetch.resolve("dgaf", "night")
    assert got.checkpoint == one and fetch.local(one) == got.path

    got.path.resolve().write_bytes(ours[:-1])  # damaged on the disk
    with pytest.raises(WeightsError, match="is damaged, and offline mode"):
        fetch.resolve("dgaf", "night", offline=True)
    said: list[str] = []
    assert fetch.resolve("dgaf", "night", on_message=said.append).path.read_bytes() == ours
    assert "damaged" in said[0]

    assert fetch.remove(one) == got.path and kept(home) == []
    assert fetch.remove(one) is None
    table(monkeypatch, one.model_copy(update={"sha256": "0" * 64}))
    assert f"wanted {'0' * 64}" in refused(home, "night")


def test_removing_leaves_what_another_revision_shares(server: Hub, home: Path, ours: bytes) -> None:
    revisions = [server.add(REPO, {FILE: ours}), server.add(REPO, {FILE: ours, "README.md": b"."})]
    first, second = (fetch.resolve("dgaf", f"hf://{REPO}/{FILE}@{revision}").path for revision in revisions)
    hub.forget(first)
    assert not first.exists() and second.read_bytes() == ours
    hub.forget(second)
    assert kept(home) == []


def test_a_full_disk(server: Hub, home: Path, ours: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> str:
        raise OSError(28, os.strerror(28))

    server.add(REPO, {FILE: ours})
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        fetch.resolve("dgaf", f"hf://{REPO}/{FILE}")


def test_the_environment_is_honoured(server: Hub, tmp_path: Path, ours: bytes) -> None:
    """HF_ENDPOINT, HF_HOME and HF_TOKEN, in a process of its own: the client reads some of them on import."""
    commit = server.add(REPO, {FILE: ours})
    server.token, server.repos[REPO].private = "secret", True
    told = {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "secret", "HF_HUB_DISABLE_XET": "1"}
    code = (
        "import sys; from lowlight_cli.weights import hub; print(hub.download(hub.parse(sys.argv[1])).path);"
        "sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, f"hf://{REPO}/{FILE}@{commit}"]
    done = subprocess.run(command, env={**os.environ, **told}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert Path(done.stdout.strip()).read_bytes() == ours and str(tmp_path / "home") in done.stdout


# ------------------------------------------------------------------------------------------------------- publishing


@pytest.fixture
def shipped(tmp_path: Path, ours: bytes, monkeypatch: pytest.MonkeyPatch) -> catalog.Checkpoint:
    """A table with one shipped checkpoint, and one that is not ours."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / FILE).write_bytes(ours)
    monkeypatch.setattr(catalog, "PACKAGE", tmp_path)
    metrics = (
        catalog.Metric(protocol="600x400, RGB", dataset="LOL eval15", psnr=20.5, psnr_gt_mean=24.25, ssim=0.75),
        catalog.Metric(protocol="600x400, RGB", dataset="nights | ours", psnr=18.0),
    )
    stated = (catalog.Published(network="dgaf", dataset="its own", split="validation", psnr=37.257, ssim=0.9731),)
    known = {"sha256": hashlib.sha256(ours).hexdigest(), "bytes": len(ours)}
    one = catalog.Checkpoint(tag="night", file=FILE, metrics=metrics, published=stated, **known, **BLOCK)
    source = catalog.Source(url="https://example.org/a", git_blob="0" * 40)
    table(monkeypatch, one, catalog.Checkpoint(tag="theirs", sources=(source,), **BLOCK))
    return one


def test_push_and_pull(server: Hub, shipped: catalog.Checkpoint, ours: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    server.token, server.remark = "secret", "datasets: no such data set"
    monkeypatch.setenv("HF_TOKEN", "secret")
    said: list[str] = []
    pushed = publish.push(REPO, publish.publishable(), private=True, on_message=said.append)
    repo = server.repos[REPO]
    assert repo.private and [sha for sha, _ in repo.commits] == [pushed.revision]
    assert repo.commits[0][1][FILE] == ours and pushed.url == f"{server.url}/{REPO}"
    assert server.storage[shipped.sha256 or ""] == ours  # by the LFS way
    assert said[0].startswith("publishing dgaf.night to") and "no such data set" in said[1]

    address = pushed.addresses["dgaf.night"]
    assert address == f"hf://{REPO}/{FILE}@{pushed.revision}"
    assert fetch.resolve("dgaf", address).sha256 == shipped.sha256
    catalog.Checkpoint(tag="hub", url=address, sha256=shipped.sha256, bytes=len(ours), **BLOCK)

    again = publish.push(REPO, [shipped], message="once more")  # nothing changed: no new commit
    assert again.revision == pushed.revision and len(repo.commits) == 1


def test_the_card(shipped: catalog.Checkpoint) -> None:
    text = publish.card(REPO, [shipped])
    assert text.startswith("---\n")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "mit" and front["pipeline_tag"] == "image-to-image"
    assert front["library_name"] == "lowlight-cli" and "low-light" in front["tags"] and "dgaf" in front["tags"]
    assert front["datasets"] == ["lol"]  # photographs that are bright are no set
    results = front["model-index"][0]["results"]
    assert front["model-index"][0]["name"] == "dgaf.night" and len(results) == 2
    assert [metric["value"] for metric in results[0]["metrics"]] == [20.5, 24.25, 0.75]
    parsed = huggingface_hub.ModelCardData(**front)
    assert parsed.eval_results and parsed.eval_results[0].metric_type == "psnr"
    body = text.split("---\n", 2)[2]
    assert shipped.sha256 and shipped.sha256 in body and "As published" in body and "37.26" in body
    assert f"--weights hf://{REPO}/{FILE}@REVISION" in body and "nights \\| ours" in body


def test_a_card_of_what_has_no_reference(shipped: catalog.Checkpoint) -> None:
    """Its columns stand where there are such figures; our own fit never under the name of NIQE."""
    dark = (
        catalog.Metric(protocol="ours", dataset="dicm", luma=0.4361, niqe_own=4.531),
        catalog.Metric(protocol="ours", dataset="lime", niqe=3.75),
    )
    measured = shipped.model_copy(update={"metrics": (*shipped.metrics, *dark)})
    assert "NIQE" not in publish.card(REPO, [shipped])
    text = publish.card(REPO, [measured])
    assert "| PSNR | PSNR GT-mean | SSIM | mean luma | NIQE | NIQE (own fit) |" in text
    assert "| dicm | ours |  |  |  | 0.436 |  | 4.53 |" in text
    (index,) = yaml.safe_load(text.split("---\n")[1])["model-index"]
    named = {result["dataset"]["name"]: result["metrics"] for result in index["results"]}
    assert "dicm" not in named and [(each["type"], each["value"]) for each in named["lime"]] == [("niqe", 3.75)]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (
            "LOL v1: 463 training pairs (our485; 12 scenes held out, never used); 147 well-lit photographs, each "
            "darkened ten times by the physical model; 101 training pairs of SICE",
            ["lol", "sice"],
        ),
        ("the training pairs of LOL, by the paper", ["lol"]),
        ("as nights 28 photographs of DARK FACE and LOL-Blur, and FiveK", ["dark-face", "lol-blur", "fivek"]),
        ("lol@2 sice@0.5", ["lol", "sice"]),
        ("unknown", []),
    ],
)
def test_the_sets_that_a_card_names(shipped: catalog.Checkpoint, data: str, names: list[str]) -> None:
    front = yaml.safe_load(publish.card(REPO, [shipped.model_copy(update={"training_data": data})]).split("---\n")[1])
    assert front["datasets"] == names


def test_a_card_of_several_licences(shipped: catalog.Checkpoint) -> None:
    other = shipped.model_copy(update={"tag": "day", "licence": "research only"})
    front = yaml.safe_load(publish.card(REPO, [shipped, other]).split("---\n")[1])
    assert front["license"] == "other" and len(front["model-index"]) == 2


def test_what_is_not_published(
    server: Hub, shipped: catalog.Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsError, match=r"dgaf.theirs is not shipped"):
        publish.publishable(["dgaf.theirs"])
    with pytest.raises(UsageError, match="ORG/NAME"):
        publish.push("lowlight", [shipped])
    server.token = "secret"
    with pytest.raises(WeightsError, match="HF_TOKEN"):
        publish.push(REPO, [shipped])
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(WeightsError, match="HF_TOKEN"):
        publish.push(REPO, [shipped])
    asked = len(server.seen)
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("LOWLIGHT_OFFLINE", "1")
    with pytest.raises(WeightsError, match="LOWLIGHT_OFFLINE"):
        publish.push(REPO, [shipped])
    monkeypatch.delenv("LOWLIGHT_OFFLINE")
    (tmp_path / "checkpoints" / FILE).write_bytes(b"")
    with pytest.raises(WeightsError, match="damaged"):
        publish.push(REPO, [shipped])
    assert len(server.seen) == asked and server.repos == {}
    table(monkeypatch)
    with pytest.raises(WeightsError, match="nothing to publish"):
        publish.publishable()
