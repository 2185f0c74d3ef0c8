"""Acting: shapes, seeds, and training and evaluation mode, as SB3's own tests ask of it."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage
from torch import nn

from equirl.agents import EquivariantDQN
from equirl.envs import RandomTransformWrapper, SymmetryWrapper, TransformWrapper
from shared import policy_tasks
from shared.policy_tasks import ENVIRONMENTS
from shared.sb3_agents import (
    TASKS,
    Dropping,
    agent,
    assert_equal,
    cartpole,
    each_algorithm,
    each_task,
    q_values,
)
from shared.small_agents import METHODS

each_method = pytest.mark.parametrize("method", METHODS)
acting = pytest.mark.parametrize("exploring", [False, True], ids=["greedy", "exploring"])


def predicted(model: DQN, observation: Any, exploring: bool) -> np.ndarray:
    model.exploration_rate = 1.0
    actions, state = model.predict(observation, deterministic=not exploring)
    assert state is None
    assert isinstance(actions, np.ndarray)
    assert np.issubdtype(actions.dtype, np.integer)
    return actions


@pytest.mark.covering(1)
@acting
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_one_observation_gives_one_action_and_a_batch_as_many(name: str, exploring: bool) -> None:
    model, symmetry = policy_tasks.agent(name, {"method": "lambda"})
    env = ENVIRONMENTS[name][1]()
    observation, _ = env.reset(seed=0)
    action = predicted(model, observation, exploring)
    assert action.shape == ()
    assert symmetry.action_space.contains(action[()])
    env.step(action)
    envs = DummyVecEnv([ENVIRONMENTS[name][1]] * 3)
    actions = predicted(model, envs.reset(), exploring)
    assert actions.shape == (3,)
    envs.step(actions)


@each_algorithm
def test_images_are_taken_as_the_environment_shows_them_and_as_sb3_turns_them(
    algorithm: type[DQN],
) -> None:
    model = agent(algorithm, "image")
    images = DummyVecEnv([TASKS["image"][1]] * 4)
    images.seed(0)
    last = images.reset()
    first = VecTransposeImage.transpose_image(last)
    assert last.shape[1:] != first.shape[1:]
    expected = predicted(model, last, exploring=False)
    assert predicted(model, first, exploring=False).tolist() == expected.tolist()


@pytest.mark.covering(1)
@each_task
@each_algorithm
def test_an_observation_of_another_shape_is_refused(algorithm: type[DQN], task: str) -> None:
    model = agent(algorithm, task)
    image, vector = np.zeros((36, 35, 1), np.uint8), np.zeros(5, np.float32)
    scene = {"image": image, "vector": vector, "place": np.int64(1)}
    with pytest.raises(ValueError, match="observation"):
        model.predict({"vector": vector, "image": image, "dict": scene}[task])


@pytest.mark.covering(1)
@each_task
@each_algorithm
def test_the_same_seed_gives_the_same_training(algorithm: type[DQN], task: str) -> None:
    def run(seed: int) -> DQN:
        return agent(algorithm, task, seed=seed, exploration_final_eps=0.5).learn(40)

    first, again, other = run(3), run(3), run(4)
    assert_equal(again.policy.state_dict(), first.policy.state_dict())
    np.testing.assert_array_equal(again.replay_buffer.actions, first.replay_buffer.actions)
    assert not torch.equal(q_values(other), q_values(first))


@each_algorithm
def test_set_random_seed_repeats_what_follows(algorithm: type[DQN]) -> None:
    seen = []
    for model in (agent(algorithm, seed=None), agent(algorithm, seed=None)):
        model.set_parameters(agent(algorithm).get_parameters(), device="cpu")
        model.set_random_seed(7)
        model.learn(40)
        seen.append(model.policy.state_dict())
    assert_equal(*seen)


@each_method
def test_evaluate_policy_repeats_itself_and_sees_every_symmetric_episode_alike(method: str) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), method, seed=1, device="cpu", buffer_size=1)
    plain, mirrored = (
        evaluate_policy(model, Monitor(env), n_eval_episodes=3, return_episode_rewards=True)
        for env in (seeded(cartpole()), seeded(TransformWrapper(cartpole(), "mirror")))
    )
    envs = make_vec_env(lambda: seeded(cartpole()), n_envs=2)
    several = evaluate_policy(model, envs, n_eval_episodes=2, return_episode_rewards=True)
    assert plain == mirrored
    assert several[0] == plain[0][:1] * 2
    steps: list[int] = []
    mean, _ = evaluate_policy(
        model, Monitor(seeded(cartpole())), 3, callback=lambda local, _: steps.append(1)
    )
    assert mean == np.mean(plain[0])
    assert len(steps) == sum(plain[1])


def seeded(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    env.reset(seed=5)
    original = env.reset
    seeds = iter(range(10**6))

    def reset(**_: Any) -> Any:
        return original(seed=next(seeds))

    env.reset = reset
    return env


DROPPING = {"features_extractor_class": Dropping}


@pytest.mark.covering(1)
@each_method
@each_algorithm
def test_predicting_is_in_evaluation_mode_and_training_in_training_mode(
    algorithm: type[DQN], method: str
) -> None:
    model = agent(algorithm, method=method, policy_kwargs=DROPPING)
    dropout, statistics = model.q_net.features_extractor.layers[2], "features_extractor.layers.1."
    seen: dict[str, set[bool]] = {"predict": set(), "train": set()}
    during = "predict"
    dropout.register_forward_hook(lambda module, *_: seen[during].add(module.training))
    for observation in np.zeros((2, 4), np.float32):
        model.predict(observation, deterministic=True)
    model.learn(8)
    start = copy.deepcopy(model.q_net.state_dict())
    fresh = agent(algorithm, method=method, policy_kwargs=DROPPING).q_net.state_dict()
    for key in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(start[statistics + key], fresh[statistics + key])
    during = "train"
    model.train(3, 8)
    assert model.policy.training
    assert model.q_net.training
    assert not model.q_net_target.training
    after = model.q_net.state_dict()
    assert not torch.equal(after[statistics + "running_mean"], start[statistics + "running_mean"])
    during = "predict"
    model.predict(np.zeros(4, np.float32), deterministic=True)
    assert not model.policy.training
    assert seen["predict"] == {False}
    assert True in seen["train"]


@each_algorithm
def test_actions_are_the_same_each_time_whatever_is_dropped_in_training(
    algorithm: type[DQN],
) -> None:
    model = agent(algorithm, policy_kwargs=DROPPING)
    model.learn(40)
    before = q_values(model)
    assert torch.equal(q_values(model), before)
    model.policy.set_training_mode(True)
    points = torch.zeros(64, 4) + torch.arange(4)
    with torch.no_grad():
        assert not torch.equal(model.q_net(points), model.q_net(points))
    model.policy.set_training_mode(False)
    with torch.no_grad():
        assert torch.equal(model.q_net(points), model.q_net(points))


@each_algorithm
def test_layers_put_in_later_act_in_evaluation_mode(algorithm: type[DQN]) -> None:
    model = agent(algorithm)
    model.predict(np.zeros(4, np.float32), deterministic=True)
    model.q_net.q_net[1] = nn.Sequential(nn.ReLU(), nn.Dropout(0.9))  # a new layer is in training
    model.predict(np.zeros(4, np.float32), deterministic=True)
    assert not any(module.training for module in model.q_net.modules())
    model.q_net.q_net.eval()
    model._setup_learn(8)
    model.learn(16)
    model.train(1, 4)
    assert all(module.training for module in model.q_net.modules())


@each_algorithm
def test_the_target_network_takes_the_running_statistics_over(algorithm: type[DQN]) -> None:
    never = 10**6
    model = agent(algorithm, policy_kwargs=DROPPING, target_update_interval=never, tau=0.0)
    model.learn(40)
    key = "features_extractor.layers.1.running_mean"
    assert not torch.equal(model.q_net.state_dict()[key], model.q_net_target.state_dict()[key])
    parameters = copy.deepcopy(dict(model.q_net_target.named_parameters()))
    model.target_update_interval = 1
    model._on_step()
    assert torch.equal(model.q_net.state_dict()[key], model.q_net_target.state_dict()[key])
    for name, value in model.q_net_target.named_parameters():  # tau is 0
        assert torch.equal(value, parameters[name])


@pytest.mark.filterwarnings("ignore:The minimal resolution for an image is 36x36")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "env",
    [
        gym.make("equirl/GridWorld-v0", size=36).unwrapped,
        gym.make("equirl/Snake-v0").unwrapped,
        SymmetryWrapper(cartpole()),
        TransformWrapper(cartpole(), 1),
        RandomTransformWrapper(gym.make("equirl/GridWorld-v0", size=36)),
    ],
    ids=["GridWorld", "Snake", "SymmetryWrapper", "TransformWrapper", "RandomTransformWrapper"],
)
def test_the_environment_checker_of_sb3_has_nothing_to_say(env: gym.Env[Any, Any]) -> None:
    check_env(env)


def test_the_global_seed_repeats_exploration() -> None:
    model = agent(DQN)
    model.exploration_rate = 0.5
    seen = []
    for _ in range(2):
        set_random_seed(11)
        model.action_space.seed(11)
        seen.append([model.predict(np.zeros(4, np.float32))[0].item() for _ in range(20)])
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 1
