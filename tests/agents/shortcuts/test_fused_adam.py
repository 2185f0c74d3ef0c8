"""`FusedAdam` steps as the optimizer does, and leaves it all that it keeps."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equirl.agents.shortcuts.fused_adam import FusedAdam

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


def in_one_piece(
    module: nn.Module, optimizer: torch.optim.Adam
) -> tuple[FusedAdam, Tensor, AbstractContextManager[None]]:
    """Its steps, the piece that they read the gradient from, and the context."""
    short = FusedAdam.of(optimizer)
    assert short is not None
    parameters = list(module.parameters())
    gradient = torch.zeros(sum(p.numel() for p in parameters))
    return short, gradient, short.in_one_piece(parameters, gradient)


def gradient_of(module: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def assert_same(module: nn.Module, optimizer: Any, twin: nn.Module, expected: Any) -> None:
    for p, q in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q)
        own, theirs = optimizer.state[p], expected.state[q]
        assert list(own) == list(theirs)
        for name in own:
            torch.testing.assert_close(own[name], theirs[name])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_steps_in_one_piece_are_those_of_the_optimizer(options: dict[str, Any]) -> None:
    module, optimizer = stepped(**options)
    twin, expected = stepped(**options)
    short, gradient, context = in_one_piece(module, optimizer)
    with context:
        for seed in (2, 3, 4):
            for learner in (module, twin):
                give_gradients(learner, seed)
            gradient.copy_(gradient_of(module))
            # Who asks the optimizer itself in between steps from the same numbers.
            (optimizer if seed == 3 else short).step()
            expected.step()
            assert_same(module, optimizer, twin, expected)
    assert_same(module, optimizer, twin, expected)
    for learner in (module, twin):
        give_gradients(learner, 5)
    short.step()
    expected.step()
    assert_same(module, optimizer, twin, expected)


@pytest.mark.parametrize("stopped", [False, True])
def test_tensors_are_those_that_they_were_however_it_ends(stopped: bool) -> None:
    module, optimizer = stepped(amsgrad=True)
    held = {name: p.data for name, p in module.named_parameters()}
    saved = optimizer.state_dict()["state"]
    before = {name: data.clone() for name, data in held.items()}
    places = {name: p.data_ptr() for name, p in module.named_parameters()}
    short, gradient, context = in_one_piece(module, optimizer)
    with pytest.raises(KeyboardInterrupt) if stopped else nullcontext(), context:
        gradient.fill_(1)
        short.step()
        if stopped:
            raise KeyboardInterrupt
    for name, p in module.named_parameters():
        assert p.data_ptr() == places[name]
        assert torch.equal(p, held[name])
        assert not torch.equal(p, before[name])
    for own, state in zip(saved.values(), optimizer.state.values(), strict=True):
        assert own["step"].item() == 2
        assert all(own[name] is state[name] for name in own)


def test_parameters_of_different_age_or_in_the_same_place_stay_apart() -> None:
    for change in ("age", "place"):
        first, *_ = parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))]
        optimizer = torch.optim.Adam(parameters, fused=True)
        module = nn.ParameterList(parameters)
        give_gradients(module, 1)
        optimizer.step()
        if change == "age":
            optimizer.state[first]["step"] += 5
        else:
            parameters[1].data = first.data
        short, _, context = in_one_piece(module, optimizer)
        places = [p.data_ptr() for p in parameters]
        with context:
            assert [p.data_ptr() for p in parameters] == places
            give_gradients(module, 2)
            short.step()
        assert optimizer.state[first]["step"].item() == (7 if change == "age" else 2)


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
