"""Training with every option that SB3's own tests set, and nothing of it ignored."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from torch import nn

from equirl.agents import EquivariantDQN, EquivariantDQNPolicy, EquivariantMultiInputPolicy
from equirl.envs import SymmetryWrapper
from shared.rarely import rarely
from shared.sb3_agents import (
    TASKS,
    Dropping,
    agent,
    assert_same_layers,
    cartpole,
    each_algorithm,
    each_task,
    q_values,
)
from shared.small_agents import METHODS

each_method = pytest.mark.parametrize("method", METHODS)
NEVER = 10**6


class Opposite(gym.Env[Any, np.int64]):
    """The reward is 1 for the action opposite the place shown, on a ring of four; 20 steps."""

    observation_space = spaces.Discrete(4)
    action_space = spaces.Discrete(4)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._left = 20
        return self._next(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action == (self._shown + 2) % 4)
        self._left -= 1
        return self._next(), reward, False, self._left == 0, {}

    def _next(self) -> Any:
        self._shown = self.np_random.integers(4)
        return self._shown


def opposite() -> gym.Env[Any, Any]:
    """The dihedral group of the square moves places and actions alike."""
    return SymmetryWrapper(
        Opposite(),
        {
            "r": (lambda s: (s + 1) % 4, [1, 2, 3, 0]),
            "s": (lambda s: (4 - s) % 4, [0, 3, 2, 1]),
        },
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("algorithm", "method"),
    rarely(
        [(DQN, "lambda"), *((EquivariantDQN, method) for method in METHODS)],
        (DQN, "lambda"),
        *((EquivariantDQN, method) for method in METHODS if method != "equitune"),
    ),
)
def test_what_is_rewarded_is_learned(algorithm: type[DQN], method: str) -> None:
    env = opposite()
    own = {"symmetry": env.symmetry, "method": method}
    model = algorithm(
        EquivariantDQNPolicy,
        env,
        policy_kwargs={"net_arch": [16], **own},
        gamma=0.0,
        learning_rate=1e-2,
        learning_starts=20,
        batch_size=16,
        train_freq=4,
        gradient_steps=4,
        buffer_size=400,
        seed=0,
        device="cpu",
    )
    before, _ = evaluate_policy(model, opposite(), n_eval_episodes=3, warn=False)
    model.learn(300)
    after, _ = evaluate_policy(model, opposite(), n_eval_episodes=3, warn=False)
    assert before < 10 < 18 < after  # of 20


def plain(**kwargs: Any) -> DQN:
    """Stock DQN with its own policy, whose counts are those to be had."""
    _, make_env, _ = TASKS["vector"]
    options = {"batch_size": 4, "learning_starts": 8, "buffer_size": 100, "seed": 0}
    return DQN("MlpPolicy", make_env(), policy_kwargs={"net_arch": [8]}, **{**options, **kwargs})


@pytest.mark.covering(1)
@each_algorithm
@pytest.mark.parametrize(
    "options",
    [
        {"train_freq": 1},
        {"train_freq": 4, "gradient_steps": -1},
        {"train_freq": (5, "step"), "gradient_steps": 2},
        {"train_freq": (1, "episode")},
        {"train_freq": (1, "episode"), "gradient_steps": -1},
        {"train_freq": (2, "episode"), "gradient_steps": 30},
        {"train_freq": 4, "gradient_steps": 0},
        {"learning_starts": 0, "train_freq": 1, "gradient_steps": 2},
        {"learning_starts": 100},
    ],
    ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()),
)
def test_training_is_as_often_as_asked(algorithm: type[DQN], options: dict[str, Any]) -> None:
    model, reference = agent(algorithm, method="canonical", **options), plain(**options)
    steps: list[Any] = []
    model.policy.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    for learner in (model, reference):
        learner.learn(40)
    assert model.num_timesteps == reference.num_timesteps
    assert model._n_updates == reference._n_updates == len(steps)
    assert model._episode_num == reference._episode_num


@each_algorithm
@pytest.mark.parametrize("wrong", [(1, "year"), (0.5, "step")])
def test_a_training_frequency_that_does_not_exist_is_refused(
    algorithm: type[DQN], wrong: Any
) -> None:
    with pytest.raises(ValueError, match="train_freq"):
        agent(algorithm, train_freq=wrong)


@pytest.mark.covering(1)
@each_algorithm
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize(("interval", "tau"), [(1, 1.0), (7, 1.0), (6, 0.25), (NEVER, 1.0)])
def test_the_target_network_is_updated_as_often_as_asked(
    algorithm: type[DQN], n_envs: int, interval: int, tau: float
) -> None:
    env = DummyVecEnv([TASKS["vector"][1]] * n_envs)
    model = agent(algorithm, env=env, train_freq=1, target_update_interval=interval, tau=tau)
    online: list[dict[str, Any]] = []
    changed_at = []
    last = {k: v.clone() for k, v in model.q_net_target.state_dict().items()}

    def watch(*_: Any) -> bool:
        nonlocal last
        now = {k: v.clone() for k, v in model.q_net_target.state_dict().items()}
        if any(not torch.equal(v, last[k]) for k, v in now.items()):
            changed_at.append(model._n_calls)
            if tau == 1:
                assert all(torch.equal(v, online[-1][k]) for k, v in now.items())
            else:
                for name, _ in model.q_net.named_parameters():
                    expected = last[name].lerp(online[-1][name], tau)
                    torch.testing.assert_close(now[name], expected)
        online.append({k: v.clone() for k, v in model.q_net.state_dict().items()})
        last = now
        return True

    model.learn(60, callback=watch)
    every = max(interval // n_envs, 1)
    first_trained = 8 // n_envs + 1
    # The callback sees a step before the target follows it.
    due = [n for n in range(1, 60 // n_envs) if n % every == 0 and n > first_trained + 1]
    assert [n for n in changed_at if n > first_trained + 1] == due


@pytest.mark.covering(1)
@each_algorithm
@pytest.mark.parametrize(
    "schedule",
    [LinearSchedule(1e-2, 1e-3, 1.0), lambda left: 1e-3 + 9e-3 * left],
    ids=["LinearSchedule", "function"],
)
def test_the_learning_rate_follows_its_schedule(algorithm: type[DQN], schedule: Any) -> None:
    model = agent(algorithm, learning_rate=schedule, train_freq=1)
    seen: list[float] = []
    model.policy.optimizer.register_step_post_hook(
        lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"])
    )
    model.learn(40)
    expected = [1e-3 + 9e-3 * (1 - n / 40) for n in range(9, 41)]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


OPTIMIZERS: list[tuple[Any, dict[str, Any]]] = [
    (torch.optim.Adam, {"weight_decay": 0.1}),
    (torch.optim.AdamW, {"weight_decay": 0.1, "fused": False}),
    (torch.optim.Adam, {"foreach": True}),
    (torch.optim.SGD, {"momentum": 0.9}),
    (torch.optim.RMSprop, {"eps": 1e-3}),
]


@pytest.mark.covering(1)
@each_algorithm
@pytest.mark.parametrize(("optimizer_class", "options"), OPTIMIZERS)
def test_every_optimiser_trains_with_its_options(
    algorithm: type[DQN], optimizer_class: Any, options: dict[str, Any]
) -> None:
    chosen = {"optimizer_class": optimizer_class, "optimizer_kwargs": dict(options)}
    model = agent(algorithm, policy_kwargs=chosen)
    optimizer = model.policy.optimizer
    assert type(optimizer) is optimizer_class
    for name, value in options.items():
        assert optimizer.param_groups[0][name] == value
    assert chosen["optimizer_kwargs"] == options
    before = q_values(model)
    model.learn(20)
    assert not torch.equal(q_values(model), before)


class Widths(BaseFeaturesExtractor):
    def __init__(self, space: spaces.Box, features_dim: int = 5) -> None:
        super().__init__(space, features_dim)
        self.layer = nn.Linear(4, features_dim)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.layer(points)
        return features


@pytest.mark.covering(1)
@each_method
@each_algorithm
@pytest.mark.parametrize(
    ("policy_kwargs", "layers"),
    [
        ({"net_arch": []}, "Linear(4, 4)"),
        ({"net_arch": None}, "Linear(4, 64) ReLU Linear(64, 64) ReLU Linear(64, 4)"),
        ({"net_arch": [6], "activation_fn": nn.Tanh}, "Linear(4, 6) Tanh Linear(6, 4)"),
        ({"net_arch": [], "features_extractor_class": Widths}, "Linear(5, 4)"),
        (
            {
                "net_arch": [6],
                "features_extractor_class": Dropping,
                "features_extractor_kwargs": {"features_dim": 7, "dropout": 0.1},
            },
            "Linear(7, 6) ReLU Linear(6, 4)",
        ),
    ],
    ids=["linear", "default", "tanh", "own-features", "own-features-with-options"],
)
def test_networks_are_built_as_asked_and_train(
    algorithm: type[DQN], method: str, policy_kwargs: dict[str, Any], layers: str
) -> None:
    model = agent(algorithm, method=method, policy_kwargs=policy_kwargs)
    assert " ".join(shown(layer) for layer in model.q_net.q_net) == layers
    before = q_values(model)
    model.learn(20)
    assert not torch.equal(q_values(model), before)
    assert_same_layers(model)


def shown(layer: nn.Module) -> str:
    if isinstance(layer, nn.Linear):
        return f"Linear({layer.in_features}, {layer.out_features})"
    return type(layer).__name__


@pytest.mark.covering(1)
@pytest.mark.parametrize(
    ("task", "method"), [*(("vector", method) for method in METHODS), ("image", "equizero")]
)
@each_algorithm
@pytest.mark.parametrize(
    "options",
    [
        {"n_steps": 3},
        {
            "optimize_memory_usage": True,
            "replay_buffer_kwargs": {"handle_timeout_termination": False},
        },
        {"n_envs": 2},
    ],
    ids=["n-step", "memory-saving", "two-environments"],
)
def test_every_replay_is_trained_from(
    algorithm: type[DQN], task: str, method: str, options: dict[str, Any]
) -> None:
    options = dict(options)
    env = DummyVecEnv([TASKS[task][1]] * options.pop("n_envs", 1))
    model = agent(algorithm, task, method, env=env, **options)
    before = q_values(model)
    model.learn(40)
    assert not torch.equal(q_values(model), before)
    assert q_values(model).isfinite().all()
    for name in ("optimize_memory_usage", "n_steps"):
        if name in options:
            assert getattr(model.replay_buffer, name) == options[name]


@pytest.mark.long
def test_images_in_processes_of_their_own_are_trained_from() -> None:
    env = SymmetryWrapper(gym.make("equirl/GridWorld-v0", size=36))
    envs = SubprocVecEnv([partial(gym.make, env.spec)] * 2)
    try:
        model = agent(DQN, "image", env=envs, policy_kwargs={"symmetry": env.symmetry})
        before = model.q_net.q_net[0].weight.detach().clone()
        model.learn(40)
        assert not torch.equal(model.q_net.q_net[0].weight, before)
        assert model.num_timesteps == 40
    finally:
        envs.close()


@pytest.mark.covering(1)
@each_task
@each_algorithm
def test_learning_goes_on_where_it_stopped_or_begins_again(algorithm: type[DQN], task: str) -> None:
    model = agent(algorithm, task).learn(16)
    updates = model._n_updates
    model.learn(16, reset_num_timesteps=False)
    assert model.num_timesteps == 32
    assert model._n_updates > updates
    model.learn(16)
    assert model.num_timesteps == 16
    assert_same_layers(model)


@each_algorithm
def test_verbose_says_what_sb3_says(
    algorithm: type[DQN], capsys: pytest.CaptureFixture[str]
) -> None:
    agent(algorithm, verbose=0).learn(40)
    assert capsys.readouterr().out == ""
    agent(algorithm, verbose=1).learn(40)
    out = capsys.readouterr().out
    for words in ("Using cpu device", "rollout/", "exploration_rate", "train/", "loss"):
        assert words in out


@each_algorithm
def test_a_policy_class_for_other_observations_is_refused_by_sb3(algorithm: type[DQN]) -> None:
    symmetry = TASKS["dict"][1]().symmetry
    with pytest.raises(ValueError, match="You must use `MultiInputPolicy`"):
        algorithm("MlpPolicy", TASKS["dict"][1](), policy_kwargs={"symmetry": symmetry})


def test_policy_kwargs_are_left_as_they_were_given() -> None:
    given = {"net_arch": [8], "optimizer_kwargs": {"eps": 1e-3}}
    model = EquivariantDQN("MlpPolicy", TASKS["vector"][1](), policy_kwargs=given, buffer_size=1)
    assert given == {"net_arch": [8], "optimizer_kwargs": {"eps": 1e-3}}
    assert model.policy.optimizer.param_groups[0]["eps"] == 1e-3


@each_algorithm
def test_a_symmetry_may_be_named_by_its_environment(algorithm: type[DQN], tmp_path: Any) -> None:
    named = {"symmetry": "CartPole-v1", "net_arch": [8]}
    model = algorithm(EquivariantDQNPolicy, "CartPole-v1", policy_kwargs=named, seed=0)
    assert model.q_net.symmetry_args["symmetry"].group.names == ("e", "mirror")
    model.learn(20)
    model.save(tmp_path / "agent")
    for reader in (DQN, EquivariantDQN):
        loaded = reader.load(tmp_path / "agent", env=cartpole())
        assert torch.equal(q_values(loaded), q_values(model))
        loaded.learn(20)
    assert loaded.symmetry == model.q_net.symmetry_args["symmetry"]


def test_every_alias_of_ours_is_the_policy_that_stock_dqn_takes() -> None:
    model = agent(EquivariantDQN, "dict")
    assert type(model.policy) is EquivariantMultiInputPolicy
    assert type(agent(DQN, "dict").policy) is EquivariantMultiInputPolicy
