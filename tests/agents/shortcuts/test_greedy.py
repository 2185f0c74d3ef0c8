"""`greedy_action` chooses what arg max Q_G(s, ·) chooses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from equirl import GroupAction, Symmetrized, Symmetry
from equirl.agents import EquivariantDQNPolicy
from equirl.agents.shortcuts import greedy
from equirl.agents.shortcuts.greedy import FEW, best_action, greedy_action
from equirl.groups import cyclic
from shared.policy_tasks import agent
from shared.stock_twins import agent as square_agent
from shared.stock_twins import square_env

CHOOSERS: dict[str, dict[str, Any]] = {
    "lambda": {"method": "lambda"},
    "lambda-from-equizero": {"method": "lambda", "init": "equizero"},
    "equizero": {"method": "equizero"},
}
every_chooser = pytest.mark.parametrize("variant", CHOOSERS.values(), ids=list(CHOOSERS))


@pytest.mark.covering(1)
@every_chooser
@pytest.mark.parametrize("name", ["cartpole", "acrobot", "gridworld", "discrete"])
def test_the_action_is_that_of_the_largest_q_value(name: str, variant: dict[str, Any]) -> None:
    model, _ = agent(name, variant)
    model.policy.set_training_mode(False)
    space, chosen = model.observation_space, set()
    space.seed(0)
    for _ in range(50):
        observation, _ = model.policy.obs_to_tensor(space.sample())
        with torch.no_grad():
            q_values = model.q_net(observation)[0]
        action = greedy_action(model.q_net, observation)
        assert action is not None
        assert action.shape == (1,)
        rounding = 1e-5 * float(q_values.abs().max())
        assert float(q_values[action[0]]) >= float(q_values.max()) - rounding
        chosen.add(int(action))
    assert len(chosen) > 1


@pytest.mark.covering(1)
@every_chooser
@pytest.mark.parametrize("asinh_beta", [-1.0, 1.0, 3.0])
@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_shares_of_tied_branches_are_those_of_the_network(
    variant: dict[str, Any], asinh_beta: float, spread: float
) -> None:
    model = square_agent(variant, square_env())
    weighting = model.q_net.symmetrized.weighting
    if weighting is not None and variant.get("init") != "equizero":
        with torch.no_grad():
            weighting.asinh_beta.fill_(asinh_beta)
            weighting.running_score_spread.fill_(spread)
    model.policy.set_training_mode(False)
    generator = np.random.default_rng(0)
    for number in range(60):
        observation = generator.normal(size=(1, 4)).astype(np.float32)
        if number % 2:
            observation[0, [1, 3]] = 0  # on a mirror: every branch has a twin
        tensor = torch.as_tensor(observation)
        with torch.no_grad():
            q_values = model.q_net(tensor)[0]
        action = greedy_action(model.q_net, tensor)
        assert action is not None
        assert float(q_values[action[0]]) >= float(q_values.max()) - 1e-6
        assert model.predict(observation, deterministic=True)[0].shape == (1,)


def test_acting_takes_the_short_way_and_gives_what_the_long_one_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, _ = agent("cartpole", {"method": "equizero"})
    observation = model.observation_space.sample()
    short = model.predict(observation, deterministic=True)[0]
    calls: list[Any] = []

    def counted(*given: Any) -> None:
        calls.append(given)

    monkeypatch.setattr("equirl.agents.dqn.policies.greedy_action", counted)
    assert model.predict(observation, deterministic=True)[0] == short
    assert len(calls) == 1


@pytest.mark.parametrize("method", ["equitune", "canonical"])
def test_other_methods_take_the_long_way(method: str) -> None:
    model, _ = agent("cartpole", {"method": method})
    observation, _ = model.policy.obs_to_tensor(model.observation_space.sample())
    assert greedy_action(model.q_net, observation) is None


def test_what_is_not_one_plain_finite_observation_takes_the_long_way() -> None:
    model, _ = agent("cartpole", {"method": "equizero"})
    network = model.q_net
    assert greedy_action(network, torch.zeros(1, 4)) is not None
    assert greedy_action(network, torch.zeros(2, 4)) is None
    assert greedy_action(network, {"x": torch.zeros(1, 4)}) is None
    assert greedy_action(network, torch.full((1, 4), torch.nan)) is None
    network.symmetrized.register_forward_hook(lambda *_: None)
    assert greedy_action(network, torch.zeros(1, 4)) is None
    assert FEW >= 8 * 4  # the symmetries of a square, four actions


@pytest.mark.parametrize(
    "name", ["", "q_net", "q_net.0", "features_extractor", "features_extractor.flatten"]
)
def test_a_listener_hears_of_every_action(name: str) -> None:
    model, _ = agent("cartpole", {"method": "equizero"})
    heard: list[int] = []
    model.q_net.get_submodule(name).register_forward_hook(lambda *_: heard.append(1))
    model.predict(model.observation_space.sample(), deterministic=True)
    assert heard == [1]


def test_images_are_scaled_even_where_somebody_gives_them_as_floats() -> None:
    space = spaces.Box(0, 255, (3, 2, 2), np.uint8)
    flip = Symmetry.from_generators(
        space, spaces.Discrete(2), {"flip": (lambda image: image[:, :, ::-1], [1, 0])}
    )
    network = EquivariantDQNPolicy(
        space, spaces.Discrete(2), lambda _: 0.0, symmetry=flip, method="lambda"
    ).q_net
    image = torch.randint(0, 256, (1, 3, 2, 2)).float()
    outputs, _ = network.symmetrized.outputs(image)
    assert torch.allclose(greedy._along_orbit(network, image)[0], outputs[:, 0])


@pytest.mark.parametrize(("excess", "expected"), [(1e-6, 0), (1e-3, 1)])
def test_scores_that_differ_by_rounding_share(excess: float, expected: int) -> None:
    swap = GroupAction.on_vectors(cyclic(2), permutations=[[0, 1], [1, 0]])
    # Pulled back the second row is (0.2, 1 + excess); the mean of both would choose action 0.
    table = torch.tensor([[1.0, 0.0], [1.0 + excess, 0.2]])
    symmetrized = Symmetrized(lambda rows: table, swap, swap, "equizero")
    with torch.no_grad():
        long_way = symmetrized(torch.randn(1, 2)).argmax(dim=1)
    assert best_action(symmetrized, table, table) == int(long_way) == expected


@pytest.mark.parametrize(
    ("rows", "action", "asked"),
    [
        # Pulled back, the second row is read from right to left.
        ([[0.0, 1.0], [3.0, 2.0]], 1, 0),
        ([[1.0, 0.0], [2.0, 3.0]], 0, 0),
        ([[0.0, 1.0], [2.0, 3.0]], 0, 1),  # they disagree; equizero takes the second
        ([[1.0, 1.0], [3.0, 2.0]], 1, 1),  # a tie within a branch
    ],
)
def test_weights_are_asked_for_only_where_branches_disagree(
    rows: list[list[float]], action: int, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = GroupAction.on_vectors(cyclic(2), permutations=[[0, 1], [1, 0]])
    table = torch.tensor(rows)
    symmetrized = Symmetrized(lambda _: table, swap, swap, "equizero")
    calls: list[Any] = []
    shares = greedy._shares

    def counted(*given: Any) -> list[float]:
        calls.append(given)
        return shares(*given)

    monkeypatch.setattr(greedy, "_shares", counted)
    with torch.no_grad():
        long_way = symmetrized(torch.randn(1, 2)).argmax(dim=1)
    assert best_action(symmetrized, table, table) == int(long_way) == action
    assert len(calls) == asked
