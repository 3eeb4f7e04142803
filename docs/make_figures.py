"""Put measured figures where they are told: weights.toml, README.md and docs/models.md.

    SETS="-d lol -d lol-scenes -d sice -d dicm"
    lowlight bench --root DATA $SETS --metric niqe-own --precision fp32 --json figures.json
    python docs/make_figures.py figures.json
    python docs/make_cards.py --text

Several files of figures can be given; of a row that is in more than one, the last counts. Checkpoints that were not
measured keep what weights.toml has of them; the tables between the marks `<!-- figures -->` are made anew.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lowlight_cli.bench.report import SCHEMA, as_toml
from lowlight_cli.metrics.table import METRICS
from lowlight_cli.networks import NETWORKS

ROOT: Final = Path(__file__).resolve().parent.parent
MARK: Final = "<!-- figures -->"
PAIRED: Final = {"lol": "eval15 of LOL", "lol-scenes": "held-out scenes of LOL", "sice": "scenes of SICE"}
ALONE: Final = {"dicm": "DICM"}
WITHOUT: Final = {
    "look-up in our485": "the reference of the most similar training picture",
    "linear gain to mean 0.45": "linear gain to mean 0.45",
    "LIME-like": "LIME-like",
    "gamma 2.2": "gamma 2.2",
    "input": "input",
}
"""Of the methods that are no network: name in the figures, name in the table."""
LOL: Final = """\
Sets with references: PSNR in dB / PSNR after scaling the result to the reference's mean (which needs the reference) /
SSIM, at full size in 8 bits. Every network starts from one gain for the whole picture; `dgaf` chooses its own. 14 of
the 15 eval15 scenes also occur in LOL's training pairs at other exposures. The first row without a network only looks
up the most similar of them, and enhances nothing: eval15 tests memory more than skill."""
SCENES: Final = "The held-out pairs of LOL show scenes that training never saw; there are only {pictures}."
DICM: Final = """\
DICM ({pictures} pictures) has no references: mean luma / {niqe}, which tells how natural the statistics of a picture
are (lower is better), not whether its colours are right."""
OWN: Final = "NIQE (own fit) uses our own model of good photographs: do not compare it with published figures."

Sets = Mapping[str, Mapping[str, Any]]
"""The sets of a file of figures by name."""


def read(paths: Sequence[Path]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The sets by name, and what papers state.

    Raises:
        SystemExit: a file is none of figures, a set of it was not measured whole, or has other pictures in another.
    """
    sets: dict[str, Any] = {}
    stated: list[dict[str, Any]] = []
    for path in paths:
        document = json.loads(path.read_text("utf-8"))
        if document.get("schema") != SCHEMA:
            raise SystemExit(f"{path} is not of `lowlight bench --json` ({SCHEMA})")
        stated = document["published"]
        for each in document["sets"]:
            if each["limited"]:
                raise SystemExit(f"{path}: {each['title']} was measured with --limit; measure all of it")
            rows = {row["method"]: row for row in each["rows"]}
            before = sets.get(each["name"], {**each, "rows": {}})
            if before["pixels_sha256"] != each["pixels_sha256"]:
                raise SystemExit(f"{path}: {each['title']} has other pictures here than in the file before")
            sets[each["name"]] = {**each, "rows": before["rows"] | rows}
    return sets, stated


def weights(text: str, sets: Sets) -> str:
    """weights.toml with the figures of the checkpoints that were measured.

    Raises:
        SystemExit: a checkpoint was measured with another file than weights.toml names.
    """
    parts = re.split(r"(?m)^(?=\[\[)", text)
    return "".join(_block(part, sets) if part.startswith("[[checkpoint]]") else part for part in parts)


def _block(text: str, sets: Sets) -> str:
    given = {
        key: found[1] for key in ("network", "tag", "sha256") if (found := re.search(rf'(?m)^{key} = "(.*)"', text))
    }
    name = f"{given['network']}.{given['tag']}"
    measured = {key: each["rows"][name] for key, each in sets.items() if name in each["rows"]}
    for row in measured.values():
        if given.get("sha256") and row["network"]["weights_sha256"] != given["sha256"]:
            raise SystemExit(f"{name} was measured with other weights than weights.toml names: measure it again")
    listed = re.search(r"(?ms)^metrics = \[(\n.*?^)?\]$", text)
    if not measured or not listed:
        return text
    before = (listed[1] or "").splitlines()
    kept = {found[1]: line for line in before if (found := re.search(r'dataset = "(.*?)"', line))}
    kept |= {key: f"    {as_toml(key, row)}," for key, row in measured.items()}
    items = "\n".join(kept.values())
    return text[: listed.start()] + f"metrics = [\n{items}\n]" + text[listed.end() :]


def figures(sets: Sets, stated: Sequence[Mapping[str, Any]]) -> str:
    """The table with its notes."""
    shown = {key: title for key, title in (PAIRED | ALONE).items() if key in sets}
    columns = ["model", *shown.values(), "as published"]
    lines = [columns, ["---"] * len(columns)]
    lines += [[f"`{name}`", *_cells(name, sets, shown), _stated(name, stated)] for name in _networks(sets)]
    lines += [
        [f"no network: {title}", *_cells(name, sets, shown), ""]
        for name, title in WITHOUT.items()
        if any(name in sets[key]["rows"] for key in shown)
    ]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    niqe = next((_niqe(sets[key]) for key in ALONE if key in sets), "")
    command = " ".join(["lowlight bench --root DATA", *(f"-d {key}" for key in shown)])
    command += f" --metric {niqe.replace('_', '-')}" if niqe else ""
    command += " --precision fp32"
    notes = [
        LOL if "lol" in sets else "",
        f"As published: by the authors' weights, {_splits(sets, stated)}." if _splits(sets, stated) else "",
        SCENES.format(**sets["lol-scenes"]) if "lol-scenes" in sets else "",
        DICM.format(niqe=METRICS[niqe].title, **sets["dicm"]) if niqe else "",
        OWN if niqe == "niqe_own" else "",
        f"Made by `{command}`.",
    ]
    return f"{table}\n\n" + "\n".join(filter(None, notes))


def _niqe(given: Mapping[str, Any]) -> str:
    """Which of the two was measured; the authors' first."""
    row = next(iter(given["rows"].values()))
    return next((key for key in ("niqe", "niqe_own") if row.get(key) is not None), "")


def _networks(sets: Sets) -> list[str]:
    """Checkpoints that were measured, in the order of the networks."""
    names = {name for each in sets.values() for name, row in each["rows"].items() if row["network"] and "(" not in name}
    order = list(NETWORKS)
    return sorted(names, key=lambda name: (order.index(name.split(".")[0]), name))


def _cells(name: str, sets: Sets, shown: Mapping[str, str]) -> list[str]:
    return [_cell(sets[key]["rows"].get(name), _keys(sets, key)) for key in shown]


def _keys(sets: Sets, key: str) -> tuple[str, ...]:
    return ("psnr", "psnr_gt_mean", "ssim") if key in PAIRED else ("luma", _niqe(sets[key]))


def _cell(row: Mapping[str, Any] | None, keys: Sequence[str]) -> str:
    if row is None:
        return "-"
    digits = {"ssim": 3, "luma": 2}
    values = [(row.get(key), digits.get(key, 2)) for key in keys if key]
    return " / ".join("-" if value is None else f"{value:.{count}f}" for value, count in values)


def _stated(name: str, stated: Sequence[Mapping[str, Any]]) -> str:
    """What the paper states of LOL, of whatever split."""
    for each in stated:
        if each["network"] == name.split(".")[0] and each["dataset"] == "LOL":
            return _cell({**each, "psnr_gt_mean": None}, ("psnr", "psnr_gt_mean", "ssim"))
    return "-"


def _splits(sets: Sets, stated: Sequence[Mapping[str, Any]]) -> str:
    """On what, of each paper whose figure is in the table."""
    shown = {name.split(".")[0] for name in _networks(sets)}
    told = [f"`{each['network']}` on {each['split']}" for each in stated if each["dataset"] == "LOL"]
    return "; ".join(text for text in told if text.split("`")[1] in shown)


def page(text: str, made: str) -> str:
    """A page with new figures between its marks."""
    before, _, after = text.split(MARK)
    return f"{before}{MARK}\n\n{made}\n\n{MARK}{after}"


def main() -> None:
    """Read the figures, write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, nargs="+", metavar="FIGURES.json")
    sets, stated = read(parser.parse_args().figures)
    table = ROOT / "weights.toml"
    table.write_text(weights(table.read_text("utf-8"), sets), "utf-8")
    for path in (ROOT / "README.md", ROOT / "docs" / "models.md"):
        path.write_text(page(path.read_text("utf-8"), figures(sets, stated)), "utf-8")


if __name__ == "__main__":
    main()
