"""`adam_step` steps as the optimizer does, and leaves it all that it keeps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from equirl.agents.shortcuts.fused_adam import adam_step

OPTIONS: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.1, "betas": (0.8, 0.9), "eps": 1e-3},
    {"amsgrad": True},
    {"maximize": True, "lr": 0.3},
]


def stepped(**options: Any) -> tuple[nn.Module, torch.optim.Adam]:
    """After one step of the optimizer's own."""
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(module.parameters(), **{"fused": True, **options})
    give_gradients(module, 1)
    optimizer.step()
    return module, optimizer


def give_gradients(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_steps_are_those_of_the_optimizer(options: dict[str, Any]) -> None:
    module, optimizer = stepped(**options)
    twin, expected = stepped(**options)
    step = adam_step(optimizer)
    assert step != optimizer.step
    for seed in (2, 3):
        for learner in (module, twin):
            give_gradients(learner, seed)
        step()
        expected.step()
        for both in (optimizer, expected):
            both.param_groups[0]["lr"] = 0.05  # as a schedule does
    for a, b in zip(module.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)
    state, other = optimizer.state_dict()["state"], expected.state_dict()["state"]
    for own, theirs in zip(state.values(), other.values(), strict=True):
        assert own.keys() == theirs.keys()
        assert all(torch.equal(own[name], theirs[name]) for name in own)
    assert float(state[0]["step"]) == 3


def test_other_optimizers_and_a_first_step_are_left_to_themselves() -> None:
    module, not_fused = stepped(fused=False)
    for optimizer in (
        not_fused,
        torch.optim.Adam(module.parameters(), fused=True),  # no step yet
        torch.optim.AdamW(module.parameters(), fused=True),
        torch.optim.SGD(module.parameters()),
    ):
        assert adam_step(optimizer) == optimizer.step


def test_a_state_that_is_loaded_is_stepped_from() -> None:
    module, optimizer = stepped()
    saved = copy.deepcopy(optimizer.state_dict())
    give_gradients(module, 2)
    optimizer.step()
    optimizer.load_state_dict(saved)
    adam_step(optimizer)()
    assert float(optimizer.state_dict()["state"][0]["step"]) == 2
