"""`FusedAdam` steps as the optimizer does, bit for bit, and leaves it all that it keeps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from equirl.agents.fused_adam import FusedAdam

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
    short = FusedAdam.of(optimizer)
    assert short is not None
    for seed in (2, 3):
        for learner in (module, twin):
            give_gradients(learner, seed)
        short.step()
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


def test_other_optimizers_and_those_that_are_listened_to_step_themselves() -> None:
    assert FusedAdam.of(stepped()[1]) is not None
    module, optimizer = stepped(fused=False)
    assert FusedAdam.of(optimizer) is None
    assert FusedAdam.of(torch.optim.Adam(module.parameters(), fused=True)) is None  # no step yet
    assert FusedAdam.of(torch.optim.AdamW(module.parameters(), fused=True)) is None
    assert FusedAdam.of(torch.optim.SGD(module.parameters())) is None
    for listen in ("register_step_pre_hook", "register_step_post_hook"):
        optimizer = stepped()[1]
        getattr(optimizer, listen)(lambda *_: None)
        assert FusedAdam.of(optimizer) is None
    optimizer = stepped()[1]
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    assert FusedAdam.of(optimizer) is None


def test_a_state_that_is_loaded_is_stepped_from() -> None:
    module, optimizer = stepped()
    saved = copy.deepcopy(optimizer.state_dict())
    give_gradients(module, 2)
    optimizer.step()
    optimizer.load_state_dict(saved)
    short = FusedAdam.of(optimizer)
    assert short is not None
    short.step()
    assert float(optimizer.state_dict()["state"][0]["step"]) == 2
