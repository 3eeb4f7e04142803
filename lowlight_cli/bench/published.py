"""Figures that papers publish, from weights.toml: shown in a table of their own, never beside measured rows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from lowlight_cli.weights.catalog import Published, stated

__all__ = ["MARK", "published"]

MARK: Final = "as published"
"""Label of each such figure."""


def published(networks: Collection[str] = ()) -> list[Published]:
    """Return the published figures of `networks`, or of all networks, whether or not there are weights for them.

    Raises:
        WeightsError: weights.toml is missing or does not fit its schema.
    """
    return [figure for figure in stated() if not networks or figure.network in networks]
