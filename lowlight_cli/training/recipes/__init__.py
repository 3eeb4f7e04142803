"""One file a paper: its losses and stages, to be read against it. `best.py` is ours, for all of them.

The numbers are in the TOML files. What only training has (discriminators, the Darkening network) is beside its recipe.
"""

from __future__ import annotations

import importlib

from lowlight_cli.networks.layers import Network
from lowlight_cli.training.plan import Mixed, Plan
from lowlight_cli.training.recipe import Recipe

__all__ = ["PAPERS", "plan"]

PAPERS = {name: name for name in ("jcrnet", "drgn", "neid", "frlie", "dgaf")} | {"lw-drgn": "drgn"}
"""Networks with a recipe of their paper, and its file."""


def plan(model: str, network: Network, recipe: Recipe, mixed: Mixed) -> Plan:
    """What `recipe` makes of a run: its stages for `network`, which may be given the paper's initial weights here."""
    file = PAPERS[model] if recipe.kind == "paper" else "best"
    made: Plan = importlib.import_module(f"{__name__}.{file}").plan(network, recipe, mixed)
    return made
