"""SB3's callbacks and its logger find in our agents what they find in stock DQN."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shared.sb3_agents import TASKS, agent, each_algorithm, each_task, q_values
from shared.stock_twins import square_env

EPISODE = 8
"""Steps of every episode here."""


class Calls(BaseCallback):
    """Counts what it is called for."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.others: list[str] = []

    def _on_training_start(self) -> None:
        self.others.append("start")

    def _on_rollout_start(self) -> None:
        self.others.append("rollout")

    def _on_step(self) -> bool:
        self.steps.append(self.num_timesteps)
        return True

    def _on_training_end(self) -> None:
        self.others.append("end")


@each_algorithm
def test_callbacks_see_every_step_and_the_ends(algorithm: type[DQN]) -> None:
    calls = Calls()
    model = agent(algorithm, train_freq=4)
    model.learn(20, callback=calls)
    assert calls.steps == list(range(1, 21))
    assert calls.others == ["start", *["rollout"] * 5, "end"]
    assert calls.model is model


@each_algorithm
def test_callbacks_come_as_objects_lists_and_functions(algorithm: type[DQN]) -> None:
    seen: list[int] = []

    def function(local: dict[str, Any], _: dict[str, Any]) -> bool:
        assert {"rewards", "dones", "infos", "new_obs", "actions"} <= set(local)
        seen.append(local["self"].num_timesteps)
        return len(seen) < 10

    agent(algorithm).learn(20, callback=function)
    assert seen == list(range(1, 11))  # then it said stop
    every, calls = Calls(), Calls()
    agent(algorithm).learn(20, callback=[EveryNTimesteps(5, every), CallbackList([calls])])
    assert every.steps == [5, 10, 15, 20]
    assert len(calls.steps) == 20


@pytest.mark.covering(1)
@each_task
@each_algorithm
def test_evaluation_saves_the_best_agent_and_what_it_scored(
    algorithm: type[DQN], task: str, tmp_path: Path
) -> None:
    new_best, after = Calls(), Calls()
    model = agent(algorithm, task)
    model.learn(
        24,
        callback=EvalCallback(
            DummyVecEnv([lambda: Monitor(TASKS[task][1]())]),
            new_best,
            after,
            n_eval_episodes=2,
            eval_freq=12,
            log_path=str(tmp_path),
            best_model_save_path=str(tmp_path),
            verbose=0,
            warn=False,
        ),
    )
    results = np.load(tmp_path / "evaluations.npz")
    assert results["timesteps"].tolist() == [12, 24]
    assert results["ep_lengths"].tolist() == [[EPISODE] * 2] * 2
    assert after.steps == [12, 24]
    assert new_best.steps[:1] == [12]
    best = algorithm.load(tmp_path / "best_model", device="cpu")
    assert best.num_timesteps == new_best.steps[-1]


@each_algorithm
def test_training_stops_when_a_callback_of_sb3_says_so(algorithm: type[DQN]) -> None:
    def evaluating(**kwargs: Any) -> EvalCallback:
        env = Monitor(square_env())
        return EvalCallback(env, eval_freq=4, n_eval_episodes=1, verbose=0, warn=False, **kwargs)

    stops = {
        16: StopTrainingOnMaxEpisodes(2),
        4: evaluating(callback_on_new_best=StopTrainingOnRewardThreshold(-1.0)),
        # Rewards are between 0 and 24; later evaluations can hardly be better three times on end.
        40: evaluating(callback_after_eval=StopTrainingOnNoModelImprovement(1, min_evals=1)),
    }
    for last, callback in stops.items():
        model = agent(algorithm).learn(100, callback=callback)
        assert model.num_timesteps == last or (last == 40 and model.num_timesteps < 100)


@each_algorithm
def test_checkpoints_hold_agent_and_replay_buffer(algorithm: type[DQN], tmp_path: Path) -> None:
    checkpoints = CheckpointCallback(10, str(tmp_path), "agent", save_replay_buffer=True)
    model = agent(algorithm)
    model.learn(20, callback=checkpoints)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"agent_{name}20_steps.{kind}".replace("20", str(steps))
        for steps in (10, 20)
        for name, kind in (("", "zip"), ("replay_buffer_", "pkl"))
    }
    loaded = algorithm.load(tmp_path / "agent_10_steps", env=square_env(), device="cpu")
    loaded.load_replay_buffer(tmp_path / "agent_replay_buffer_10_steps")
    assert loaded.num_timesteps == 10
    assert loaded.replay_buffer.size() == 9  # the tenth is stored after the callback
    loaded.learn(10, reset_num_timesteps=False)
    assert loaded.num_timesteps == 22  # 10 and then whole rollouts of 4


@each_algorithm
@pytest.mark.parametrize("way", ["argument", "callback"])
def test_the_progress_bar_reaches_the_end(
    algorithm: type[DQN], way: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model = agent(algorithm)
    if way == "argument":
        model.learn(20, progress_bar=True)
    else:
        model.learn(20, callback=ProgressBarCallback())
    out, err = capfd.readouterr()
    assert "20/20" in out + err


FORMATS = ["csv", "json", "tensorboard", "log", "stdout"]


def logged(model: DQN, folder: Path) -> dict[str, list[set[str]]]:
    """The keys of every row, by format."""
    model.set_logger(configure(str(folder), FORMATS))
    model.learn(40, log_interval=1)
    model.logger.close()
    with (folder / "progress.csv").open() as file:
        rows = [{key for key, value in row.items() if value} for row in csv.DictReader(file)]
    lines = (folder / "progress.json").read_text().splitlines()
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        "csv": rows,
        "json": [set(json.loads(line)) for line in lines],
        "tensorboard": [set(events.Tags()["scalars"])],
    }


@each_algorithm
def test_every_logger_gets_what_stock_dqn_gives_it(
    algorithm: type[DQN], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"batch_size": 4, "learning_starts": 8, "buffer_size": 100, "seed": 0}
    plain = DQN("MlpPolicy", square_env(), policy_kwargs={"net_arch": [8]}, **options)
    expected = logged(plain, tmp_path / "plain")
    words = {line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[1:-1]
             if line.count("|") == 3}  # fmt: skip
    model = agent(algorithm)
    assert logged(model, tmp_path / "ours") == expected
    assert {"rollout/ep_rew_mean", "rollout/exploration_rate", "train/loss"} <= (
        expected["tensorboard"][0]
    )
    assert "train/n_updates" in expected["csv"][-1]
    out = capsys.readouterr().out
    assert all(word in out for word in words)
    assert (tmp_path / "ours" / "log.txt").read_text().count("n_updates") == 4
    last = json.loads((tmp_path / "ours" / "progress.json").read_text().splitlines()[-1])
    assert last["train/n_updates"] == model._n_updates - 1  # the last one came after the row
    assert last["time/total_timesteps"] == 40
    assert last["rollout/ep_len_mean"] == EPISODE
    assert last["train/loss"] > 0


@each_algorithm
def test_tensorboard_logs_are_numbered_runs(algorithm: type[DQN], tmp_path: Path) -> None:
    model = agent(algorithm, tensorboard_log=str(tmp_path), train_freq=1)
    model.learn(16, tb_log_name="run", callback=LogEveryNTimesteps(2), log_interval=None)
    model.learn(16, tb_log_name="run", reset_num_timesteps=False, log_interval=1)
    model.learn(16, tb_log_name="run", log_interval=1)
    assert {path.name for path in tmp_path.iterdir()} == {"run_1", "run_2"}
    events = EventAccumulator(str(tmp_path / "run_1"))
    events.Reload()
    losses = events.Scalars("train/loss")
    assert [event.step for event in losses][:3] == [10, 12, 14]
    assert all(np.isfinite(event.value) for event in losses)


@each_algorithm
def test_training_does_not_notice_that_it_is_watched(algorithm: type[DQN], tmp_path: Path) -> None:
    alone = agent(algorithm).learn(24)
    watched = agent(algorithm, tensorboard_log=str(tmp_path))
    watched.learn(24, callback=[Calls(), CheckpointCallback(8, str(tmp_path))])
    assert np.array_equal(q_values(alone).numpy(), q_values(watched).numpy())
