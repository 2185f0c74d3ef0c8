"""`equirl.agents.transfer.weight_learning`: λ for a network that knows only part of the world."""

from __future__ import annotations

import copy
import math
from functools import cache, partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN

from equirl.agents import EquivariantDQN
from equirl.agents.equivariance_metrics import alphas
from equirl.agents.training.evaluation import play_episodes
from equirl.agents.transfer import weight_learning
from equirl.agents.transfer.alpha_learning import learn_alpha
from equirl.agents.transfer.branch_table import (
    BranchTable,
    Transitions,
    branch_table,
    play_transitions,
    weighting_of,
)
from equirl.agents.transfer.weight_fitting import fit_bellman_error, refine
from equirl.agents.transfer.weight_learning import (
    LearnedWeights,
    learn_weights,
    set_weighting,
    with_beta,
)
from equirl.envs import SymmetryWrapper
from equirl.envs.boards.grid_world import GRID_WORLD_GENERATORS, GridWorld
from equirl.errors import AgentError
from equirl.symmetrize.methods import Method, Relaxed
from equirl.symmetrize.weightings import LambdaWeighting, score_spread
from equirl.symmetry import Symmetry

SIZE, GAMMA = 4, 0.9


def make_room() -> Any:
    """A small room with the goal anywhere; 30 steps at most."""
    room = gym.wrappers.TimeLimit(GridWorld(size=SIZE), 30)
    return SymmetryWrapper(room, room_symmetry())


@cache
def room_symmetry() -> Symmetry:
    """Hundreds of rooms are made here: the group is found only once."""
    return SymmetryWrapper(GridWorld(size=SIZE), GRID_WORLD_GENERATORS).symmetry


@pytest.fixture(scope="module")
def half_blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Q is right where the goal is in the upper half, and noise where it is in the lower half.

    The hidden layer has a unit for every pair of cells of agent and goal, so that the Q-values can
    be written down: γ to the number of steps still to go.
    """
    cells = [(row, column) for row in range(SIZE) for column in range(SIZE)]
    pairs = [(agent, goal) for agent in cells for goal in cells if agent != goal]
    model = DQN(
        "MlpPolicy",
        make_room(),
        policy_kwargs={"net_arch": [len(pairs)]},
        gamma=GAMMA,
        buffer_size=1,
        device="cpu",
        seed=0,
    )
    hidden, last = model.q_net.q_net[0], model.q_net.q_net[2]
    noise = np.random.default_rng(0)
    with torch.no_grad():
        for layer in (hidden, last):
            layer.weight.zero_()
            layer.bias.zero_()
        hidden.bias.fill_(-1)
        for unit, (agent, goal) in enumerate(pairs):
            # SB3 flattens [channel, row, column]; the agent is channel 1 and the goal channel 2.
            for channel, (row, column) in ((1, agent), (2, goal)):
                hidden.weight[unit, channel * SIZE**2 + row * SIZE + column] = 1
            for action, (down, right) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):
                row = min(max(agent[0] + down, 0), SIZE - 1)
                column = min(max(agent[1] + right, 0), SIZE - 1)
                steps = abs(goal[0] - row) + abs(goal[1] - column)
                value = GAMMA**steps - 0.01 * sum(GAMMA**k for k in range(steps))
                known = goal[0] < SIZE // 2
                last.weight[action, unit] = value if known else noise.uniform(0.5, 1.5)
    path = tmp_path_factory.mktemp("agents") / "half_blind.zip"
    model.save(path)
    return path


def versions(path: Path, method: str | Method = "lambda") -> tuple[DQN, EquivariantDQN]:
    plain = DQN.load(path, device="cpu")
    model = EquivariantDQN.from_pretrained(
        path, make_room(), method=method, device="cpu", buffer_size=1, gamma=GAMMA
    )
    return plain, model


def success(model: DQN) -> float:
    played = play_episodes(model, make_room, range(50))
    return float(np.mean(played.lengths < 30))


STEPS, HASTY = 2500, 400


def learned_model(
    path: Path, steps_in_all: int = STEPS
) -> tuple[EquivariantDQN, LearnedWeights, int]:
    plain, model = versions(path)
    torch.manual_seed(7)
    steps = 0

    def note() -> None:
        nonlocal steps
        steps += 1

    learned = learn_weights(model, plain, make_room, steps=steps_in_all, seed=0, on_step=note)
    return model, learned, steps


@pytest.fixture(scope="module")
def learned(half_blind: Path) -> tuple[EquivariantDQN, LearnedWeights, int]:
    with pytest.MonkeyPatch.context() as patch:  # a third of the gradient steps is enough here
        patch.setattr(weight_learning, "refine", partial(refine, steps=300))
        return learned_model(half_blind)


@pytest.mark.slow
def test_learned_weights_find_the_half_of_the_world_that_the_network_knows(
    half_blind: Path, learned: tuple[EquivariantDQN, LearnedWeights, int]
) -> None:
    plain, _ = versions(half_blind)
    assert success(plain) < 0.8
    for method in ("equitune", "equizero"):
        assert success(versions(half_blind, method)[1]) < 0.8
    model, how, steps = learned
    assert how.chosen == "learned"
    assert success(model) == 1
    assert STEPS <= how.steps == steps <= STEPS + 30  # to finish an episode
    for key, value in plain.q_net.q_net.state_dict().items():
        assert torch.equal(model.q_net.q_net.state_dict()[key], value)  # frozen


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps, for what does not depend on how well they learn."""
    for fit in (fit_bellman_error, refine):
        monkeypatch.setattr(weight_learning, fit.__name__, partial(fit, steps=30))
    monkeypatch.setattr(weight_learning, "FEWEST_STEPS", HASTY)


@pytest.mark.long
@pytest.mark.usefixtures("hasty")
def test_learned_one_is_preferred_where_nothing_tells_candidates_apart(half_blind: Path) -> None:
    plain, model = versions(half_blind)
    for agent in (plain, model):
        for network in (agent.q_net, agent.q_net_target):
            network.q_net[-1].weight.data.zero_()  # one Q for all states: all branches agree
    how = learn_weights(model, plain, make_room, steps=HASTY, seed=0)
    assert len({values[0] for values in how.compared.returns.values()}) == 1
    assert how.chosen == "learned"


@pytest.mark.long
@pytest.mark.usefixtures("hasty")
def test_learning_is_the_same_again_under_the_same_seed_and_leaves_torch_alone(
    half_blind: Path,
) -> None:
    model, *before = learned_model(half_blind, HASTY)
    again, *how = learned_model(half_blind, HASTY)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(7)))
    assert how == before
    for key, value in weighting_of(model).state_dict().items():
        assert torch.equal(value, weighting_of(again).state_dict()[key])


@pytest.fixture(scope="module")
def table(half_blind: Path) -> tuple[EquivariantDQN, BranchTable]:
    plain, model = versions(half_blind)
    played = play_transitions([plain], make_room, 1500, 1.0, seed=0)
    return model, branch_table(model, played)


@pytest.mark.long
def test_branches_of_the_table_are_those_of_the_policy(
    table: tuple[EquivariantDQN, BranchTable],
) -> None:
    model, rows = table
    played = play_transitions([model], make_room, 40, 0.2, seed=1)
    own = branch_table(model, played)
    x, _ = model.q_net.obs_to_tensor(np.stack(played.observations))
    values = model.q_net.symmetrized.branches(x).values
    torch.testing.assert_close(own.now.values, values)
    weighting = weighting_of(model).eval()
    with torch.no_grad():
        torch.testing.assert_close(own.now.q_values(weighting), model.q_net(x))
    assert len(rows) == 1500


def test_bellman_error_of_a_branch_is_that_of_the_moved_transition(
    table: tuple[EquivariantDQN, BranchTable], half_blind: Path
) -> None:
    model, _ = table
    plain, _ = versions(half_blind)
    played = play_transitions([plain], make_room, 30, 1.0, seed=5)
    errors = branch_table(model, played).bellman_errors()
    symmetry = model.symmetry
    for g in range(symmetry.group.order):
        moved, following = (
            torch.as_tensor(symmetry.transform_observation(g, np.stack(part))).permute(0, 3, 1, 2)
            for part in (played.observations, played.next_observations)
        )
        actions = symmetry.transform_action(g, np.array(played.actions))
        with torch.no_grad():
            q, q_next = plain.q_net(moved), plain.q_net(following)
        going_on = 1 - np.array(played.terminated, dtype=np.float32)
        targets = np.array(played.rewards) + GAMMA * going_on * q_next.amax(1).numpy()
        expected = q[range(30), actions].numpy() - targets
        np.testing.assert_allclose(errors[g].numpy(), expected, atol=1e-5)


def bellman_spread(weighting: LambdaWeighting, rows: BranchTable) -> float:
    """Standard deviation of the Bellman error of Q_G under these weights."""
    with torch.no_grad():
        q = rows.now.q_values(weighting).gather(1, rows.actions[:, None])[:, 0]
        best = rows.following.q_values(weighting).amax(dim=1)
        return float((q - rows.rewards - rows.discounts * best).std())


def fitted_weighting(model: EquivariantDQN, rows: BranchTable) -> LambdaWeighting:
    weighting = copy.deepcopy(weighting_of(model)).eval()
    weighting.load_state_dict(with_beta(weighting, 0.0, 1.0))
    torch.manual_seed(0)
    fit_bellman_error(weighting, rows)
    return weighting


@pytest.mark.long
def test_fitted_weights_trust_branches_of_small_bellman_error(
    table: tuple[EquivariantDQN, BranchTable],
) -> None:
    model, rows = table
    weighting = copy.deepcopy(weighting_of(model)).eval()
    weighting.load_state_dict(with_beta(weighting, 0.0, 1.0))
    equal = bellman_spread(weighting, rows)
    weighting = fitted_weighting(model, rows)
    with torch.no_grad():
        weights = weighting(rows.now.scores, rows.now.values.abs().amax((0, 2)), rows.now.features)
    small = rows.bellman_errors().abs() < 0.02
    assert weights[small].mean() > 10 * weights[~small].mean()
    fitted = bellman_spread(weighting, rows)
    assert fitted < 0.5 * equal
    refine(weighting, rows, steps=300)
    assert bellman_spread(weighting, rows) < fitted


@pytest.mark.parametrize(("beta", "method"), [(0.0, "equitune"), (math.inf, "equizero")])
def test_ends_of_the_family_are_the_papers_methods(
    half_blind: Path, beta: float, method: str
) -> None:
    _, model = versions(half_blind)
    set_weighting(model, with_beta(weighting_of(model), beta, 0.3))
    _, end = versions(half_blind, method)
    room = make_room()
    x = np.stack([room.reset(seed=seed)[0] for seed in range(20)])
    observations, _ = model.q_net.obs_to_tensor(x)
    with torch.no_grad():
        for net in ("q_net", "q_net_target"):
            mine, theirs = getattr(model, net), getattr(end, net)
            torch.testing.assert_close(mine(observations), theirs(observations))


def test_spread_is_that_of_the_scores_along_an_orbit(
    table: tuple[EquivariantDQN, BranchTable],
) -> None:
    _, rows = table
    scores = rows.now.values.amax(2).numpy()
    assert float(score_spread(rows.now.scores)) == pytest.approx(
        np.sqrt(scores.var(axis=0).mean()), rel=1e-5
    )


def test_transitions_are_the_environments_own(half_blind: Path) -> None:
    plain, _ = versions(half_blind)
    played = play_transitions([plain], make_room, 100, 0.3, seed=11)
    assert len(played) == 100
    room = make_room()
    observation, _ = room.reset(seed=11)
    episode = 0
    for i in range(100):
        np.testing.assert_array_equal(played.observations[i], observation)
        following, reward, terminated, truncated, _ = room.step(played.actions[i])
        np.testing.assert_array_equal(played.next_observations[i], following)
        assert (played.rewards[i], played.terminated[i]) == (reward, terminated)
        observation = following
        if terminated or truncated:
            episode += 1
            observation, _ = room.reset(seed=11 + episode)
    assert episode > 2
    assert any(played.terminated)
    both = played + played
    assert isinstance(both, Transitions)
    assert len(both) == 200


@pytest.mark.long
def test_alpha_of_each_action_is_not_learned_without_training(
    half_blind: Path, table: tuple[EquivariantDQN, BranchTable]
) -> None:
    plain, model = versions(half_blind, Relaxed("lambda"))
    played = play_transitions([plain], make_room, 50, 0.5, 0)
    with pytest.raises(AgentError, match="per_action=False"):
        learn_alpha(model, played, fitted_weighting(*table).state_dict(), steps=3)


@pytest.mark.long
def test_alpha_is_large_where_the_network_knows_better_than_the_symmetrized_one(
    half_blind: Path, table: tuple[EquivariantDQN, BranchTable]
) -> None:
    plain, model = versions(half_blind, Relaxed("lambda", per_action=False))
    kept = copy.deepcopy(model.q_net.q_net.state_dict())
    played = play_transitions([plain], make_room, 1500, 0.5, 0)
    known = torch.tensor(
        [observation[: SIZE // 2, :, 2].any() for observation in played.observations]
    )
    width = model.q_net.net_arch[-1]
    by_score = with_beta(LambdaWeighting(width), math.inf, 1.0)  # noise promises most
    found = []
    for inner in (by_score, fitted_weighting(*table).state_dict()):
        mean = learn_alpha(model, played, inner, steps=300)
        alpha = alphas(model, model.policy.obs_to_tensor(np.stack(played.observations))[0])
        assert float(alpha.mean()) == pytest.approx(mean, abs=1e-4)
        found.append((float(alpha[known].mean()), float(alpha[~known].mean())))
    assert found[0][0] > 0.3
    assert max(found[1]) < 0.1, found
    own, target = (net.symmetrized.weighting.state_dict() for net in model.policy.children())
    assert all(torch.equal(target[key], value) for key, value in own.items())
    now = model.q_net.q_net.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in now.items())


def test_agent_without_weights_to_learn_is_refused(half_blind: Path) -> None:
    plain, model = versions(half_blind, "equitune")
    with pytest.raises(AgentError, match="no λ"):
        learn_weights(model, plain, make_room)
    with pytest.raises(ValueError, match="steps must be at least 1000, got 5"):
        learn_weights(versions(half_blind)[1], plain, make_room, steps=5)
