"""A symmetry named by id moves what the policy sees, behind the wrappers that are usual."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import FlattenObservation, FrameStackObservation, RescaleObservation
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecTransposeImage

from equirl.agents import EquivariantDQNPolicy
from equirl.agents.policy_spaces import for_policy
from equirl.envs import symmetry_of
from equirl.envs.known_by_id import symmetry_by_id
from equirl.errors import SymmetryError
from shared.wrapped_envs import cartpole


def board() -> Any:
    return gym.make("equirl/GridWorld-v0")


def egocentric() -> Any:
    wrappers = pytest.importorskip("minigrid.wrappers")
    return wrappers.ImgObsWrapper(gym.make("MiniGrid-Empty-5x5-v0"))


def one_hot() -> Any:
    wrappers = pytest.importorskip("minigrid.wrappers")
    empty = gym.make("MiniGrid-Empty-5x5-v0")
    return wrappers.ImgObsWrapper(wrappers.OneHotPartialObsWrapper(empty))


def whole_grid() -> Any:
    pytest.importorskip("minigrid")
    from equirl.envs.known_symmetries.minigrid import FullView

    return FullView(gym.make("MiniGrid-Empty-5x5-v0"))


def frames(make: Callable[[], Any], count: int) -> Any:
    return VecFrameStack(DummyVecEnv([make]), count)


SEEN: dict[str, tuple[str, Callable[[], Any]]] = {
    "as-made": ("CartPole-v1", cartpole),
    "vec-frames": ("CartPole-v1", lambda: frames(cartpole, 4)),
    "frames": ("CartPole-v1", lambda: FrameStackObservation(cartpole(), 3)),
    "flat-frames": (
        "CartPole-v1",
        lambda: FlattenObservation(FrameStackObservation(cartpole(), 3)),
    ),
    "image": ("equirl/GridWorld-v0", board),
    "flat-image": ("equirl/GridWorld-v0", lambda: FlattenObservation(board())),
    "image-frames": ("equirl/GridWorld-v0", lambda: frames(board, 2)),
    "image-turned-frames": (
        "equirl/GridWorld-v0",
        lambda: VecFrameStack(VecTransposeImage(DummyVecEnv([board])), 2),
    ),
    "part-of-a-dict": ("MiniGrid-Empty-5x5-v0", egocentric),
    "part-of-a-dict-frames": ("MiniGrid-Empty-5x5-v0", lambda: frames(egocentric, 2)),
    "two-wrappers": ("MiniGrid-Empty-5x5-v0", one_hot),
    "another-view": ("MiniGrid-Empty-5x5-v0", whole_grid),
}


@pytest.mark.parametrize("name", SEEN)
def test_it_is_carried_to_the_spaces_of_the_policy(name: str) -> None:
    env_id, make = SEEN[name]
    model = DQN(
        EquivariantDQNPolicy,
        make(),
        policy_kwargs={"symmetry": env_id, "net_arch": [8]},
        buffer_size=9,
        device="cpu",
    )
    symmetry: Any = model.policy.symmetry_args["symmetry"]
    wanted = for_policy(symmetry_of(model.env), model.observation_space)
    assert for_policy(symmetry, model.observation_space) == wanted


@pytest.mark.parametrize(
    ("env_id", "make", "message"),
    [
        ("CartPole-v1", board, "CartPole-v1 does not say how it moves Box"),
        (
            "CartPole-v1",
            lambda: RescaleObservation(
                gym.make("MountainCar-v0"), np.float32(0), np.array([1, 2], "f")
            ),
            "CartPole-v1 does not say",
        ),
        ("MiniGrid-Empty-5x5-v0", cartpole, "MiniGrid"),
        ("Acrobot-v2", cartpole, "no environment 'Acrobot-v2' can be made"),
        ("Blackjack-v1", cartpole, "no symmetry is known for Blackjack-v1"),
    ],
)
def test_what_does_not_end_in_these_spaces_is_refused(
    env_id: str, make: Callable[[], Any], message: str
) -> None:
    if env_id.startswith("MiniGrid"):
        pytest.importorskip("minigrid")
    env = make()
    with pytest.raises(SymmetryError, match=message) as caught:
        symmetry_by_id(env_id, env.observation_space, env.action_space)
    assert "\n" not in str(caught.value)
