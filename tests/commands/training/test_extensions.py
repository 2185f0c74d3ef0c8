"""What a training takes from outside: callbacks, films, loggers; a module in the current folder."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from equirl.commands.training import extensions, settings
from shared.refusals import SHORT as TINY
from shared.refusals import TRAIN, Refused
from shared.short_training import train

CALLBACKS = """
from pathlib import Path

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback


class Counts(BaseCallback):
    calls = 0

    def _on_step(self):
        self.calls += 1
        return True

    def _on_training_end(self):
        Path("counted").write_text(str(self.calls))

    def state(self):
        return {"calls": self.calls}

    def restore(self, state):
        self.calls = state["calls"]


def with_argument():
    return Counts(verbose=1)


class Drawing(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 3
        return self.observation_space.sample(), {}

    def step(self, action):
        self.left -= 1
        return self.observation_space.sample(), 0.0, self.left == 0, False, {}

    def render(self):
        return np.full((20, 640, 3), 60 * self.left, np.uint8)


broken = lambda: 1 / 0
number = 3
symmetry = {"mirror": (np.negative, [1, 0])}
gym.register("Drawing-v0", Drawing)
gym.register("Blank-v0", type("Blank", (Drawing,), {"metadata": {}}))
"""


@pytest.fixture
def module(folder: Path) -> Path:
    """The current folder, with a module in it."""
    (folder / "mine.py").write_text(CALLBACKS)
    return folder


def test_callbacks_of_a_module_in_this_folder_are_called_and_go_on_where_they_stopped(
    equirl_command: Callable[..., Any], module: Path
) -> None:
    keys = ("env=cartpole", "callbacks=[mine:Counts]", "total_timesteps=64", "eval.every=64")
    train(equirl_command, module / "run", *keys)
    assert (module / "counted").read_text() == "64"
    outcome = equirl_command("train", "resume=run", "total_timesteps=96")
    assert outcome.code == 0, outcome.err
    assert (module / "counted").read_text() == "96"


def test_the_best_model_is_filmed(equirl_command: Callable[..., Any], module: Path) -> None:
    keys = ("env.id=mine:Drawing-v0", "env.symmetry=mine:symmetry", "check=off", "video=true")
    outcome = train(
        equirl_command,
        module / "run",
        *keys,
        "callbacks=[mine:with_argument]",
        "total_timesteps=64",
        "eval.every=64",
    )
    film = module / "run" / "best_model.gif"
    assert f"film:       {film}" in outcome.out
    with Image.open(film) as picture:
        assert picture.size == (320, 10)
        assert picture.n_frames == 4  # type: ignore[attr-defined]  # of a GIF
        assert picture.info["duration"] == 100


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("callbacks=[mine:Missing]", "cannot import mine:Missing"),
        ("callbacks=[mine]", "expected module:object, got 'mine'"),
        ("callbacks=[mine:number]", "must be or make a callback of SB3"),
        ("callbacks=[mine:broken]", "callbacks: mine:broken() failed: ZeroDivisionError"),
        ("loggers=[comet]", "loggers must be one of wandb, mlflow, got 'comet'"),
    ],
)
def test_what_is_no_callback_or_logger_is_refused(
    refused: Refused, module: Path, argument: str, said: str
) -> None:
    assert said in refused(*TRAIN, *TINY, argument)


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_an_environment_that_draws_no_pictures_is_not_filmed(
    refused: Refused, module: Path, plain_agent: Path, command: str
) -> None:
    more = "method=plain" if command == "train" else f"agent={plain_agent}"
    line = refused(command, more, "env.id=mine:Blank-v0", "video=true", "progress=false")
    assert "mine:Blank-v0 draws no pictures" in line
    assert "render_mode='rgb_array'" in line


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_that_is_not_installed_says_how_to_get_it(
    refused: Refused, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda module, *a: None if module == name else find(module, *a)
    )
    assert f'pip install "equirl[{name}]"' in refused(*TRAIN, *TINY, f"loggers=[{name}]")


def test_a_logger_that_cannot_begin_leaves_nothing_behind(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []

    def begin(*_: Any) -> Callable[[bool], None]:
        return ends.append

    def fail(*_: Any) -> Any:
        raise OSError("no account")

    monkeypatch.setattr(extensions, "BEGIN", {"wandb": begin, "mlflow": fail})
    monkeypatch.setattr(settings, "check_loggers", lambda names: None)
    line = refused(*TRAIN, *TINY, "loggers=[wandb,mlflow]")
    assert line == "loggers: mlflow cannot begin: OSError: no account"
    assert ends == [False]


def test_runs_of_the_same_name_log_to_curves_of_their_own(tmp_path: Path) -> None:
    runs = [tmp_path / sweep / "cartpole-seed0" for sweep in ("one", "another")]
    for run in runs:
        run.mkdir(parents=True)
    first, second = map(extensions._log_id, runs)
    assert first != second
    assert extensions._log_id(runs[0]) == first


@pytest.mark.slow
def test_mlflow_gets_the_curves_of_a_run_and_of_its_resumption(
    equirl_command: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    keys = ("env=cartpole", "loggers=[mlflow]", "total_timesteps=64", "eval.every=32")
    train(equirl_command, folder / "run", *keys)
    assert equirl_command("train", "resume=run", "total_timesteps=128").code == 0
    (run,) = mlflow.search_runs(experiment_names=["equirl"], output_format="list")
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "eval/mean_reward")
    assert sorted({point.step for point in history}) == [32, 64, 96, 128]
    assert run.data.params["env.id"] == "CartPole-v1"


@pytest.mark.slow
def test_wandb_gets_the_curves_offline(
    equirl_command: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(equirl_command, folder / "run", "env=cartpole", "loggers=[wandb]", "total_timesteps=64")
    (log,) = (folder / "run" / "wandb").glob("offline-run-*/*.wandb")
    assert b"eval/mean_reward" in log.read_bytes()
