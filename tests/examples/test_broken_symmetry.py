"""The comparisons of broken symmetries: two implementations of the same training."""

from __future__ import annotations

from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor, nn

from equirl.agents.relaxed_loss import newest_transitions

FOLDER = Path(__file__).parents[2] / "examples" / "broken_symmetry"


RELAXED = ["relaxed", "relaxed-per_action", "relaxed-per_state"]


@pytest.mark.parametrize("method", ["plain", "equitune", "equizero", "rpp", *RELAXED])
def test_a_training_step_of_many_seeds_is_that_of_the_library(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    grids, learners, many_seeds = map(import_module, ("grids", "learners", "many_seeds"))

    # In the library an agent after some training, its α neither 0 nor 1 ...
    env_id, kwargs = grids.TASKS["wall"]
    env = make_vec_env(env_id, grids.N_ENVS, seed=0, env_kwargs={"size": grids.SIZE, **kwargs})
    model = learners.build(env, method, {**grids.SETTINGS, "seed": 0}).learn(350)
    if method.startswith("relaxed"):
        nn.init.constant_(model.q_net.symmetrized.weighting.h[-1].bias, 0.5)
        nn.init.normal_(model.q_net.symmetrized.weighting.h[-1].weight, std=0.1)
    model.policy.set_training_mode(True)
    sample, newest = model.replay_buffer.sample(128), newest_transitions(model, 128)
    # ... and the same agent in the other implementation.
    room = many_seeds.Room("wall")
    online, target = (
        with_parameters_of(net, many_seeds.Agents(room, method, "-", 0, 1))
        for net in (model.q_net, model.q_net_target)
    )
    if method.startswith("relaxed"):
        weighting = model.q_net.symmetrized.weighting
        online.usual = weighting.running_error.clone()[None]
        online.gap, online.learned = weighting.running_gap.clone()[None], 1

    values = target.everywhere(target.outputs()).amax(dim=2)[0]
    given = online.loss(
        online.outputs(), *(told(room, values, part, grids.GAMMA) for part in (sample, newest))
    )
    expected = model.loss(sample, model.targets(sample))
    torch.testing.assert_close(given[0], expected, atol=1e-6, rtol=1e-5)

    model.policy.optimizer.zero_grad()
    (expected + given.sum()).backward()
    for of_library, own in zip(layers(model.q_net), parameters(online), strict=True):
        for part, gradient in zip(own, entries(of_library, "grad"), strict=True):
            torch.testing.assert_close(part.grad[0], gradient, atol=1e-6, rtol=1e-4)


def test_an_action_is_broken_that_eats_what_is_poisoned_in_an_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    snakes = import_module("snakes")
    exact, corner = (made(*snakes.TASKS[task]) for task in ("exact", "corner"))
    # To the left, and so by the action to the right, which points back at the neck.
    eating = ("beside", "broken", "beside", "broken")
    for fruit, kinds in (((0, 0), eating), ((0, 5), ("before",) * 4), ((5, 4), ("before",) * 4)):
        for env, expected in ((exact, ("other",) * 4), (corner, kinds)):
            env.reset(seed=0)
            env.unwrapped.set_state([(0, 1), (0, 2), (0, 3)], fruit)
            assert snakes.kind_of_actions(env) == expected
    corner.unwrapped.set_state([(0, 1), (0, 2), (0, 3)], (2, 3))
    assert snakes.kind_of_actions(corner) == ("other",) * 4


def test_a_push_is_broken_that_is_weaker_in_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    cartpoles = import_module("cartpoles")
    # Weaker to the right from x = 0 on, or from x = -0.48 on.
    cases = {
        ("push6", 1.0): ("beside", "broken"),
        ("push6", -1.0): ("broken", "beside"),
        ("stuck", 0.1): ("broken", "broken"),
        ("stuck", 1.0): ("beside", "broken"),
        ("exact", 1.0): ("other", "other"),
    }
    for (task, x), expected in cases.items():
        env = made(*cartpoles.TASKS[task])
        env.reset(seed=0)
        env.unwrapped.state = (x, 0.0, 0.0, 0.0)
        assert cartpoles.kind_of_actions(env) == expected


def test_a_side_engine_is_broken_that_is_crossed_in_an_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("Box2D")
    monkeypatch.syspath_prepend(FOLDER)
    landers = import_module("landers")
    cases = {
        ("engines", 0.5): ("beside", "broken") * 2,
        ("engines", -0.5): ("beside", "broken") * 2,
        ("engines", 0.1): ("other",) * 4,
        ("wind", 0.1): ("broken",) * 4,
    }
    for (task, x), expected in cases.items():
        env = made(*landers.TASKS[task])
        env.reset(seed=0)
        lander = env.unwrapped.lander
        lander.position = (10 * (1 + x), lander.position.y)  # the landscape is 20 wide
        assert landers.kind_of_actions(env) == expected


def test_the_numbers_of_runs_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    tables, file = import_module("tables"), tmp_path / "runs.csv"
    plain, relaxed = (("cartpole", "weak", method, "-") for method in ("plain", "relaxed"))
    run = {"returns": [1.0, 3.0], "final": 5.0, "seconds": 1.0}
    first = {plain: [{**run, "seed": seed, "alpha": [None, None]} for seed in (0, 10)]}
    second = {
        plain: [{**run, "seed": 0, "final": 7.0}],
        relaxed: [{**run, "seed": 2, "alpha": [0.2, 0.4], "let_go_broken": 0.5}],
    }
    tables.kept(file, tables.numbers(first))
    found = tables.kept(file, tables.numbers(second))
    assert [(row["seed"], row["end"]) for row in found[plain]] == [(0, 7.0), (10, 5.0)]
    told = {"seed": 2, "end": 5.0, "over_training": 2.0, "alpha": 0.3, "let_go_broken": 0.5}
    assert found[relaxed] == [pytest.approx({**told, "seconds": 1.0})]
    assert tables.kept(file, {}) == {key: [pytest.approx(r) for r in found[key]] for key in found}


def made(env_id: str, kwargs: dict[str, Any]) -> Any:
    return gym.make(env_id, **kwargs)


def with_parameters_of(net: Any, agents: Any) -> Any:
    for of_library, own in zip(layers(net), parameters(agents), strict=True):
        for part, value in zip(own, entries(of_library, "data"), strict=True):
            part.data[0] = value
    return agents


def layers(net: Any) -> list[nn.Linear]:
    """Of Q, of the evidence and of the residual, as far as there are some."""
    weighting = net.symmetrized.weighting if hasattr(net, "symmetrized") else None
    parts = [net.q_net, getattr(weighting, "h", ()), getattr(net, "residual", ())]
    return [layer for layer in chain(*parts) if isinstance(layer, nn.Linear)]


def parameters(agents: Any) -> list[tuple[Tensor, Tensor]]:
    """The same layers."""
    learned = {id(parameter) for parameter in agents.parameters}
    nets = (agents.q_net, agents.gate, agents.residual)
    every = [pair for net in nets for pair in zip(net.layers[::2], net.layers[1::2], strict=True)]
    return [pair for pair in every if id(pair[0]) in learned]


def entries(layer: nn.Linear, name: str) -> tuple[Tensor, Tensor]:
    """Weight without what is for walls, ``[in, out]``, and bias, ``[1, out]``; or the gradients."""
    weight, bias = getattr(layer.weight, name), getattr(layer.bias, name)
    return weight.t()[25 if layer.in_features == 75 else 0 :], bias[None]


def told(room: Any, values: Tensor, sample: Any, gamma: float) -> tuple[Tensor, Tensor]:
    """Pairs (s, a) and targets of a minibatch, in terms of the table."""
    number = {o.transpose(2, 0, 1).tobytes(): k for k, o in enumerate(room.table.observations)}

    def states(observations: Tensor) -> Tensor:
        return torch.tensor([number[o.numpy().tobytes()] for o in observations.to(torch.uint8)])

    pairs = states(sample.observations) * 4 + sample.actions[:, 0]
    # Where the goal is reached the table has no next state.
    done = sample.dones[:, 0].bool()
    following = torch.zeros(len(pairs))
    following[~done] = values[states(sample.next_observations[~done])]
    return pairs[None], (sample.rewards[:, 0] + gamma * following)[None]
