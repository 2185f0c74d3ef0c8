"""`EquivariantDQN` trains as SB3's DQN does on the same policy and minibatches, up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from equirl.agents.shortcuts.training import ROWS_AT_ONCE
from shared.policy_tasks import VARIANTS, dict_env
from shared.small_agents import METHODS
from shared.stock_twins import (
    BatchNormed,
    agent,
    assert_trained_alike,
    image_env,
    square_env,
    stock_twin,
)

CUT_SHORT = 0.1
"""A gradient norm that every gradient here exceeds."""

every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))


@pytest.mark.covering(1)
@every_variant
@pytest.mark.parametrize("max_grad_norm", [CUT_SHORT, 1e6], ids=["clipped", "not-clipped"])
def test_training_gives_what_stock_training_gives(
    variant: dict[str, Any], max_grad_norm: float
) -> None:
    model = agent(variant, square_env(), max_grad_norm=max_grad_norm)
    assert_trained_alike(model, stock_twin(model, "MlpPolicy", square_env()), 5, 16)
    gradients = [p.grad for p in model.q_net.parameters() if p.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients))
    if max_grad_norm == CUT_SHORT:
        assert norm == pytest.approx(CUT_SHORT, rel=1e-4)
    else:
        assert norm > CUT_SHORT


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", ["equitune", "canonical"])
@pytest.mark.parametrize(
    ("steps", "batch_size"),
    [
        (1, 1),
        (3, ROWS_AT_ONCE // 8),  # one minibatch at a time
        (3, ROWS_AT_ONCE // 8 + 1),
        (5, ROWS_AT_ONCE // 16),  # two at a time, and one is left
        (3, ROWS_AT_ONCE // 32),  # all at once
    ],
)
def test_minibatches_drawn_together_are_used_one_by_one(
    method: str, steps: int, batch_size: int
) -> None:
    model = agent({"method": method}, square_env(), transitions=200)
    assert_trained_alike(model, stock_twin(model, "MlpPolicy", square_env()), steps, batch_size)


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("policy", "make_env", "small"),
    [
        ("CnnPolicy", image_env, {"features_dim": 16}),
        ("MultiInputPolicy", dict_env, {"cnn_output_dim": 16}),
    ],
    ids=["images", "dicts"],
)
def test_training_on_images_and_dicts_gives_what_stock_training_gives(
    policy: str, make_env: Callable[[], Any], small: dict[str, int], method: str
) -> None:
    kwargs = {"features_extractor_kwargs": small}
    model = agent({"method": method}, make_env(), policy, policy_kwargs=kwargs, buffer_size=100)
    assert_trained_alike(model, stock_twin(model, policy, make_env()), 3, 4)


@pytest.mark.covering(1)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_rewards_are_discounted_as_in_stock_training(gamma: float, n_steps: int) -> None:
    options = {"gamma": gamma, "n_steps": n_steps}
    model = agent({"method": "equitune"}, square_env(), **options)
    twin = stock_twin(model, "MlpPolicy", square_env())
    discounts = model.replay_buffer.sample(64).discounts
    assert (discounts is None) == (n_steps == 1)
    if n_steps == 3 and gamma == 0.5:  # also where an episode ends earlier
        assert set(discounts.flatten().tolist()) == {0.5, 0.25, 0.125}
    assert_trained_alike(model, twin, 5, 16)


@every_variant
def test_batch_norm_learns_what_it_learns_in_stock_training(variant: dict[str, Any]) -> None:
    kwargs = {"features_extractor_class": BatchNormed}
    model = agent(variant, square_env(), policy_kwargs=kwargs)
    twin = stock_twin(model, "MlpPolicy", square_env())
    assert_trained_alike(model, twin, 4, 16)
    running = "features_extractor.layers.1.running_mean"
    assert not torch.equal(
        model.q_net.state_dict()[running], model.q_net_target.state_dict()[running]
    )
