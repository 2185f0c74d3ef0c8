"""An agent that was read from a file trains on from where it stopped, whatever its algorithm."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, TRPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import LinearSchedule

from equirl.agents import from_pretrained
from equirl.agents.saving.reading.saved_schedules import read_train_freq
from equirl.envs import SymmetryWrapper
from equirl.errors import AgentError
from shared.off_policy_agents import Random
from shared.saved_agents import rewritten

REPLAY = {"learning_starts": 8, "batch_size": 4, "buffer_size": 99}
ROLLOUTS = {"n_steps": 16, "gae_lambda": 0.83, "normalize_advantage": True}
NOISE = NormalActionNoise(np.zeros(2), np.array([0.3, 0.2]))
ALGORITHMS: dict[type[BaseAlgorithm], dict[str, Any]] = {
    DQN: {**REPLAY, "train_freq": 1},
    QRDQN: {**REPLAY, "train_freq": 1},
    SAC: {**REPLAY, "learning_rate": 0.01},
    TQC: {**REPLAY, "learning_rate": 0.01},
    TD3: {**REPLAY, "action_noise": NOISE},
    DDPG: {**REPLAY, "action_noise": OrnsteinUhlenbeckActionNoise(NOISE._mu, NOISE._sigma, 0.4)},
    PPO: {
        **ROLLOUTS,
        "batch_size": 8,
        "n_epochs": 3,
        "vf_coef": 0.4,
        "target_kl": 0.7,
        "clip_range": LinearSchedule(0.3, 0.1, 1.0),
        "clip_range_vf": 0.25,
    },
    A2C: {**ROLLOUTS, "vf_coef": 0.4},
    TRPO: {**ROLLOUTS, "cg_max_steps": 7, "target_kl": 0.02, "n_critic_updates": 3},
}
"""By algorithm, how its small agents are trained: by other settings than its own defaults."""

STRAIGHT = ("gae_lambda", "n_epochs", "vf_coef", "normalize_advantage", "target_kl", "cg_max_steps")


def env_of(cls: type[BaseAlgorithm]) -> gym.Env[Any, Any]:
    discrete = cls in (DQN, QRDQN)
    actions: spaces.Space[Any] = spaces.Discrete(2) if discrete else spaces.Box(-1, 1, (2,))
    flip: Any = [1, 0] if discrete else [-1, -1]
    return SymmetryWrapper(Random(spaces.Box(-1, 1, (3,)), actions), {"mirror": ([-1] * 3, flip)})


def trained(cls: type[BaseAlgorithm], folder: Path, **kwargs: Any) -> tuple[Any, Path]:
    """A small agent with some updates behind it, and where it was saved."""
    settings = {"policy_kwargs": {"net_arch": [8]}, "device": "cpu", "seed": 0}
    model = cls("MlpPolicy", env_of(cls), **{**settings, **ALGORITHMS[cls], **kwargs}).learn(32)
    model.save(folder / "agent.zip")
    return model, folder / "agent.zip"


def pickled(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def moments(model: Any) -> Iterator[tuple[str, str, Any]]:
    """What the optimisers remember, by the names of the parameters."""
    names = {id(parameter): name for name, parameter in model.policy.named_parameters()}
    for path in model._get_torch_save_params()[0]:
        for parameter, state in getattr(attrgetter(path)(model), "state", {}).items():
            for name, value in state.items():
                yield f"{path} {names.get(id(parameter))}", name, value


@pytest.mark.parametrize("cls", ALGORITHMS, ids=lambda cls: cls.__name__)
def test_optimisers_and_settings_go_on_as_they_were(
    cls: type[BaseAlgorithm], tmp_path: Path
) -> None:
    plain, path = trained(cls, tmp_path)
    model: Any = from_pretrained(path, env_of(cls), "lambda", device="cpu")  # adds parameters
    before = {(place, name): value for place, name, value in moments(plain)}
    after = {(place, name): value for place, name, value in moments(model)}
    assert before
    assert set(before) == set(after)
    for place, value in before.items():
        assert torch.equal(torch.as_tensor(value).float(), torch.as_tensor(after[place]).float())
    for name in STRAIGHT:
        assert getattr(model, name, None) == getattr(plain, name, None), name
    for name in ("clip_range", "clip_range_vf"):
        for left in (1.0, 0.3):
            if hasattr(plain, name):
                assert getattr(model, name)(left) == getattr(plain, name)(left)
    assert repr(getattr(model, "action_noise", None)) == repr(getattr(plain, "action_noise", None))
    model.learn(32)  # a state that does not fit would end here
    grown = {(place, name): value for place, name, value in moments(model)}
    for (place, name), value in before.items():
        if name == "step":
            assert float(grown[place, name]) > float(value)


@pytest.mark.parametrize("cls", [SAC, TQC])
def test_the_temperature_goes_on_from_its_last_value(cls: Any, tmp_path: Path) -> None:
    plain, path = trained(cls, tmp_path)
    assert float(plain.log_ent_coef.detach()) < -0.05
    model: Any = from_pretrained(path, env_of(cls), "equizero", device="cpu")
    assert torch.equal(model.log_ent_coef, plain.log_ent_coef)
    in_memory: Any = from_pretrained(plain, env_of(cls), device="cpu")
    assert torch.equal(in_memory.log_ent_coef, plain.log_ent_coef)
    given: Any = from_pretrained(path, env_of(cls), ent_coef="auto_0.5", device="cpu")
    assert float(given.log_ent_coef.detach().exp()) == pytest.approx(0.5)
    assert not given.ent_coef_optimizer.state
    fixed: Any = from_pretrained(path, env_of(cls), ent_coef=0.1, device="cpu")
    assert float(fixed.ent_coef_tensor) == pytest.approx(0.1)


@pytest.mark.parametrize("value", [torch.tensor([float("nan")]), torch.zeros(2), "hot"])
def test_a_damaged_temperature_is_refused_by_name(value: Any, tmp_path: Path) -> None:
    _, path = trained(SAC, tmp_path)
    path.write_bytes(rewritten(path, pytorch_variables_pth=pickled({"log_ent_coef": value})))
    with pytest.raises(AgentError, match="log_ent_coef is not a finite number"):
        from_pretrained(path, env_of(SAC), device="cpu")


def test_a_state_of_another_optimiser_or_other_shapes_is_left_out(tmp_path: Path) -> None:
    _, path = trained(SAC, tmp_path)
    for kwargs in ({"optimizer_class": torch.optim.SGD}, {"optimizer_class": torch.optim.RMSprop}):
        model: Any = from_pretrained(path, env_of(SAC), policy_kwargs=kwargs, device="cpu")
        assert not model.actor.optimizer.state
        model.learn(16)
    group = {"params": [0], "lr": 1e-3}
    wrong = {"step": 1, "exp_avg": torch.ones(3), "exp_avg_sq": torch.ones(3)}
    for content in ({"state": {0: wrong}, "param_groups": [group]}, [1], {"state": 3}):
        path.write_bytes(rewritten(path, actor_optimizer_pth=pickled(content)))
        model = from_pretrained(path, env_of(SAC), device="cpu")
        assert not model.actor.optimizer.state
        assert model.critic.optimizer.state


def test_what_could_only_be_unpickled_is_not_and_acting_does_without(tmp_path: Path) -> None:
    _, path = trained(SAC, tmp_path)
    witness = tmp_path / "witness"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (witness,)

    path.write_bytes(rewritten(path, critic_optimizer_pth=pickled({"state": Trap()})))
    model: Any = from_pretrained(path, env_of(SAC), device="cpu")
    assert not witness.exists()
    assert not model.critic.optimizer.state


def test_an_a2c_agent_of_adam_goes_on_with_adam(tmp_path: Path) -> None:
    _, path = trained(A2C, tmp_path, use_rms_prop=False)
    model: Any = from_pretrained(path, env_of(A2C), device="cpu")
    assert isinstance(model.policy.optimizer, torch.optim.Adam)
    assert {name for _, name, _ in moments(model)} == {"step", "exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize("given", ["file", "model"])
def test_hindsight_goes_on(given: str, tmp_path: Path) -> None:
    def make() -> Any:
        mirror = {key: [1, 0, 2] for key in ("observation", "achieved_goal", "desired_goal")}
        env = BitFlippingEnv(3, continuous=True, max_steps=3)
        return SymmetryWrapper(env, {"exchange": (mirror, [1, 0, 2])})

    hindsight = {"n_sampled_goal": 2, "goal_selection_strategy": "final"}
    model = SAC(
        "MultiInputPolicy",
        make(),
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs=hindsight,
        device="cpu",
        **REPLAY,
    ).learn(12)
    model.save(tmp_path / "agent.zip")
    agent: Any = tmp_path / "agent.zip" if given == "file" else model
    ours: Any = from_pretrained(agent, make(), device="cpu").learn(12)
    assert isinstance(ours.replay_buffer, HerReplayBuffer)
    assert (ours.replay_buffer.n_sampled_goal, ours.replay_buffer_kwargs) == (2, hindsight)


def test_a_training_frequency_changes_no_class_that_its_pickle_names() -> None:
    content = b"\x80\x04cstable_baselines3.common.type_aliases\nTrainFreq\n"
    content += b"N}X\x09\x00\x00\x00frequencyJ\x40\x42\x0f\x00s\x86b."
    assert read_train_freq({":serialized:": base64.b64encode(content).decode()}) is None
    assert TrainFreq(4, TrainFrequencyUnit.STEP).frequency == 4
    described = {
        ":serialized:": base64.b64encode(
            cloudpickle.dumps(TrainFreq(2, TrainFrequencyUnit.EPISODE))
        ).decode()
    }
    assert read_train_freq(described) == (2, "episode")
