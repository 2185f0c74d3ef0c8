"""`equirl evaluate`: the same agent, seen through each group element."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy

from equirl.agents import EquivariantDQN
from equirl.agents.training.evaluation import play_episodes
from equirl.commands.evaluate import alpha_boards
from equirl.envs import SymmetryWrapper, TransformWrapper
from equirl.errors import ConfigError

ELEMENTS = ("e", "r", "r²", "r³", "s", "rs", "r²s", "r³s")
SEED = 1_000_000
EPISODES = 4
ROOM = ("env.kwargs.size=4", "env.kwargs.max_episode_steps=30")


def trained(equirl_command: Callable[..., Any], folder: Path, method: str) -> Path:
    """An agent that walks a small grid world, though not always to the goal."""
    outcome = equirl_command(
        "train",
        "env=gridworld",
        *ROOM,
        "algorithm.net_arch=[32]",
        "algorithm.learning_starts=100",
        "total_timesteps=300",
        "eval.every=300",
        "eval.episodes=2",
        "eval.final_episodes=2",
        "progress=false",
        f"method={method}",
        f"run_dir={folder}",
    )
    assert outcome.code == 0, outcome.err
    return folder / "best_model.zip"


@pytest.fixture(scope="module")
def equivariant_agent(
    equirl_command: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return trained(equirl_command, tmp_path_factory.mktemp("runs") / "run", "equitune")


def rows(equirl_command: Callable[..., Any], *arguments: str) -> dict[str, str]:
    """The printed table: what stands beside each element."""
    outcome = equirl_command("evaluate", f"episodes={EPISODES}", "progress=false", *arguments)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    return dict(re.findall(r"^│ (\S+) +│ (.*?) +│$", outcome.out, re.MULTILINE))


def small_grid_world() -> SymmetryWrapper[Any, Any]:
    return SymmetryWrapper(gym.make("equirl/GridWorld-v0", size=4, max_episode_steps=30))


def returns_through(model: DQN, element: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    seeds = range(SEED, SEED + EPISODES)

    def make_env() -> TransformWrapper[Any, Any]:
        return TransformWrapper(small_grid_world(), element)

    return play_episodes(model, make_env, seeds).returns


@pytest.mark.long
def test_equivariant_agent_scores_the_same_through_every_element(
    equirl_command: Callable[..., Any], equivariant_agent: Path
) -> None:
    table = rows(equirl_command, f"agent={equivariant_agent}", "transform=all")
    assert tuple(table) == ELEMENTS
    assert len(set(table.values())) == 1


@pytest.mark.long
def test_plain_agent_scores_differently_through_different_elements(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    agent = trained(equirl_command, tmp_path / "run", "plain")
    table = rows(equirl_command, f"agent={agent}", "transform=all")
    assert tuple(table) == ELEMENTS
    assert len(set(table.values())) > 1


def test_table_says_mean_interval_and_success(
    equirl_command: Callable[..., Any], equivariant_agent: Path
) -> None:
    table = rows(equirl_command, f"agent={equivariant_agent}", "transform=rs")
    returns = returns_through(EquivariantDQN.load(equivariant_agent, device="cpu"), "rs")
    interval = 1.96 * returns.std(ddof=1) / EPISODES**0.5
    successful = 100 * np.mean(returns > 0)  # steps cost, the goal pays more than all
    assert table == {
        "rs": f"{returns.mean():.3f} ± {interval:.3f} over {EPISODES} episodes, "
        f"{successful:.0f}% successful"
    }


def test_agent_of_another_folder_needs_the_environment_named(
    equirl_command: Callable[..., Any], equivariant_agent: Path, tmp_path: Path
) -> None:
    foreign = shutil.copy(equivariant_agent, tmp_path / "foreign.zip")
    outcome = equirl_command("evaluate", f"agent={foreign}", "progress=false")
    assert outcome.code == 2
    assert "env=NAME" in outcome.err
    with_env = rows(equirl_command, f"agent={foreign}", "env=gridworld", *ROOM)
    assert with_env == rows(equirl_command, f"agent={equivariant_agent}")


def test_checkpoint_finds_the_environment_of_its_run(
    equirl_command: Callable[..., Any], equivariant_agent: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(equivariant_agent.parent, tmp_path / "run")
    (run / "checkpoints").mkdir(exist_ok=True)
    checkpoint = shutil.copy(run / "final_model.zip", run / "checkpoints" / "step_300.zip")
    found = rows(equirl_command, f"agent={checkpoint}")
    assert found == rows(equirl_command, f"agent={run / 'final_model.zip'}")


def test_keys_given_back_to_their_defaults_count(
    equirl_command: Callable[..., Any], equivariant_agent: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(equivariant_agent.parent, tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["env"]["frame_stack"] = 2
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    agent = f"agent={run / 'best_model.zip'}"
    expected = rows(equirl_command, f"agent={equivariant_agent}")
    assert equirl_command("evaluate", agent, "progress=false").code == 2
    assert rows(equirl_command, agent, "env.frame_stack=1") == expected


def test_environment_of_the_run_can_be_changed_in_part(
    equirl_command: Callable[..., Any], equivariant_agent: Path
) -> None:
    agent = f"agent={equivariant_agent}"
    changed = rows(equirl_command, agent, "env.kwargs.step_cost=0", "transform=all")
    returns = set(re.findall(r"[-.\d]+(?= ±)", " ".join(changed.values())))
    assert len(changed) == 8
    assert len(returns) == 1
    # Without a cost for steps the mean return is the success rate.
    (percent,) = set(re.findall(r"(\d+)% successful", " ".join(changed.values())))
    assert float(returns.pop()) == pytest.approx(int(percent) / 100)


def test_plain_agent_from_elsewhere_gets_the_return_that_sb3_says(
    equirl_command: Callable[..., Any], plain_agent: Path
) -> None:
    outcome = equirl_command(
        "evaluate", f"agent={plain_agent}", "env=cartpole", "episodes=1", "progress=false"
    )
    assert outcome.code == 0, outcome.err
    env = gym.wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1"))
    model = DQN.load(plain_agent, device="cpu")
    model.set_env(env)
    vec_env = model.get_env()
    assert vec_env is not None
    vec_env.seed(SEED)
    mean, _ = evaluate_policy(model, vec_env, n_eval_episodes=1)
    assert f" {mean:.1f} over 1 episode " in outcome.out or f" {mean:.3f} over 1 ep" in outcome.out


def test_environment_without_symmetry_will_do_where_none_is_asked_for(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    small = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 1, "device": "cpu"}
    DQN("MlpPolicy", "MountainCar-v0", **small).save(tmp_path / "car.zip")
    arguments = (f"agent={tmp_path / 'car.zip'}", "env.id=MountainCar-v0")
    assert set(rows(equirl_command, *arguments, "env.kwargs.max_episode_steps=5")) == {"e"}
    outcome = equirl_command("evaluate", *arguments, "transform=all", "progress=false")
    assert outcome.code == 2
    assert "no symmetry is known for MountainCar-v0" in outcome.err


@pytest.mark.long
def test_video_is_written_beside_the_agent(
    equirl_command: Callable[..., Any], equivariant_agent: Path, tmp_path: Path
) -> None:
    pytest.importorskip("moviepy", reason="videos need moviepy: pip install equirl[envs]")
    run = shutil.copytree(equivariant_agent.parent, tmp_path / "run")
    outcome = equirl_command(
        "evaluate", f"agent={run / 'best_model.zip'}", "episodes=1", "progress=false", "video=true"
    )
    assert outcome.code == 0, outcome.err
    (video,) = run.glob("videos/*.mp4")
    assert f"video: {video}" in outcome.out
    assert video.read_bytes()[4:8] == b"ftyp"


@pytest.mark.slow
def test_where_relaxed_lets_go_is_drawn(
    equirl_command: Callable[..., Any], equivariant_agent: Path, tmp_path: Path
) -> None:
    agent = trained(equirl_command, tmp_path / "run", "relaxed")
    outcome = equirl_command(
        "evaluate", f"agent={agent}", "episodes=2", "alpha=true", "progress=false"
    )
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "run" / "alpha.png").stat().st_size > 1000
    assert f"alpha: {tmp_path / 'run' / 'alpha.png'}" in outcome.out
    refused = equirl_command("evaluate", f"agent={equivariant_agent}", "alpha=true", "episodes=2")
    assert refused.code == 2
    assert "alpha=true is for agents with method=relaxed" in refused.err
    trivial = tmp_path / "trivial.zip"
    EquivariantDQN("MlpPolicy", "CartPole-v1", "relaxed", symmetry={}, buffer_size=1).save(trivial)
    refused = equirl_command("evaluate", f"agent={trivial}", "env=cartpole", "alpha=true")
    assert refused.code == 2
    assert "alpha=true is for agents with a symmetry of more than e" in refused.err


class Weather(gym.Env[Any, Any]):
    """Planes of many values, of which no picture by cells can be made."""

    observation_space = gym.spaces.Box(-1, 1, (3, 4), np.float64)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, (3, 4)), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.np_random.uniform(-1, 1, (3, 4)), 0.0, False, False, {}


@pytest.fixture
def few_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that α is drawn from."""
    monkeypatch.setattr("equirl.commands.evaluate.STATES", 400)


@pytest.mark.usefixtures("few_states")
@pytest.mark.parametrize("of_each", [True, False])
def test_alpha_of_every_action_by_what_tells_it_best(of_each: bool) -> None:
    env = gym.make("equirl/BrokenGridWorld-v0", size=5)
    agent = EquivariantDQN(
        "MlpPolicy", env, method="relaxed", device="cpu", seed=0, learning_starts=0
    )
    weighting = cast(Any, agent.q_net).symmetrized.weighting
    torch.nn.init.constant_(weighting.h[-1].bias, 0.25)
    torch.nn.init.normal_(weighting.h[-1].weight)
    weighting.running_gain.fill_(float(of_each))
    boards = alpha_boards(agent, env, seed=0)
    # The agent's, and the goal's; where one α is of all actions, once.
    assert [len(of_action) for of_action in boards] == [2] * (4 if of_each else 1)
    assert {board.shares.shape for of_action in boards for board in of_action} == {(5, 5)}
    assert {board.what for board in boards[0]} == {"s[:, :, 1] = 255", "s[:, :, 2] = 255"}
    shares = [of_action[0].shares for of_action in boards]
    assert not any(np.allclose(shares[0], other, equal_nan=True) for other in shares[1:])


@pytest.mark.usefixtures("few_states")
def test_alpha_is_not_drawn_of_planes_with_many_values() -> None:
    env = SymmetryWrapper(Weather(), {"mirror": (np.negative, [1, 0])})
    agent = EquivariantDQN("MlpPolicy", env, method="relaxed", device="cpu", learning_starts=0)
    with pytest.raises(ConfigError, match="few values mark a cell"):
        alpha_boards(agent, env, seed=0)
