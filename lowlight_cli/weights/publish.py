"""Publishing the shipped weights to a hub, with the model card that the hub reads."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lowlight_cli import networks
from lowlight_cli.errors import LowlightError, UsageError, WeightsError
from lowlight_cli.weights import fetch, hub
from lowlight_cli.weights.catalog import Checkpoint, Metric, Published, catalog

__all__ = ["Pushed", "card", "publishable", "push"]

PROJECT: Final = "lowlight-cli"

HUB_LICENCES: Final = (
    "apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit",
)  # fmt: skip
"""The hub's names of the licences that weights of ours can have; another one is `other` with its name."""


@dataclass(frozen=True)
class Pushed:
    """What was published.

    Attributes:
        url: the repository's page.
        revision: the commit, 40 hex digits.
        addresses: checkpoint name to its pinned `hf://` address.
    """

    url: str
    revision: str
    addresses: dict[str, str]


def publishable(names: Sequence[str] = ()) -> list[Checkpoint]:
    """The shipped checkpoints, or those of `names` (`network.tag`).

    Raises:
        WeightsError: there is none, no such one, or it is not ours to publish.
    """
    shipped = {checkpoint.name: checkpoint for checkpoint in catalog() if checkpoint.file}
    for name in names:
        if name not in shipped:
            raise WeightsError(f"{name} is not shipped, so it is not published: there are {_list(shipped)}")
    if not shipped:
        raise WeightsError("no weights are shipped with this version: there is nothing to publish")
    return [shipped[name] for name in names] if names else list(shipped.values())


def push(
    repo: str,
    checkpoints: Sequence[Checkpoint],
    *,
    private: bool = False,
    message: str = f"Weights of {PROJECT}",
    on_message: fetch.Message | None = None,
) -> Pushed:
    """Create `repo` on the hub where it does not exist, and commit the files and their card to it in one step.

    HF_ENDPOINT and HF_TOKEN (or the login of `hf auth login`) are used.

    Args:
        repo: ORG/NAME.
        checkpoints: shipped ones; each file is compared with its hash first.
        private: make a new repository private; an existing one stays as it is.
        message: the commit's.
        on_message: told before the network is used, and what the hub remarks.

    Raises:
        UsageError: `repo` is not of that form.
        WeightsError: offline, a file is damaged, the hub refuses or is unreachable.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise UsageError(f"{repo!r} is not of the form ORG/NAME, as in `lowlight weights push me/lowlight`")
    if reason := fetch.offline_reason():
        raise WeightsError(f"{reason} is set: nothing is published")
    say = on_message or (lambda _: None)
    paths = {checkpoint: fetch.resolve(checkpoint.network, checkpoint.tag).path for checkpoint in checkpoints}

    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    say(f"publishing {_list(c.name for c in checkpoints)} to {hub.endpoint() or 'huggingface.co'}/{repo}")
    api = HfApi(endpoint=hub.endpoint(), library_name="lowlight")
    adds = [CommitOperationAdd(path.name, path) for path in paths.values()]
    adds.append(CommitOperationAdd("README.md", card(repo, checkpoints).encode()))
    drawn = not are_progress_bars_disabled()
    try:
        disable_progress_bars()  # the client's own, which know neither -q nor pipes
        with warnings.catch_warnings(record=True) as remarks:  # the client warns of what the hub says of the card
            warnings.simplefilter("always")
            page = api.create_repo(repo, private=private or None, exist_ok=True)
            commit = api.create_commit(repo, adds, commit_message=message)
    except LowlightError:
        raise
    except Exception as error:  # the client and its HTTP library raise a dozen kinds; each becomes one line
        raise hub.explained(error, repo) from error
    finally:
        if drawn:
            enable_progress_bars()
    for remark in remarks:
        say(" ".join(str(remark.message).split()))
    pinned = {c.name: str(hub.Reference(repo, path.name, commit.oid)) for c, path in paths.items()}
    return Pushed(str(page), commit.oid, pinned)


# ------------------------------------------------------------------------------------------------------------- card


def card(repo: str, checkpoints: Sequence[Checkpoint]) -> str:
    """README.md for the hub: front matter, how to use the files, what each is, measured and published figures."""
    from huggingface_hub import CardData

    front = CardData(**_front(checkpoints)).to_yaml()
    first = checkpoints[0]
    sizes = [(c.file or "", f"{c.parameters / 1e6:.2f} M", c.input, c.licence, c.sha256 or "") for c in checkpoints]
    training = [(c.file or "", c.training_data, c.recipe) for c in checkpoints]
    measured = [
        (c.name, m.dataset, m.protocol, _number(m.psnr), _number(m.psnr_gt_mean), _number(m.ssim, 4))
        for c in checkpoints
        for m in c.metrics
    ]
    stated: dict[Published, None] = dict.fromkeys(figure for c in checkpoints for figure in c.published)
    papers = dict.fromkeys((networks.descriptor(c.network).title, c.paper, c.paper_url) for c in checkpoints)
    parts = [
        f"---\n{front}\n---\n\n# Low-light enhancement weights for {PROJECT}\n",
        "Networks that make dark photographs visible, reimplemented from their papers and trained anew. "
        "The files are safetensors in half precision; no code is run when they are read.\n",
        "## Use\n",
        f"```\npip install {PROJECT}\nlowlight enhance photo.jpg --model {first.network} "
        f"--weights hf://{repo}/{first.file}@REVISION\n```\n",
        "REVISION is the 40 digits of a commit of this repository. The same files come with the program: "
        "without `--weights` nothing is fetched.\n",
        "## Files\n",
        _table(("file", "parameters", "input", "licence", "sha256"), sizes),
        "`exposed` input: the program multiplies the picture by one gain in linear light before the network sees it.\n",
        _table(("file", "trained on", "recipe"), training),
    ]
    if measured:
        columns = ("weights", "pictures", "protocol", "PSNR", "PSNR GT-mean", "SSIM")
        parts += ["## Measured\n", _table(columns, measured)]
    if stated:
        rows = [(f.network, f.dataset, f.split, _number(f.psnr), _number(f.ssim, 4)) for f in stated]
        parts += [
            "## As published\n",
            "What the papers state of their own weights, which these are not. Different splits do not compare.\n",
            _table(("network", "pictures", "split", "PSNR", "SSIM"), rows),
        ]
    parts += ["## Papers\n", "".join(f"- {title}: {paper}, <{url}>\n" for title, paper, url in papers)]
    parts += [
        "## Limits\n",
        "The deepest shadows hold no colour to bring back, strong noise may stay or turn into blotches, and what is "
        "shown there is a guess: not evidence.\n",
    ]
    return "\n".join(parts)


def _front(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """The hub's front matter."""
    licences = {c.licence.lower() for c in checkpoints}
    known = len(licences) == 1 and licences <= set(HUB_LICENCES)
    front: dict[str, Any] = {"license": licences.pop()} if known else {"license": "other", "license_name": "see-files"}
    names = [_slug(part) for c in checkpoints for part in re.split(r"[,+;]", c.training_data)]
    front |= {
        "library_name": PROJECT,
        "pipeline_tag": "image-to-image",
        "tags": ["low-light", "image-enhancement", "safetensors", *dict.fromkeys(c.network for c in checkpoints)],
        "datasets": list(dict.fromkeys(name for name in names if name)),
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
                "metrics": _results(metric),
            }
            for metric in checkpoint.metrics
        ],
    }


def _results(metric: Metric) -> list[dict[str, Any]]:
    values = {"PSNR": metric.psnr, "PSNR GT-mean": metric.psnr_gt_mean, "SSIM": metric.ssim}
    return [
        {"type": name.split()[0].lower(), "name": f"{name} ({metric.protocol})", "value": value}
        for name, value in values.items()
        if value is not None
    ]


def _slug(text: str) -> str:
    """The first word, as the hub writes names of data sets."""
    match = re.search(r"[A-Za-z0-9][\w.-]*", text)
    return match[0].lower() if match else ""


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
