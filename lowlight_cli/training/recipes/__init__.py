"""Recipes: one file for each paper with its losses and stages, to be read beside it, and `best.py`, ours for all.

The numbers are in the TOML files. Modules for training only (discriminators) are in the file of their recipe.
"""

from __future__ import annotations

import importlib

from lowlight_cli.networks.layers import Network
from lowlight_cli.training.plan import Mixed, Plan
from lowlight_cli.training.recipe import Recipe

__all__ = ["PAPERS", "plan"]

PAPERS = {name: name for name in ("jcrnet", "drgn", "neid", "frlie", "dgaf")} | {"lw-drgn": "drgn"}
"""Networks that have a recipe as published, and its module."""


def plan(model: str, network: Network, recipe: Recipe, mixed: Mixed) -> Plan:
    """Return the plan of a run by `recipe`; a paper's recipe may also set the initial weights of `network`."""
    file = PAPERS[model] if recipe.kind == "paper" else "best"
    made: Plan = importlib.import_module(f"{__name__}.{file}").plan(network, recipe, mixed)
    return made
