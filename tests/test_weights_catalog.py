"""weights.toml: one schema, and every shipped file is what its block says."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from lowlight_cli import disk, networks
from lowlight_cli.errors import UsageError, WeightsError
from lowlight_cli.weights import catalog, files, header

LIMIT = 36_000_000
"""All shipped weights together: the wheel stays small enough to fetch at once."""

ZEROS = "0" * 64

BLOCK = f"""
[[checkpoint]]
network = "dgaf"
tag = "night"
file = "dgaf.night.safetensors"
sha256 = "{ZEROS}"
bytes = 1
parameters = 1
licence = "MIT"
training_data = "LOL"
recipe = "first"
input = "exposed"
metrics = [{{ protocol = "plain", dataset = "LOL eval15", psnr = 20.0, ssim = 0.7 }}]
paper = "nobody"
paper_url = "https://example.org"
"""

FIGURE = """
[[published]]
network = "dgaf"
dataset = "its own"
split = "validation"
psnr = 37.257
"""


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "weights.toml"
    path.write_text(text)
    catalog.read.cache_clear()
    return path


def fault(tmp_path: Path, text: str) -> str:
    """The one line with which `text` is refused; it names the file."""
    path = table(tmp_path, text)
    with pytest.raises(WeightsError) as caught:
        catalog.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------------- shipped


def test_the_table_is_valid() -> None:
    for checkpoint in catalog.catalog():
        assert checkpoint.name == f"{checkpoint.network}.{checkpoint.tag}"
        assert catalog.named(checkpoint.name) is catalog.find(checkpoint.network, checkpoint.tag)
        assert all(figure.network == checkpoint.network for figure in checkpoint.published)


def test_degradations_stand_apart() -> None:
    assert {each.network for each in catalog.degradations()} <= set(networks.DEGRADATIONS)
    assert all(each.file and each.input == "as-is" for each in catalog.degradations())


def test_every_parameter_count_is_true() -> None:
    for checkpoint in (*catalog.catalog(), *catalog.degradations()):
        assert checkpoint.parameters == files.parameters(checkpoint.network), checkpoint.name


def test_every_shipped_file_is_what_its_block_says() -> None:
    for checkpoint in (*catalog.catalog(), *catalog.degradations()):
        if (path := catalog.bundled(checkpoint)) is None:
            continue
        assert path.is_file(), path
        assert path.stat().st_size == checkpoint.bytes, path
        assert disk.sha256(path) == checkpoint.sha256, path
        state, metadata = files.load(path, checkpoint.network)
        networks.module(checkpoint.network).load_state_dict(state, strict=True)
        assert metadata["input"] == checkpoint.input, path
        assert set(header.inspect(path).dtypes.values()) == {"F16"}, path


def test_the_shipped_files_are_small_and_all_in_the_table() -> None:
    folder = catalog.PACKAGE / "checkpoints"
    found = {path.name: path.stat().st_size for path in folder.glob("*.safetensors")} if folder.is_dir() else {}
    assert sum(found.values()) <= LIMIT
    there = (*catalog.catalog(), *catalog.degradations())
    assert found.keys() == {checkpoint.file for checkpoint in there if checkpoint.file}


def test_figures_are_published_for_known_networks_only() -> None:
    stated = tomllib.loads(catalog.catalog_path().read_text("utf-8"))["published"]
    assert {figure["network"] for figure in stated} <= set(networks.NETWORKS)


def test_the_official_weights_are_pinned_by_their_content() -> None:
    official = catalog.find("frlie", "official")
    assert official.file is None and len(official.sources) == 2
    assert all(source.url.endswith(source.git_blob) for source in official.sources)
    assert official.sources[0].git_blob == "0321c18b0f8709641ca758aed5ee31b33531c801"


def test_where_the_table_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside the package when installed from a wheel, beside it in a checkout."""
    monkeypatch.setattr(catalog, "PACKAGE", tmp_path / "lowlight_cli")
    assert catalog.catalog_path() == tmp_path / "weights.toml"
    (tmp_path / "lowlight_cli").mkdir()
    (tmp_path / "lowlight_cli" / "weights.toml").write_text("")
    assert catalog.catalog_path() == tmp_path / "lowlight_cli" / "weights.toml"


# ----------------------------------------------------------------------------------------------------------- schema


def test_a_block(tmp_path: Path) -> None:
    other = BLOCK.replace('"night"', '"day"').replace("dgaf.night", "dgaf.day")
    first, second = catalog.read(table(tmp_path, BLOCK + other + FIGURE))
    assert (first.name, second.name) == ("dgaf.night", "dgaf.day")
    assert first.metrics[0].psnr == 20.0 and first.metrics[0].psnr_gt_mean is None
    assert first.published == second.published and first.published[0].psnr == 37.257
    with pytest.raises(ValidationError):
        first.tag = "other"  # type: ignore[misc]
    assert catalog.read(table(tmp_path, "")) == ()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('tag = "night"', 'tag = "Night!"', "checkpoint.0.tag"),
        ('tag = "night"', "", "checkpoint.0.tag"),
        ('tag = "night"', 'tag = "night"\nname = "x"', "checkpoint.0.name"),
        ('network = "dgaf"', 'network = "nonet"', "no network 'nonet'"),
        ("bytes = 1", "bytes = 0", "checkpoint.0.bytes"),
        ("bytes = 1", "", "need sha256 and bytes"),
        (ZEROS, "0" * 63, "checkpoint.0.sha256"),
        ('input = "exposed"', 'input = "raw"', "checkpoint.0.input"),
        ('licence = "MIT"', 'licence = ""', "checkpoint.0.licence"),
        ("psnr = 20.0", 'psnr = "good"', "checkpoint.0.metrics.0.psnr"),
        ("psnr = 20.0", "sharpness = 3.0", "checkpoint.0.metrics.0.sharpness"),
        ("dgaf.night.safetensors", "../evil.safetensors", "checkpoint.0.file"),
        ("dgaf.night.safetensors", "dgaf.night.pth", "checkpoint.0.file"),
        ('file = "dgaf.night.safetensors"', "", "exactly one of file, url and sources"),
        (
            'paper = "nobody"',
            f'paper = "nobody"\nurl = "hf://a/b/c@{"0" * 40}"',
            "exactly one of file, url and sources",
        ),
        ('file = "dgaf.night.safetensors"', 'url = "hf://a/b/c.safetensors@main"', "checkpoint.0.url"),
        ('file = "dgaf.night.safetensors"', 'url = "https://example.org/a"', "checkpoint.0.url"),
        ('file = "dgaf.night.safetensors"', f'url = "http://example.org/a#sha256={ZEROS}"', "checkpoint.0.url"),
        ('file = "dgaf.night.safetensors"', f'url = "https://example.org/a#sha256={"1" * 64}"', "hash in url is not"),
        ("[[checkpoint]]", "[[checkpoints]]", "checkpoints"),
        ("[[checkpoint]]", "[[checkpoint", "not TOML"),
    ],
)
def test_what_the_schema_refuses(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert says in fault(tmp_path, BLOCK.replace(old, new))


@pytest.mark.parametrize(
    "url", [f"hf://me/low.light/sub/c.safetensors@{'a' * 40}", f"https://example.org/a.safetensors#sha256={'0' * 64}"]
)
def test_pinned_addresses_are_taken(tmp_path: Path, url: str) -> None:
    assert (
        catalog.read(table(tmp_path, BLOCK.replace('file = "dgaf.night.safetensors"', f'url = "{url}"')))[0].url == url
    )


def test_names_and_files_are_unique(tmp_path: Path) -> None:
    assert "two checkpoints have the name 'dgaf.night'" in fault(tmp_path, BLOCK + BLOCK)
    assert "the file 'dgaf.night.safetensors'" in fault(tmp_path, BLOCK + BLOCK.replace('"night"', '"day"'))


def test_a_table_that_is_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="install lowlight-cli again"):
        catalog.read(tmp_path / "none.toml")
    (tmp_path / "weights.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(WeightsError, match="not TOML"):
        catalog.read(tmp_path / "weights.toml")


def test_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path, BLOCK)
    monkeypatch.setattr(catalog, "catalog_path", lambda: path)
    assert catalog.find("dgaf").tag == catalog.named("dgaf").tag == catalog.named("dgaf.night").tag == "night"
    with pytest.raises(WeightsError, match="did you mean 'night'"):
        catalog.named("dgaf.nigth")
    with pytest.raises(WeightsError, match="no weights for neid yet"):
        catalog.find("neid")
    with pytest.raises(UsageError, match="did you mean 'dgaf'"):
        catalog.find("dgav")


# ----------------------------------------------------------------------------------------------------------- adding


def test_a_block_from_a_file(tmp_path: Path) -> None:
    """What `lowlight weights info FILE --toml` prints is a block that the schema takes as it is."""
    path = tmp_path / "lw-drgn.lol.safetensors"
    about = {"network": "lw-drgn", "tag": "lol", "input": "exposed", "recipe": 'the "best"', "steps": "1200"}
    files.save(path, networks.build("lw-drgn").state_dict(), {**about, "data": "LOL v1", "licence": "MIT"})
    (checkpoint,) = catalog.read(table(tmp_path, catalog.block(path)))
    assert checkpoint.name == "lw-drgn.lol" and checkpoint.file == path.name
    assert checkpoint.sha256 == disk.sha256(path) and checkpoint.bytes == path.stat().st_size
    assert checkpoint.parameters == files.parameters("lw-drgn")
    assert checkpoint.recipe == 'the "best", 1200 steps' and checkpoint.training_data == "LOL v1"
    assert checkpoint.paper_url == networks.descriptor("lw-drgn").url

    bare = tmp_path / "dgaf.safetensors"
    files.save(bare, networks.build("dgaf").state_dict(), {"network": "dgaf", "input": "as-is"})
    (checkpoint,) = catalog.read(table(tmp_path, catalog.block(bare)))
    assert checkpoint.tag == "dgaf" and checkpoint.licence == "unknown"
    torch.save({}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="pickle"):
        catalog.block(tmp_path / "a.pth")


def test_the_table_needs_no_torch() -> None:
    code = (
        "import sys; from lowlight_cli.weights import catalog, fetch, files, hub, publish, web;"
        "[fetch.local(one) for one in catalog.catalog()];"
        "sys.exit(', '.join({'torch', 'typer', 'rich', 'cv2'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_mistyped_field_is_no_silent_default() -> None:
    fields: dict[str, Any] = tomllib.loads(BLOCK)["checkpoint"][0]
    with pytest.raises(ValidationError):
        catalog.Checkpoint(**fields, licences="MIT")
