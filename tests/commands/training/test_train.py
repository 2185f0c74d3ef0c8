"""`equirl train`: what a run leaves behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf
from stable_baselines3 import DQN
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from equirl.agents import EquivariantDQN, MirrorLossDQN
from equirl.agents.training.evaluation import play_episodes
from equirl.commands.training.run import FINAL_EVALUATION_SEED
from equirl.configs.schema import TrainConfig
from shared.rarely import rarely
from shared.short_training import train

RARE = ("augment", "mirror_loss", "equitune", "equizero", "canonical")
EQUIVARIANT = ("equitune", "lambda", "equizero", "canonical")
METHODS = ("plain", "augment", "mirror_loss", "native", *EQUIVARIANT)
STEPS = 1040  # equirl/* is measured every 1000 steps
CHECKPOINTS = {"step_1024.zip", "step_1040.zip"}  # every 500 steps, after a round of 16; the end


class Run(NamedTuple):
    """A finished run."""

    method: str
    folder: Path
    out: str

    @property
    def agent_class(self) -> type[DQN]:
        if self.method == "mirror_loss":
            return MirrorLossDQN
        return EquivariantDQN if self.method in EQUIVARIANT else DQN

    @property
    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.folder / "result.json").read_text())
        return result

    def events(self) -> EventAccumulator:
        return EventAccumulator(str(self.folder / "tensorboard")).Reload()

    def scalars(self, tag: str) -> list[tuple[int, float]]:
        return [(event.step, event.value) for event in self.events().Scalars(tag)]

    def hyper_parameters(self) -> dict[str, Any]:
        return {
            name: getattr(value, value.WhichOneof("kind"))
            for name, value in self._hparams("session_start_info").hparams.items()
        }

    def metrics_beside_them(self) -> list[str]:
        return [metric.name.tag for metric in self._hparams("experiment").metric_infos]

    def _hparams(self, part: str) -> Any:
        metadata = self.events().SummaryMetadata(f"_hparams_/{part}")
        return getattr(HParamsPluginData.FromString(metadata.plugin_data.content), part)


@pytest.fixture(scope="module", params=rarely(METHODS, *RARE))
def run(
    request: pytest.FixtureRequest,
    equirl_command: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    folder = tmp_path_factory.mktemp("runs") / request.param
    keys = ("env=cartpole", f"method={request.param}", f"total_timesteps={STEPS}", "seed=3")
    every = ("eval.every=500", "checkpoint_every=500")
    return Run(request.param, folder, train(equirl_command, folder, *keys, *every).out)


def test_run_directory_holds_everything_and_nothing_half_written(run: Run) -> None:
    assert {path.name for path in run.folder.iterdir()} == {
        "best_model.zip",
        "checkpoints",
        "config.yaml",
        "evaluations.npz",
        "final_model.zip",
        "provenance.json",
        "result.json",
        "tensorboard",
    }
    assert {p.name for p in (run.folder / "checkpoints").glob("*.zip")} == CHECKPOINTS
    assert not list(run.folder.rglob("*.writing*"))


def test_config_is_resolved_and_can_be_loaded_again(run: Run) -> None:
    text = (run.folder / "config.yaml").read_text()
    assert "${" not in text
    assert "???" not in text
    config = yaml.safe_load(text)
    assert config["method"]["name"] == run.method
    assert config["env"]["id"] == "CartPole-v1"
    assert config["total_timesteps"] == STEPS
    assert config["run_dir"] == str(run.folder)
    typed = OmegaConf.merge(OmegaConf.structured(TrainConfig), config)
    assert OmegaConf.to_container(typed) == config


def test_tensorboard_shows_the_scalars_of_sb3(run: Run) -> None:
    tags = run.events().Tags()["scalars"]
    assert {
        "eval/mean_reward",
        "rollout/ep_len_mean",
        "rollout/ep_rew_mean",
        "rollout/exploration_rate",
        "time/fps",
        "train/learning_rate",
        "train/loss",
    } <= set(tags)
    # In CartPole every step is worth 1.
    assert run.scalars("rollout/ep_rew_mean") == run.scalars("rollout/ep_len_mean")
    assert all(np.isfinite(value) for _, value in run.scalars("train/loss"))


def test_tensorboard_shows_what_symmetrization_does(run: Run) -> None:
    shown = {tag for tag in run.events().Tags()["scalars"] if tag.startswith("equirl/")}
    if run.method not in EQUIVARIANT:
        is_measured = run.method in ("mirror_loss", "native")
        assert shown == ({"equirl/equivariance_error"} if is_measured else set())
        if is_measured:
            ((_, error),) = run.scalars("equirl/equivariance_error")
            assert (error < 1e-5) == (run.method == "native")
        return
    temperature = {"equirl/lambda_inverse_temperature"} if run.method == "lambda" else set()
    assert shown == temperature | {
        "equirl/chosen/e",
        "equirl/chosen/mirror",
        "equirl/equivariance_error",
        "equirl/orbit_disagreement",
        "equirl/weight_entropy",
    }
    ((_, error),) = run.scalars("equirl/equivariance_error")
    ((_, disagreement),) = run.scalars("equirl/orbit_disagreement")
    ((_, entropy),) = run.scalars("equirl/weight_entropy")
    ((_, chosen),) = run.scalars("equirl/chosen/e")
    ((_, chosen_mirror),) = run.scalars("equirl/chosen/mirror")
    assert 0 <= error < 1e-5
    assert disagreement > 100 * max(error, 1e-7)  # the plain network inside is not equivariant
    assert chosen + chosen_mirror == pytest.approx(1, abs=1e-6)
    if run.method == "equitune":
        assert entropy == pytest.approx(1, abs=1e-6)
        assert chosen == 0.5
    elif run.method in ("equizero", "canonical"):
        assert entropy == pytest.approx(0, abs=1e-6)
        assert 0 < chosen < 1
    else:
        assert 0 < entropy <= 1


def test_text_tab_shows_the_configuration(run: Run) -> None:
    events = run.events()
    assert "config/text_summary" in events.Tags()["tensors"]
    (event,) = events.Tensors("config/text_summary")
    lines = event.tensor_proto.string_val[0].decode().splitlines()
    # Indented by four, which Markdown shows as it stands.
    assert all(line.startswith("    ") for line in lines)
    shown = "\n".join(line[4:] for line in lines).strip()
    assert shown == (run.folder / "config.yaml").read_text().strip()


def test_hyper_parameters_stand_beside_the_final_return(run: Run) -> None:
    given = run.hyper_parameters()
    assert given["method.name"] == run.method
    assert given["seed"] == 3
    assert given["algorithm.train_freq"] == 16
    assert run.metrics_beside_them() == ["final/mean_return"]
    ((_, final),) = run.scalars("final/mean_return")
    assert final == pytest.approx(run.result["best_mean_return"], abs=1e-3)


def test_evaluations_are_written_as_sb3_writes_them(run: Run) -> None:
    with np.load(run.folder / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [500, 1000, STEPS]
        assert evaluations["results"].shape == (3, 2)
        np.testing.assert_array_equal(evaluations["results"], evaluations["ep_lengths"])
        means = evaluations["results"].mean(axis=1)
    np.testing.assert_allclose([mean for _, mean in run.scalars("eval/mean_reward")], means)


def test_result_is_one_line(run: Run) -> None:
    text = (run.folder / "result.json").read_text()
    assert text.count("\n") == 1
    assert text.endswith("}\n")
    expected = {"env": "CartPole-v1", "method": run.method, "seed": 3, "steps": STEPS}
    assert expected.items() <= run.result.items()
    assert run.result["episodes"] == 3


def test_the_number_of_parameters_is_said_and_written(run: Run) -> None:
    model = run.agent_class.load(run.folder / "final_model.zip", device="cpu")
    count = sum(parameter.numel() for parameter in model.q_net.parameters())
    assert run.result["parameters"] == count
    assert f", {count} parameters, " in run.out.splitlines()[0]


def test_best_model_gives_the_result_on_episodes_not_seen_in_training(run: Run) -> None:
    model = run.agent_class.load(run.folder / "best_model.zip", device="cpu")
    seeds = range(FINAL_EVALUATION_SEED, FINAL_EVALUATION_SEED + 3)
    episodes = play_episodes(model, lambda: gym.make("CartPole-v1"), seeds)
    assert run.result["best_mean_return"] == pytest.approx(episodes.mean, abs=1e-3)
    assert run.result["half_width_95"] == pytest.approx(episodes.half_width, abs=1e-3)


def test_best_model_is_the_one_of_the_best_evaluation(run: Run) -> None:
    with np.load(run.folder / "evaluations.npz") as evaluations:
        means = evaluations["results"].mean(axis=1)
        best = int(evaluations["timesteps"][np.argmax(means)])
    model = run.agent_class.load(run.folder / "best_model.zip", device="cpu")
    assert model.num_timesteps == best


def test_every_saved_model_can_be_loaded(run: Run) -> None:
    for name in ("final_model.zip", *(f"checkpoints/{name}" for name in CHECKPOINTS)):
        model = run.agent_class.load(run.folder / name, device="cpu")
        assert type(model) is run.agent_class
        action, _ = model.predict(np.zeros(4, dtype=np.float32), deterministic=True)
        assert action in (0, 1)
    final = run.agent_class.load(run.folder / "final_model.zip", device="cpu")
    assert final.num_timesteps == STEPS


def test_last_lines_say_the_return_and_how_to_see_the_curves(run: Run) -> None:
    *_, best, where, curves = run.out.splitlines()
    said = re.search(r"mean return ([\d.]+) ± [\d.]+ over 3 episodes", best)
    assert said is not None
    assert float(said[1]) == pytest.approx(run.result["best_mean_return"], abs=0.05)
    assert str(run.folder / "best_model.zip") in where
    assert curves.endswith(f"tensorboard --logdir {run.folder}")
