"""What README, docs/ and samples/ say is so: commands and options exist, links resolve, examples run."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from PIL import Image

import lowlight_cli
from lowlight_cli import errors
from lowlight_cli.cli import report
from lowlight_cli.cli.app import BROKEN_PIPE, INTERRUPTED, app
from lowlight_cli.networks import NETWORKS
from lowlight_cli.signals import ENDING

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("samples/*.md")])
LINE = re.compile(r"^\$?\s*(?:\w+=\S* )*(lowlight\b.*)")
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """(language, text) of each fenced block, also of those inside lists."""
    for match in re.finditer(r"^([ ]*)```(\w*)\n(.*?)^\1```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        yield match[2], match[3]


def commands(lines: Iterable[str]) -> Iterator[list[str]]:
    """The arguments behind `lowlight` in shell lines, up to a pipe, a redirection or a comment."""
    for part in (part for line in lines for part in line.split("&&")):
        if match := LINE.match(part.strip()):
            yield shlex.split(re.split(r"\s[|<>]\s", match[1])[0], comments=True)[1:]


def resolved(words: list[str]) -> tuple[Any, Any, list[str]]:
    """The command that the words begin with, its context, and its own arguments."""
    command: Any = typer.main.get_command(app)
    context = command.context_class(command, info_name="lowlight")
    while words and hasattr(command, "get_command") and (found := command.get_command(context, words[0])):
        command, words = found, words[1:]
        context = command.context_class(command, info_name=command.name, parent=context)
    return command, context, words


def leaves(command: Any, context: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its full name."""
    if not hasattr(command, "list_commands"):
        yield name, command
        return
    for each in command.list_commands(context):
        yield from leaves(command.get_command(context, each), context, f"{name} {each}".strip())


def options(command: Any) -> set[str]:
    """Every spelling of a command's options."""
    named = {spelling for each in command.params for spelling in (*each.opts, *each.secondary_opts)}
    return {spelling for spelling in named if spelling.startswith("-")} | {"--help", "-h"}


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    """Parsing -q and -v sets the level for good."""
    before = report.level()
    yield
    report.set_level(before)


@every_page
def test_commands_in_blocks_parse(page: Path) -> None:
    """Whole, as typed: commands and options exist, values are of their kind, required arguments are there."""
    lines = [line for language, text in blocks(page) if not language for line in text.splitlines()]
    for words in commands(lines):
        command, context, rest = resolved(words)
        if "..." in words:
            continue
        if hasattr(command, "list_commands"):
            assert not rest, f"no such command: lowlight {' '.join(words)}"
        else:
            command.make_context(command.name, rest, parent=context.parent)


@every_page
def test_commands_between_backticks_exist(page: Path) -> None:
    """They may be fragments: the command and its options have to be there."""
    for words in commands(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text("utf-8"))):
        command, _, rest = resolved(words)
        shown = f"lowlight {' '.join(words)}"
        if hasattr(command, "list_commands"):
            assert all(word.startswith("-") for word in rest), f"no such command: {shown}"
        given = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        assert given <= options(command), f"no such option: {shown}"


def test_every_command_and_option_is_told() -> None:
    """Each long option stands on the page of its command; what all have stands in usage.md."""
    usage, weights, measuring, training, batch, video = (
        (ROOT / "docs" / f"{name}.md").read_text("utf-8")
        for name in ("usage", "weights", "measuring", "training", "batch", "video")
    )
    pages = {
        "weights": weights + usage, "bench": measuring, "train": training, "darken": training, "batch": batch + usage,
        "video": video + usage,
    }  # fmt: skip
    root: Any = typer.main.get_command(app)
    context = root.context_class(root, info_name="lowlight")
    missing = []
    for name, command in leaves(root, context):
        page = pages.get(name.split()[0], usage)
        if not re.search(rf"\b(lowlight )?{name}\b", page):
            missing.append(f"lowlight {name}")
        missing += [
            f"lowlight {name} {option}"
            for option in sorted(options(command) - {"--help"})
            if option.startswith("--") and not re.search(rf"(?<![\w-]){option}(?![\w-])", page)
        ]
    assert not missing, f"not in docs/: {', '.join(missing)}"


def test_exit_codes_are_told() -> None:
    usage = (ROOT / "docs" / "usage.md").read_text("utf-8")
    api = (ROOT / "docs" / "api.md").read_text("utf-8")
    for name in errors.__all__:
        kind = getattr(errors, name)
        if not isinstance(kind, type):
            continue  # a function
        assert f"| {kind.exit_code} |" in usage, name
        assert name == "LowlightError" or f"| `{name}` | {kind.exit_code} |" in api, name
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", usage, re.MULTILINE)}
    assert told >= {INTERRUPTED, BROKEN_PIPE, *(128 + number for number in ENDING)}
    assert {int(code) for code in re.findall(r"\d+", str(app.info.epilog))} == told


def test_the_defaults_of_an_enhancer_are_told() -> None:
    """The listing of api.md has every parameter, each with its default."""
    listing = next(text for language, text in blocks(ROOT / "docs" / "api.md") if "    gate=" in text)
    call = next(node for node in ast.walk(ast.parse(listing)) if isinstance(node, ast.Call))
    told = {"model": call.args[0], **{str(each.arg): each.value for each in call.keywords}}
    parameters = inspect.signature(lowlight_cli.Enhancer).parameters.values()
    assert {name: ast.literal_eval(value) for name, value in told.items()} == {
        each.name: each.default for each in parameters
    }


def test_networks_are_told() -> None:
    """The table of models.md is that of the program."""
    models = (ROOT / "docs" / "models.md").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    for each in NETWORKS.values():
        sees = f"{each.radius} pixels around" if each.radius else "the whole picture"
        row = f"| `{each.name}` | {each.paper} | {each.parameters:.3f} M | {each.gmacs:.2f} G | {sees} |"
        assert row in models
        assert f"`{each.name}`" in readme
    assert f"`{lowlight_cli.DEFAULT_MODEL}` (the default)" in models
    assert f"`{lowlight_cli.DEFAULT_MODEL}` is the default" in readme


def test_rooms_are_told_in_the_order_of_their_layers() -> None:
    """Else "below" would mean one thing on the page and another to import-linter."""
    development = (ROOT / "docs" / "development.md").read_text("utf-8")
    told = [name.removesuffix(".py") for name in re.findall(r"^\| `(\w+(?:/|\.py))` \|", development, re.MULTILINE)]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = next(each["layers"] for each in settings["contracts"] if each["type"] == "layers")
    level = {room: number for number, layer in enumerate(layers) for room in layer.split(" | ")}
    rooms = [name.rstrip("/") for name in told]
    assert sorted(rooms) == sorted(level.keys() - {"__main__"})
    assert [level[room] for room in rooms] == sorted(level[room] for room in rooms)


@every_page
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), target
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        assert file.is_relative_to(ROOT), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target


@pytest.mark.parametrize("name", ["README.md", "docs/api.md"])
def test_python_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block by itself, with the shipped weights, in a folder that has nothing but samples/."""
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    examples = [text for language, text in blocks(ROOT / name) if language == "python"]
    assert examples
    for text in examples:
        exec(compile(text, name, "exec"), {"__name__": "example"})


@pytest.mark.parametrize(("name", "wants"), [("lw-drgn", "exposed"), ("dgaf", "as-is")])
def test_a_network_by_itself_gives_what_an_enhancer_does(
    name: str, wants: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As api.md uses it, to half a grey level: one network is given an exposed picture, one exposes it itself."""
    monkeypatch.chdir(ROOT)
    example = next(text for language, text in blocks(ROOT / "docs" / "api.md") if "load_state_dict" in text)
    told: dict[str, Any] = {}
    exec(compile(example.replace('"lw-drgn"', f'"{name}"'), "api.md", "exec"), told)
    assert told["metadata"]["network"] == name and told["metadata"]["input"] == wants
    enhancer = lowlight_cli.Enhancer(name, device="cpu", precision="fp32", engine="torch", protect_highlights=False)
    with Image.open("samples/night.jpg") as dark:
        wanted = enhancer.enhance(np.asarray(dark, np.float32) / 255)
    assert wanted.mean() > 0.3
    assert np.abs(told["lit"][0].permute(1, 2, 0).numpy() - wanted).max() < 0.5 / 255


def test_python_blocks_compile() -> None:
    found = [(page, text) for page in PAGES for language, text in blocks(page) if language == "python"]
    assert len({page for page, _ in found}) >= 2
    for page, text in found:
        lines = text.splitlines()
        indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        compile("\n".join(line[indent:] for line in lines), page.name, "exec")


def test_pictures_are_light() -> None:
    """docs/ and samples/ are downloaded by everyone who clones."""
    files = [*ROOT.glob("docs/**/*"), *ROOT.glob("samples/**/*")]
    assert sum(file.stat().st_size for file in files if file.is_file()) < 6_000_000


def module(path: Path) -> ModuleType:
    """A script, imported from its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_sample_is_what_its_script_makes(tmp_path: Path) -> None:
    """Within what versions of libjpeg and OpenCV differ by."""
    make = module(ROOT / "samples" / "make.py")
    make.main(tmp_path / "night.jpg")
    with Image.open(tmp_path / "night.jpg") as made, Image.open(ROOT / "samples" / "night.jpg") as shipped:
        assert b"Simulated" in shipped.info["comment"]
        assert made.size == shipped.size == (600, 400)
        new, old = (np.asarray(picture, np.float32) for picture in (made, shipped))
    assert np.abs(new - old).mean() < 0.5
    luma = (old / 255 @ np.array([0.2126, 0.7152, 0.0722], np.float32)).mean()
    assert 0.06 < luma < 0.1


def test_citation_and_project_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert citation["version"] == project["version"] == lowlight_cli.__version__
    assert citation["license"] == project["license"]
    cited = {name.strip() for each in citation["references"] for name in each["notes"].split(",")}
    assert cited == set(NETWORKS)
    notice, readme = ((ROOT / name).read_text("utf-8") for name in ("NOTICE", "README.md"))
    for each in citation["references"]:
        title = re.sub(r"\s+", " ", each["title"])
        assert title in re.sub(r"\s+", " ", notice)
        assert title in re.sub(r"\s+", " ", readme)


def test_the_readme_names_the_command_that_ci_runs() -> None:
    readme, ci = ((ROOT / name).read_text("utf-8") for name in ("README.md", ".ci/run"))
    assert "pip install -e '.[test]' && pytest\n" in readme
    assert "pip install --quiet --progress-bar off -e '.[test]'" in ci
    assert re.search(r"^pytest\b", ci, re.MULTILINE)
