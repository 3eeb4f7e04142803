"""Publish the shipped weights on a hub, with the model card that the hub reads."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lowlight_cli.errors import LowlightError, WeightsError
from lowlight_cli.weights import fetch, hub
from lowlight_cli.weights.card import PROJECT, card, check_repository
from lowlight_cli.weights.catalog import Checkpoint, catalog, named

__all__ = ["Pushed", "card", "publishable", "push"]


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
    """All shipped checkpoints, or those in `names` (`network.tag`, or `network` for its default), each once.

    Raises:
        UsageError: no such network.
        WeightsError: no weights are shipped, there is no such checkpoint, or it is not a shipped one.
    """
    shipped = {checkpoint.name: checkpoint for checkpoint in catalog() if checkpoint.file}
    wanted = dict.fromkeys(named(name).name for name in names)
    for name in wanted:
        if name not in shipped:
            raise WeightsError(f"{name} is not shipped, so it is not published: there are {_list(shipped)}")
    if not shipped:
        raise WeightsError("no weights are shipped with this version: there is nothing to publish")
    return [shipped[name] for name in wanted or shipped]


def push(
    repo: str,
    checkpoints: Sequence[Checkpoint],
    *,
    private: bool = False,
    message: str = f"Weights of {PROJECT}",
    on_message: fetch.Message | None = None,
) -> Pushed:
    """Create `repo` on the hub if it does not exist, and commit the files and their card to it in one commit.

    Uses HF_ENDPOINT, and HF_TOKEN or the login of `hf auth login`.

    Args:
        repo: ORG/NAME.
        checkpoints: shipped ones; each file is compared with its hash first.
        private: make a new repository private; an existing one stays as it is.
        message: the commit message.
        on_message: called with a line before the hub is contacted, and with each remark of the hub.

    Raises:
        UsageError: `repo` does not have that form.
        WeightsError: offline, a file is damaged, the hub refuses or is unreachable.
    """
    check_repository(repo)
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
        disable_progress_bars()  # the client's own bars ignore -q and pipes
        with warnings.catch_warnings(record=True) as remarks:  # warnings carry the hub's remarks on the card
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


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
