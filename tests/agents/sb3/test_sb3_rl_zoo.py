"""RL Zoo's trainer takes our policy from its configuration, with nothing of it changed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy

from equirl.agents import EquivariantDQNPolicy
from shared.sb3_agents import cartpole

PAGE = Path(__file__).parents[3] / "docs" / "how_to" / "extend_a_training.md"
needs_rl_zoo = pytest.mark.skipif(
    importlib.util.find_spec("rl_zoo3") is None, reason="rl_zoo3 is not installed"
)


def recipe() -> str:
    text = PAGE.read_text(encoding="utf-8")
    (found,) = re.findall(r"```yaml\n(CartPole-v1:\n.*?)```", text, flags=re.DOTALL)
    return str(found)


def rl_zoo(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "rl_zoo3.train", "--algo", "dqn", "--env", "CartPole-v1"]
    done = subprocess.run(
        [*command, "--conf-file", "dqn.yml", "-f", "logs", "--seed", "0", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_rl_zoo
def test_rl_zoo_trains_the_recipe_of_the_readme_and_trains_on(tmp_path: Path) -> None:
    (tmp_path / "dqn.yml").write_text(recipe())
    evaluation = ("--eval-freq", "1000", "--eval-episodes", "2")
    out = rl_zoo(tmp_path, "-n", "2000", *evaluation, "--save-replay-buffer")
    assert "Eval num_timesteps=2000" in out
    agents = tmp_path / "logs" / "dqn"
    trained = agents / "CartPole-v1_1" / "CartPole-v1.zip"
    model = DQN.load(trained, device="cpu")
    assert type(model.policy) is EquivariantDQNPolicy
    assert model.q_net.symmetrized.method.name == "lambda"
    assert model.num_timesteps == 2048  # whole rollouts of 256
    states = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    actions, _ = model.predict(states, deterministic=True)
    mirrored, _ = model.predict(-states, deterministic=True)
    np.testing.assert_array_equal(mirrored, 1 - actions)
    best = DQN.load(agents / "CartPole-v1_1" / "best_model", device="cpu")
    mean, _ = evaluate_policy(best, cartpole(), n_eval_episodes=5, warn=False)
    assert mean > 50  # at random about 22

    out = rl_zoo(tmp_path, "-n", "300", "-i", str(trained))
    assert "Loading pretrained agent" in out
    assert (agents / "CartPole-v1_2" / "CartPole-v1.zip").is_file()
