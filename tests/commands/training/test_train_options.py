"""`equirl train`: what it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from stable_baselines3 import DQN

from equirl.agents import EquivariantDQN, from_pretrained
from equirl.agents.saving.reading.saved_normalisation import read_normalisation
from shared.rarely import rarely
from shared.refusals import Refused
from shared.short_training import SHORT, train


@pytest.mark.long
def test_same_seed_gives_the_same_agent_and_another_seed_another(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    keys = ("env=cartpole", "method=lambda", "total_timesteps=96", "checkpoint_every=0")
    weights = []
    for name, seed in (("one", 5), ("again", 5), ("other", 6)):
        train(equirl_command, tmp_path / name, *keys, f"seed={seed}")
        model = EquivariantDQN.load(tmp_path / name / "final_model.zip", device="cpu")
        weights.append(torch.cat([p.flatten() for p in model.policy.parameters()]))
        assert not (tmp_path / name / "checkpoints").exists()
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_training_ends_when_the_target_return_is_reached(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    keys = ("env=cartpole", "method=equitune", "total_timesteps=2000", "eval.every=96")
    train(equirl_command, tmp_path / "run", *keys, "env.target_return=1")
    with np.load(tmp_path / "run" / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [96]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] < 200


def test_arguments_of_the_environment_can_be_given(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    keys = ("env=gridworld", "env.kwargs.size=5", "env.kwargs.walls=0.1", "total_timesteps=64")
    outcome = train(equirl_command, tmp_path / "run", *keys, "method=equizero")
    assert "|G| = 8" in outcome.out
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["env"]["kwargs"] == {"size": 5, "walls": 0.1}
    model = EquivariantDQN.load(tmp_path / "run" / "best_model.zip", device="cpu")
    assert sorted(model.observation_space.shape or ()) == [3, 5, 5]


def test_several_environments_at_once_count_every_step(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    keys = ("env=cartpole", "algorithm.n_envs=2", "total_timesteps=192", "eval.every=64")
    train(equirl_command, tmp_path / "run", *keys, "method=augment")
    model = DQN.load(tmp_path / "run" / "final_model.zip", device="cpu")
    assert model.n_envs == 2
    assert model.num_timesteps == 192
    with np.load(tmp_path / "run" / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [64, 128, 192]


DECLARATIONS = """
import numpy as np
from gymnasium import spaces
from equirl import Symmetry

generators = {"mirror": (np.negative, [2, 1, 0])}

def function(observation_space, action_space):
    assert isinstance(observation_space, spaces.Box)
    return {"mirror": (-np.eye(2), list(range(action_space.n))[::-1])}

def symmetry(observation_space, action_space):
    return Symmetry.from_generators(observation_space, action_space, generators)

class Nested:
    low, high = np.array([-1.2, -0.07], np.float32), np.array([0.6, 0.07], np.float32)
    object = Symmetry.from_generators(spaces.Box(low, high), spaces.Discrete(3), generators)
"""


@pytest.mark.parametrize("name", ["generators", "function", "symmetry", "Nested.object"])
def test_symmetry_declared_in_the_current_folder_is_used(
    equirl_command: Callable[..., Any], folder: Path, name: str
) -> None:
    (folder / "my_declarations.py").write_text(DECLARATIONS)
    keys = ("env.id=MountainCar-v0", f"env.symmetry=my_declarations:{name}", "method=equitune")
    outcome = equirl_command(
        "train",
        *keys,
        *SHORT,
        "total_timesteps=32",
        "run_dir=run",
        "env.kwargs.max_episode_steps=20",
    )
    assert outcome.code == 0, outcome.err
    model = EquivariantDQN.load(folder / "run" / "best_model.zip", device="cpu")
    assert model.symmetry.group.names == ("e", "mirror")
    assert model.symmetry.permutations.tolist() == [[0, 1, 2], [2, 1, 0]]
    observations = np.array([[0.3, 0.05], [-0.3, -0.05]], dtype=np.float32)
    q_values = model.q_net(torch.as_tensor(observations)).detach().numpy()
    np.testing.assert_allclose(q_values[1], q_values[0, ::-1], atol=1e-6)


def test_plain_method_needs_no_symmetry(equirl_command: Callable[..., Any], folder: Path) -> None:
    keys = ("env.id=MountainCar-v0", "method=plain", "env.kwargs.max_episode_steps=20")
    outcome = equirl_command("train", *keys, *SHORT, "total_timesteps=32")
    assert outcome.code == 0, outcome.err
    (run_dir,) = folder.glob("runs/*")
    assert run_dir.name.startswith("MountainCar-v0-plain-seed0-")
    assert type(DQN.load(run_dir / "best_model.zip", device="cpu")) is DQN


def test_declared_symmetry_replaces_the_registered_one(
    equirl_command: Callable[..., Any], folder: Path
) -> None:
    (folder / "identity.py").write_text("nothing = {}\n")
    keys = ("env=cartpole", "env.symmetry=identity:nothing", "method=equitune")
    outcome = equirl_command("train", *keys, *SHORT, "total_timesteps=32", "run_dir=run")
    assert outcome.code == 0, outcome.err
    assert "|G| = 1," in outcome.out


TASK = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

gym.register("Mine/Pole-v0", CartPoleEnv, max_episode_steps=20)
"""


@pytest.mark.long
def test_an_environment_of_a_module_in_the_current_folder_is_found(
    equirl_command: Callable[..., Any], folder: Path
) -> None:
    (folder / "my_task.py").write_text(TASK)
    keys = ("env.id=my_task:Mine/Pole-v0", "method=plain", "total_timesteps=32")
    # In two processes of their own, too.
    more = ("algorithm.n_envs=2", "algorithm.subprocess=true", "run_dir=run")
    outcome = equirl_command("train", *keys, *SHORT, *more)
    assert outcome.code == 0, outcome.err
    outcome = equirl_command("evaluate", "agent=run", "episodes=1", "progress=false")
    assert outcome.code == 0, outcome.err


@pytest.mark.long
@pytest.mark.parametrize(
    ("algorithm", "method"), rarely([("ppo", "equitune"), ("dqn", "augment")], ("ppo", "equitune"))
)
def test_a_normalised_training_goes_on_bit_for_bit_and_plays_by_its_statistics(
    equirl_command: Callable[..., Any], tmp_path: Path, algorithm: str, method: str
) -> None:
    of = {
        "ppo": ("algorithm.n_steps=32", "algorithm.batch_size=32"),
        "dqn": ("algorithm.learning_starts=32", "algorithm.train_freq=16"),
    }[algorithm]
    keys = (
        *("env.id=Acrobot-v1", "env.kwargs.max_episode_steps=40", "normalize=true"),
        *(f"algorithm={algorithm}", f"method={method}", "algorithm.net_arch=[8]", *of),
        *("eval.every=64", "eval.episodes=2", "eval.final_episodes=2", "progress=false"),
        "checkpoint_every=64",
    )
    for name, steps in (("whole", 128), ("parts", 64)):
        run = f"run_dir={tmp_path / name}"
        outcome = equirl_command("train", *keys, f"total_timesteps={steps}", run)
        assert outcome.code == 0, outcome.err
    outcome = equirl_command("train", f"resume={tmp_path / 'parts'}", "total_timesteps=128")
    assert outcome.code == 0, outcome.err
    for name in ("final_model", "best_model"):
        saved = [
            read_normalisation(tmp_path / run / f"{name}.vecnormalize.pkl")
            for run in ("whole", "parts")
        ]
        np.testing.assert_array_equal(*(s.observations[None].mean for s in saved))
        np.testing.assert_array_equal(*(s.returns.var for s in saved))
        assert not saved[0].observations[None].mean[-2:].any(), "invariant: no side is preferred"
    evaluations = [np.load(tmp_path / run / "evaluations.npz") for run in ("whole", "parts")]
    np.testing.assert_array_equal(*(evaluation["results"] for evaluation in evaluations))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("env=gridworld",), "normalize=true is for observations of numbers"),
        (("env=cartpole", "device_replay=true"), "device_replay does not go with normalize=true"),
    ],
)
def test_what_cannot_be_normalised_is_refused(
    refused: Refused, arguments: tuple[str, ...], said: str
) -> None:
    assert said in refused("train", *arguments, "normalize=true", "progress=false")


@pytest.mark.long
def test_agents_of_a_normalised_run_are_not_played_on_raw_observations(
    refused: Refused, equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    keys = (
        *("env.id=CartPole-v1", "normalize=true", "algorithm=dqn", "method=plain"),
        *("algorithm.net_arch=[8]", "algorithm.learning_starts=32", "eval.every=64"),
        *("eval.episodes=2", "eval.final_episodes=2", "progress=false"),
    )
    outcome = equirl_command(
        "train", *keys, "total_timesteps=128", "checkpoint_every=32", f"run_dir={run}"
    )
    assert outcome.code == 0, outcome.err
    left = sorted(path.name for path in (run / "checkpoints").glob("step_*"))
    assert left == [f"step_{n}.{kind}" for n in (128, 96) for kind in ("vecnormalize.pkl", "zip")]
    checkpoint = run / "checkpoints" / "step_128.zip"
    play = ("evaluate", "episodes=2", "progress=false", f"agent={checkpoint}")
    statistics = checkpoint.with_name("step_128.vecnormalize.pkl")
    assert str(statistics) in refused(*play)
    assert "leave trust=pickle out" in refused(*play, "trust=pickle")
    outcome = equirl_command(*play, f"normalize={statistics}")
    assert outcome.code == 0, outcome.err
    statistics.unlink()
    assert "was trained behind VecNormalize" in refused(*play)  # the run's configuration says so
    normalize = run / "best_model.vecnormalize.pkl"
    holding = from_pretrained(run / "best_model.zip", "CartPole-v1", normalize=normalize)
    holding.save(tmp_path / "holding.zip")
    for agent in (run / "best_model.zip", tmp_path / "holding.zip"):
        again = ("train", *keys[2:], "env=cartpole", f"pretrained={agent}")
        assert "statistics do not come along" in refused(*again)
