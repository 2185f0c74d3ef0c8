"""Agents that earlier versions saved, and what no version may need or run to load one."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN

from equirl.agents import EquivariantDQN
from equirl.agents.saving import saved_description
from equirl.agents.saving.agent_format import FORMAT
from equirl.agents.saving.restore import restore
from equirl.agents.saving.saved_agent import read_agent
from equirl.envs import SymmetryWrapper
from equirl.errors import AgentError
from shared.sampled import Sampled, q_values
from shared.saved_agents import MIRRORS, VECTOR, rewritten, saved, trapped
from shared.small_agents import SMALL, cartpole

FOLDER = Path(__file__).parents[2] / "data" / "agents"
OLD = sorted(FOLDER.glob("*/*.zip"))
OURS = [path for path in OLD if path.stem != "stock"]


def named(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def assert_says_what_it_said(model: DQN, path: Path) -> None:
    """The Q-values and actions that were saved beside the agent."""
    with np.load(path.with_suffix(".npz")) as file:
        seen: Any = dict(file)
    expected = seen.pop("q_values")
    if set(seen) == {"observation"}:
        seen = seen["observation"]
    np.testing.assert_allclose(q_values(model, seen), expected, rtol=0, atol=1e-6)
    actions, _ = model.predict(seen, deterministic=True)
    np.testing.assert_array_equal(actions, expected.argmax(axis=1))


def changed(path: Path, target: Path, **entries: Any) -> Path:
    """A copy of the agent with other entries in its JSON, None for left out."""
    data = {**json.loads(zipfile.ZipFile(path).read("data")), **entries}
    kept = {key: value for key, value in data.items() if value is not None}
    target.write_bytes(rewritten(path, data=json.dumps(kept).encode()))
    return target


def test_there_are_small_agents_of_every_method_and_format() -> None:
    assert {path.parent.name for path in OLD} == {f"format{n}" for n in range(1, FORMAT + 1)}
    for folder in FOLDER.glob("format*"):
        agents = [read_agent(path) for path in folder.glob("*.zip")]
        methods = {agent.symmetrization.get("method") for agent in agents}
        assert methods == {"equitune", "lambda", "equizero", "canonical"}
    assert max(path.stat().st_size for path in OLD) < 60_000


@pytest.mark.parametrize("path", OURS, ids=named)
def test_an_old_agent_loads_and_says_what_it_said(path: Path) -> None:
    model = EquivariantDQN.load(path, device="cpu")
    assert_says_what_it_said(model, path)


@pytest.mark.parametrize("path", OURS, ids=named)
def test_an_old_agent_is_restored_without_unpickling(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("unpickled")

    for module in (pickle, cloudpickle):
        monkeypatch.setattr(module, "load", refuse)
        monkeypatch.setattr(module, "loads", refuse)
    monkeypatch.setattr(saved_description, "read_train_freq", refuse)
    assert_says_what_it_said(restore(read_agent(path), device="cpu"), path)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/stock.zip")), ids=named)
def test_an_old_agent_of_stock_dqn_loads_and_says_what_it_said(path: Path) -> None:
    assert_says_what_it_said(DQN.load(path, device="cpu"), path)
    env = SymmetryWrapper(cartpole())
    assert_says_what_it_said(restore(read_agent(path), env, device="cpu"), path)
    with pytest.raises(AgentError, match="describes its symmetry in a pickle only: name its env"):
        restore(read_agent(path))
    other = SymmetryWrapper(cartpole(), {"flip": (np.negative, [1, 0])})
    with pytest.raises(AgentError, match=r"was saved with the symmetry .*mirror.* has .*flip"):
        restore(read_agent(path), other)


@pytest.mark.parametrize("path", OURS[:1], ids=named)
def test_an_agent_of_a_later_format_is_refused_before_anything_is_unpickled(
    path: Path, tmp_path: Path
) -> None:
    later = changed(
        path,
        tmp_path / "later.zip",
        equirl_format=FORMAT + 1,
        equirl_version="9.9",
        policy_class={":type:": "", ":serialized:": "AAAA"},
    )
    for load in (EquivariantDQN.load, read_agent):
        with pytest.raises(AgentError) as refusal:
            load(later)
        said = f"was saved by equirl 9.9 in format {FORMAT + 1}, this is equirl"
        assert said in str(refusal.value)
        assert "pip install --upgrade equirl" in str(refusal.value)
    with later.open("rb") as file, pytest.raises(AgentError, match=said):
        EquivariantDQN.load(file)
    with pytest.raises(AgentError, match="its equirl_format is 'one', no whole number"):
        read_agent(changed(path, tmp_path / "odd.zip", equirl_format="one"))


@pytest.mark.parametrize("path", OURS[:1], ids=named)
def test_an_agent_that_is_loaded_and_saved_again_is_of_this_format(
    path: Path, tmp_path: Path
) -> None:
    """Also one that was saved before agents said their format."""
    older = changed(
        path, tmp_path / "older.zip", equirl_format=None, equirl_version=None, equirl_symmetry=None
    )
    with older.open("rb") as file:
        model = EquivariantDQN.load(file, device="cpu")
    model.save(tmp_path / "again.zip")
    again = read_agent(tmp_path / "again.zip")
    assert again.data["equirl_format"] == FORMAT
    assert again.symmetry == model.symmetry
    assert_says_what_it_said(restore(again, device="cpu"), path)


TASK = """
import gymnasium as gym
import numpy as np


def mirror(observation):
    return -observation


class Task(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (3,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, True, {}
"""

ELSEWHERE = """
import sys
import numpy as np
import torch
from stable_baselines3 import DQN
stock = DQN.load(sys.argv[1], device="cpu")  # which knows nothing of us either
from equirl.agents import EquivariantDQN
model = EquivariantDQN.load(sys.argv[1], device="cpu")
assert "my_task" not in sys.modules
seen = np.load(sys.argv[2])
actions, own = (m.predict(seen, deterministic=True)[0] for m in (stock, model))
assert actions.tolist() == own.tolist()
tensors, _ = model.policy.obs_to_tensor(np.load(sys.argv[2]))
with torch.no_grad():
    np.save(sys.argv[3], model.q_net(tensors).numpy())
print(model.symmetry.group.names)
"""


@pytest.mark.slow
def test_an_agent_of_a_task_of_ones_own_loads_where_there_is_no_such_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "my_task.py").write_text(TASK)
    monkeypatch.syspath_prepend(here)
    import my_task

    env = SymmetryWrapper(my_task.Task(), {"mirror": (my_task.mirror, [1, 0])})
    model = EquivariantDQN("MlpPolicy", env, "lambda", **SMALL)
    model.learn(60)
    model.save(there / "agent.zip")
    seen = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)
    np.save(there / "seen.npy", seen)
    printed = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, "agent.zip", "seen.npy", "q_values.npy"],
        cwd=there,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert printed.strip() == "('e', 'mirror')"
    np.testing.assert_allclose(np.load(there / "q_values.npy"), q_values(model, seen), atol=1e-6)


@pytest.mark.parametrize("path", OLD[:1] + OLD[-1:], ids=named)
def test_nothing_that_a_file_holds_is_run_in_restoring_it(path: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    bad = trapped(path, tmp_path / "bad.zip", witness)
    env = SymmetryWrapper(cartpole())
    assert_says_what_it_said(restore(read_agent(bad), env, device="cpu"), path)
    assert not witness.exists()
    with pytest.raises(Exception, match=r".*"):  # whatever comes of an agent without its parts
        EquivariantDQN.load(bad)
    assert witness.exists()  # the trap works


@pytest.mark.parametrize(
    ("name", "described"),
    [
        # Called with an observation space and any keywords it would compile what they say.
        ("features_extractor_class", "<class 'torch.utils.cpp_extension.load_inline'>"),
        ("features_extractor_class", "<class 'torch.nn.modules.linear.Linear'>"),
        ("activation_fn", "<class 'torch.hub.list'>"),
        ("activation_fn", "<class 'equirl.__main__.main'>"),
        ("optimizer_class", "<class 'torch.jit._script.ScriptModule'>"),
        ("some_class", "<class 'torch.nn.modules.activation.ReLU'>"),
        ("activation_fn", "<class 'subprocess.Popen'>"),
    ],
)
def test_only_classes_of_the_kind_expected_are_taken_by_their_name(
    name: str, described: str, tmp_path: Path
) -> None:
    _, path, env = saved("tanh", tmp_path)
    bad = changed(path, tmp_path / "bad.zip", policy_kwargs={"net_arch": [16], name: described})
    with pytest.raises(AgentError, match="only its pickle holds, and that could run any code"):
        restore(read_agent(bad), env)


def test_a_policy_class_of_ones_own_is_not_taken_for_a_plain_one(tmp_path: Path) -> None:
    env = SymmetryWrapper(Sampled(VECTOR), {"mirror": MIRRORS["vector"]})
    EquivariantDQN("MlpPolicy", env, **SMALL).save(tmp_path / "agent.zip")
    data = json.loads(zipfile.ZipFile(tmp_path / "agent.zip").read("data"))
    data["policy_class"]["__module__"] = "my_policies"
    own = changed(tmp_path / "agent.zip", tmp_path / "own.zip", **data)
    assert read_agent(own).is_equivariant
    with pytest.raises(AgentError, match="a policy class of my_policies, which only its pickle"):
        restore(read_agent(own))


def test_an_agent_whose_learned_weighting_is_missing_is_refused(tmp_path: Path) -> None:
    path = FOLDER / "format1" / "lambda.zip"
    weights = read_agent(path).weights
    kept = {key: weight for key, weight in weights.items() if "asinh_beta" not in key}
    with (tmp_path / "policy.pth").open("wb") as file:
        torch.save(kept, file)
    (tmp_path / "bad.zip").write_bytes(
        rewritten(path, policy_pth=(tmp_path / "policy.pth").read_bytes())
    )
    with pytest.raises(AgentError, match=r"holds another network: .*asinh_beta differ"):
        restore(read_agent(tmp_path / "bad.zip"))


@pytest.mark.parametrize(
    "described",
    [
        3,
        {"format": 1},
        {"format": FORMAT + 7},
        {"maps": [{"kind": "other"}]},
        {"permutations": {"dtype": "int64", "shape": [2, 2], "zlib": "AAAA"}},
        {"permutations": {"dtype": "object", "shape": [2, 2], "zlib": ""}},
        {"observation_space": {"kind": "Graph"}},
    ],
    ids=str,
)
def test_a_symmetry_described_wrongly_is_refused(described: Any, tmp_path: Path) -> None:
    path = FOLDER / "format1" / "equitune.zip"
    whole = read_agent(path).data["equirl_symmetry"]
    if isinstance(described, dict) and described != {"format": 1}:
        described = {**whole, **described}
    bad = changed(path, tmp_path / "bad.zip", equirl_symmetry=described)
    with pytest.raises(AgentError, match=r"bad.zip: .*(damaged|install a newer one)"):
        restore(read_agent(bad))
