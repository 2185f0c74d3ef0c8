"""Saving and loading, in every way that SB3's own tests do it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import DummyVecEnv

from equirl.agents import EquivariantDQN
from equirl.errors import AgentError
from shared.hardware import needs_cuda
from shared.policy_tasks import VARIANTS
from shared.sb3_agents import (
    TASKS,
    agent,
    assert_equal,
    assert_is_the_same_agent,
    assert_same_layers,
    each_algorithm,
    each_task,
    q_values,
    saved,
    trained,
)

each_variant = pytest.mark.parametrize("variant", VARIANTS)


@pytest.mark.covering(1)
@each_task
@each_algorithm
@pytest.mark.parametrize("with_env", [False, True], ids=["without-env", "with-env"])
def test_a_loaded_agent_is_the_same_and_trains_on_alike(
    algorithm: type[DQN], task: str, with_env: bool, tmp_path: Path
) -> None:
    model = trained(algorithm, task)
    _, make_env, _ = TASKS[task]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "agent")
        loaded = algorithm.load(
            tmp_path / "agent", env=make_env() if with_env else None, device="cpu"
        )
    assert (loaded.env is not None) == with_env
    if not with_env:
        loaded.set_env(make_env())
    assert loaded.num_timesteps == model.num_timesteps
    assert loaded._n_updates == model._n_updates > 0
    assert loaded._n_calls == model._n_calls > 0
    assert_is_the_same_agent(loaded, model)
    loaded.learn(8, reset_num_timesteps=False)
    assert loaded.num_timesteps >= model.num_timesteps + 8


@pytest.mark.covering(1)
@each_algorithm
@pytest.mark.parametrize("kind", ["str", "pathlib", "suffix", "file", "bytes"])
def test_agents_go_to_paths_and_file_objects(
    algorithm: type[DQN], kind: str, tmp_path: Path
) -> None:
    model = trained(algorithm)
    path = tmp_path / "agent"
    if kind == "file":
        with path.open("wb") as file:
            model.save(file)
        with path.open("rb") as file:
            loaded = algorithm.load(file, device="cpu")
    elif kind == "bytes":
        loaded = algorithm.load(saved(model), device="cpu")
    else:
        target = {"str": str(path), "pathlib": path, "suffix": tmp_path / "agent.zip"}[kind]
        model.save(target)
        assert [found.name for found in tmp_path.iterdir()] == ["agent.zip"]
        loaded = algorithm.load(target, device="cpu")
    assert_equal(loaded.policy.state_dict(), model.policy.state_dict())


@pytest.mark.covering(1)
@pytest.mark.parametrize(("writer", "reader"), [(DQN, EquivariantDQN), (EquivariantDQN, DQN)])
@each_variant
def test_stock_dqn_and_ours_read_each_other(
    writer: type[DQN], reader: type[DQN], variant: str
) -> None:
    method, *_ = VARIANTS[variant].values()
    options = {name: value for name, value in VARIANTS[variant].items() if name != "method"}
    model = trained(writer, method=method, policy_kwargs=options)
    loaded = reader.load(saved(model), env=TASKS["vector"][1](), device="cpu")
    assert type(loaded.policy) is type(model.policy)
    assert_equal(loaded.policy.state_dict(), model.policy.state_dict())
    loaded.replay_buffer = model.replay_buffer
    assert_same_layers(loaded)
    loaded._setup_learn(8)
    loaded.train(3, 8)
    assert not torch.equal(q_values(loaded), q_values(model))


@each_algorithm
def test_what_is_excluded_is_not_in_the_file_and_what_is_included_is(algorithm: type[DQN]) -> None:
    model = trained(algorithm, gamma=0.5)
    everything = set(load_from_zip_file(saved(model))[0] or {})
    without = set(load_from_zip_file(saved(model, exclude=["gamma", "seed"]))[0] or {})
    assert everything - without == {"gamma", "seed"}
    assert not {"policy", "q_net", "replay_buffer", "env", "_loss", "_parameters"} & everything
    both = load_from_zip_file(saved(model, exclude=["gamma"], include=["gamma"]))[0] or {}
    assert both["gamma"] == 0.5
    loaded = algorithm.load(saved(model, exclude=["gamma"]), device="cpu")
    assert loaded.gamma == 0.99  # the default
    with_buffer = algorithm.load(saved(model, include=["replay_buffer"]), device="cpu")
    assert with_buffer.replay_buffer is not None
    np.testing.assert_array_equal(with_buffer.replay_buffer.rewards, model.replay_buffer.rewards)


@each_algorithm
def test_custom_objects_and_keywords_count_before_the_file(algorithm: type[DQN]) -> None:
    model = trained(algorithm)
    loaded = algorithm.load(
        saved(model),
        env=TASKS["vector"][1](),
        device="cpu",
        custom_objects={"learning_rate": 0.25, "lr_schedule": lambda _: 0.25},
        batch_size=7,
    )
    assert loaded.batch_size == 7
    loaded.learn(16)
    assert loaded.policy.optimizer.param_groups[0]["lr"] == 0.25


@each_algorithm
def test_policy_kwargs_at_loading_must_be_those_in_the_file(algorithm: type[DQN]) -> None:
    model = trained(algorithm)
    again = algorithm.load(saved(model), policy_kwargs=model.policy_kwargs, device="cpu")
    assert torch.equal(q_values(again), q_values(model))
    with pytest.raises(ValueError, match="policy kwargs do not equal the stored policy kwargs"):
        algorithm.load(saved(model), policy_kwargs={**model.policy_kwargs, "method": "equitune"})


@pytest.mark.parametrize("given", [{"method": "equitune"}, {"symmetry": None}])
def test_loading_refuses_what_it_would_not_heed(given: dict[str, Any]) -> None:
    model = trained(EquivariantDQN)
    with pytest.raises(AgentError, match=rf"from_pretrained\(path, env, {next(iter(given))}=…\)"):
        EquivariantDQN.load(saved(model), **given)


@each_algorithm
def test_an_environment_with_other_spaces_is_refused(algorithm: type[DQN]) -> None:
    model = agent(algorithm)
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        algorithm.load(saved(model), env=TASKS["image"][1](), device="cpu")
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        model.set_env(DummyVecEnv([TASKS["image"][1]]))


@pytest.mark.gpu
@needs_cuda
@each_task
@each_algorithm
def test_an_agent_is_loaded_on_another_device(algorithm: type[DQN], task: str) -> None:
    model = trained(algorithm, task)
    on_gpu = algorithm.load(saved(model), env=TASKS[task][1](), device="cuda")
    assert on_gpu.policy.device.type == "cuda"
    on_gpu.learn(24)
    back = algorithm.load(saved(on_gpu), device="cpu")
    torch.testing.assert_close(q_values(back), q_values(on_gpu), rtol=1e-3, atol=1e-4)


@pytest.mark.covering(1)
@each_algorithm
@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("vector", {}),
        ("image", {}),
        ("dict", {}),
        ("vector", {"n_steps": 3}),
        (
            "image",
            {
                "optimize_memory_usage": True,
                "replay_buffer_kwargs": {"handle_timeout_termination": False},
            },
        ),
    ],
    ids=["vector", "image", "dict", "n-step", "memory-saving"],
)
def test_the_replay_buffer_is_saved_beside_the_agent(
    algorithm: type[DQN], task: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = trained(algorithm, task, **options)
    model.save_replay_buffer(tmp_path / "buffer")
    model.save(tmp_path / "agent")
    loaded = algorithm.load(tmp_path / "agent", env=TASKS[task][1](), device="cpu")
    assert loaded.replay_buffer is not None
    assert loaded.replay_buffer.size() == 0
    with (tmp_path / "buffer.pkl").open("rb") as file:
        loaded.load_replay_buffer(file)
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    buffer = loaded.replay_buffer
    assert buffer.size() == model.replay_buffer.size() == 24
    assert type(buffer) is type(model.replay_buffer)
    if "n_steps" in options:
        assert isinstance(buffer, NStepReplayBuffer)
        assert buffer.n_steps == 3
    np.testing.assert_array_equal(buffer.actions, model.replay_buffer.actions)
    assert_is_the_same_agent(loaded, model)


@each_algorithm
def test_a_buffer_can_be_given_by_class_and_by_object(algorithm: type[DQN]) -> None:
    class OwnBuffer(ReplayBuffer):
        pass

    model = trained(algorithm, replay_buffer_class=OwnBuffer)
    assert type(model.replay_buffer) is OwnBuffer
    other = agent(algorithm, seed=1)
    other.replay_buffer = model.replay_buffer
    other._setup_learn(8)
    other.train(2, 8)
    assert other._n_updates == 2
