"""What the papers state of themselves, from weights.toml: data to be shown apart, never a row beside measured ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from lowlight_cli.weights.catalog import Published, stated

__all__ = ["MARK", "published"]

MARK: Final = "as published"
"""What stands beside each such figure."""


def published(networks: Collection[str] = ()) -> list[Published]:
    """The published figures of `networks`, or of all, whether there are weights for them or not.

    Raises:
        WeightsError: weights.toml is missing or does not fit its schema.
    """
    return [figure for figure in stated() if not networks or figure.network in networks]
