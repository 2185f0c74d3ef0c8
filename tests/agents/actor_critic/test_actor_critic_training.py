"""Training, saving and loading of actors and critics, ours and SB3's own with our policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from equirl import Symmetry
from equirl.agents import (
    EquivariantA2C,
    EquivariantActorCriticPolicy,
    EquivariantMaskablePPO,
    EquivariantPPO,
    MirrorLossA2C,
    MirrorLossPPO,
    OrbitRolloutBuffer,
    SymmetricVecNormalize,
)
from equirl.agents.actor_critic.maskable import EquivariantMaskableActorCriticPolicy
from equirl.errors import AgentError, MethodError, SymmetryError
from shared.actor_critic_tasks import ACTIONS, seen, task

PAIRS: dict[str, Any] = {"ppo": (PPO, EquivariantPPO), "a2c": (A2C, EquivariantA2C)}
SHORT: dict[str, Any] = {
    "ppo": {"n_steps": 32, "batch_size": 16, "n_epochs": 2},
    "a2c": {},
    "trpo": {"n_steps": 32, "batch_size": 16, "cg_max_steps": 3, "n_critic_updates": 2},
}


@pytest.mark.covering(1)
@pytest.mark.parametrize("steps", [256, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("actions", ["discrete", "offset box", "box"])
@pytest.mark.parametrize("algorithm", PAIRS)
def test_with_the_trivial_group_training_is_bit_for_bit_the_parents(
    algorithm: str, actions: str, steps: int
) -> None:
    stock, ours = PAIRS[algorithm]
    env = task("vector", actions)
    kwargs = {"seed": 0, "device": "cpu", "use_sde": actions == "box", **SHORT[algorithm]}
    plain = stock("MlpPolicy", env, **kwargs).learn(steps)
    env = task("vector", actions)
    trivial = Symmetry.trivial(env.observation_space, env.action_space)
    model = ours("MlpPolicy", env, symmetry=trivial, **kwargs).learn(steps)
    expected = plain.policy.state_dict()
    assert list(model.policy.state_dict()) == list(expected)
    for key, value in model.policy.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", ["equitune", "equizero", "lambda", "canonical"])
@pytest.mark.parametrize("algorithm", PAIRS)
def test_a_saved_agent_acts_alike(algorithm: str, method: str, tmp_path: Path) -> None:
    _, ours = PAIRS[algorithm]
    env = task("vector", "box")
    small: dict[str, Any] = {"policy_kwargs": {"net_arch": [8]}, "device": "cpu"}
    model = ours("MlpPolicy", env, method, symmetry=env.symmetry, **small, **SHORT[algorithm])
    model.learn(64)
    model.save(tmp_path / "agent.zip")
    loaded = ours.load(tmp_path / "agent.zip")
    points = seen(env.symmetry, 4, 0).numpy()
    expected = model.predict(points, deterministic=True)[0]
    np.testing.assert_array_equal(loaded.predict(points, deterministic=True)[0], expected)
    # As SB3 allows, with the policy_kwargs that the agent was given.
    ours.load(tmp_path / "agent.zip", env=task("vector", "box"), **small).learn(32)
    with pytest.raises(ValueError, match="policy kwargs do not equal"):
        ours.load(tmp_path / "agent.zip", policy_kwargs={"net_arch": [9]})


@pytest.mark.covering(1)
@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "trpo"])
def test_stock_algorithms_train_with_our_policy(algorithm: str, actions: str) -> None:
    stock: Any = {"ppo": PPO, "a2c": A2C, "trpo": TRPO}[algorithm]
    env = task("signs", actions)
    kwargs = {"symmetry": env.symmetry, "method": "equizero"}
    model = stock(
        EquivariantActorCriticPolicy, env, policy_kwargs=kwargs, device="cpu", **SHORT[algorithm]
    )
    model.learn(32)


@pytest.mark.parametrize("actions", ["discrete", "multi-discrete", "multi-binary"])
def test_maskable_ppo_never_takes_what_is_masked(actions: str) -> None:
    env = task("signs", actions)
    model = MaskablePPO(
        EquivariantMaskableActorCriticPolicy,
        env,
        policy_kwargs={"symmetry": env.symmetry},
        device="cpu",
        **SHORT["ppo"],
    )
    model.learn(32)
    points = seen(env.symmetry, 6, 0)
    masks = np.tile(env.action_masks(), (len(points), 1))
    distribution = model.policy.get_distribution(points, masks)
    assert (np.asarray(distribution.sample()) > 0).all()


class Linear(BaseFeaturesExtractor):
    """Features that are learned, so that those of actor and critic can differ."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space, 5)
        self.layer = torch.nn.Linear(observation_space.shape[0], 5)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.layer(observations)
        return features


@pytest.mark.parametrize("ours", [EquivariantPPO, EquivariantMaskablePPO])
def test_a_policy_alone_comes_back_with_both_of_its_extractors(ours: Any, tmp_path: Path) -> None:
    env = task("signs", "discrete")
    kwargs = {"share_features_extractor": False, "features_extractor_class": Linear}
    model = ours(
        "MlpPolicy", env, symmetry=env.symmetry, policy_kwargs=kwargs, device="cpu", **SHORT["ppo"]
    )
    model.policy.save(tmp_path / "policy.zip")
    loaded = type(model.policy).load(tmp_path / "policy.zip", device="cpu")
    points = seen(env.symmetry, 6, 0)
    for one, other in zip(
        *(policy.parameters_and_values(points) for policy in (model.policy, loaded)), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.long
@pytest.mark.parametrize("model", [MirrorLossPPO, MirrorLossA2C])
def test_the_mirror_loss_makes_the_agent_more_symmetric(model: Any) -> None:
    errors = []
    for weight in (0.0, 100.0):
        env = task("signs", "box")
        agent = model(
            "MlpPolicy",
            env,
            symmetry=env.symmetry,
            mirror_weight=weight,
            seed=0,
            device="cpu",
            n_steps=32,
        ).learn(256)
        errors.append(float(agent.mirror_loss(seen(env.symmetry, 50, 0)).detach()))
    assert errors[1] < errors[0] / 2


def test_samples_of_a_rollout_are_moved_with_their_actions() -> None:
    env = task("signs", "offset box")
    model = PPO(
        "MlpPolicy",
        env,
        rollout_buffer_class=OrbitRolloutBuffer,
        rollout_buffer_kwargs={"symmetry": env.symmetry},
        device="cpu",
        seed=0,
        **SHORT["ppo"],
    ).learn(32)
    buffer = model.rollout_buffer
    stored = {
        tuple(np.round(row, 5)): action
        for row, action in zip(buffer.observations, buffer.actions, strict=True)
    }
    moved = 0
    for samples in buffer.get(16):
        for row, action in zip(samples.observations.numpy(), samples.actions.numpy(), strict=True):
            if tuple(np.round(row, 5)) in stored:
                np.testing.assert_array_equal(action, stored[tuple(np.round(row, 5))])
                continue
            moved += 1
            back = stored[tuple(np.round(row * [-1, -1, 1, -1], 5).astype(np.float32))]
            np.testing.assert_allclose(action, 6 - back[::-1], rtol=1e-5)
    assert 5 < moved < 27


def test_statistics_that_are_not_symmetric_are_refused() -> None:
    def envs() -> DummyVecEnv:
        return DummyVecEnv([lambda: task("signs", "box")])

    symmetry = task("signs", "box").symmetry
    with pytest.raises(SymmetryError):
        EquivariantPPO("MlpPolicy", VecNormalize(envs()), symmetry=symmetry, device="cpu")
    EquivariantPPO(
        "MlpPolicy",
        SymmetricVecNormalize(envs(), symmetry),
        symmetry=symmetry,
        device="cpu",
        **SHORT["ppo"],
    ).learn(32)


def test_plain_and_recurrent_policies_are_refused() -> None:
    env = task("signs", "box")
    from stable_baselines3.common.policies import ActorCriticPolicy

    with pytest.raises(AgentError):
        EquivariantPPO(ActorCriticPolicy, env, symmetry=env.symmetry, device="cpu")
    with pytest.raises(MethodError, match="RecurrentPPO"):
        RecurrentPPO(
            EquivariantActorCriticPolicy,
            env,
            policy_kwargs={"symmetry": env.symmetry},
            device="cpu",
        )


@pytest.mark.parametrize("cls", [EquivariantPPO, EquivariantA2C])
def test_a_gpu_is_advised_against_for_small_networks_as_by_sb3(cls: type[Any]) -> None:
    model = cls("MlpPolicy", "CartPole-v1", device="cpu")
    model.device = torch.device("cuda")
    with pytest.warns(UserWarning, match="on the GPU"):
        model._maybe_recommend_cpu()
