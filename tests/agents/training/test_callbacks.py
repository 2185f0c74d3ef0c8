"""Callbacks: what they write can be read back, and training does not notice them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from equirl.agents import EquivariantA2C, EquivariantDQN, OrbitReplayBuffer
from equirl.agents.training.callbacks import EquivarianceCallback
from equirl.agents.training.checkpoint_callback import CheckpointCallback
from equirl.agents.training.evaluation import play_episodes
from equirl.agents.training.evaluation_callback import EvaluationCallback
from equirl.agents.training.periodic_callback import PeriodicCallback
from equirl.envs import SymmetryWrapper
from equirl.errors import AgentError
from shared.actor_critic_tasks import Wide, task
from shared.off_policy_agents import ALGORITHMS as OFF_POLICY
from shared.off_policy_agents import agent as off_policy_agent
from shared.rarely import rarely
from shared.small_agents import METHODS, SMALL, cartpole


def gridworld() -> gym.Env[Any, Any]:
    return gym.make("equirl/GridWorld-v0", size=4, max_episode_steps=12)


def scalars(folder: Path) -> dict[str, list[float]]:
    (run,) = folder.iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    return {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.covering(1)
@pytest.mark.parametrize("make_env", [cartpole, gridworld])
@pytest.mark.parametrize("method", METHODS)
def test_tensorboard_shows_what_the_symmetrization_does(
    method: str, make_env: Any, tmp_path: Path
) -> None:
    env = make_env()
    model = EquivariantDQN("MlpPolicy", env, method, tensorboard_log=str(tmp_path), **SMALL)
    model.learn(240, callback=EquivarianceCallback(every=40), log_interval=1)
    read = {tag: values for tag, values in scalars(tmp_path).items() if tag.startswith("equirl/")}
    names = list(model.symmetry.group.names)
    expected = {
        "equirl/equivariance_error",
        "equirl/orbit_disagreement",
        "equirl/weight_entropy",
        *(f"equirl/chosen/{name}" for name in names),
    }
    if method == "lambda":
        expected.add("equirl/lambda_inverse_temperature")
    assert set(read) == expected
    assert max(read["equirl/equivariance_error"]) <= 1e-5
    assert min(read["equirl/orbit_disagreement"]) > 1e-4
    chosen = np.array([read[f"equirl/chosen/{name}"] for name in names])
    assert chosen.shape[1] >= 3
    np.testing.assert_allclose(chosen.sum(axis=0), 1, atol=1e-5)
    entropy = np.array(read["equirl/weight_entropy"])
    if method == "equitune":
        np.testing.assert_allclose(entropy, 1, atol=1e-6)
        np.testing.assert_allclose(chosen, 1 / len(names), atol=1e-6)
    elif method == "lambda":
        assert (entropy > 0).all()
        assert (entropy <= 1 + 1e-6).all()
    else:
        # Only states with a stabiliser share their weight.
        assert (entropy < 0.5).all()
        assert chosen.std() > 0


def curves_of(algorithm: str, method: str) -> tuple[Any, dict[str, float]]:
    """A small agent after a little training, and what was recorded last."""
    if algorithm == "a2c":
        env = task("vector", "box")
        small = {"net_arch": [8], "features_extractor_class": Wide}
        fixed: dict[str, Any] = {"symmetry": env.symmetry, "policy_kwargs": small, "seed": 0}
        model: Any = EquivariantA2C("MlpPolicy", env, method, device="cpu", **fixed)
    else:
        model = off_policy_agent(algorithm, method)
    model.learn(32, callback=EquivarianceCallback(every=10), log_interval=1000)
    read = {k: v for k, v in model.logger.name_to_value.items() if k.startswith("equirl/")}
    return model, {name.removeprefix("equirl/"): value for name, value in read.items()}


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("algorithm", ["a2c", *OFF_POLICY])
def test_every_algorithm_shows_what_its_actor_and_its_critics_do(
    algorithm: str, method: str
) -> None:
    model, read = curves_of(algorithm, method)
    names = model.symmetry.group.names
    expected = {"equivariance_error", "orbit_disagreement", "weight_entropy"}
    expected |= {f"chosen/{name}" for name in names}
    if algorithm != "qrdqn":  # whose actions are those of its value
        expected |= {"value_equivariance_error", "value_orbit_disagreement"}
    if method == "lambda":
        expected.add("lambda_inverse_temperature")
    assert set(read) == expected
    for name, value in read.items():
        if name.endswith("equivariance_error"):
            assert 0 <= value <= 1e-5
        if name.endswith("orbit_disagreement"):
            assert value > 1e-4
    assert sum(read[f"chosen/{name}"] for name in names) == pytest.approx(1, abs=1e-5)
    assert (method == "equitune") == (read["weight_entropy"] == pytest.approx(1, abs=1e-6))


def test_the_metrics_of_known_networks_are_known() -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), "equizero", **SMALL)
    states = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, -0.5, 0.2, 0.1]])
    with torch.no_grad():
        for parameter in model.q_net.parameters():
            parameter.zero_()
        model.q_net.q_net[-1].bias += torch.tensor([1.0, 3.0])
    # Q = (1, 3) everywhere: both branches score 3, and the mirrored one is (3, 1).
    assert model.policy.equivariance_metrics(states) == pytest.approx(
        {
            "equivariance_error": 0,
            "orbit_disagreement": 1,
            "weight_entropy": 1,
            "chosen/e": 0.5,
            "chosen/mirror": 0.5,
        }
    )


def test_a_broken_equivariance_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), **SMALL)
    plain = DQN("MlpPolicy", cartpole(), **SMALL)
    monkeypatch.setattr(model.q_net, "forward", plain.q_net.forward)
    states = torch.randn(8, 4)
    assert model.policy.equivariance_metrics(states)["equivariance_error"] > 1e-3


def test_a_plain_policy_has_nothing_to_show(tmp_path: Path) -> None:
    env = SymmetryWrapper(cartpole())
    model = DQN(
        "MlpPolicy",
        env,
        replay_buffer_class=OrbitReplayBuffer,
        replay_buffer_kwargs={"symmetry": env.symmetry},
        tensorboard_log=str(tmp_path),
        **SMALL,
    )
    model.learn(200, callback=EquivarianceCallback(every=50), log_interval=1)
    read = scalars(tmp_path)
    assert "rollout/exploration_rate" in read
    assert not [tag for tag in read if tag.startswith("equirl/")]


@pytest.mark.long
@pytest.mark.parametrize("method", rarely(METHODS, "equitune", "equizero", "canonical"))
def test_training_does_not_notice_the_callbacks(method: str, tmp_path: Path) -> None:
    parameters = []
    for watched in (False, True):
        model = EquivariantDQN("MlpPolicy", cartpole(), method, **SMALL)
        callbacks = [
            EquivarianceCallback(every=7),
            EvaluationCallback(cartpole, tmp_path, every=90, seeds=range(2)),
            CheckpointCallback(tmp_path, every=100),
        ]
        model.learn(300, callback=callbacks if watched else None)
        parameters.append(model.policy.state_dict())
    for key, value in parameters[0].items():
        assert torch.equal(value, parameters[1][key]), key


def test_evaluations_have_the_format_of_sb3(tmp_path: Path) -> None:
    model = EquivariantDQN("MlpPolicy", gridworld(), **SMALL)
    ours = EvaluationCallback(gridworld, tmp_path / "new" / "folder", every=60, seeds=range(3))
    theirs = EvalCallback(
        VecTransposeImage(DummyVecEnv([lambda: Monitor(gridworld())])),
        n_eval_episodes=3,
        eval_freq=60,
        log_path=str(tmp_path),
        verbose=0,
    )
    model.learn(120, callback=[ours, theirs])
    own = np.load(tmp_path / "new" / "folder" / "evaluations.npz")
    expected = np.load(tmp_path / "evaluations.npz")
    assert set(expected) == {"timesteps", "results", "ep_lengths", "successes"}
    assert set(own) == {*expected, "seconds", "cpu_seconds"}
    for name in expected:
        assert own[name].shape == expected[name].shape, name
        assert own[name].dtype == expected[name].dtype, name
    assert own["timesteps"].tolist() == [60, 120]


def test_evaluations_are_those_of_the_model_at_that_step(tmp_path: Path) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), **SMALL)
    callback = EvaluationCallback(cartpole, tmp_path, every=40, seeds=range(10, 13))
    model.learn(36, callback=callback)
    assert not (tmp_path / "evaluations.npz").exists()
    model.learn(40, callback=callback)
    # Nothing has been learned yet, so the model is still the one that was evaluated.
    expected = play_episodes(model, cartpole, range(10, 13))
    written = np.load(tmp_path / "evaluations.npz")
    assert set(written) == {"timesteps", "results", "ep_lengths", "seconds", "cpu_seconds"}
    np.testing.assert_array_equal(written["results"], expected.returns[None])
    np.testing.assert_array_equal(written["ep_lengths"], expected.lengths[None])


@pytest.mark.long
def test_the_best_model_is_the_one_with_the_greatest_mean_return(tmp_path: Path) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), "lambda", learning_rate=0.01, **SMALL)
    callback = EvaluationCallback(cartpole, tmp_path, every=50, seeds=range(5))
    model.learn(400, callback=callback)
    means = [episodes.mean for _, episodes, _ in callback.history]
    assert len(means) == 8
    assert len(set(means)) > 2
    assert callback.best_mean_return == max(means)
    assert callback.best_path == tmp_path / "best_model.zip"
    best = EquivariantDQN.load(callback.best_path, device="cpu")
    assert play_episodes(best, cartpole, range(5)).mean == max(means)
    assert best.num_timesteps == callback.history[int(np.argmax(means))][0]


@pytest.mark.parametrize(("target", "steps"), [(5.0, 30), (501.0, 92), (None, 92)])
def test_training_stops_at_the_target_return(
    target: float | None, steps: int, tmp_path: Path
) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), **SMALL)
    callback = EvaluationCallback(cartpole, tmp_path, 30, range(1), target_return=target)
    model.learn(92, callback=callback)
    assert model.num_timesteps == steps


def test_evaluation_is_logged_for_tensorboard(tmp_path: Path) -> None:
    model = EquivariantDQN("MlpPolicy", gridworld(), tensorboard_log=str(tmp_path / "tb"), **SMALL)
    callback = EvaluationCallback(gridworld, tmp_path, every=50, seeds=range(4))
    model.learn(100, callback=callback)
    read = scalars(tmp_path / "tb")
    first = callback.history[0][1]
    assert read["eval/mean_reward"][0] == pytest.approx(first.mean)
    assert read["eval/mean_ep_length"][0] == pytest.approx(first.lengths.mean())
    assert first.successes is not None
    assert read["eval/success_rate"][0] == pytest.approx(first.successes.mean())


@pytest.mark.parametrize("callback", ["evaluation", "checkpoint", "equivariance"])
def test_training_that_goes_on_counts_from_where_it_is(callback: str, tmp_path: Path) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), tensorboard_log=str(tmp_path / "tb"), **SMALL)
    model.learn(100)
    assert model.num_timesteps == 100
    if callback == "evaluation":
        evaluation = EvaluationCallback(cartpole, tmp_path, every=40, seeds=range(1))
        model.learn(60, callback=evaluation, reset_num_timesteps=False)
        assert [step for step, *_ in evaluation.history] == [140]
    elif callback == "checkpoint":
        model.learn(60, callback=CheckpointCallback(tmp_path, every=40), reset_num_timesteps=False)
        assert [path.name for path in tmp_path.glob("*.zip")] == ["step_140.zip"]
    else:
        watch = EquivarianceCallback(every=40)
        model.learn(60, callback=watch, reset_num_timesteps=False)
        assert watch._next == 180


def test_what_goes_on_may_be_done_more_often_than_before() -> None:
    class Counted(PeriodicCallback):
        def _on_time(self) -> bool:
            times.append(self.num_timesteps)
            return True

    times: list[int] = []
    model = DQN("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [4]})
    before = Counted(1000)
    model.learn(20, callback=before)
    for every, expected in ((10, [30, 40]), (1000, [])):
        times.clear()
        after = Counted(every)
        after.restore(before.state())
        model.num_timesteps = 20
        model.learn(20, callback=after, reset_num_timesteps=False)
        assert times == expected


@pytest.mark.parametrize("cls", [EquivariantDQN, EquivariantA2C])
def test_a_training_that_begins_anew_leaves_the_checkpoints_of_another_alone(
    cls: Any, tmp_path: Path
) -> None:
    small = SMALL if cls is EquivariantDQN else {"device": "cpu"}
    model, callback = cls("MlpPolicy", cartpole(), **small), CheckpointCallback(tmp_path, every=20)
    model.learn(60, callback=callback)
    kept = [path.name for path in callback.paths()]
    model.learn(60, callback=callback, reset_num_timesteps=False)
    assert kept != [path.name for path in callback.paths()]
    kept = [path.name for path in callback.paths()]
    with pytest.raises(AgentError, match="another folder"):
        model.learn(40, callback=callback)
    assert kept == [path.name for path in callback.paths()]
