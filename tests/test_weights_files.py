"""Weight files: what is saved comes back, and everything else is told apart in one line."""

from __future__ import annotations

import errno
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lowlight_cli import disk, networks
from lowlight_cli.errors import OutputError, ResourceError, UsageError, WeightsError
from lowlight_cli.weights import files, header

OFFICIAL = Path(__file__).parents[2] / "shared/data/official/frlie_weights_reconstruct.pth"
ABOUT = {"network": "dgaf", "input": "exposed", "tag": "night", "recipe": "a test"}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return networks.build("dgaf").state_dict()


@pytest.fixture
def saved(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    path = tmp_path / "dgaf.night.safetensors"
    files.save(path, state, ABOUT)
    return path


def refused(path: Path, network: str = "dgaf") -> str:
    """The one line with which `path` is refused; it names the file."""
    with pytest.raises(WeightsError) as caught:
        files.load(path, network)
    line = str(caught.value)
    assert "\n" not in line and path.name in line
    return line


def rewritten(path: Path, change: dict[str, torch.Tensor | None], about: dict[str, str] | None = None) -> Path:
    """The same file with tensors replaced (None: left out), or with other metadata."""
    tensors = {**load_file(path), **change}
    metadata = header.inspect(path).metadata if about is None else about
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path, metadata)
    return path


def test_what_is_saved_comes_back(saved: Path, state: dict[str, torch.Tensor]) -> None:
    loaded, metadata = files.load(saved, "dgaf")
    assert metadata == {**ABOUT, "format": "lowlight-1"}
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    for name, tensor in state.items():
        assert torch.equal(loaded[name], tensor.half().float())
    networks.build("dgaf").load_state_dict(loaded, strict=True)
    assert set(header.inspect(saved).dtypes.values()) == {"F16"}


def test_what_half_precision_cannot_hold_is_kept_in_full(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    name = next(iter(state))
    large = {**state, name: torch.full_like(state[name], 1e6)}
    files.save(tmp_path / "large.safetensors", large, ABOUT)
    assert torch.equal(files.load(tmp_path / "large.safetensors", "dgaf")[0][name], large[name])


def test_loading_draws_no_random_numbers(saved: Path) -> None:
    files._layout.cache_clear()
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    files.load(saved, "dgaf")
    assert torch.equal(torch.rand(3), wanted)


def test_integer_buffers_are_dropped_and_filled(tmp_path: Path) -> None:
    network = networks.build("frlie")
    path = tmp_path / "a.safetensors"
    files.save(path, network.state_dict(), {**ABOUT, "network": "frlie"})
    assert not any("num_batches_tracked" in name for name in header.inspect(path).shapes)
    loaded, _ = files.load(path, "frlie")
    counters = [tensor for name, tensor in loaded.items() if "num_batches_tracked" in name]
    assert counters and all(tensor.dtype == torch.int64 and tensor == 0 for tensor in counters)
    network.load_state_dict(loaded, strict=True)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_every_network_has_a_layout(name: str) -> None:
    assert files.parameters(name) == sum(p.numel() for p in networks.build(name).parameters())


def test_same_weights_same_bytes(saved: Path, tmp_path: Path) -> None:
    """safetensors orders metadata by a hash with another seed each time."""
    state, about = files.load(saved, "dgaf")
    for number in range(4):
        again = tmp_path / f"{number}.safetensors"
        files.save(again, state, about)
        assert again.read_bytes() == saved.read_bytes()


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    assert "no weights file" in refused(tmp_path / "none.safetensors")
    assert "folder" in refused(tmp_path)


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"<html>" * 100, "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git-lfs pointer"),
        (b"PK\x03\x04" + b"x" * 100, "pickle"),
        (pickle.dumps({"a": 1}), "pickle"),
        (b'{"error": "no such thing"}', "JSON"),
        (b"just a text that is long enough to have a header", "cut off, damaged or of another kind"),
        (b"\x00" * 4, "cut off, damaged or of another kind"),
    ],
)
def test_foreign_content(tmp_path: Path, content: bytes, looks: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert looks in refused(path)


def test_every_truncation_is_seen(saved: Path) -> None:
    whole = saved.read_bytes()
    for size in (1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:size])
        assert "cut off, damaged" in refused(saved)
    saved.write_bytes(whole + b"x")
    assert "cut off, damaged" in refused(saved)


def test_foreign_metadata(saved: Path) -> None:
    assert "not written by lowlight" in refused(rewritten(saved, {}, {}))
    assert "weights convert" in refused(rewritten(saved, {}, {"format": "pt"}))
    other = {**ABOUT, "format": "lowlight-1", "network": "jcrnet"}
    assert "holds weights for jcrnet, not for dgaf" in refused(rewritten(saved, {}, other))
    assert "input" in refused(rewritten(saved, {}, {"format": "lowlight-1", "network": "dgaf"}))


def test_other_tensors(saved: Path, state: dict[str, torch.Tensor]) -> None:
    whole = saved.read_bytes()
    first = sorted(state)[0]
    assert f"1 of {len(state)} tensors are missing (first {first})" in refused(rewritten(saved, {first: None}))
    saved.write_bytes(whole)
    assert "1 unknown (first zzz)" in refused(rewritten(saved, {"zzz": torch.zeros(1)}))
    saved.write_bytes(whole)
    bent = refused(rewritten(saved, {first: torch.zeros(5, 7)}))
    assert f"shape of {first} is 5x7, wanted {'x'.join(map(str, state[first].shape))}" in bent
    saved.write_bytes(whole)
    assert "element type I32" in refused(rewritten(saved, {first: state[first].int()}))
    saved.write_bytes(whole)
    assert "not finite" in refused(rewritten(saved, {first: torch.full_like(state[first], float("nan"))}))


@pytest.mark.skipif(os.name != "posix", reason="files take the room of their zeros there")
def test_shapes_are_checked_before_memory_is_taken(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    """A header that promises a terabyte which the file has: refused by its shapes, before a tensor is read."""
    name = sorted(state)[0]
    header = {"__metadata__": {**ABOUT, "format": "lowlight-1"}}
    header[name] = {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}  # type: ignore[assignment]
    text = json.dumps(header).encode()
    path = tmp_path / "huge.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, path.stat().st_size + (1 << 40))  # sparse
    assert f"shape of {name} is {1 << 38}, wanted" in refused(path)


def test_all_float_types_load_as_float32(saved: Path, state: dict[str, torch.Tensor]) -> None:
    for kind in (torch.float32, torch.bfloat16, torch.float64):
        rewritten(saved, {name: tensor.to(kind) for name, tensor in state.items()})
        loaded, _ = files.load(saved, "dgaf")
        assert all(torch.equal(loaded[name], state[name].to(kind).float()) for name in state)


def test_the_file_may_go_while_the_weights_are_used(saved: Path) -> None:
    loaded, _ = files.load(saved, "dgaf")
    before = {name: tensor.clone() for name, tensor in loaded.items()}
    saved.write_bytes(b"\0" * saved.stat().st_size)
    assert all(torch.equal(loaded[name], before[name]) for name in before)


# ---------------------------------------------------------------------------------------------------------- writing


def test_what_does_not_fit_is_not_saved(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "a.safetensors"
    name = sorted(state)[0]
    cases: list[tuple[dict[str, torch.Tensor], dict[str, str], str]] = [
        ({**state, name: torch.full_like(state[name], float("inf"))}, ABOUT, "no numbers"),
        ({**state, name: torch.full_like(state[name], float("nan"))}, ABOUT, "no numbers"),
        ({k: v for k, v in state.items() if k != name}, ABOUT, "missing"),
        (state, {"network": "dgaf"}, "lack input"),
        (state, {**ABOUT, "input": "raw"}, "input"),
    ]
    for tensors, about, why in cases:
        with pytest.raises(WeightsError, match=why) as caught:
            files.save(path, tensors, about)
        assert str(path) in str(caught.value) and ".part" not in str(caught.value)
    with pytest.raises(UsageError):
        files.save(path, state, {**ABOUT, "network": "nonet"})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(
    saved: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    old = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="disk is full"):
        files.save(saved, state, {**ABOUT, "tag": "other"})
    assert saved.read_bytes() == old and list(saved.parent.iterdir()) == [saved]


def test_an_unwritable_target(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        files.save(tmp_path / "file" / "a.safetensors", state, ABOUT)


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"what is up, doc?")  # the example of the Git book, "Git Objects"
    assert disk.git_blob_id(path) == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"
    path.write_bytes(b"")
    assert disk.sha256(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_replaced_cleans_up(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), disk.replaced(tmp_path / "a") as part:
        part.write_bytes(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------- converting


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/lowlight_evil",)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"state": {}}},
        lambda s: {"params_ema": {f"module.{name}": tensor for name, tensor in s.items()}, "params": {}},
        lambda s: {name: tensor.double() for name, tensor in s.items()},
    ],
)
def test_convert_opens_what_training_programs_write(
    tmp_path: Path, state: dict[str, torch.Tensor], wrap: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    torch.save(wrap(state), tmp_path / "a.pth")
    target = tmp_path / "a.safetensors"
    files.convert(tmp_path / "a.pth", "dgaf", target, {"tag": "theirs", "licence": "MIT"})
    loaded, about = files.load(target, "dgaf")
    assert all(torch.equal(loaded[name], tensor.half().float()) for name, tensor in state.items())
    assert about == {"network": "dgaf", "format": "lowlight-1", "input": "as-is", "tag": "theirs", "licence": "MIT"}


def test_convert_reads_foreign_safetensors_and_keeps_what_ours_say(saved: Path, tmp_path: Path) -> None:
    whole = load_file(saved)
    save_file(whole, tmp_path / "theirs.safetensors", {"format": "pt"})
    files.convert(tmp_path / "theirs.safetensors", "dgaf", tmp_path / "b.safetensors")
    assert files.load(tmp_path / "b.safetensors", "dgaf")[1]["input"] == "as-is"
    files.convert(saved, "dgaf", tmp_path / "c.safetensors", {"tag": "renamed"})
    assert files.load(tmp_path / "c.safetensors", "dgaf")[1] == {**ABOUT, "tag": "renamed", "format": "lowlight-1"}


def test_convert_refuses(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    def why(content: object, *, raw: bool = False) -> str:
        source = tmp_path / "a.pth"
        source.write_bytes(content) if raw else torch.save(content, source)  # type: ignore[arg-type]
        with pytest.raises(WeightsError) as caught:
            files.convert(source, "dgaf", tmp_path / "out.safetensors")
        assert "\n" not in str(caught.value) and not (tmp_path / "out.safetensors").exists()
        return str(caught.value)

    torch.save(state, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    assert "run code" in why({"a": Evil()})
    assert "tensors are missing" in why({"a": {"b": 1, "c": "text"}})
    assert "more than tensors" in why(pickle.dumps(Evil()), raw=True)
    assert not Path("/tmp/lowlight_evil").exists()
    assert "cut off" in why(whole[: len(whole) // 2], raw=True)
    assert "web page" in why(b"<html></html>", raw=True)
    assert "empty" in why(b"", raw=True)
    assert "wanted named tensors" in why([torch.zeros(1)])
    assert "are missing" in why({"weight": torch.zeros(1)})
    assert "are missing" in why({})
    within: dict[str, object] = {}
    within["again"] = within
    assert "holds itself" in why(within)
    with pytest.raises(WeightsError, match="no weights file"):
        files.convert(tmp_path / "none.pth", "dgaf", tmp_path / "out.safetensors")
    with pytest.raises(UsageError):
        files.convert(tmp_path / "whole.pth", "nonet", tmp_path / "out.safetensors")


@pytest.mark.skipif(not OFFICIAL.is_file(), reason="the authors' file is not here")
def test_the_authors_reconstructor_converts_with_its_other_half(tmp_path: Path) -> None:
    """Two files that together hold the network; the second is ours in the authors' layout."""
    other = {"feature_processor": networks.build("frlie").get_submodule("feature_processor").state_dict()}
    torch.save(other, tmp_path / "features.pth")
    target = tmp_path / "frlie.safetensors"
    files.convert([OFFICIAL, tmp_path / "features.pth"], "frlie", target)
    loaded, _ = files.load(target, "frlie")
    theirs = torch.load(OFFICIAL, map_location="cpu", weights_only=True)
    assert torch.allclose(loaded["encoder.conv1.1.weight"], theirs["encoder"]["conv1.1.weight"], rtol=1e-3)
    with pytest.raises(WeightsError, match=r"tensors are missing \(first feature_processor"):
        files.convert(OFFICIAL, "frlie", target)
