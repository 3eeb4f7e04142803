"""`lowlight models` and `lowlight doctor`."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Ran
from torch import nn

from lowlight_cli.cli import app
from lowlight_cli.cli.app import COMMANDS
from lowlight_cli.networks import NETWORKS
from lowlight_cli.weights.catalog import Checkpoint
from lowlight_cli.weights.fetch import Resolved

Lowlight = Callable[..., Ran]


def test_models_table(lowlight: Lowlight) -> None:
    ran = lowlight("models")
    header, *rows = (line.split("\t") for line in ran.out.splitlines())
    assert header == ["model", "paper", "parameters", "speed", "good at", "bad at", "measured"]
    assert [row[0].removesuffix(" (default)") for row in rows] == list(NETWORKS)
    assert [row[0] for row in rows if "(default)" in row[0]] == ["dgaf (default)"]
    assert all(all(cell for cell in row[:6]) for row in rows)
    assert "Default: dgaf" in ran.err


def test_models_json(lowlight: Lowlight) -> None:
    ran = lowlight("models", "--json")
    assert ran.err == ""
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert [each["name"] for each in events] == list(NETWORKS)
    assert all(each["schema"] == "lowlight-1" and each["event"] == "model" for each in events)
    assert {each["speed"] for each in events} == {"fastest", "fast", "medium", "slow"}
    weights = [checkpoint for each in events for checkpoint in each["weights"]]
    assert all({"name", "licence", "metrics", "as_published"} <= each.keys() for each in weights)


@pytest.mark.parametrize("command", [[], *([each] for each in COMMANDS), ["weights", "pull"], ["weights", "push"]])
def test_help_on_a_terminal_of_few_letters(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """A console of Windows: what it has no letter for ended the command, such as the dots where a line is cut."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "ascii", write_through=True))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    app._mend_streams()
    assert app.run([*command, "--help"]) == 0
    assert b"Usage: lowlight" in shown.getvalue()


def test_table_is_drawn_with_colours_asked_for(lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    out = lowlight("models").out
    assert "\t" not in out and "jcrnet" in out


@pytest.fixture
def one_shipped(monkeypatch: pytest.MonkeyPatch, dgaf_weights: Path) -> Checkpoint:
    """An installation that ships one checkpoint."""
    shipped = Checkpoint(
        network="dgaf", tag="seeded", file="dgaf.seeded.safetensors", sha256="0" * 64, bytes=1, parameters=1,
        licence="MIT", training_data="none", recipe="none", input="as-is", paper="none", paper_url="none",
    )  # fmt: skip
    monkeypatch.setattr("lowlight_cli.doctor.catalog", lambda: (shipped,))
    monkeypatch.setattr(
        "lowlight_cli.weights.fetch.resolve", lambda *_, **__: Resolved(dgaf_weights, "0" * 64, shipped)
    )
    return shipped


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("one_shipped")
def test_doctor_is_content(lowlight: Lowlight, cache: Path) -> None:
    ran = lowlight("doctor")
    assert (ran.code, ran.err) == (0, "")
    told = dict(line.split(": ", 1) for line in ran.out.splitlines())
    assert told["dgaf.seeded"] == "loads and runs 83x61"
    assert "grey levels from the CPU's fp32" in told["dgaf.seeded on cpu"]
    assert told["devices"].endswith("cpu")
    assert told["cache"].startswith(str(cache))
    assert told["network"] == "may be used"
    assert not cache.exists()
    assert lowlight("doctor", "-q").out == ""
    assert "network: not used: " in lowlight("doctor", "--offline").out


@pytest.mark.usefixtures("one_shipped", "cache")
def test_doctor_json(lowlight: Lowlight) -> None:
    *checks, summary = (json.loads(line) for line in lowlight("doctor", "--json").out.splitlines())
    assert all(each["event"] == "check" and each["ok"] for each in checks)
    assert (summary["event"], summary["ok"], summary["exit_code"]) == ("summary", True, 0)


@pytest.mark.usefixtures("one_shipped", "cache")
def test_doctor_looks_at_what_a_gpu_replays(lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes of a size are recorded once its second picture comes, and the first one was right."""
    from lowlight_cli import doctor

    load = doctor.engines.load

    def loaded(*given: Any, **options: Any) -> Any:
        class Replaying:
            device, precision = "cuda:0", "bf16"
            pictures = 0

            def run(self, batch: Any) -> Any:
                self.pictures += 1
                bright = load(*given, device="cpu", precision="fp32").run(batch)
                return bright if self.pictures == 1 else bright[:, ::-1, ::-1]

        return Replaying() if options["device"] == "cuda:0" else load(*given, **options)

    monkeypatch.setattr("lowlight_cli.engines.pytorch.devices", lambda: ["cuda:0", "cpu"])
    monkeypatch.setattr(doctor.engines, "load", loaded)
    ran = lowlight("doctor")
    assert ran.code == 6
    assert "dgaf.seeded on cuda:0: bf16, " in ran.err and "it computes wrongly, do not use it" in ran.err
    assert "dgaf.seeded on cpu: " in ran.out


@pytest.mark.usefixtures("one_shipped", "cache")
def test_doctor_finds_damaged_weights(
    lowlight: Lowlight, tmp_path: Path, dgaf_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(dgaf_weights.read_bytes()[:5000])
    monkeypatch.setattr("lowlight_cli.weights.fetch.resolve", lambda *_, **__: Resolved(damaged, "0" * 64, None))
    ran = lowlight("doctor")
    assert (ran.code, len(ran.lines)) == (5, 1)
    assert ran.err.startswith("error: dgaf.seeded: ")


@pytest.mark.usefixtures("one_shipped", "cache")
def test_doctor_finds_a_device_that_computes_wrongly(lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowlight_cli import doctor

    right, calls = doctor._tried, []

    def wrong_the_second_time(*args: object) -> object:
        calls.append(args)
        return right(*args) * (0.5 if len(calls) == 2 else 1)  # type: ignore[arg-type]

    monkeypatch.setattr(doctor, "_tried", wrong_the_second_time)
    ran = lowlight("doctor")
    assert ran.code == 6
    assert "it computes wrongly, do not use it" in ran.err


@pytest.mark.usefixtures("one_shipped", "cache")
@pytest.mark.parametrize("why", ["no kernel image is available\nlong explanations\n", ""])
def test_doctor_goes_on_after_a_device_that_fails(
    lowlight: Lowlight, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """A card takes nothing, as torch is not built for it; another takes the network, and has no kernel for pictures.

    If an error says nothing, its type is told.
    """
    from lowlight_cli import doctor
    from lowlight_cli.engines import pytorch

    on, right, tried = nn.Module.to, doctor._tried, []

    def to(module: nn.Module, device: str, **more: Any) -> nn.Module:
        if device == "cuda:0":
            raise RuntimeError(why)
        return on(module, "cpu", **more)

    def without_a_kernel(engine: Any, picture: Any) -> Any:
        tried.append(engine.device)
        if engine.device == "mps":
            raise NotImplementedError(why)
        return right(engine, picture)

    monkeypatch.setattr(nn.Module, "to", to)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 0))
    monkeypatch.setattr(pytorch, "devices", lambda: ["cuda:0", "mps", "cpu"])
    monkeypatch.setattr(doctor, "_tried", without_a_kernel)
    ran = lowlight("doctor")
    assert (ran.code, len(ran.lines), tried) == (6, 2, ["cpu", "mps", "cpu"])
    first = why.partition("\n")[0]
    for line, name, kind in zip(ran.lines, ("cuda:0", "mps"), ("RuntimeError", "NotImplementedError"), strict=True):
        assert line.startswith(f"error: dgaf.seeded on {name}: ") and f"({first or kind})" in line
    assert "grey levels" in dict(line.split(": ", 1) for line in ran.out.splitlines())["dgaf.seeded on cpu"]


def test_doctor_finds_a_cache_that_takes_nothing(
    lowlight: Lowlight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_shipped: Checkpoint
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LOWLIGHT_CACHE", str(tmp_path / "file" / "cache"))
    ran = lowlight("doctor", "-q")
    assert (ran.code, len(ran.lines)) == (4, 1)
    assert "set LOWLIGHT_CACHE" in ran.err


@pytest.mark.parametrize("command", [["enhance"], ["batch"], ["video"], ["enhance", "a.jpg", "-o"]])
def test_an_empty_name_is_not_the_folder_that_one_is_in(folder: Path, lowlight: Lowlight, command: list[str]) -> None:
    ran = lowlight(*command, "")
    assert ran.code == 2
    assert "empty" in ran.err


def test_an_option_too_long_for_a_file_s_name(lowlight: Callable[..., Ran], folder: Path) -> None:
    ran = lowlight("enhance", "-" + "a" * 300)
    assert (ran.code, len(ran.lines)) == (2, 1)
