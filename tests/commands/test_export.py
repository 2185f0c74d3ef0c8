"""`equirl export`, and how far `equirl evaluate` and it trust a file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3 import DQN
from torch import nn

from equirl.agents import EquivariantDQN
from shared.refusals import Refused
from shared.saved_agents import trapped
from shared.small_agents import SMALL


class OwnActivation(nn.Tanh):
    """What only a pickle can bring."""


@pytest.fixture
def agent(folder: Path) -> Path:
    """An equivariant agent for CartPole-v1, in the current folder."""
    EquivariantDQN("MlpPolicy", "CartPole-v1", "lambda", **SMALL).save("agent.zip")
    return Path("agent.zip")


@pytest.mark.long
def test_a_policy_is_exported_without_its_environment(
    equirl_command: Callable[..., Any], agent: Path
) -> None:
    outcome = equirl_command("export", f"agent={agent}", "format=torch", "output=policy.pt2")
    assert outcome.code == 0, outcome.err
    assert re.fullmatch(r"exported: policy\.pt2 \(\d+ kB\)\n", outcome.out)
    policy = torch.export.load("policy.pt2").module()
    _, q_values = policy(torch.tensor([[1.0, 2.0, 3.0, 4.0], [-1.0, -2.0, -3.0, -4.0]]))
    torch.testing.assert_close(q_values[0], q_values[1].flip(0))
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["agent.zip", "policy.pt2"]


@pytest.mark.long
def test_a_plain_policy_is_exported_with_its_environment_as_onnx(
    equirl_command: Callable[..., Any], folder: Path, plain_agent: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="runs what is exported")
    arguments = (f"agent={plain_agent}", "env=cartpole", "output=policy.onnx")
    outcome = equirl_command("export", *arguments)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    seen = torch.eye(4)
    actions, _ = runtime.InferenceSession("policy.onnx").run(None, {"observation": seen.numpy()})
    predicted, _ = DQN.load(plain_agent, device="cpu").predict(seen.numpy(), deterministic=True)
    assert (actions == predicted).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("agent=agent.zip", "output=a.onnx", "format=tflite"), "format must be one of onnx, torc"),
        (("agent=agent.zip", "output=a.pt2"), "a.pt2 is a name for format=torch, got onnx"),
        (("agent=agent.zip",), "where to? Say output=PATH, such as output=policy.onnx"),
        (("output=a.pt2", "format=torch"), "which agent? Say agent=PATH"),
        (("agent=no.zip", "output=a.pt2", "format=torch"), "there is no agent at no.zip"),
        (
            ("agent=agent.zip", "output=agent.zip", "format=torch"),
            "agent.zip exists already: choos",
        ),
        (("agent=agent.zip", "output=no/a.pt2", "format=torch"), "no/a.pt2 cannot be written: "),
        (("agent=agent.zip", f"output={'a' * 300}", "format=torch"), "output cannot be aaaa"),
        (
            ("agent=agent.zip", "output=a.pt2", "format=torch", "trust=me"),
            "trust must be one of we",
        ),
        (
            ("agent=agent.zip", "output=a.pt2", "format=torch", "env=acrobot"),
            "agent.zip was made for the observations Box(",
        ),
        (("agent=plain.zip", "output=a.pt2", "format=torch"), "say env=NAME or env.id=ID"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    refused: Refused, agent: Path, plain_agent: Path, arguments: tuple[str, ...], said: str
) -> None:
    Path("plain.zip").write_bytes(plain_agent.read_bytes())
    assert said in refused("export", *arguments)


@pytest.mark.long
def test_nothing_in_a_file_is_run_unless_it_is_trusted(
    equirl_command: Callable[..., Any], agent: Path, plain_agent: Path
) -> None:
    witness = Path("witness").absolute()
    play = ("env=cartpole", "episodes=2", "progress=false")
    for whole, name in ((agent, "ours"), (plain_agent, "plain")):
        bad = f"agent={name}.zip"
        trapped(whole, Path(f"{name}.zip"), witness)
        good = equirl_command("evaluate", f"agent={whole}", *play, "trust=pickle")
        interval = re.compile(r"[-\d.]+ ± [\d.]+")
        for trust in ((), ("trust=weights",)):
            outcome = equirl_command("evaluate", bad, *play, *trust)
            assert outcome.code == 0, outcome.err
            assert interval.findall(outcome.out) == interval.findall(good.out)
        exported = (bad, "env=cartpole", "format=torch", f"output={name}.pt2")
        assert equirl_command("export", *exported).code == 0
        assert not witness.exists()
        with pytest.raises(Exception, match=r".*"):  # whatever comes of an agent without its parts
            assert equirl_command("evaluate", bad, *play, "trust=pickle").code == 0
        assert witness.exists()  # the trap works
        witness.unlink()


def test_what_only_a_pickle_holds_needs_trust(
    equirl_command: Callable[..., Any], folder: Path
) -> None:
    policy_kwargs = {"net_arch": [8], "activation_fn": OwnActivation}
    own: dict[str, Any] = {**SMALL, "policy_kwargs": policy_kwargs}
    EquivariantDQN("MlpPolicy", "CartPole-v1", **own).save("own.zip")
    play = ("evaluate", "agent=own.zip", "env=cartpole", "episodes=2", "progress=false")
    outcome = equirl_command(*play)
    assert outcome.code == 2
    assert "OwnActivation'>, which only its pickle holds" in outcome.err
    assert "say trust=pickle if you know who made it" in outcome.err
    assert equirl_command(*play, "trust=pickle").code == 0
