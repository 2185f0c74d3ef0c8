"""Training: the trivial group is the parent bit for bit; SB3's behaviours hold with a symmetry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.noise import NormalActionNoise

from equirl import Symmetry
from equirl.agents import EquivariantQRDQN, MirrorLossSAC, MirrorLossTD3, OrbitReplayBuffer
from equirl.envs import SymmetryWrapper
from equirl.errors import AgentError
from shared.off_policy_agents import ALGORITHMS, Random, agent, environment
from shared.small_agents import METHODS

each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def parameters(model: Any) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.policy.state_dict().items()}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


@pytest.mark.covering(1)
@each_algorithm
@pytest.mark.parametrize(
    ("method", "steps"),
    [*((method, 40) for method in METHODS), pytest.param("equizero", 2000, marks=pytest.mark.slow)],
)
def test_the_trivial_group_trains_as_the_parent_bit_for_bit(
    algorithm: str, method: str, steps: int
) -> None:
    expected = parameters(agent(algorithm, None).learn(steps))
    model = agent(algorithm, method, options={"symmetry": trivial(algorithm)})
    assert_equal(parameters(model.learn(steps)), expected)


def trivial(algorithm: str) -> Symmetry:
    env = environment(algorithm)
    return Symmetry.trivial(env.observation_space, env.action_space)


@each_algorithm
def test_equitune_and_equizero_have_the_parents_parameters_and_the_others_add_some(
    algorithm: str,
) -> None:
    plain = set(parameters(agent(algorithm, None)))
    assert set(parameters(agent(algorithm, "equitune"))) == plain
    assert set(parameters(agent(algorithm, "equizero"))) == plain
    assert set(parameters(agent(algorithm, "lambda"))) > plain


@pytest.mark.covering(1)
@each_algorithm
@pytest.mark.parametrize("method", METHODS)
def test_agents_learn_save_and_load(algorithm: str, method: str, tmp_path: Path) -> None:
    model: Any = agent(algorithm, method)
    before = parameters(model)
    model.learn(30)
    moved = [key for key, value in parameters(model).items() if not torch.equal(value, before[key])]
    networks = {key.split(".")[0] for key in moved}
    assert networks >= ({"quantile_net"} if algorithm == "qrdqn" else {"actor", "critic"})
    model.save(tmp_path / "agent.zip")
    loaded = ALGORITHMS[algorithm][0].load(tmp_path / "agent.zip", env=model.env)
    assert_equal(parameters(loaded), parameters(model))
    observations = np.stack([model.observation_space.sample() for _ in range(4)])
    np.testing.assert_array_equal(
        *(each.predict(observations, deterministic=True)[0] for each in (model, loaded))
    )
    loaded.learn(15, reset_num_timesteps=False)


@pytest.mark.parametrize("method", METHODS)
def test_an_actor_alone_acts_alike_or_is_refused(method: str, tmp_path: Path) -> None:
    model: Any = agent("sac", method)
    observations = torch.as_tensor(np.stack([model.observation_space.sample() for _ in range(4)]))
    model.actor.save(tmp_path / "actor.zip")
    actor = type(model.actor).load(tmp_path / "actor.zip", device="cpu")
    critic = model.policy.make_critic()  # of no policy
    if method in ("lambda", "equizero"):  # whose weights both are needed for
        with pytest.raises(AgentError, match="save and load the policy"):
            actor(observations, True)
        with pytest.raises(AgentError, match="save and load the policy"):
            critic(observations, torch.zeros(4, 3))
        return
    expected = model.actor(observations, True)
    torch.testing.assert_close(actor(observations, True), expected, rtol=0, atol=0)


@pytest.mark.covering(1)
@pytest.mark.parametrize("algorithm", ["sac", "td3", "tqc"])
@pytest.mark.parametrize("method", ["equitune", "canonical"])
def test_the_stock_training_step_gives_the_same_networks(algorithm: str, method: str) -> None:
    ours: Any = agent(algorithm, method).learn(30)
    stock = ALGORITHMS[algorithm][1](
        type(ours.policy),
        environment(algorithm),
        policy_kwargs=ours.policy_kwargs,
        buffer_size=200,
        learning_starts=12,
        batch_size=8,
        seed=0,
        device="cpu",
    )
    stock.learn(30)
    for key, value in parameters(ours).items():
        torch.testing.assert_close(parameters(stock)[key], value, rtol=1e-4, atol=1e-5)


OPTIONS: dict[str, dict[str, Any]] = {
    "episodes": {"train_freq": (1, "episode"), "gradient_steps": -1},
    "noise": {"action_noise": NormalActionNoise(np.zeros(3), 0.1 * np.ones(3))},
    "memory": {
        "optimize_memory_usage": True,
        "replay_buffer_kwargs": {"handle_timeout_termination": False},
    },
    "n-step": {"n_steps": 3},
    "shared": {"policy_kwargs": {"share_features_extractor": True, "n_critics": 1}},
}


@pytest.mark.covering(1)
@pytest.mark.parametrize("algorithm", ["sac", "td3", "tqc"])
@pytest.mark.parametrize("option", OPTIONS)
def test_options_of_sb3_work(algorithm: str, option: str) -> None:
    agent(algorithm, "equizero", **OPTIONS[option]).learn(30)


@pytest.mark.parametrize("coefficient", ["auto_0.1", 0.2])
def test_the_entropy_coefficient_is_learned_or_given(coefficient: Any) -> None:
    model: Any = agent("sac", "lambda", ent_coef=coefficient, target_entropy=-2.0).learn(30)
    assert (model.log_ent_coef is None) == (coefficient == 0.2)


@pytest.mark.parametrize("algorithm", ["sac", "tqc"])
def test_gsde_is_refused_for_training(algorithm: str) -> None:
    with pytest.raises(AgentError, match="use_sde"):
        agent(algorithm, use_sde=True)


def test_gsde_of_a_plain_actor_draws_its_noise_as_sac_does() -> None:
    def mirrored() -> Any:  # one element besides e, so that none is drawn
        boxes = (spaces.Box(-1, 1, (3,)) for _ in range(2))
        return SymmetryWrapper(Random(*boxes), {"flip": ([-1, -1, 1], [-1, 1, -1])})

    settings: dict[str, Any] = {"use_sde": True, "train_freq": 4, "gradient_steps": 4, "seed": 0}
    settings |= {"buffer_size": 200, "learning_starts": 12, "batch_size": 8, "device": "cpu"}
    stock = SAC("MlpPolicy", mirrored(), **settings).learn(40)
    ours = MirrorLossSAC("MlpPolicy", mirrored(), mirror_weight=1e-12, **settings).learn(40)
    for key, value in parameters(ours).items():
        torch.testing.assert_close(value, parameters(stock)[key], rtol=1e-4, atol=1e-5)


def test_targets_of_a_subclass_of_qrdqn_are_called_and_change_nothing_else() -> None:
    asked = []

    class Mine(EquivariantQRDQN):
        def targets(self, sample: Any) -> torch.Tensor:
            asked.append(sample)
            return super().targets(sample)

    expected = parameters(agent("qrdqn", "equizero").learn(40))
    model: Any = agent("qrdqn", "equizero")
    model.__class__ = Mine
    assert_equal(parameters(model.learn(40)), expected)
    assert asked


@each_algorithm
def test_plain_policies_are_refused(algorithm: str) -> None:
    ours, _ = ALGORITHMS[algorithm]
    with pytest.raises(AgentError, match="plain policy"):
        ours(type(agent(algorithm, None).policy), environment(algorithm))


def test_orbit_replay_moves_scaled_actions_with_their_observations() -> None:
    env = environment("sac", box="offset")
    replay = {"replay_buffer_class": OrbitReplayBuffer}
    replay["replay_buffer_kwargs"] = {"symmetry": env.symmetry}
    model: Any = agent("sac", None, box="offset", **replay).learn(60)
    buffer, symmetry = model.replay_buffer, model.replay_buffer.symmetry
    stored = np.concatenate([buffer.observations[:60, 0], buffer.actions[:60, 0]], axis=1)
    orbits = [
        np.concatenate(
            [
                symmetry.transform_observation(g, stored[:, :3]),
                model.policy.scale_action(
                    symmetry.transform_action(g, model.policy.unscale_action(stored[:, 3:]))
                ),
            ],
            axis=1,
        )
        for g in range(symmetry.group.order)
    ]
    sample = buffer.sample(50)
    for row in torch.cat([sample.observations, sample.actions], dim=1).numpy():
        assert min(np.abs(orbit - row).max(axis=1).min() for orbit in orbits) < 1e-5


@pytest.mark.parametrize("cls", [MirrorLossSAC, MirrorLossTD3])
def test_the_mirror_loss_trains_and_without_weight_is_the_parent(cls: Any, tmp_path: Path) -> None:
    name = "sac" if cls is MirrorLossSAC else "td3"
    plain, trained = ALGORITHMS[name][1], {}
    for weight in (0.0, 10.0):
        kwargs = {"learning_starts": 12, "batch_size": 8, "seed": 0, "buffer_size": 200}
        model = cls("MlpPolicy", environment(name), mirror_weight=weight, device="cpu", **kwargs)
        trained[weight] = parameters(model.learn(30))
    reference = plain("MlpPolicy", environment(name), device="cpu", **kwargs).learn(30)
    assert_equal(trained[0.0], parameters(reference))
    assert any(not torch.equal(trained[10.0][key], value) for key, value in trained[0.0].items())
    model.save(tmp_path / "agent.zip")
    plain.load(tmp_path / "agent.zip")
