"""The statistical test of a symmetry: its level, its power, and what must not disturb it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from equirl import Symmetry
from equirl.envs import symmetry_of
from equirl.verification.statistical import check_statistically, collect
from equirl.verification.transition_test import (
    Transitions,
    compare_initial_states,
    compare_transitions,
)

Environment = gym.Env[Any, Any]


class WeakRight(gym.Wrapper[Any, Any, Any, Any]):
    """CartPole that pushes 10 % less to the right."""

    def step(self, action: Any) -> Any:
        simulator: Any = self.unwrapped
        simulator.force_mag = 9.0 if action == 1 else 10.0
        return self.env.step(action)


class StartsRight(gym.Wrapper[Any, Any, Any, Any]):
    """CartPole whose episodes all begin on the right, moving to the right."""

    def reset(self, **kwargs: Any) -> Any:
        _, info = self.env.reset(**kwargs)
        simulator: Any = self.unwrapped
        state = np.array(simulator.state)
        state[1] += 0.4
        state[2] = abs(state[2]) + 0.03
        simulator.state = state
        return state.astype(np.float32), info


class WeakLeftEngine(gym.Wrapper[Any, Any, Any, Any]):
    """LunarLander with one side engine 10 % weaker."""

    def step(self, action: Any) -> Any:
        from gymnasium.envs.box2d import lunar_lander

        full = lunar_lander.SIDE_ENGINE_POWER
        lunar_lander.SIDE_ENGINE_POWER = 0.9 * full if action == 1 else full
        try:
            return self.env.step(action)
        finally:
            lunar_lander.SIDE_ENGINE_POWER = full


def refusals(env: Environment, count: int, repetitions: int) -> float:
    symmetry = symmetry_of(env.unwrapped)
    refused = 0
    for seed in range(repetitions):
        verdicts = check_statistically(symmetry, "mirror", collect(env, count, seed), level=0.05)
        refused += not all(verdict.holds for verdict in verdicts)
    return refused / repetitions


def cartpole() -> Environment:
    return gym.make("CartPole-v1")


@pytest.mark.parametrize(
    ("make", "low", "high"),
    [
        pytest.param(cartpole, 0, 0.125, id="a true symmetry holds"),
        pytest.param(lambda: StartsRight(cartpole()), 0, 0.125, id="whatever states are visited"),
        pytest.param(lambda: WeakRight(cartpole()), 0.9, 1, id="a weaker push is found"),
    ],
)
def test_cartpole_in_eight_repetitions(
    make: Callable[[], Environment], low: float, high: float
) -> None:
    assert low <= refusals(make(), 6000, repetitions=8) <= high


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "count", "low", "high"),
    [
        pytest.param(cartpole, 6000, 0, 0.08, id="cartpole"),
        pytest.param(lambda: StartsRight(cartpole()), 6000, 0, 0.08, id="cartpole to the right"),
        pytest.param(lambda: WeakRight(cartpole()), 6000, 0.9, 1, id="cartpole, weaker push"),
        pytest.param(lambda: gym.make("LunarLander-v3"), 30_000, 0, 0.08, id="lander"),
        pytest.param(
            lambda: WeakLeftEngine(gym.make("LunarLander-v3")), 30_000, 0.9, 1, id="weaker engine"
        ),
    ],
)
def test_level_and_power_in_a_hundred_repetitions(
    make: Callable[[], Environment], count: int, low: float, high: float
) -> None:
    try:
        env = make()
    except gym.error.DependencyNotInstalled:
        pytest.skip('needs pip install "equirl[box2d]"')
    rate = refusals(env, count, repetitions=100)
    print(f"refused in {rate:.0%} of 100 repetitions")
    assert low <= rate <= high


def noise_transitions(seed: int, shift: float) -> tuple[Transitions, Transitions]:
    """s ~ N(0, 1), s' − s = a + noise, mirrored; ``shift`` breaks the mirror."""
    generator = np.random.default_rng(seed)
    states = generator.normal(size=(4000, 1))
    actions = generator.integers(2, size=4000)
    push = np.where(actions == 1, 1.0 + shift, -1.0)[:, None]
    outcomes = push + generator.normal(size=(4000, 1))
    episodes = np.repeat(np.arange(200), 20)
    return (
        Transitions(states, actions, outcomes, episodes),
        Transitions(-states, 1 - actions, -outcomes, episodes),
    )


def test_noise_around_a_symmetric_mean_is_no_evidence() -> None:
    rejected = [compare_transitions(*noise_transitions(s, 0), 2).p_value < 0.05 for s in range(40)]
    assert np.mean(rejected) <= 0.1


def test_a_shift_of_the_mean_is_found_in_noise() -> None:
    rejected = [
        compare_transitions(*noise_transitions(s, 0.3), 2).p_value < 0.05 for s in range(20)
    ]
    assert np.mean(rejected) >= 0.9


def test_initial_states_are_compared_by_mean_and_spread() -> None:
    generator = np.random.default_rng(0)
    centred = generator.normal(size=(400, 2))
    assert compare_initial_states(centred, -centred) > 0.01
    shifted = centred + np.array([0.5, 0])
    assert compare_initial_states(shifted, -shifted) < 1e-6
    wide = centred * [1, 3]
    assert compare_initial_states(wide, wide[:, ::-1]) < 1e-6


def test_an_invariant_observation_has_symmetric_initial_states() -> None:
    states = np.random.default_rng(0).normal(size=(50, 3))
    assert compare_initial_states(states, states) == 1.0


def test_the_wrong_action_permutation_is_found_statistically() -> None:
    env = cartpole()
    wrong = Symmetry.from_generators(
        env.observation_space, spaces.Discrete(2), {"mirror": (np.negative, [0, 1])}
    )
    verdicts = check_statistically(wrong, "mirror", collect(env, 6000, 0), level=0.05)
    dynamics = next(verdict for verdict in verdicts if verdict.quantity == "dynamics")
    assert not dynamics.holds
    assert dynamics.counter_example is not None
    assert dynamics.counter_example.moved_action == dynamics.counter_example.action
