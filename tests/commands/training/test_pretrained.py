"""`equirl train pretrained=…` and `eval.zero_shot=…`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from stable_baselines3 import DQN

from equirl.agents import EquivariantDQN
from shared.short_training import train
from shared.small_agents import SMALL, cartpole

NET_ARCH = "algorithm.net_arch=[16]"  # the agent's: training cut short otherwise has another
STEPS = ("env=cartpole", "total_timesteps=300", "eval.every=200", "eval.episodes=3")


@pytest.fixture(scope="module")
def plain_agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agents") / "plain.zip"
    DQN("MlpPolicy", cartpole(), **SMALL).save(path)  # one hidden layer of 16
    return path


@pytest.mark.parametrize("method", ["plain", "lambda"])
def test_training_begins_with_the_weights_of_the_agent(
    method: str, plain_agent: Path, equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    train(
        equirl_command,
        folder,
        *STEPS,
        f"method={method}",
        f"pretrained={plain_agent}",
        "algorithm.learning_rate=0",
        NET_ARCH,
    )
    assert yaml.safe_load((folder / "config.yaml").read_text())["algorithm"]["net_arch"] == [16]
    cls = DQN if method == "plain" else EquivariantDQN
    trained = cls.load(folder / "final_model.zip", device="cpu").policy.state_dict()
    for key, value in DQN.load(plain_agent, device="cpu").q_net.state_dict().items():
        for network in ("q_net", "q_net_target"):
            np.testing.assert_array_equal(trained[f"{network}.{key}"], value)
    with np.load(folder / "evaluations.npz") as written:
        assert written["timesteps"][0] == 0
        assert (written["results"][0] == written["results"][-1]).all()


@pytest.mark.long
def test_an_agent_of_relaxed_keeps_its_inner_method_and_its_kind_of_alpha(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    agent, folder = tmp_path / "agent.zip", tmp_path / "run"
    options = {"inner": "lambda", "per_action": False}
    EquivariantDQN("MlpPolicy", cartpole(), "relaxed", **options, **SMALL).save(agent)
    train(equirl_command, folder, *STEPS, "method=relaxed", f"pretrained={agent}", NET_ARCH)
    written = yaml.safe_load((folder / "config.yaml").read_text())["method"]
    assert written == {"name": "relaxed", **options}
    trained = EquivariantDQN.load(folder / "final_model.zip", device="cpu")
    assert trained.policy_kwargs["inner"] == "lambda"
    keys = ("train", *STEPS, "method=relaxed", f"pretrained={agent}", "method.per_action=true")
    outcome = equirl_command(*keys)
    assert outcome.code == 2
    assert "was trained with per_action=False" in outcome.err


@pytest.mark.long
def test_whether_actions_are_let_go_of_one_by_one_is_true_false_or_auto(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    for given, said in (
        ("aut", " must be one of true, false, auto, got 'aut': did you mean 'auto'?"),
        ("[a]", ": expected one of true, false, auto, got ['a']"),
        ("3", ": expected one of true, false, auto, got '3'"),
    ):
        outcome = equirl_command("train", *STEPS, "method=relaxed", f"method.per_action={given}")
        assert outcome.code == 2
        assert outcome.err == f"equirl train: method.per_action{said}\n"
    folder = tmp_path / "run"
    train(equirl_command, folder, *STEPS, "method=relaxed", "method.per_action=auto")
    assert yaml.safe_load((folder / "config.yaml").read_text())["method"]["per_action"] == "auto"


@pytest.mark.long
def test_a_resumed_run_does_not_need_the_agent_any_more(
    plain_agent: Path, equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    agent, folder = tmp_path / "agent.zip", tmp_path / "run"
    agent.write_bytes(plain_agent.read_bytes())
    train(equirl_command, folder, *STEPS, "method=equitune", f"pretrained={agent}", NET_ARCH)
    agent.unlink()
    outcome = equirl_command("train", f"resume={folder}", "total_timesteps=600", "progress=false")
    assert outcome.code == 0, outcome.err
    assert json.loads((folder / "result.json").read_text())["steps"] >= 600


def test_zero_shot_versions_are_evaluated_along_the_training(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    train(equirl_command, folder, *STEPS, "method=plain", "eval.zero_shot=[equitune,equizero]")
    with np.load(folder / "evaluations.npz") as written:
        steps = written["timesteps"].tolist()
    for method in ("equitune", "equizero"):
        with np.load(folder / f"evaluations_zero_shot_{method}.npz") as written:
            assert written["timesteps"].tolist() == steps


def test_an_equivariant_agent_has_no_zero_shot_version(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    train(equirl_command, folder, *STEPS, "method=equitune", "eval.zero_shot=[equizero]")
    assert [path.name for path in folder.glob("*.npz")] == ["evaluations.npz"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("method=plain", "pretrained=nowhere.zip"), "nowhere.zip"),
        (("method=plain", "eval.zero_shot=[lambda]"), "eval.zero_shot must be one of"),
        (
            ("pretrained={agent}", "env=acrobot"),
            "was made for the observations Box(",
        ),
        (("pretrained={agent}", "algorithm.net_arch=[64]"), "that agent's is [16]"),
    ],
)
def test_mistakes_end_with_one_line_and_leave_nothing(
    keys: tuple[str, ...],
    message: str,
    plain_agent: Path,
    equirl_command: Callable[..., Any],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    given = [key.format(agent=plain_agent) for key in keys]
    outcome = equirl_command("train", *STEPS, *given, f"run_dir={folder}", "progress=false")
    assert outcome.code == 2
    assert message in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not folder.exists()
