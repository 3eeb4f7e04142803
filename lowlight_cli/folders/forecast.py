"""Predict what a batch would do, without loading, fetching or reading anything large (`lowlight batch --dry-run`)."""

from __future__ import annotations

import functools
from collections.abc import Callable

from lowlight_cli import engines
from lowlight_cli.enhancer import Enhancer
from lowlight_cli.errors import InputError, WeightsError
from lowlight_cli.files import Saving
from lowlight_cli.folders.batch import Batch, has_size, settings_hash
from lowlight_cli.pictures.placing import part
from lowlight_cli.targets import Job
from lowlight_cli.weights import fetch

__all__ = ["foreseen"]


def foreseen(batch: Batch, enhancer: Enhancer, saving: Saving, on_message: Callable[[str], None]) -> list[Job]:
    """The jobs as `enhance_folder` would decide them, except that changed content of a picture is not noticed.

    Args:
        batch: from `planned`.
        enhancer: what would enhance; it is not loaded.
        saving: how results would be written.
        on_message: called if the weights are not on this machine; nothing counts as done then.
    """
    if not batch.records:
        return list(batch.jobs)
    wish = enhancer.settings
    known = functools.partial(engines.has_graph, wish.model, wish.engine)
    try:
        weights = fetch.resolve(wish.model, wish.weights, offline=True, known=known).sha256
    except WeightsError:
        weights = ""
        on_message("the weights are not at hand, and a dry run fetches none: all counts as to be made")
    settings = settings_hash(enhancer, saving)

    def told(job: Job) -> Job:
        record = batch.recorded(job)
        done = (
            record is not None
            and not isinstance(job.error, InputError)
            and (record.weights, record.settings) == (weights, settings)
            and any(has_size(path, record) for path in (job.target, part(job.target)))
        )
        return batch.decided(job, record, done)

    return [told(job) for job in batch.jobs]
