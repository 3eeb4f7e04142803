"""What the papers state of themselves, from weights.toml: data to be shown apart, never a row beside measured ones."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from typing import Final

from lowlight_cli.weights.catalog import Published, catalog, catalog_path

__all__ = ["MARK", "published"]

MARK: Final = "as published"
"""What stands beside each such figure."""


def published(networks: Collection[str] = ()) -> list[Published]:
    """The published figures of `networks`, or of all, whether there are weights for them or not.

    Raises:
        WeightsError: weights.toml is missing or does not fit its schema.
    """
    catalog()  # raises in words where the file is at fault
    tables = tomllib.loads(catalog_path().read_text("utf-8")).get("published", [])
    figures = [Published.model_validate(table) for table in tables]
    return [figure for figure in figures if not networks or figure.network in networks]
