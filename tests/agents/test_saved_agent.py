"""Saved agents: public ones, other architectures, damaged files, other environments."""

from __future__ import annotations

import base64
import io
import json
import pickle
import random
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from equirl.agents import EquivariantDQN
from equirl.agents.saved_agent import read_agent
from equirl.envs import SymmetryWrapper
from equirl.errors import AgentError

AGENTS = Path(__file__).parents[2] / ".." / "shared" / "data" / "rl_zoo_agents"
METHODS = ["equitune", "lambda", "equizero", "canonical"]
PUBLIC = ["CartPole-v1", "Acrobot-v1"]
needs_public_agents = pytest.mark.skipif(
    not AGENTS.is_dir(), reason=f"the public agents are not at {AGENTS}"
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Sampled(gym.Env[Any, np.int64]):
    """Shows random observations of a space."""

    def __init__(self, observation_space: spaces.Space[Any], actions: int = 2) -> None:
        self.observation_space = observation_space
        self.action_space = spaces.Discrete(actions)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 1.0, False, False, {}


class Doubled(BaseFeaturesExtractor):
    """A features extractor of the user's own."""

    def __init__(self, observation_space: spaces.Space[Any], times: float = 2.0) -> None:
        super().__init__(observation_space, get_flattened_obs_dim(observation_space))
        self.times = times

    def forward(self, observations: Tensor) -> Tensor:
        return self.times * observations.flatten(1)


class Cube(nn.Module):
    """An activation of the user's own."""

    def forward(self, x: Tensor) -> Tensor:
        return x**3


VECTOR = spaces.Box(-1, 1, (4,))
IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
MIXED = spaces.Dict(image=IMAGE, vector=spaces.Box(-1, 1, (3,)))
MIRRORS: dict[str, Any] = {
    "vector": (np.negative, [1, 0]),
    "image": (np.fliplr, [1, 0]),
    "mixed": ({"image": np.fliplr, "vector": [-1, 1, 1]}, [1, 0]),
}
SAVED: dict[str, tuple[str, str, spaces.Space[Any], dict[str, Any]]] = {
    "default": ("vector", "MlpPolicy", VECTOR, {}),
    "one-layer": ("vector", "MlpPolicy", VECTOR, {"net_arch": [24]}),
    "no-hidden-layer": ("vector", "MlpPolicy", VECTOR, {"net_arch": []}),
    "three-layers": ("vector", "MlpPolicy", VECTOR, {"net_arch": [16, 8, 12]}),
    "tanh": ("vector", "MlpPolicy", VECTOR, {"activation_fn": nn.Tanh, "net_arch": [16]}),
    "activation-elsewhere": ("vector", "MlpPolicy", VECTOR, {"activation_fn": nn.Identity}),
    "own-activation": ("vector", "MlpPolicy", VECTOR, {"activation_fn": Cube}),
    "own-extractor": (
        "vector",
        "MlpPolicy",
        VECTOR,
        {"features_extractor_class": Doubled, "features_extractor_kwargs": {"times": 3.0}},
    ),
    "images": ("image", "CnnPolicy", IMAGE, {"features_extractor_kwargs": {"features_dim": 24}}),
    "images-and-layers": (
        "image",
        "CnnPolicy",
        IMAGE,
        {
            "features_extractor_kwargs": {"features_dim": 24},
            "net_arch": [12],
            "activation_fn": nn.ELU,
        },
    ),
    "images-from-0-to-255": (
        "image",
        "CnnPolicy",
        IMAGE,
        {
            "normalize_images": False,
            "features_extractor_kwargs": {"features_dim": 24, "normalized_image": True},
            "activation_fn": nn.Tanh,
            "net_arch": [12],
        },
    ),
    "dict": (
        "mixed",
        "MultiInputPolicy",
        MIXED,
        {"features_extractor_kwargs": {"cnn_output_dim": 24}, "activation_fn": nn.Tanh},
    ),
}


OWN = {"own-activation", "own-extractor"}
"""Saved with classes that only a pickle holds."""


def saved(name: str, folder: Path) -> tuple[DQN, Path, Any]:
    """A plain agent with random weights, its file, and its environment with a mirror."""
    mirror, policy, space, policy_kwargs = SAVED[name]
    env = SymmetryWrapper(Sampled(space), {"mirror": MIRRORS[mirror]})
    model = DQN(
        policy,
        env,
        policy_kwargs=policy_kwargs,
        buffer_size=50,
        gamma=0.9,
        batch_size=17,
        learning_rate=3e-3,
        device="cpu",
    )
    model.save(folder / "agent.zip")
    return model, folder / "agent.zip", env


def observations(space: spaces.Space[Any], count: int = 6) -> Any:
    space.seed(2)
    samples: list[Any] = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
    return np.stack(samples)


def q_values(model: DQN, given: Any) -> Tensor:
    with torch.no_grad():
        values: Tensor = model.q_net(model.policy.obs_to_tensor(given)[0])
    return values


def public(env_id: str) -> tuple[Path, gym.Env[Any, Any], np.ndarray, Tensor]:
    """A public agent, its environment, states, and its Q-values there, all through SB3 alone."""
    env = gym.make(env_id)
    path = AGENTS / f"dqn-{env_id}.zip"
    model = DQN.load(
        path,
        device="cpu",
        custom_objects={
            "learning_rate": 0.0,
            "lr_schedule": lambda _: 0.0,
            "exploration_schedule": lambda _: 0.0,
            "observation_space": env.observation_space,
            "action_space": env.action_space,
            "buffer_size": 1,
        },
    )
    size = env.observation_space.shape
    assert size is not None
    states = np.random.default_rng(0).normal(size=(200, *size)).astype(np.float32)
    return path, env, states, q_values(model, states)


@needs_public_agents
@pytest.mark.parametrize("env_id", PUBLIC)
def test_a_public_agent_acts_as_sb3_says(env_id: str) -> None:
    path, env, states, expected = public(env_id)
    model = read_agent(path).build(DQN, env, buffer_size=1, device="cpu")
    assert torch.equal(q_values(model, states), expected)
    actions, _ = model.predict(states, deterministic=True)
    np.testing.assert_array_equal(actions, expected.argmax(dim=1).numpy())
    assert len(set(actions.tolist())) == env.action_space.n  # type: ignore[attr-defined]


@needs_public_agents
@pytest.mark.parametrize("env_id", PUBLIC)
def test_a_public_agent_becomes_equivariant_by_the_formulas(env_id: str) -> None:
    path, env, states, plain = public(env_id)
    signs, swap = {
        "CartPole-v1": ([-1, -1, -1, -1], [1, 0]),
        "Acrobot-v1": ([1, -1, 1, -1, -1, -1], [2, 1, 0]),
    }[env_id]
    mirrored_states = states * np.array(signs, np.float32)
    sb3 = read_agent(path).build(DQN, env, buffer_size=1, device="cpu")
    other = q_values(sb3, mirrored_states)[:, swap]
    best = torch.where((plain.amax(1) >= other.amax(1))[:, None], plain, other)
    for method, expected in (("equitune", (plain + other) / 2), ("equizero", best)):
        model = EquivariantDQN.from_pretrained(path, env, method, buffer_size=1, device="cpu")
        torch.testing.assert_close(q_values(model, states), expected, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(
            q_values(model, mirrored_states)[:, swap], expected, rtol=1e-5, atol=1e-4
        )


@needs_public_agents
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("env_id", PUBLIC)
def test_greedy_actions_of_a_public_agent_are_equivariant(env_id: str, method: str) -> None:
    path, env, states, _ = public(env_id)
    model = EquivariantDQN.from_pretrained(path, env, method, buffer_size=1, device="cpu")
    actions, _ = model.predict(states, deterministic=True)
    moved, _ = model.predict(
        model.symmetry.transform_observation("mirror", states), deterministic=True
    )
    np.testing.assert_array_equal(moved, model.symmetry.transform_action("mirror", actions))
    assert len(set(actions.tolist())) > 1


@needs_public_agents
def test_a_public_agent_keeps_its_weights_and_hyper_parameters() -> None:
    path = AGENTS / "dqn-CartPole-v1.zip"
    agent = read_agent(path)
    assert agent.net_arch == [256, 256]
    assert agent.action_count == 2
    assert not agent.is_equivariant
    model = EquivariantDQN.from_pretrained(path, "CartPole-v1", device="cpu")
    for key, weight in agent.weights.items():
        assert torch.equal(model.policy.state_dict()[key], weight), key
    # RL Zoo's hyper-parameters for this environment.
    assert (model.train_freq.frequency, model.gradient_steps) == (256, 128)
    assert (model.batch_size, model.gamma) == (64, 0.99)
    assert (model.buffer_size, model.learning_starts, model.target_update_interval) == (
        100_000,
        1000,
        10,
    )


@pytest.mark.parametrize("name", sorted(set(SAVED) - OWN))
def test_a_saved_agent_of_any_architecture_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    model, path, env = saved(name, tmp_path)
    seen = observations(env.observation_space)
    built = read_agent(path).build(DQN, env, device="cpu")
    assert torch.equal(q_values(built, seen), q_values(model, seen))
    assert built.policy.net_arch == model.policy.net_arch
    assert (built.gamma, built.batch_size, built.learning_rate) == (0.9, 17, 3e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", sorted(set(SAVED) - OWN))
def test_a_saved_agent_of_any_architecture_becomes_equivariant(
    name: str, method: str, tmp_path: Path
) -> None:
    model, path, env = saved(name, tmp_path)
    equivariant = EquivariantDQN.from_pretrained(path, env, method, device="cpu")
    own = equivariant.policy.state_dict()
    for key, weight in model.policy.state_dict().items():
        assert torch.equal(own[key], weight), key
    seen = observations(env.observation_space)
    here = q_values(equivariant, seen)
    there = q_values(equivariant, env.symmetry.transform_observation("mirror", seen))
    torch.testing.assert_close(there[:, [1, 0]], here, rtol=1e-5, atol=1e-5)
    if method == "equitune":
        moved = q_values(model, env.symmetry.transform_observation("mirror", seen))
        expected = (q_values(model, seen) + moved[:, [1, 0]]) / 2
        torch.testing.assert_close(here, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_an_equivariant_agent_made_from_a_plain_one_trains_saves_and_loads(
    method: str, tmp_path: Path
) -> None:
    _, path, env = saved("one-layer", tmp_path)
    model = EquivariantDQN.from_pretrained(path, env, method, learning_starts=20, device="cpu")
    before = model.q_net.q_net[0].weight.detach().clone()
    model.learn(40)
    assert not torch.equal(model.q_net.q_net[0].weight, before)
    model.save(tmp_path / "tuned")
    loaded = EquivariantDQN.load(tmp_path / "tuned", device="cpu")
    seen = observations(env.observation_space)
    assert torch.equal(q_values(loaded, seen), q_values(model, seen))


def test_what_the_caller_gives_counts_before_the_file(tmp_path: Path) -> None:
    _, path, env = saved("one-layer", tmp_path)
    model = EquivariantDQN.from_pretrained(
        path,
        env,
        learning_rate=1e-5,
        batch_size=8,
        seed=4,
        policy_kwargs={"activation_fn": nn.Tanh},
        device="cpu",
    )
    assert (model.learning_rate, model.batch_size, model.seed, model.gamma) == (1e-5, 8, 4, 0.9)
    assert model.policy.activation_fn is nn.Tanh


@pytest.mark.parametrize("train_freq", [7, (2, "episode")])
def test_how_often_to_train_is_taken_over_together_with_how_much(
    train_freq: Any, tmp_path: Path
) -> None:
    env = Sampled(VECTOR)
    kwargs: dict[str, Any] = {"train_freq": train_freq, "gradient_steps": 5, "buffer_size": 1}
    model = DQN("MlpPolicy", env, device="cpu", **kwargs)
    model.save(tmp_path / "agent.zip")
    built = read_agent(tmp_path / "agent.zip").build(DQN, env, device="cpu")
    assert (built.train_freq, built.gradient_steps) == (model.train_freq, 5)
    # One without the other would train many times as much as meant.
    data = json.loads(zipfile.ZipFile(tmp_path / "agent.zip").read("data"))
    data["train_freq"][":serialized:"] = base64.b64encode(pickle.dumps(Path)).decode()
    unreadable = rewritten(tmp_path / "agent.zip", data=json.dumps(data).encode())
    (tmp_path / "other.zip").write_bytes(unreadable)
    other = read_agent(tmp_path / "other.zip").build(DQN, env, device="cpu")
    assert (other.train_freq.frequency, other.gradient_steps) == (4, 1)


def test_the_suffix_may_be_left_out_and_the_environment_given_by_its_id(tmp_path: Path) -> None:
    DQN("MlpPolicy", "CartPole-v1", buffer_size=1).save(tmp_path / "agent")
    model = EquivariantDQN.from_pretrained(tmp_path / "agent", "CartPole-v1")
    assert model.symmetry.group.names == ("e", "mirror")
    again = EquivariantDQN.from_pretrained(str(tmp_path / "agent.zip"), "CartPole-v1")
    assert torch.equal(again.q_net.q_net[0].weight, model.q_net.q_net[0].weight)


@pytest.mark.parametrize("method", METHODS)
def test_the_network_inside_an_equivariant_agent_can_change_its_method(
    method: str, tmp_path: Path
) -> None:
    _, _, env = saved("one-layer", tmp_path)
    kwargs: dict[str, Any] = {"buffer_size": 1, "device": "cpu"}
    EquivariantDQN("MlpPolicy", env, "equitune", **kwargs).save(tmp_path / "equitune")
    agent = read_agent(tmp_path / "equitune.zip")
    assert agent.is_equivariant
    model = EquivariantDQN.from_pretrained(agent.path, env, method, **kwargs)
    assert model.q_net.symmetrized.method == method
    assert type(agent.build(DQN, env, **kwargs).policy).__name__ == "DQNPolicy"


def read_and_build(path: Path, env: Any) -> None:
    agent = read_agent(path)
    if env is not None:
        agent.build(DQN, env, buffer_size=1, device="cpu")


def refusal(path: Path, env: Any = None) -> str:
    """The message with which an agent is refused; always one line."""
    with pytest.raises(AgentError) as caught:
        read_and_build(path, env)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def rewritten(path: Path, compression: int = zipfile.ZIP_STORED, **changed: bytes | None) -> bytes:
    """The bytes of an agent with other contents (``policy_pth``, ``data``), None for left out."""
    file = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            content = changed.get(name.replace(".", "_"), old.read(name))
            if content is not None:
                new.writestr(name, content)
    return file.getvalue()


def pickled(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "there is no agent at" in refusal(tmp_path / "nothing.zip")
    assert "give the .zip that model.save wrote" in refusal(tmp_path)


def test_files_that_are_no_agents_are_refused(tmp_path: Path) -> None:
    _, path, _ = saved("default", tmp_path)
    whole = path.read_bytes()
    contents = {
        "damaged or not a zip": [
            b"",
            b"dear reader,\nthis is text\n",
            whole[: len(whole) // 100],
            rewritten(path, data=b"{\n\nnot json"),
            rewritten(path, policy_pth=b""),
            rewritten(path, policy_pth=b"hello"),
            rewritten(path, policy_pth=zipfile.ZipFile(path).read("policy.pth")[:2000]),
        ],
        "is damaged": [rewritten(path, data=b"[]")],
        "is not a Stable-Baselines3 agent: it holds": [
            rewritten(path, policy_pth=None),
            rewritten(path, data=None),
        ],
        "is not a DQN agent: its policy has no q_net.q_net layers": [
            rewritten(path, policy_pth=pickled([1, 2])),
            rewritten(path, policy_pth=pickled({"q_net.q_net.0.weight": 3})),
            rewritten(path, policy_pth=pickled({0: torch.ones(2, 2)})),
        ],
    }
    for message, files in contents.items():
        for content in files:
            (tmp_path / "bad.zip").write_bytes(content)
            assert message in refusal(tmp_path / "bad.zip")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_file_cut_off_or_with_flipped_bytes_is_refused(compression: int, tmp_path: Path) -> None:
    _, path, _ = saved("one-layer", tmp_path)
    whole = rewritten(path, compression)
    bad = tmp_path / "bad.zip"
    bad.write_bytes(whole)
    read_agent(bad)
    draw = random.Random(0)
    for _ in range(30):
        bad.write_bytes(whole[: draw.randrange(len(whole) - 1)])
        refusal(bad)
        flipped = bytearray(whole)
        for _ in range(20):
            flipped[draw.randrange(len(flipped))] ^= draw.randrange(1, 256)
        bad.write_bytes(flipped)
        refusal(bad)


def test_no_code_in_the_weights_is_run(tmp_path: Path) -> None:
    _, path, _ = saved("default", tmp_path)
    witness = tmp_path / "witness"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (witness,)

    (tmp_path / "bad.zip").write_bytes(rewritten(path, policy_pth=pickled({"trap": Trap()})))
    assert "is damaged" in refusal(tmp_path / "bad.zip")
    assert not witness.exists()


def test_an_agent_of_another_algorithm_is_refused(tmp_path: Path) -> None:
    PPO("MlpPolicy", Sampled(VECTOR), device="cpu").save(tmp_path / "ppo.zip")
    assert "is not a DQN agent" in refusal(tmp_path / "ppo.zip")


@pytest.mark.parametrize(
    ("name", "env", "message"),
    [
        ("default", Sampled(VECTOR, 3), "4 observation entries and 2 actions, .* has 4 and 3"),
        ("default", gym.make("Acrobot-v1"), "4 observation entries and 2 actions, .* has 6 and 3"),
        ("default", Sampled(MIXED), "observations that are one array, the environment has Dict"),
        ("default", Sampled(IMAGE), "4 observation entries and 2 actions, .* has 1296 and 2"),
        ("default", Sampled(spaces.Discrete(4)), r"shape \(4,\), the environment has \(\)"),
        ("dict", Sampled(VECTOR), "dict observations, the environment has Box"),
        ("dict", Sampled(spaces.Dict(vector=VECTOR)), "does not fit this environment: size"),
        (
            "images",
            Sampled(spaces.Box(0, 255, (40, 40, 1), np.uint8)),
            r"shape \(1, 36, 36\), the environment has \(1, 40, 40\)",
        ),
        ("images", Sampled(VECTOR), "does not fit this environment: You should use NatureCNN only"),
        ("images", Sampled(MIXED), "observations that are one array, the environment has Dict"),
        ("images", Sampled(IMAGE, 5), "made for 2 actions, the environment has 5"),
        ("default", gym.make("MountainCarContinuous-v0"), "does not fit this environment: The alg"),
    ],
)
def test_an_agent_of_another_environment_is_refused(
    name: str, env: Any, message: str, tmp_path: Path
) -> None:
    _, path, _ = saved(name, tmp_path)
    assert re.search(message, refusal(path, env))


def test_a_network_with_other_parts_is_refused(tmp_path: Path) -> None:
    model, path, env = saved("images", tmp_path)
    weights = {**model.policy.state_dict(), "q_net.features_extractor.more": torch.ones(1)}
    (tmp_path / "bad.zip").write_bytes(rewritten(path, policy_pth=pickled(weights)))
    assert "holds another network" in refusal(tmp_path / "bad.zip", env)


def without_pickle(path: Path, target: Path) -> None:
    """Writes the agent again, its policy_kwargs damaged."""
    data = json.loads(zipfile.ZipFile(path).read("data"))
    data["policy_kwargs"][":serialized:"] = "AAAA"
    target.write_bytes(rewritten(path, data=json.dumps(data).encode()))


@pytest.mark.parametrize("name", ["tanh", "images-and-layers", "images-from-0-to-255", "dict"])
def test_nothing_is_unpickled_where_all_classes_are_those_of_the_libraries(
    name: str, tmp_path: Path
) -> None:
    model, path, env = saved(name, tmp_path)
    without_pickle(path, tmp_path / "damaged.zip")
    built = read_agent(tmp_path / "damaged.zip").build(DQN, env, device="cpu")
    seen = observations(env.observation_space)
    assert torch.equal(q_values(built, seen), q_values(model, seen))


def test_a_class_that_is_gone_can_be_given_by_hand(tmp_path: Path) -> None:
    model, path, env = saved("own-extractor", tmp_path)
    without_pickle(path, tmp_path / "gone.zip")
    assert "could run any code: give it yourself" in refusal(tmp_path / "gone.zip", env)
    policy_kwargs = {
        "features_extractor_class": Doubled,
        "features_extractor_kwargs": {"times": 3.0},
    }
    built = read_agent(tmp_path / "gone.zip").build(
        DQN, env, policy_kwargs=policy_kwargs, device="cpu"
    )
    seen = observations(env.observation_space)
    assert torch.equal(q_values(built, seen), q_values(model, seen))


@pytest.mark.parametrize("path", ["", "x" * 5000, "nowhere/at/all"])
def test_a_path_that_cannot_be_a_file_is_no_agent(path: str) -> None:
    with pytest.raises(AgentError, match="there is no agent at"):
        read_agent(path)


def test_a_class_of_the_users_own_is_never_unpickled(tmp_path: Path) -> None:
    """A pickle could run any code, so the caller has to name the class."""
    _, path, env = saved("own-extractor", tmp_path)
    assert "could run any code: give it yourself" in refusal(path, env)


def test_a_dict_agent_without_images_is_known_by_its_space(tmp_path: Path) -> None:
    space = spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Box(-1, 1, (3,)))
    env = SymmetryWrapper(Sampled(space), {"mirror": ({"a": [-1, 1], "b": None}, [1, 0])})
    DQN("MultiInputPolicy", env, buffer_size=50, device="cpu").save(tmp_path / "dict.zip")
    built = EquivariantDQN.from_pretrained(tmp_path / "dict.zip", env, device="cpu")
    assert isinstance(built.observation_space, spaces.Dict)


def test_optimiser_steps_and_schedule_are_taken_over(tmp_path: Path) -> None:
    model = DQN(
        "MlpPolicy",
        Sampled(VECTOR),
        learning_rate=lambda _: 3e-3,
        n_steps=3,
        buffer_size=50,
        policy_kwargs={"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {"momentum": 0.9}},
        device="cpu",
    )
    model.save(tmp_path / "agent.zip")
    built = read_agent(tmp_path / "agent.zip").build(DQN, Sampled(VECTOR), device="cpu")
    assert (built.learning_rate, built.n_steps) == (3e-3, 3)
    assert isinstance(built.policy.optimizer, torch.optim.SGD)
    assert built.policy.optimizer.defaults["momentum"] == 0.9


def test_loading_a_plain_agent_as_an_equivariant_one_points_to_from_pretrained(
    tmp_path: Path,
) -> None:
    _, path, _ = saved("default", tmp_path)
    with pytest.raises(AgentError, match=r"from_pretrained"):
        EquivariantDQN.load(path)


def test_a_run_directory_stands_for_its_best_model(tmp_path: Path) -> None:
    saved("default", tmp_path)
    (tmp_path / "agent.zip").rename(tmp_path / "best_model.zip")
    assert read_agent(tmp_path).path == tmp_path / "best_model.zip"
