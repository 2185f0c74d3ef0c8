"""The declared symmetries of other people's environments, on those environments themselves."""

from __future__ import annotations

import copy
import importlib
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import equirl.envs.known_symmetries as known
from equirl.envs.registry import registered_state_maps, registered_symmetry
from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry

EXTRAS = {"Box2D": "box2d", "gymnasium_2048": "twenty48", "ale_py": "atari", "cv2": "atari"}


def need(module: str) -> Any:
    """The module, or a skip that says how to get it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError:
        extra = EXTRAS.get(module, module.partition(".")[0])
        pytest.skip(f'needs {module}: pip install "equirl[{extra}]"')


def make_minatar(name: str) -> Any:
    module = need("minatar.gym")
    if f"MinAtar/{name}" not in gym.registry:
        module.register_envs()
    return make(f"MinAtar/{name}")


def make(env_id: str, **kwargs: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gym.make(env_id, disable_env_checker=True, **kwargs)


def assert_exact(
    env: Any,
    symmetry: Symmetry,
    generators: dict[str, str],
    steps: int,
    policy: list[float] | None = None,
    ahead: int = 3,
) -> None:
    """(gs, ga) leads to what (s, a) leads to, moved by g, on the way of a random agent.

    Args:
        env: the environment as the agent sees it; its copies must be true ones.
        symmetry: of what the agent sees.
        generators: by name of a state map, the group element that it is to the agent.
        steps: of the random agent.
        policy: probability of each action.
        ahead: steps compared from each state.
    """
    maps = registered_state_maps(env.spec.id)
    random, n = np.random.default_rng(0), int(env.action_space.n)
    env.reset(seed=0)
    for step in range(steps):
        # One generator at a time; together they are all seen often enough.
        name = sorted(generators)[step % len(generators)]
        original, moved = copy.deepcopy(env), copy.deepcopy(env)
        maps[name](moved.unwrapped)
        for _ in range(ahead):
            action = int(random.choice(n, p=policy))
            observation, *outcome, _ = original.step(action)
            seen, *moved_outcome, _ = moved.step(
                int(symmetry.transform_action(generators[name], action))
            )
            expected = symmetry.transform_observation(generators[name], observation)
            np.testing.assert_array_equal(seen, expected)
            assert moved_outcome == outcome
            if any(outcome[1:]):
                break
        _, _, terminated, truncated, _ = env.step(int(random.choice(n, p=policy)))
        if terminated or truncated:
            env.reset()


@pytest.mark.parametrize(
    ("name", "order", "policy"),
    [
        ("Breakout-v1", 2, None),
        ("Asterix-v1", 4, None),
        ("Freeway-v1", 2, [0.1, 0.8, 0.1]),  # gets across, so that new speeds are drawn
        ("Seaquest-v1", 2, [0.1, 0.15, 0.15, 0.15, 0.3, 0.15]),  # stays below the surface
        # With more actions, and checked as registered symmetries, too.
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("Breakout-v0", 2, None),
                ("Asterix-v0", 4, None),
                ("Freeway-v0", 2, [0.1, 0, 0.8, 0, 0.1, 0]),
                ("Seaquest-v0", 2, [0.1, 0.15, 0.15, 0.15, 0.3, 0.15]),
            )
        ),
    ],
)
def test_minatar_has_its_symmetry_exactly(
    name: str, order: int, policy: list[float] | None
) -> None:
    env = make_minatar(name)
    symmetry = registered_symmetry(env.spec.id, env.observation_space, env.action_space)
    assert symmetry.group.order == order
    names = {name: name for name in registered_state_maps(env.spec.id)}
    assert_exact(env, symmetry, names, 200 if name.endswith("v1") else 150, policy)


def test_space_invaders_has_no_mirror_because_the_left_one_of_two_equally_near_aliens_shoots() -> (
    None
):
    env = make_minatar("SpaceInvaders-v1")
    env.reset(seed=0)
    game = env.unwrapped.game.env
    game.alien_map[:] = 0
    game.alien_map[2, [3, 7]] = 1
    assert game._nearest_alien(5) == [2, 3]
    with pytest.raises(SymmetryError, match="no symmetry is known"):
        registered_symmetry(env.spec.id, env.observation_space, env.action_space)


def test_2048_has_the_symmetries_of_the_square_exactly() -> None:
    need("gymnasium_2048")
    env = make("gymnasium_2048/TwentyFortyEight-v0")
    symmetry = registered_symmetry(env.spec.id, env.observation_space, env.action_space)
    assert symmetry.group.order == 8
    assert_exact(env, symmetry, {"r": "r", "s": "s"}, 300)


def test_2048_draws_move_along_with_a_board_moved_twice() -> None:
    need("gymnasium_2048")
    env = make("gymnasium_2048/TwentyFortyEight-v0")
    symmetry = registered_symmetry(env.spec.id, env.observation_space, env.action_space)
    env.reset(seed=1)
    moved = copy.deepcopy(env)
    for name in ("r", "s", "r"):
        registered_state_maps(env.spec.id)[name](moved.unwrapped)
    # Moved by r first, then by s, then by r.
    for action in (0, 1, 2, 3) * 10:
        transformed: Any = action
        for name in ("r", "s", "r"):
            transformed = symmetry.transform_action(name, transformed)
        observation, *outcome, _ = env.step(action)
        seen, *moved_outcome, _ = moved.step(int(transformed))
        for name in ("r", "s", "r"):
            observation = symmetry.transform_observation(name, observation)
        np.testing.assert_array_equal(seen, observation)
        assert moved_outcome == outcome


LUNAR_LANDER_POLICY = [0.2, 0.15, 0.5, 0.15]
# Box2D solves the left leg's joint before the right one's, in single precision, and the difference
# grows as the two lives go on; a side engine 1 % weaker shows as 3e-4 to 5e-4 in one step.
LUNAR_LANDER_TOLERANCE = 2e-4


def test_lunar_lander_flies_the_mirrored_way_under_mirrored_random_numbers() -> None:
    need("Box2D")
    env, mirrored = make("LunarLander-v3"), make("LunarLander-v3")
    symmetry = registered_symmetry(env.spec.id, env.observation_space, env.action_space)
    random = np.random.default_rng(0)
    for seed in range(10):
        env.unwrapped.np_random = np.random.default_rng(seed)
        mirrored.unwrapped.np_random = known.box2d.MirroredDraws(np.random.default_rng(seed))
        observation, _ = env.reset()
        seen, _ = mirrored.reset()
        heights = [edge[0][1] for edge in env.unwrapped.sky_polys]
        others = [edge[1][1] for edge in mirrored.unwrapped.sky_polys]
        np.testing.assert_allclose(others, heights[::-1], atol=1e-12)
        for _ in range(25):
            expected = symmetry.transform_observation("mirror", observation)
            np.testing.assert_allclose(seen, expected, rtol=0, atol=LUNAR_LANDER_TOLERANCE)
            action = int(random.choice(4, p=LUNAR_LANDER_POLICY))
            observation, reward, *ended, _ = env.step(action)
            its_action = symmetry.transform_action("mirror", action)
            seen, its_reward, *its_end, _ = mirrored.step(int(its_action))
            assert its_reward == pytest.approx(reward, abs=0.01)
            assert its_end == ended == [False, False]


def test_lunar_lander_is_put_into_the_mirrored_state_in_place() -> None:
    need("Box2D")
    env, mirrored = make("LunarLander-v3"), make("LunarLander-v3")
    symmetry = registered_symmetry(env.spec.id, env.observation_space, env.action_space)
    for seed in range(20):
        # A Box2D world cannot be copied: live the same life twice instead.
        random = np.random.default_rng(seed)
        env.reset(seed=seed)
        mirrored.reset(seed=seed)
        for action in random.choice(4, size=3 * seed, p=LUNAR_LANDER_POLICY):
            env.step(int(action))
            mirrored.step(int(action))
        registered_state_maps(env.spec.id)["mirror"](mirrored.unwrapped)
        for action in random.permutation(4):
            observation, reward, *ended, _ = env.step(int(action))
            its_action = symmetry.transform_action("mirror", int(action))
            seen, its_reward, *its_end, _ = mirrored.step(int(its_action))
            expected = symmetry.transform_observation("mirror", observation)
            np.testing.assert_allclose(seen, expected, rtol=0, atol=LUNAR_LANDER_TOLERANCE)
            assert its_reward == pytest.approx(reward, abs=0.01)
            assert its_end == ended == [False, False]


def test_a_lunar_lander_with_one_leg_down_is_mirrored_up_to_the_precision_of_contacts() -> None:
    need("Box2D")
    env, mirrored = make("LunarLander-v3"), make("LunarLander-v3")
    symmetry = registered_symmetry(env.spec.id, env.observation_space, env.action_space)
    landed = 0
    for seed in range(12):
        env.reset(seed=seed)
        mirrored.reset(seed=seed)
        observation, ended = np.zeros(8), False
        while not ended and observation[6] == observation[7]:
            observation, _, ended, *_ = env.step(0)
            mirrored.step(0)
        if ended:
            continue
        landed += 1
        registered_state_maps(env.spec.id)["mirror"](mirrored.unwrapped)
        observation, *_ = env.step(0)
        seen, *_ = mirrored.step(0)
        expected = symmetry.transform_observation("mirror", observation)
        np.testing.assert_allclose(seen, expected, rtol=0, atol=0.01)
    assert landed >= 3


# Turns and forward mostly, so that doors are reached and keys are carried about.
MINIGRID_POLICY = [0.15, 0.15, 0.4, 0.1, 0.05, 0.15, 0]


def make_minigrid(env_id: str) -> Any:
    need("minigrid")
    return make(env_id)


@pytest.mark.parametrize(
    "task", ["Empty-Random-6x6-v0", "DoorKey-5x5-v0", "FourRooms-v0", "LavaCrossingS9N2-v0"]
)
def test_egocentric_minigrid_has_its_mirror_exactly(task: str) -> None:
    env = make_minigrid(f"MiniGrid-{task}")
    env = need("minigrid.wrappers").ImgObsWrapper(env)
    symmetry = registered_symmetry(env.spec.id, env.observation_space, env.action_space)
    assert symmetry.group.names == ("e", "mirror")
    # A turn of the world is nothing to an agent that turns along; every mirror is the same one.
    seen_as = {"mirror": "mirror", "flip": "mirror", "turn": "e"}
    assert_exact(env, symmetry, seen_as, 60, MINIGRID_POLICY)


@pytest.mark.parametrize(
    ("task", "order"),
    [
        ("Empty-Random-6x6-v0", 8),
        ("DoorKey-5x5-v0", 8),
        ("LavaGapS7-v0", 8),
        ("DistShift1-v0", 4),
        ("RedBlueDoors-6x6-v0", 4),
    ],
)
def test_fully_seen_minigrid_has_the_symmetries_of_its_grid_exactly(task: str, order: int) -> None:
    env = known.minigrid.FullView(make_minigrid(f"MiniGrid-{task}"))
    symmetry = registered_symmetry(env.spec.id, env.observation_space, env.action_space)
    assert symmetry.group.order == order
    names = {name: name for name in symmetry.group.names if name in ("turn", "mirror", "flip")}
    assert len(names) == 2
    assert_exact(env, symmetry, names, 60, MINIGRID_POLICY)


def test_full_view_shows_agent_goal_and_what_is_carried() -> None:
    env = known.minigrid.FullView(make_minigrid("MiniGrid-Empty-5x5-v0"))
    image, _ = env.reset(seed=0)
    assert env.observation_space.contains(image)
    assert np.argwhere(image[..., 17:21]).tolist() == [[1, 1, 0]]  # top left, facing right
    assert np.argwhere(image[..., 6]).tolist() == [[3, 3]]  # the goal, bottom right
    assert image[3, 3, 9] == 1  # green
    key = need("minigrid.core.world_object").Key("red")
    env.unwrapped.grid.set(2, 1, key)
    image, *_ = env.step(3)
    assert image[1, 1, 3] == image[1, 1, 8] == image[1, 1, 21] == 1
    assert image[2, 1].sum() == 0


def test_minigrid_refuses_an_observation_that_is_neither_view() -> None:
    env = make_minigrid("MiniGrid-Empty-5x5-v0")
    with pytest.raises(SymmetryError, match=r"ImgObsWrapper.*FullView"):
        registered_symmetry(env.spec.id, env.observation_space, env.action_space)


def make_atari(game: str, crop: Any) -> Any:
    need("cv2")
    gym.register_envs(need("ale_py"))
    wrappers = need("stable_baselines3.common.atari_wrappers")
    return wrappers.AtariWrapper(crop(make(f"{game}NoFrameskip-v4")))


def test_pong_and_breakout_mirror_their_frames_exactly_through_sb3_preprocessing() -> None:
    for game, name in (("Pong", "flip"), ("Breakout", "mirror")):
        crop = getattr(known.atari, f"crop_{game.lower()}")
        declare = getattr(known.atari, game.lower())
        env = make_atari(game, crop)
        generators = declare(env.observation_space, env.action_space)
        symmetry = Symmetry.from_generators(env.observation_space, env.action_space, generators)
        assert symmetry.group.names == ("e", name)
        warp = env.env
        while type(warp).__name__ != "WarpFrame":
            warp = warp.env
        frame = crop(make(f"{game}NoFrameskip-v4")).reset(seed=0)[0]
        image_map = generators[name][0]
        np.testing.assert_array_equal(
            warp.observation(np.ascontiguousarray(image_map(frame))),
            symmetry.transform_observation(name, warp.observation(frame)),
        )


def test_atari_reflections_are_approximate_and_therefore_not_registered() -> None:
    env = make_atari("Pong", known.atari.crop_pong)
    with pytest.raises(SymmetryError, match="no symmetry is known"):
        registered_symmetry(env.spec.id, env.observation_space, env.action_space)
    raw = make("PongNoFrameskip-v4")
    with pytest.raises(SymmetryError, match="crop_pong"):
        known.atari.pong(raw.observation_space, raw.action_space)
    shown = {}
    for action in (2, 3):  # up, down
        raw.reset(seed=0)
        for _ in range(150):
            frame, *_ = raw.step(action)
        rows = np.argwhere((frame[34:194] == (92, 186, 92)).all(axis=-1))[:, 0]
        shown[action] = len(np.unique(rows))
    assert shown == {2: 6, 3: 4}  # a mirror would show as much of the paddle at either end
