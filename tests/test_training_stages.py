"""The papers' stages: what moves in each, what must not, and at which rates."""

import numpy as np
import pytest
import torch
from test_training_papers import BATCH, planned

from lowlight_cli.training import recipes
from lowlight_cli.training.checkpoint import State
from lowlight_cli.training.recipe import load


@pytest.mark.parametrize("name", recipes.PAPERS)
def test_stages_fit_the_numbers(name: str) -> None:
    network, plan = planned(name)
    recipe = load(name, (), "paper")
    assert len(plan.stages) == len(recipe.shares) and recipe.input == "as-is" and recipe.ema == 0
    last = {id(p) for module in plan.stages[-1].groups[0] for p in module.parameters()}
    assert last <= {id(p) for p in network.parameters()}


@pytest.mark.parametrize("name", ["lw-drgn", "dgaf"])
def test_an_adversarys_loss_moves_nothing_but_the_adversary(name: str) -> None:
    _, plan = planned(name)
    stage = plan.stages[0]
    stage.losses(BATCH)[1].backward()
    assert all(p.grad is None for module in stage.groups[0] for p in module.parameters())
    assert all(p.grad is not None for module in stage.groups[1] for p in module.parameters())


def test_rates_are_those_of_the_papers() -> None:
    def at(name: str, *shares: float) -> list[float]:
        recipe = load(name, (), "paper")
        return [recipe.rate_at(0, share) for share in shares]

    assert at("jcrnet", 0, 0.5, 1) == pytest.approx([2e-4, 1.005e-4, 1e-6])
    assert at("neid", 0, 0.24, 0.25, 0.5, 1) == pytest.approx([1e-4, 1e-4, 1e-5, 1e-6, 1e-6])
    assert at("frlie", 0, 0.25, 0.4999, 0.5, 1) == pytest.approx([2e-4, 1.1e-4, 2e-5, 2e-4, 2e-5], rel=5e-3)
    assert at("drgn", 0, 6_100 / 43_200, 1) == pytest.approx([5e-4, 4.5e-4, 5e-4 * 0.9**7])
    assert at("dgaf", 0, 0.11, 0.5, 0.99) == pytest.approx([1e-4, 5e-5, 1e-4, 6.25e-6])
    assert np.isclose(load("neid").rate_at(0, 0), 1e-3 / 50)


def test_the_second_stage_of_frlie_moves_nothing_but_the_features() -> None:
    """Encoder, decoder and what their batch norms have counted stay to the bit."""
    network, plan = planned("frlie")
    state = State(network, plan, load("frlie", (), "paper"))
    state.enter(1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    plan.stages[1].losses(BATCH)[0].backward()
    state.optimisers[0].step()
    moved = [key for key, value in network.state_dict().items() if not torch.equal(value, before[key])]
    assert moved and all(key.startswith("feature_processor.") for key in moved)
