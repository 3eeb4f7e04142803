"""`lowlight weights`: what goes to stdout, what to stderr, and the exit codes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import Ran, bright
from hub_server import Answer, Hub, serve
from safetensors.torch import save_file

from lowlight_cli import disk, networks
from lowlight_cli.engines import cache
from lowlight_cli.errors import WeightsError
from lowlight_cli.training.decoded import decode
from lowlight_cli.weights import catalog, files, header

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with serve() as running:
        yield running


@pytest.fixture
def here(tmp_path: Path, ours: bytes, server: Hub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with one shipped checkpoint, dgaf.night, and one to be fetched, dgaf.far."""
    package = tmp_path / "package"
    (package / "checkpoints").mkdir(parents=True)
    shipped = package / "checkpoints" / "dgaf.night.safetensors"
    shipped.write_bytes(ours)
    block = catalog.block(shipped)
    digest = hashlib.sha256(ours).hexdigest()
    far = block.replace('"night"', '"far"')
    far = far.replace('file = "dgaf.night.safetensors"', f'url = "https://example.org/far#sha256={digest}"')
    (package / "weights.toml").write_text(block + "\n" + far)
    monkeypatch.setattr(catalog, "PACKAGE", package)
    catalog.read.cache_clear()
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path / "cache"))
    for name in ("LOWLIGHT_OFFLINE", "HF_HUB_OFFLINE", "HTTP_PROXY", "ALL_PROXY", "LOWLIGHT_MODEL"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    server.pages["/a.safetensors"] = Answer(ours)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here: Path, call: Run) -> Run:
    return functools.partial(call, "weights")


def test_list(run: Run, here: Path) -> None:
    code, out, err = run("list")
    rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and err == ""
    assert rows[0][0] == "name" and [row[0] for row in rows[1:]] == ["dgaf.night", "dgaf.far"]
    assert "shipped" in rows[1] and "to be fetched" in rows[2] and "0.8 MB" in rows[1]
    code, out, _ = run("list", "--json")
    first, second = map(json.loads, out.splitlines())
    assert first["name"] == "dgaf.night" and first["path"].endswith("dgaf.night.safetensors")
    assert second["where"] == "to be fetched" and second["path"] == "" and first["schema"]


def test_info(run: Run, here: Path, ours: bytes) -> None:
    code, out, _ = run("info", "dgaf")
    assert code == 0 and "name\tdgaf.night" in out and hashlib.sha256(ours).hexdigest() in out
    path = here / "mine.safetensors"
    path.write_bytes(ours)
    code, out, _ = run("info", path)
    assert code == 0 and "network\tdgaf" in out and "dtypes\tF16" in out and "licence\tMIT" in out
    assert json.loads(run("info", path, "--json")[1])["tensors"] == len(header.inspect(path).shapes)
    code, out, _ = run("info", path, "--toml")
    assert code == 0 and tomllib.loads(out)["checkpoint"][0]["file"] == "mine.safetensors"
    assert run("info", "dgaf", "--toml")[0] == 2
    assert run("info", "dgaf.dawn")[0] == 5
    assert run("info", "dgav")[0] == 2
    code, out, err = run("info", "none.safetensors")
    assert (code, out) == (5, "") and "no weights file none.safetensors" in err


def test_path(run: Run, here: Path) -> None:
    assert run("path") == (0, f"{here / 'cache' / 'weights'}\n", "")
    assert run("path", "dgaf") == (0, f"{here / 'package/checkpoints/dgaf.night.safetensors'}\n", "")
    code, out, err = run("path", "dgaf.far")
    assert (code, out) == (5, "") and "`lowlight weights pull dgaf.far`" in err


def test_verify(run: Run, here: Path, ours: bytes) -> None:
    code, out, err = run("verify")
    assert code == 0 and out.startswith("dgaf.night\tok\t") and "dgaf.far: not on this machine" in err
    assert run("verify", "dgaf.far")[0] == 5
    whole = here / "whole.safetensors"
    whole.write_bytes(ours)
    assert run("verify", whole)[:2] == (0, f"{whole}\tok\t{whole}\n")
    whole.write_bytes(ours[:-1])
    assert run("verify", whole)[0] == 5
    (here / "package/checkpoints/dgaf.night.safetensors").write_bytes(ours[:-1])
    code, out, err = run("verify")
    assert (code, out) == (5, "") and "damaged" in err
    code, out, _ = run("verify", "--json")
    first, second = map(json.loads, out.splitlines())
    assert code == 5 and first["ok"] is False and "damaged" in first["error"] and second["ok"] is None


def test_verify_tells_what_is_no_checkpoint(run: Run, here: Path, ours: bytes) -> None:
    tensors = safetensors.torch.load(ours)
    save_file(tensors, "foreign.safetensors")
    code, out, err = run("verify", "foreign.safetensors")
    assert (code, out) == (5, "")
    assert "`lowlight weights convert foreign.safetensors --model MODEL -o FILE.safetensors` may read it" in err
    averages = {f"average.{name}": tensor for name, tensor in tensors.items()}
    save_file(averages, "state.safetensors", {"numbers": "{}"})
    code, out, err = run("verify", "state.safetensors")
    assert (code, out) == (5, "") and "convert" not in err
    assert "the state of a training" in err and "MODEL.TAG.safetensors" in err


def test_convert_of_what_is_no_pickle(run: Run, here: Path) -> None:
    Path("notes.pth").write_bytes(b"These are notes.\n" * 9)
    code, _, err = run("convert", "notes.pth", "-m", "dgaf", "-o", "b.safetensors")
    assert code == 5 and "it is not a .pth, .pt or .safetensors file" in err and "weights_only" not in err


def test_verify_goes_on_after_what_it_cannot_tell(run: Run, here: Path, ours: bytes) -> None:
    """One name after the other: a wrong one is a line, and 5 in the end."""
    tensors = safetensors.torch.load(ours)
    about = {"format": "lowlight-1", "input": "as-is"}
    save_file(tensors, "later.safetensors", {**about, "network": "hdrnet2"})
    save_file(tensors, "nameless.safetensors", about)
    Path("a.pth").write_bytes(b"PK")
    code, out, err = run("verify", "later.safetensors", "nameless.safetensors", "a.pth", "dgav", "dgaf")
    lines = err.splitlines()
    assert code == 5 and out.startswith("dgaf\tok\t") and len(lines) == 4
    assert "'hdrnet2'" in lines[0] and "does not know" in lines[0] and "--model hdrnet2" not in lines[0]
    assert "nameless.safetensors does not say which network" in lines[1] and "None" not in lines[1]
    assert "only .safetensors" in lines[2] and "`lowlight weights convert a.pth" in lines[2]
    assert "unknown model 'dgav'" in lines[3]
    assert "no weights file b.pth" in run("verify", "b.pth")[2]
    for name in ("later", "nameless"):  # as whoever uses them is told
        with pytest.raises(WeightsError, match=r"does not know|`lowlight weights convert .* --model dgaf") as caught:
            files.load(f"{name}.safetensors", "dgaf")
        assert "--model hdrnet2" not in str(caught.value) and "None" not in str(caught.value)


def test_pull_and_rm(run: Run, here: Path, server: Hub, ours: bytes) -> None:
    address = f"{server.url}/a.safetensors#sha256={hashlib.sha256(ours).hexdigest()}"
    assert run("pull", address)[0] == 2
    code, out, err = run("pull", address, "--model", "dgaf", "--offline")
    assert (code, out) == (5, "") and "offline" in err
    code, out, err = run("pull", address, "--model", "dgaf")
    assert code == 0 and Path(out.strip()).read_bytes() == ours
    assert len(err.splitlines()) == 1 and err.startswith("fetching")
    assert run("path", "dgaf.far")[1] == out  # the same content: the same file
    assert run("pull", "dgaf", "dgaf.far")[0] == 0
    code, _, err = run("rm", "dgaf.far")
    assert code == 0 and "deleted" in err and not Path(out.strip()).exists()
    assert "nothing to delete" in run("rm", "dgaf.far")[2]
    code, _, err = run("rm", "dgaf")
    assert code == 5 and "shipped" in err
    assert run("pull")[0] == run("rm")[0] == run("pull", "dgaf", "--all")[0] == 2
    code, _, err = run("pull", address[:-1], "--model", "dgaf")
    assert code == 5 and "sha256=HEX" in err
    pulled = json.loads(run("pull", address, "--model", "dgaf", "--json")[1])
    assert (pulled["event"], pulled["name"], Path(pulled["path"]).read_bytes()) == ("pulled", address, ours)
    gone = json.loads(run("rm", "dgaf.far", "--json")[1])
    assert (gone["event"], gone["name"], gone["path"]) == ("deleted", "dgaf.far", pulled["path"])
    assert json.loads(run("rm", "dgaf.far", "--json")[1])["path"] is None
    run("pull", address, "--model", "dgaf")
    code, _, err = run("rm", "--all")
    assert code == 0 and "0.8 MB" in err and not (here / "cache" / "weights").exists()


def test_rm_all_leaves_nothing_of_ours(run: Run, here: Path, server: Hub, ours: bytes) -> None:
    """Decoded sets can be the largest of what a cache holds."""
    digest = hashlib.sha256(ours).hexdigest()
    run("pull", f"{server.url}/a.safetensors#sha256={digest}", "--model", "dgaf")
    weights, decoded, kept = here / "cache" / "weights", here / "cache" / "decoded", here / "cache" / "graphs"
    (weights / f"{digest}.safetensors.lock").touch()
    graph = cache.keep(b"graph", "dgaf", digest)
    cache.keep_compiled(b"made of it", graph, "this machine")
    bright(here / "sets" / "big.png", size=(1000, 1000))
    decode([here / "sets" / "big.png"], decoded)
    half = [killed_while_writing(path) for path in (graph, *decoded.iterdir())]
    fetching = weights / f".part-{digest}.safetensors"
    fetching.mkdir()
    half += [killed_while_writing(fetching / "converted.safetensors"), fetching / "0.pth"]
    half[-1].write_bytes(b"half")
    assert all(path.is_file() for path in half) and len(half) == 5
    code, _, err = run("rm", "--all")
    assert code == 0 and "3.8 MB" in err and str(decoded) in err
    assert not any(folder.exists() for folder in (weights, kept, decoded))
    told = [json.loads(line)["path"] for line in run("rm", "--all", "--json")[1].splitlines()]
    assert told == [str(folder) for folder in (weights, kept, decoded)]


def killed_while_writing(target: Path) -> Path:
    """What lies beside `target` then."""
    with contextlib.suppress(KeyboardInterrupt), disk.replaced(target) as part:
        raise KeyboardInterrupt
    part.write_bytes(b"half")
    return part


def test_rm_all_leaves_what_others_put_there(run: Run, here: Path) -> None:
    names = ("my_training.pth", "mine.safetensors", "other.onnx", "a.blob", "holiday.json", ".hidden", "sub/a.onnx")
    names += (f"{'0' * 64}.safetensors.bak", f"dgaf-{'0' * 12}-{'0' * 64}.onnx.bak", f"{'0' * 16}.json.bak")
    theirs = [here / "cache" / folder / name for folder in ("weights", "graphs", "decoded") for name in names]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    cache.keep(bytes(10**6), "dgaf", "0" * 64)
    code, _, err = run("rm", "--all")
    assert code == 0 and "1.0 MB" in err
    assert sorted(path for path in (here / "cache").rglob("*") if path.is_file()) == sorted(theirs)


def test_rm_all_of_a_cache_that_is_none(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "file").touch()
    for nothing in ("file", "nowhere"):
        monkeypatch.setenv("LOWLIGHT_CACHE", str(here / nothing))
        code, _, err = run("rm", "--all")
        assert code == 0 and "0.0 MB" in err
    assert (here / "file").is_file()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may delete anything")
@pytest.mark.parametrize("name", ["weights", "graphs", "decoded"])
def test_rm_all_where_nothing_may_be_deleted(run: Run, here: Path, name: str) -> None:
    folder = here / "cache" / name
    folder.mkdir(parents=True)
    graph = cache.keep(b"graph", "dgaf", "0" * 64)
    kept = {"weights": f"{'0' * 64}.safetensors", "graphs": graph.name, "decoded": f"{'0' * 16}.json"}[name]
    (folder / kept).touch()
    folder.chmod(0o555)
    try:
        code, _, err = run("rm", "--all")
    finally:
        folder.chmod(0o755)
    assert (code, len(err.splitlines())) == (4, 1) and f"cannot delete {folder / kept}: " in err
    assert (folder / kept).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("name", ["weights", "graphs", "decoded"])
def test_rm_all_where_nothing_can_be_looked_at(run: Run, here: Path, name: str) -> None:
    folder = here / "cache" / name
    folder.parent.mkdir()
    folder.symlink_to(folder)
    code, out, err = run("rm", "--all")
    assert (code, out, len(err.splitlines())) == (4, "", 1) and f"cannot delete {folder}: " in err


def test_convert(run: Run, here: Path, ours: bytes) -> None:
    torch.manual_seed(0)
    torch.save(networks.build("dgaf").state_dict(), here / "a.pth")
    code, out, err = run("convert", "a.pth", "-m", "dgaf", "-o", "b.safetensors", "--input", "exposed", "--tag", "x")
    assert (code, out, err) == (0, "b.safetensors\n", "")
    assert files.load("b.safetensors", "dgaf")[1]["tag"] == "x"
    assert files.load("b.safetensors", "dgaf")[1]["input"] == "exposed"
    command = ("convert", "a.pth", "-m", "dgaf", "-o", "b.safetensors")
    assert run(*command)[0] == 4
    skipped = json.loads(run(*command, "--exist", "skip", "--json")[1])
    assert (skipped["event"], skipped["status"]) == ("converted", "skipped")
    assert files.load("b.safetensors", "dgaf")[1]["tag"] == "x"
    assert json.loads(run(*command, "--exist", "overwrite", "--json")[1])["output"] == "b.safetensors"
    assert files.load("b.safetensors", "dgaf")[1]["tag"] == "converted"
    assert run("convert", "a.pth", "-m", "dgaf", "-o", "b.pth")[0] == 2
    assert run("convert", "b.safetensors", "-m", "dgaf", "-o", "b.safetensors", "--exist", "overwrite")[0] == 2
    assert run("convert", "a.pth", "-m", "neid", "-o", "c.safetensors")[0] == 5
    assert run("convert", "a.pth", "-m", "nonet", "-o", "c.safetensors")[0] == 2
    assert run("convert", "none.pth", "-m", "dgaf", "-o", "c.safetensors")[0] == 5
    assert not (here / "c.safetensors").exists()


def test_convert_keeps_what_a_file_of_ours_says(run: Run, here: Path, ours: bytes) -> None:
    Path("ours.safetensors").write_bytes(ours)
    assert run("convert", "ours.safetensors", "-m", "dgaf", "-o", "b.safetensors")[0] == 0
    assert header.inspect("b.safetensors").metadata == header.inspect("ours.safetensors").metadata
    assert run("convert", "ours.safetensors", "-m", "dgaf", "-o", "c.safetensors", "--licence", "CC0-1.0")[0] == 0
    licensed = {**header.inspect("b.safetensors").metadata, "licence": "CC0-1.0"}
    assert header.inspect("c.safetensors").metadata == licensed
    assert run("convert", "ours.safetensors", "-m", "dgaf", "-o", "d.safetensors", "--input", "as-is")[0] == 0
    assert header.inspect("d.safetensors").metadata["input"] == "as-is"
    code, _, err = run("convert", "ours.safetensors", "-m", "dgaf", "-o", "e.safetensors", "--tag", "a/b")
    assert code == 2 and "--tag" in err and not Path("e.safetensors").exists()
    torch.save(networks.build("dgaf").state_dict(), "a.pth")
    assert run("convert", "a.pth", "-m", "dgaf", "-o", "f.safetensors")[0] == 0
    foreign = header.inspect("f.safetensors").metadata
    assert (foreign["input"], foreign["tag"]) == ("as-is", "converted")
    assert (foreign["licence"], foreign["data"]) == ("unknown", "unknown")


def test_push(run: Run, here: Path, server: Hub, ours: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.repos.clear()
    code, out, _ = run("push", "me/lowlight", "--dry-run")
    assert code == 0 and out.startswith("---\nlicense: mit") and server.repos == {}
    code, out, err = run("push", "me/lowlight")
    assert code == 0, err
    revision, content = server.repos["me/lowlight"].commits[0]
    assert out == f"hf://me/lowlight/dgaf.night.safetensors@{revision}\n"
    assert content["dgaf.night.safetensors"] == ours and content["README.md"].startswith(b"---\n")
    assert err.startswith("publishing dgaf.night") and "published as" in err
    pushed = json.loads(run("push", "me/lowlight", "--json")[1])
    assert (pushed["event"], pushed["name"], pushed["address"]) == ("pushed", "dgaf.night", out.strip())
    assert run("push", "me/lowlight", "dgaf.far")[0] == 5
    assert run("push", "lowlight")[0] == 2
    code, out, err = run("push", "lowlight", "--dry-run")
    assert (code, out) == (2, "") and "ORG/NAME" in err
    code, out, _ = run("push", "me/lowlight", "dgaf", "--dry-run")
    assert code == 0 and "dgaf.night" in out
    assert run("push", "me/lowlight", "dgaf", "dgaf.night", "--json")[1].count("pushed") == 1
    assert run("push", "me/lowlight", "dgav", "--dry-run")[0] == 2


def test_convert_a_part(run: Run, here: Path) -> None:
    """Of a network that was saved in two files; both together are one."""
    state = networks.build("dgaf").state_dict()
    names = sorted(state)
    for file, part in (("a.pth", names[::2]), ("b.pth", names[1::2])):
        torch.save({name: state[name] for name in part}, here / file)
    code, _, err = run("convert", "a.pth", "-m", "dgaf", "-o", "c.safetensors")
    assert code == 5 and "tensors are missing" in err and "several together make one network" in err
    assert run("convert", "a.pth", "b.pth", "-m", "dgaf", "-o", "c.safetensors")[0] == 0


def test_help_names_every_command(run: Run) -> None:
    code, out, _ = run()
    assert code == 0
    for name in ("list", "info", "path", "verify", "pull", "rm", "convert", "push"):
        assert name in out
        assert run(name, "--help")[0] == 0
    assert run("nothing")[0] == 2


def test_looking_needs_no_torch() -> None:
    code = (
        "import sys; from lowlight_cli.cli import app; codes = [app.run(['weights', *words.split()]) for words in"
        " ('list', 'list --json', 'info frlie.official', 'path')]; sys.exit('torch' in sys.modules or sum(codes))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.name != "posix", reason="locales as POSIX has them")
@pytest.mark.parametrize("words", [(), ("--toml",), ("--json",)])
def test_info_in_an_ascii_locale(tmp_path: Path, process: Callable[..., Ran], words: tuple[str]) -> None:
    path = tmp_path / "mine.safetensors"
    about = {"network": "dgaf", "input": "exposed", "tag": "night", "data": "Nächte 夜"}
    files.save(path, networks.build("dgaf").state_dict(), about)
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = process("weights", "info", path, *words, env=plain)
    assert (ran.code, ran.err) == (0, "")
    assert (r"N\u00e4chte \u591c" if "--json" in words else "Nächte 夜") in ran.out
