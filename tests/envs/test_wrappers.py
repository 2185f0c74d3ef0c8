"""The wrappers: an environment with its symmetry, seen through one element or a random one."""

from __future__ import annotations

import pickle
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import (
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    TimeLimit,
    TransformAction,
    TransformObservation,
)
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnvWrapper,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from equirl import Symmetry
from equirl.envs import (
    RandomTransformWrapper,
    SymmetryWrapper,
    TransformWrapper,
    register_symmetry,
    registered_ids,
    registry,
    symmetry_of,
)
from equirl.envs.registry import registered_symmetry
from equirl.errors import EquirlError, SymmetryError

Env = gym.Env[Any, Any]


def cartpole() -> Env:
    return gym.make("CartPole-v1")


def gridworld() -> Env:
    return gym.make("equirl/GridWorld-v0", size=4, walls=0.2)


GRID = SymmetryWrapper(gridworld()).symmetry


class Line(gym.Env[Any, np.int64]):
    """An observation of a dict space; actions left and right."""

    observation_space = spaces.Dict(place=spaces.Discrete(5), speed=spaces.Box(-1, 1, (1,)))
    action_space = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(5))
        return self._observe(0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        speed = 2 * int(action) - 1
        self.place = min(max(self.place + speed, 0), 4)
        return self._observe(speed), 0.0, False, False, {}

    def _observe(self, speed: int) -> dict[str, Any]:
        return {"place": np.int64(self.place), "speed": np.array([speed], np.float32)}


LINE_MIRROR = {"mirror": ({"place": lambda place: 4 - place, "speed": np.negative}, [1, 0])}


def states(env: Env, actions: list[int], seed: int = 0) -> list[Any]:
    observation, _ = env.reset(seed=seed)
    seen = [observation]
    for action in actions:
        observation, _, terminated, _, _ = env.step(action)
        seen.append(observation)
        if terminated:
            break
    return seen


def test_seen_through_an_element_observations_are_moved_and_actions_moved_back() -> None:
    actions = np.random.default_rng(0).integers(4, size=30).tolist()
    plain = states(gridworld(), actions)
    assert len(plain) > 5
    for g in range(8):
        seen = states(
            TransformWrapper(gridworld(), g, GRID),
            [int(GRID.transform_action(g, action)) for action in actions],
        )
        assert len(seen) == len(plain)
        for here, there in zip(plain, seen, strict=True):
            np.testing.assert_array_equal(there, GRID.transform_observation(g, here))


def test_seen_through_g_and_then_h_is_seen_through_their_product() -> None:
    actions = np.random.default_rng(1).integers(4, size=12).tolist()
    orders_differ = 0
    for g in range(8):
        for h in range(8):
            twice = TransformWrapper(TransformWrapper(gridworld(), g, GRID), h, GRID)
            once = TransformWrapper(gridworld(), int(GRID.group.table[h, g]), GRID)
            for here, there in zip(states(once, actions), states(twice, actions), strict=True):
                np.testing.assert_array_equal(here, there)
            orders_differ += GRID.group.table[h, g] != GRID.group.table[g, h]
    assert orders_differ  # so the order of the factors has been tested


def test_seen_through_g_and_its_inverse_is_the_environment_itself() -> None:
    actions = [0, 1, 2, 3, 1, 1]
    for g in range(8):
        there = TransformWrapper(gridworld(), g, GRID)
        back = TransformWrapper(there, GRID.group.inverse(g), GRID)
        for here, seen in zip(states(gridworld(), actions), states(back, actions), strict=True):
            np.testing.assert_array_equal(here, seen)


def test_dict_observations_are_seen_through_an_element() -> None:
    env = TransformWrapper(Line(), "mirror", LINE_MIRROR)
    here, there = states(Line(), [0, 0, 1]), states(env, [1, 1, 0])
    for plain, seen in zip(here, there, strict=True):
        assert seen["place"] == 4 - plain["place"]
        np.testing.assert_array_equal(seen["speed"], -plain["speed"])
        assert env.observation_space.contains(seen)


def test_an_element_is_given_by_number_or_name() -> None:
    assert TransformWrapper(gridworld(), "r").g == GRID.group.index("r")
    assert TransformWrapper(gridworld(), 3).g == 3
    for wrong in (8, -1, "rotate"):
        with pytest.raises(EquirlError) as caught:
            TransformWrapper(gridworld(), wrong)
        assert "\n" not in str(caught.value)


def test_a_random_element_is_drawn_for_each_episode() -> None:
    env = RandomTransformWrapper(gridworld(), GRID)
    env.reset(seed=0)
    drawn: Counter[int] = Counter()
    for _ in range(400):
        _, info = env.reset()
        g = info["symmetry_element"]
        assert env.step(0)[4]["symmetry_element"] == g == env.g
        drawn[g] += 1
    assert len(drawn) == 8
    chi_squared = sum((count - 50) ** 2 / 50 for count in drawn.values())
    assert chi_squared < 24.3  # its 0.999 quantile with 7 degrees of freedom


def test_a_random_element_stays_for_the_whole_episode() -> None:
    env, plain = RandomTransformWrapper(gridworld(), GRID), gridworld()
    plain.reset(seed=5)
    env.reset(seed=5)
    for _ in range(10):
        here, _ = plain.reset()
        there, info = env.reset()
        g = info["symmetry_element"]
        np.testing.assert_array_equal(there, GRID.transform_observation(g, here))
        for action in (0, 1, 2, 3):
            here = plain.step(action)[0]
            there = env.step(int(GRID.transform_action(g, action)))[0]
            np.testing.assert_array_equal(there, GRID.transform_observation(g, here))


def test_drawing_an_element_does_not_disturb_where_the_environment_starts() -> None:
    env, plain = RandomTransformWrapper(gridworld(), GRID), gridworld()
    for seed in (0, None, None, 7, None):
        here, _ = plain.reset(seed=seed)
        there, info = env.reset(seed=seed)
        np.testing.assert_array_equal(
            there, GRID.transform_observation(info["symmetry_element"], here)
        )


def test_the_element_drawn_under_a_seed_says_nothing_about_the_start() -> None:
    # Without walls, the row of the goal is the first number that the environment draws.
    env = RandomTransformWrapper(gym.make("equirl/GridWorld-v0", size=4), GRID)
    table = np.zeros((4, 8))
    for seed in range(640):
        _, info = env.reset(seed=seed)
        table[env.unwrapped.goal[0], info["symmetry_element"]] += 1  # type: ignore[attr-defined]
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    chi_squared = ((table - expected) ** 2 / expected).sum()
    assert chi_squared < 46.8  # its 0.999 quantile with 3 · 7 degrees of freedom


def test_the_same_seed_draws_the_same_elements() -> None:
    draws = []
    for _ in range(2):
        env = RandomTransformWrapper(gridworld(), GRID)
        draws.append([env.reset(seed=seed)[1]["symmetry_element"] for seed in (3, *[None] * 20)])
    assert draws[0] == draws[1]


@pytest.mark.parametrize(
    "wrapped",
    [
        SymmetryWrapper,
        lambda env: TransformWrapper(env, 1),
        RandomTransformWrapper,
        lambda env: SymmetryWrapper(RandomTransformWrapper(env)),
    ],
    ids=["symmetry", "transform", "random", "both"],
)
@pytest.mark.parametrize("make_env", [cartpole, gridworld])
def test_the_environment_checker_passes(
    make_env: Callable[[], Env], wrapped: Callable[[Env], Env]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Not ours to mend: the checker prefers bare environments, and CartPole's infinite bounds.
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        warnings.filterwarnings("ignore", message=".*Box observation space (m|M).*infinity.*")
        warnings.filterwarnings("ignore", message=".*value is -?infinity.*")
        check_env(wrapped(make_env()))


def test_the_symmetry_wrapper_changes_nothing() -> None:
    actions = [0, 1, 1, 0, 1]
    for here, there in zip(
        states(cartpole(), actions), states(SymmetryWrapper(cartpole()), actions), strict=True
    ):
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize(
    "env",
    [
        SymmetryWrapper(cartpole()),
        SymmetryWrapper(cartpole(), {"mirror": (np.negative, [1, 0])}),
        TransformWrapper(cartpole(), "mirror"),
        RandomTransformWrapper(cartpole()),
    ],
    ids=["symmetry", "declared", "transform", "random"],
)
def test_a_spec_makes_the_same_environment_again(env: Env) -> None:
    assert env.spec is not None
    again = gym.make(env.spec)
    assert str(again) == str(env)
    assert again.get_wrapper_attr("symmetry") == env.get_wrapper_attr("symmetry")
    for here, there in zip(states(env, [0, 1, 1]), states(again, [0, 1, 1]), strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize(
    "env",
    [
        SymmetryWrapper(cartpole()),
        TransformWrapper(cartpole(), "mirror"),
        TransformWrapper(cartpole(), 1),
        RandomTransformWrapper(gridworld()),
    ],
)
def test_a_spec_goes_through_json(env: Env) -> None:
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    for here, there in zip(states(env, [0, 1, 1]), states(again, [0, 1, 1]), strict=True):
        np.testing.assert_array_equal(here, there)


def test_a_wrapped_environment_survives_pickling() -> None:
    env = RandomTransformWrapper(gridworld())
    env.reset(seed=1)
    again = pickle.loads(pickle.dumps(env))
    assert again.symmetry == env.symmetry
    for _ in range(5):
        np.testing.assert_array_equal(env.reset()[0], again.reset()[0])


def test_a_symmetry_is_registered_as_generators_or_as_a_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_known", dict(registry._known))
    generators = {"mirror": (np.negative, [1, 0])}
    box, two = spaces.Box(-1, 1, (3,)), spaces.Discrete(2)
    seen: list[Any] = []

    def function(observation_space: Any, action_space: Any) -> Any:
        seen.append((observation_space, action_space))
        return generators

    def whole(observation_space: Any, action_space: Any) -> Symmetry:
        return Symmetry.from_generators(observation_space, action_space, generators)

    class Plain(gym.Env[Any, Any]):
        observation_space = box
        action_space = two

    for name, declaration in (("a", generators), ("b", function), ("c", whole)):
        env_id = f"equirl-test/Registered-{name}-v0"
        gym.register(env_id, entry_point=lambda: Plain(), max_episode_steps=5)
        env = gym.make(env_id, disable_env_checker=True)
        del gym.registry[env_id]
        with pytest.raises(SymmetryError, match=f"no symmetry is known for {env_id}"):
            symmetry_of(env)
        register_symmetry(env_id, declaration)
        assert env_id in registered_ids()
        assert symmetry_of(env) == whole(box, two)
        assert SymmetryWrapper(env).symmetry.group.names == ("e", "mirror")
        register_symmetry(env_id, {})
        assert symmetry_of(env).group.order == 1
    assert seen
    assert all(spaces_seen == (box, two) for spaces_seen in seen)


def test_an_unknown_environment_is_told_how_to_declare_a_symmetry() -> None:
    with pytest.raises(SymmetryError) as caught:
        symmetry_of(Line())
    message = str(caught.value)
    assert "\n" not in message
    for way in ("SymmetryWrapper(env, {", "register_symmetry", "env.symmetry="):
        assert way in message


TRANSPARENT: dict[str, Callable[[Env], Any]] = {
    "as made": lambda env: env,
    "TimeLimit": lambda env: TimeLimit(env, 10),
    "Monitor": Monitor,
    "RecordEpisodeStatistics": RecordEpisodeStatistics,
    "NormalizeReward": NormalizeReward,
    "Monitor of statistics": lambda env: Monitor(RecordEpisodeStatistics(TimeLimit(env, 10))),
    "RandomTransformWrapper": RandomTransformWrapper,
    "DummyVecEnv": lambda env: DummyVecEnv([lambda: env]),
    "VecMonitor": lambda env: VecMonitor(DummyVecEnv([lambda: env])),
    "VecNormalize of rewards": lambda env: VecNormalize(DummyVecEnv([lambda: env]), norm_obs=False),
}


@pytest.mark.parametrize("wrapped", TRANSPARENT.values(), ids=TRANSPARENT.keys())
def test_the_symmetry_is_found_through_wrappers_that_hand_it_on(
    wrapped: Callable[[Env], Any],
) -> None:
    assert symmetry_of(wrapped(gridworld())) == GRID
    declared = SymmetryWrapper(gridworld(), {"turn": (np.rot90, [3, 0, 1, 2])})
    assert symmetry_of(wrapped(declared)) == declared.symmetry


def test_the_symmetry_of_an_unwrapped_environment_is_found() -> None:
    assert symmetry_of(gridworld().unwrapped) == GRID


def test_the_symmetry_is_found_through_sb3_turning_images() -> None:
    envs = VecTransposeImage(DummyVecEnv([gridworld, gridworld]))
    assert envs.observation_space.shape == (3, 4, 4)
    # As the environment shows them; the policy turns it itself.
    assert symmetry_of(envs) == GRID


def test_the_outermost_declaration_counts() -> None:
    turn = {"turn": (np.rot90, [3, 0, 1, 2])}
    env = SymmetryWrapper(SymmetryWrapper(gridworld()), turn)
    assert symmetry_of(env).group.names == ("e", "turn", "turn²", "turn³")
    assert symmetry_of(SymmetryWrapper(SymmetryWrapper(gridworld(), turn))).group.order == 4


def inverted(env: Env) -> Env:
    """By a function that nothing is known about."""
    return TransformObservation(env, np.negative, env.observation_space)


class Upside(VecEnvWrapper):
    """A vectorized wrapper of a user's own."""

    def reset(self) -> Any:
        return -self.venv.reset()

    def step_wait(self) -> Any:
        observations, *rest = self.venv.step_wait()
        return (-observations, *rest)


def test_a_declaration_outside_covers_whatever_is_inside() -> None:
    inside = NormalizeObservation(cartpole())
    with pytest.raises(SymmetryError, match=r"SymmetryWrapper\(NormalizeObservation\(…\)"):
        symmetry_of(inside)
    assert symmetry_of(SymmetryWrapper(inside, {})).group.order == 1


@pytest.mark.parametrize(
    ("make_env", "message"),
    [
        (lambda: inverted(cartpole()), "TransformObservation may change observations"),
        (
            lambda: TransformAction(cartpole(), lambda a: 1 - a, spaces.Discrete(2)),
            "TransformAction may change observations or actions",
        ),
        (
            lambda: TransformWrapper(NormalizeObservation(cartpole()), 1),
            "NormalizeObservation may change observations",
        ),
        (
            lambda: DummyVecEnv([lambda: NormalizeObservation(SymmetryWrapper(cartpole()))]),
            "NormalizeObservation may change observations",
        ),
        (
            lambda: Upside(DummyVecEnv([cartpole])),
            "Upside may change observations .*: do the same inside each environment",
        ),
        (
            lambda: VecNormalize(DummyVecEnv([cartpole])),
            "VecNormalize .* not symmetric: use equirl.agents.SymmetricVecNormalize, or norm_obs",
        ),
    ],
    ids=["function", "action", "transformed", "vectorized", "vec-wrapper", "VecNormalize"],
)
def test_a_wrapper_that_may_break_the_symmetry_is_refused_by_name(
    make_env: Callable[[], Any], message: str
) -> None:
    with pytest.raises(SymmetryError, match=message):
        symmetry_of(make_env())


def test_a_symmetry_of_other_spaces_is_refused() -> None:
    with pytest.raises(SymmetryError, match=r"was declared for observations in .* has Box"):
        SymmetryWrapper(cartpole(), GRID)
    symmetry = Symmetry.trivial(cartpole().observation_space, spaces.Discrete(3))
    with pytest.raises(SymmetryError, match=r"actions in Discrete\(3\), .* has Discrete\(2\)"):
        SymmetryWrapper(cartpole(), symmetry)


def test_the_symmetry_given_to_a_transform_wrapper_is_found_again() -> None:
    mirror = {"mirror": (np.negative, [2, 1, 0])}
    env = TransformWrapper(gym.make("MountainCar-v0"), "mirror", mirror)
    assert symmetry_of(env) == env.symmetry


def test_a_mistyped_environment_is_told_the_nearest_known_ones() -> None:
    with pytest.raises(SymmetryError, match=r"\(known is CartPole-v1"):
        registered_symmetry("CartPol-v1", spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
