"""The exported policy is the agent: its actions, its Q-values, and its symmetry."""

from __future__ import annotations

import functools
import json
import logging
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor

from equirl import __version__
from equirl.agents import EquivariantDQN, SmallCnn
from equirl.agents.saving.export import export_policy
from equirl.envs import SymmetryWrapper
from equirl.errors import AgentError, ConfigError
from shared.policy_tasks import VARIANTS, stir
from shared.sampled import Sampled, q_values, raw_observations

COUNT = 1000
BOARD = {"features_extractor_class": SmallCnn, "features_extractor_kwargs": {"features_dim": 8}}
VECTOR = spaces.Box(-1, 1, (3,))
MIXED = spaces.Dict(vector=VECTOR, relu=spaces.Discrete(3), bits=spaces.MultiBinary(3))
SEEN = spaces.Dict(vector=VECTOR, view=spaces.Box(0, 255, (36, 36, 1), np.uint8))
TASKS: dict[str, tuple[str, spaces.Space[Any], Any, dict[str, Any]]] = {
    "mlp": ("MlpPolicy", spaces.Box(-1, 1, (4,)), np.negative, {"net_arch": [16]}),
    "cnn": ("CnnPolicy", spaces.Box(0, 255, (9, 8, 3), np.uint8), np.fliplr, BOARD),
    "dict": (
        "MultiInputPolicy",
        MIXED,
        {"vector": [-1, 1, -1], "relu": [2, 1, 0], "bits": np.flip},
        {"net_arch": [16]},
    ),
    "dict with an image": (
        "MultiInputPolicy",
        SEEN,
        {"vector": [-1, 1, -1], "view": np.fliplr},
        {"features_extractor_kwargs": {"cnn_output_dim": 8}, "net_arch": [8]},
    ),
    "discrete": ("MlpPolicy", spaces.Discrete(6), np.arange(6)[::-1], {}),
    "multi-discrete": ("MlpPolicy", spaces.MultiDiscrete([3, 4, 3]), [2, 1, 0], {}),
    "multi-binary": ("MlpPolicy", spaces.MultiBinary(5), np.flip, {}),
    **{
        name: ("MlpPolicy", spaces.Box(0, 1 if name == "bool" else 100, (4,), name), np.flip, {})
        for name in ("bool", "int8", "int16", "uint16", "uint32", "uint64")
    },
    "double": ("MlpPolicy", spaces.Box(-1, 1, (2, 2), np.float64), np.flipud, {}),
}
METHODS = ("plain", "equitune", "lambda", "equizero", "canonical")
CASES = [(task, method) for task in ("mlp", "cnn", "dict") for method in METHODS]
CASES += [("mlp", "lambda-from-equizero"), ("mlp", "canonical-learned")]
CASES += [("dict with an image", "lambda"), ("double", "equizero")]
CASES += [("uint16", "canonical"), ("uint64", "equitune")]
CASES += [("discrete", "lambda"), ("multi-discrete", "canonical"), ("multi-binary", "lambda")]
AS_TORCH = {("cnn", "plain"), ("dict", "plain"), ("dict", "equitune"), ("dict", "equizero")}
AS_TORCH |= {("cnn", "equizero"), ("mlp", "lambda-from-equizero"), ("mlp", "canonical-learned")}
AS_TORCH |= {("discrete", "lambda"), ("multi-binary", "lambda"), ("double", "equizero")}
AS_TORCH |= {("cnn", "lambda"), ("cnn", "canonical"), ("multi-discrete", "canonical")}
"""To save time: both formats are made of one program."""
RARE = [("cnn", "equitune"), ("cnn", "equizero"), ("dict", "equizero"), ("dict", "plain")]
RARE += [(task, "canonical") for task in ("bool", "int8", "int16", "uint32")]
CASES += RARE[4:]
RARE += [("uint16", "canonical"), ("uint64", "equitune"), ("multi-discrete", "canonical")]
RARE += [("mlp", method) for method in ("equitune", "equizero", "canonical")]
RARE += [("dict", method) for method in ("lambda", "canonical")]
RARE += [("cnn", "lambda"), ("multi-binary", "lambda")]
RARE += [("mlp", "lambda-from-equizero"), ("mlp", "canonical-learned")]
"""Only with ``-m slow``: what is different about them others have, too."""


def cases() -> list[Any]:
    """The cases, rare ones marked slow."""
    return [pytest.param(*case, marks=pytest.mark.slow if case in RARE else ()) for case in CASES]


@pytest.fixture(autouse=True)
def no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own record of what it traces, which pytest would keep: half of the time."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "handlers", [])


def agent(task: str, variant: str) -> tuple[DQN, SymmetryWrapper[Any, Any]]:
    policy, space, mirror, policy_kwargs = TASKS[task]
    env = SymmetryWrapper(Sampled(space, 3), {"mirror": (mirror, [1, 0, 2])})
    kwargs: dict[str, Any] = {"buffer_size": 1, "seed": 0, "device": "cpu"}
    kwargs["policy_kwargs"] = policy_kwargs
    if variant == "plain":
        return DQN(policy, env, **kwargs), env
    model = EquivariantDQN(policy, env, **VARIANTS[variant], **kwargs)
    stir(model)
    return model, env


def with_a_tie(space: spaces.Space[Any]) -> Any:
    """Observations as the environment gives them, the first the same seen in a mirror."""
    seen = raw_observations(space, COUNT)
    if isinstance(seen, dict):
        middle = {"vector": 0, "view": 7, "relu": 1, "bits": 1}
        for key, part in seen.items():
            part[0] = middle[key]
    elif seen.ndim > 1:
        seen[0] = 0
    return seen


@functools.cache
def exported(task: str, variant: str, folder: Path) -> tuple[Any, DQN, Any]:
    """The exported program of an agent, the agent, and its environment."""
    model, env = agent(task, variant)
    if (task, variant) in AS_TORCH:
        path = folder / f"{task}-{variant}.pt2"
        export_policy(model, path, "torch", env.observation_space)
        return torch.export.load(path).module(), model, env
    runtime = pytest.importorskip("onnxruntime", reason="runs what is exported")
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason='exporting needs pip install "equirl[export]"')
    path = folder / f"{task}-{variant}.onnx"
    export_policy(model, path, observation_space=env.observation_space)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(path, options), model, env


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


def run(policy: Any, seen: Any) -> tuple[Any, Any]:
    """Actions and Q-values."""
    by_key = seen if isinstance(seen, dict) else {"observation": seen}
    if not isinstance(policy, torch.nn.Module):
        actions, values = policy.run(["actions", "q_values"], by_key)
        return actions, values
    tensors = {key: torch.from_numpy(part.copy()) for key, part in by_key.items()}
    actions, values = policy(tensors if isinstance(seen, dict) else tensors["observation"])
    return actions.numpy(), values.detach().numpy()


def clear(values: np.ndarray[Any, Any]) -> Any:
    """Where the best action is not a matter of rounding."""
    best = np.sort(values, axis=1)
    return best[:, -1] - best[:, -2] > 1e-5


@pytest.mark.long
@pytest.mark.covering(1)
@pytest.mark.parametrize(("task", "variant"), cases())
def test_an_exported_policy_is_the_agent_and_as_equivariant(
    task: str, variant: str, folder: Path
) -> None:
    session, model, env = exported(task, variant, folder)
    seen = with_a_tie(env.observation_space)
    actions, values = run(session, seen)
    np.testing.assert_allclose(values, q_values(model, seen), rtol=0, atol=1e-5)
    predicted, _ = model.predict(seen, deterministic=True)
    sure = clear(values)
    assert sure.mean() > 0.5
    np.testing.assert_array_equal(actions[sure], predicted[sure])
    one = {key: part[:1] for key, part in seen.items()} if isinstance(seen, dict) else seen[:1]
    np.testing.assert_allclose(run(session, one)[1], values[:1], rtol=0, atol=1e-5)
    if variant == "plain":
        return
    moved_actions, moved = run(session, env.symmetry.transform_observation("mirror", seen))
    np.testing.assert_allclose(moved[:, [1, 0, 2]], values, rtol=0, atol=1e-5)
    if task in ("mlp", "cnn", "dict", "dict with an image", "double"):
        assert abs(values[0, 0] - values[0, 1]) < 1e-5  # what is seen is its own mirror image
    assert not np.allclose(values[:, 0], values[:, 1], atol=1e-4)
    there = env.symmetry.transform_action("mirror", actions)
    np.testing.assert_array_equal(moved_actions[sure], there[sure])


@pytest.mark.slow
def test_a_group_of_eight_and_its_orbits_are_exported(tmp_path: Path) -> None:
    env = SymmetryWrapper(gym.make("equirl/GridWorld-v0", size=4))
    model = EquivariantDQN("MlpPolicy", env, "canonical", buffer_size=1, device="cpu")
    export_policy(model, tmp_path / "policy.pt2", "torch")
    session = torch.export.load(tmp_path / "policy.pt2").module()
    seen = raw_observations(env.observation_space, 50)
    seen[0] = 0
    _, values = run(session, seen)
    for g in range(8):
        _, moved = run(session, env.symmetry.transform_observation(g, seen))
        np.testing.assert_allclose(
            moved[:, env.symmetry.permutations[g]], values, rtol=0, atol=1e-5
        )


def test_a_torch_program_says_what_it_is(folder: Path) -> None:
    exported("cnn", "canonical", folder)
    metadata = {"equirl.json": ""}
    torch.export.load(folder / "cnn-canonical.pt2", extra_files=metadata)
    said = json.loads(metadata["equirl.json"])
    assert (said["method"], said["group"]) == ("canonical", ["e", "mirror"])
    assert said["observations"] == {"observation": {"shape": [9, 8, 3], "dtype": "uint8"}}


def test_the_model_says_what_it_is(folder: Path) -> None:
    session, _, _ = exported("dict with an image", "lambda", folder)
    said = session.get_modelmeta().custom_metadata_map
    assert {key: json.loads(value) for key, value in said.items() if "equirl." in key} == {
        "equirl.version": __version__,
        "equirl.method": "lambda",
        "equirl.group": ["e", "mirror"],
        "equirl.observations": {
            "vector": {"shape": [3], "dtype": "float32"},
            "view": {"shape": [36, 36, 1], "dtype": "uint8"},
        },
        "equirl.actions": {"n": 3, "permutations": {"e": [0, 1, 2], "mirror": [1, 0, 2]}},
    }
    assert {entry.name: entry.shape[1:] for entry in session.get_inputs()} == {
        "vector": [3],
        "view": [36, 36, 1],
    }
    assert [(entry.name, entry.type) for entry in session.get_outputs()] == [
        ("actions", "tensor(int64)"),
        ("q_values", "tensor(float)"),
    ]
    plain, _, _ = exported("mlp", "plain", folder)
    said = plain.get_modelmeta().custom_metadata_map
    assert (said["equirl.method"], said["equirl.group"]) == ('"plain"', '["e"]')


@pytest.mark.long
def test_an_agent_is_exported_as_it_is_and_left_as_it_is(tmp_path: Path) -> None:
    model, _ = agent("cnn", "lambda")
    model.policy.set_training_mode(True)
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    export_policy(model, tmp_path / "policy.pt2", "torch")
    assert model.q_net.training
    after = model.policy.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    model.learn(20)


class Undecided(FlattenExtractor):
    """An extractor whose steps depend on the numbers it is given."""

    def forward(self, observations: Tensor) -> Tensor:
        flat: Tensor = super().forward(observations)
        return flat * 2 if float(flat.sum()) > 0 else flat


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    env = SymmetryWrapper(Sampled(spaces.Box(-1, 1, (4,))), {"mirror": (np.negative, [1, 0])})
    policy_kwargs = {"features_extractor_class": Undecided}
    model = EquivariantDQN("MlpPolicy", env, buffer_size=1, policy_kwargs=policy_kwargs)
    with pytest.raises(AgentError, match="this agent cannot be exported as torch: ") as refusal:
        export_policy(model, tmp_path / "policy.pt2", "torch")
    assert str(refusal.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def test_the_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = agent("mlp", "equitune")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r'needs onnx: pip install "equirl\[export\]"'):
        export_policy(model, tmp_path / "policy.onnx")
    export_policy(model, tmp_path / "policy.pt2", "torch")


def test_a_key_that_is_the_name_of_an_output_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason='exporting needs pip install "equirl[export]"')
    space = spaces.Dict(actions=spaces.Box(-1, 1, (2,)), b=spaces.Box(-1, 1, (2,)))
    model = DQN("MultiInputPolicy", Sampled(space), buffer_size=1, device="cpu")
    with pytest.raises(AgentError, match="'actions' is the name of an output"):
        export_policy(model, tmp_path / "policy.onnx")
