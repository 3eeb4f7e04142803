"""The text of model cards: the hub's front matter, and weights.toml as tables. The pages in docs/models/ share it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from lowlight_cli import networks
from lowlight_cli.errors import UsageError
from lowlight_cli.weights.catalog import Checkpoint, Metric, Published

__all__ = ["PROJECT", "card", "check_repository", "files", "front_matter", "measured", "published", "table"]

PROJECT: Final = "lowlight-cli"

HUB_LICENCES: Final = (
    "apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit",
)  # fmt: skip
"""The hub's names of the licences that our weights can have; any other, and a mixture, becomes `other`."""

COLUMNS: Final = (
    ("PSNR", "psnr", 2, True), ("PSNR GT-mean", "psnr_gt_mean", 2, True), ("SSIM", "ssim", 4, True),
    ("mean luma", "luma", 3, False), ("NIQE", "niqe", 2, False), ("NIQE (own fit)", "niqe_own", 2, False),
)  # fmt: skip
"""Columns of measured figures: title, field of `Metric`, digits, and whether an empty column is shown too."""

EXPOSED: Final = (
    "`exposed` input: the program multiplies the picture by one gain in linear light before the network sees it.\n"
)


def check_repository(repo: str) -> None:
    """Check that a repository's name has the hub's form ORG/NAME.

    Raises:
        UsageError: it does not.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise UsageError(f"{repo!r} is not of the form ORG/NAME, as in `lowlight weights push me/lowlight`")


def card(repo: str, checkpoints: Sequence[Checkpoint]) -> str:
    """README.md for the hub: front matter, how to use the files, what each is, measured and published figures.

    Raises:
        UsageError: `repo` does not have the form ORG/NAME.
    """
    check_repository(repo)
    first = checkpoints[0]
    training = [(c.file or "", c.training_data, c.recipe) for c in checkpoints]
    papers = dict.fromkeys((networks.descriptor(c.network).title, c.paper, c.paper_url) for c in checkpoints)
    parts = [
        f"{front_matter(checkpoints)}\n# Low-light enhancement weights for {PROJECT}\n",
        "Networks that make dark photographs visible, reimplemented from their papers and trained anew. "
        "The files are safetensors in half precision; no code is run when they are read.\n",
        "## Use\n",
        f"```\npip install {PROJECT}\nlowlight enhance photo.jpg --model {first.network} "
        f"--weights hf://{repo}/{first.file}@REVISION\n```\n",
        "REVISION is the 40 digits of a commit of this repository. The same files come with the program: "
        "without `--weights` nothing is fetched.\n",
        "## Files\n",
        files(checkpoints),
        EXPOSED,
        table(("file", "trained on", "recipe"), training),
    ]
    if any(c.metrics for c in checkpoints):
        parts += ["## Measured\n", measured(checkpoints)]
    if any(c.published for c in checkpoints):
        parts += ["## As published\n", published(checkpoints)]
    parts += ["## Papers\n", "".join(f"- {title}: {paper}, <{url}>\n" for title, paper, url in papers)]
    parts += [
        "## Limits\n",
        "The deepest shadows hold no colour to bring back, strong noise may stay or turn into blotches, and what is "
        "shown there is a guess: not evidence.\n",
    ]
    return "\n".join(parts)


def front_matter(checkpoints: Sequence[Checkpoint]) -> str:
    """The hub's front matter as YAML, between two lines of dashes."""
    from huggingface_hub import CardData

    return f"---\n{CardData(**_front(checkpoints)).to_yaml()}\n---\n"


def files(checkpoints: Sequence[Checkpoint]) -> str:
    """A table of the files: parameters, input, licence, hash."""
    sizes = [(c.file or "", f"{c.parameters / 1e6:.2f} M", c.input, c.licence, c.sha256 or "") for c in checkpoints]
    return table(("file", "parameters", "input", "licence", "sha256"), sizes)


def measured(checkpoints: Sequence[Checkpoint]) -> str:
    """A table of what we measured; only its header if we measured nothing."""
    figures = [(c, m) for c in checkpoints for m in c.metrics]
    columns = [column for column in COLUMNS if column[3] or any(getattr(m, column[1]) is not None for _, m in figures)]
    rows = [
        (c.name, m.dataset, m.protocol, *(_number(getattr(m, key), digits) for _, key, digits, _ in columns))
        for c, m in figures
    ]
    return table(("weights", "pictures", "protocol", *(title for title, *_ in columns)), rows)


def published(checkpoints: Sequence[Checkpoint]) -> str:
    """A table of the papers' own figures, below a remark that they are for other weights."""
    stated: dict[Published, None] = dict.fromkeys(figure for c in checkpoints for figure in c.published)
    rows = [(f.network, f.dataset, f.split, _number(f.psnr), _number(f.ssim, 4)) for f in stated]
    remark = "What the papers state of their own weights, which these are not. Different splits do not compare.\n"
    return remark + "\n" + table(("network", "pictures", "split", "PSNR", "SSIM"), rows)


def _front(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """The fields of the hub's front matter."""
    licences = {c.licence.lower() for c in checkpoints}
    known = len(licences) == 1 and licences <= set(HUB_LICENCES)
    front: dict[str, Any] = {"license": licences.pop()} if known else {"license": "other", "license_name": "see-files"}
    names = [name for c in checkpoints for name in _sets(c.training_data)]
    front |= {
        "library_name": PROJECT,
        "pipeline_tag": "image-to-image",
        "tags": ["low-light", "image-enhancement", "safetensors", *dict.fromkeys(c.network for c in checkpoints)],
        "datasets": list(dict.fromkeys(names)),
        "metrics": ["psnr", "ssim"],
    }
    if index := [_index(c) for c in checkpoints if c.metrics]:
        front["model-index"] = index
    return front


def _index(checkpoint: Checkpoint) -> dict[str, Any]:
    """One model of the front matter's `model-index`."""
    return {
        "name": checkpoint.name,
        "results": [
            {
                "task": {"type": "image-to-image", "name": "Low-light enhancement"},
                "dataset": {"name": metric.dataset, "type": _slug(metric.dataset)},
                "metrics": levels,
            }
            for metric in checkpoint.metrics
            if (levels := _results(metric))
        ],
    }


def _results(metric: Metric) -> list[dict[str, Any]]:
    values = {title: getattr(metric, key) for title, key, *_ in COLUMNS if key not in ("luma", "niqe_own")}
    return [
        {"type": name.split()[0].lower(), "name": f"{name} ({metric.protocol})", "value": value}
        for name, value in values.items()
        if value is not None
    ]


def _sets(training_data: str) -> list[str]:
    """The data sets in a description, as the hub writes them: words with two capitals, and kinds of `train --data`.

    Example:
        >>> _sets("LOL v1: 9 pairs (ours); 7 photographs, each of DARK FACE and FiveK"), _sets("sice@2 bright@0.5")
        (['lol', 'dark-face', 'fivek'], ['sice', 'bright'])
    """
    word = r"\b(?:[A-Z][\w-]*[A-Z][\w-]*)"
    found = re.findall(rf"{word}(?: {word})*|\b\w+(?=@)", re.sub(r"\([^)]*\)", "", training_data))
    return [name.replace(" ", "-").lower() for name in found]


def _slug(text: str) -> str:
    """The first word in lower case, as the hub writes names of data sets."""
    match = re.search(r"[A-Za-z0-9][\w.-]*", text)
    return match[0].lower() if match else ""


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
