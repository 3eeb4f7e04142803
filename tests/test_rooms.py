"""The rooms' walls: who may import whom, and who alone knows what."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lowlight_cli"

HEAVY = ("torch", "cv2", "numpy", "PIL", "onnxruntime", "openvino", "huggingface_hub", "tifffile", "safetensors")


def test_import_contracts() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("args", [["--help"], ["enhance", "--help"], ["--version"], ["enhnace"], ["weights", "--help"]])
def test_light_commands_import_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print('HEAVY', *sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr))\n"
        "from lowlight_cli.cli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "HEAVY"


def test_package_imports_nothing_heavy() -> None:
    code = f"import lowlight_cli, sys; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def places(pattern: str) -> set[str]:
    """Files of the package in which a line matches."""
    found = re.compile(pattern, re.MULTILINE)
    return {str(path.relative_to(PACKAGE)) for path in sources() if found.search(path.read_text("utf-8"))}


def test_one_torch_load() -> None:
    calls = [path for path in sources() for _ in re.findall(r"^[^#\"]*\btorch\.load\(", path.read_text("utf-8"), re.M)]
    assert [path.relative_to(PACKAGE) for path in calls] == [Path("weights/files.py")]
    assert "weights_only=True" in (PACKAGE / "weights/files.py").read_text("utf-8")


def test_rich_only_in_report() -> None:
    assert places(r"^\s*(from|import) rich\b") == {"cli/report.py"}


def test_typer_only_in_cli() -> None:
    assert all(name.startswith("cli/") for name in places(r"^\s*(from|import) (typer|click)\b"))


def test_nothing_is_printed_outside_report() -> None:
    assert places(r"^\s*print\(") == set()
    assert places(r"\bsys\.(stdout|stderr|stdin)\b") <= {
        "cli/app.py", "cli/report.py", "cli/enhance.py", "cli/measuring.py", "cli/clips.py", "pictures/quiet.py"
    }  # fmt: skip


def test_no_swallowed_exceptions() -> None:
    assert places(r"except (Base)?Exception:\s*\n\s*pass") == set()
    assert places(r"except:\s*$") == set()


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text("utf-8").splitlines()) for path in sources()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_public_names() -> None:
    import importlib.metadata

    import lowlight_cli

    assert lowlight_cli.__version__ == importlib.metadata.version("lowlight-cli")
    for name in lowlight_cli.__all__:
        assert getattr(lowlight_cli, name) is not None
        assert name in dir(lowlight_cli)
    with pytest.raises(AttributeError, match="enhnace"):
        _ = lowlight_cli.enhnace


def test_function_is_not_hidden_by_a_module() -> None:
    import lowlight_cli.enhancer

    assert callable(lowlight_cli.enhance)
    assert lowlight_cli.enhance is lowlight_cli.enhancer.enhance
