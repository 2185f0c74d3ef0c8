"""`equirl transfer`: the public agents made equivariant, against the published figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import pytest
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from equirl.agents import EquivariantDQN
from equirl.agents.training.evaluation import play_episodes
from shared.unbalanced_agent import save_unbalanced_agent

PUBLIC_AGENTS = Path(__file__).parents[2] / ".." / "shared" / "data" / "rl_zoo_agents"
SEED = 1_000_000
ZERO_SHOT = ("stage=zero_shot", "betas=[]")

needs_public_agents = pytest.mark.skipif(
    not PUBLIC_AGENTS.is_dir(), reason=f"the public agents are not at {PUBLIC_AGENTS}"
)


@pytest.fixture(autouse=True)
def little_play_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before an agent is transferred; what is measured on that play is not tested here."""
    monkeypatch.setattr("equirl.agents.transfer.beforehand.OWN_STEPS", 200)


class Transferred(NamedTuple):
    """A finished transfer."""

    folder: Path
    out: str

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.folder / "transfer.json").read_text())
        return report

    def assert_mean_is(self, version: str, mean: float, half_width: float) -> None:
        """The 95 % intervals, doubled, of the figure and of what was measured overlap."""
        measured = self.report["versions"][version]
        tolerance = 2 * (half_width + measured["half_width_95"])
        assert abs(measured["mean_return"] - mean) <= tolerance
        assert tolerance < 0.3 * abs(mean)  # or else nothing was measured


def transferred(
    equirl_command: Callable[..., Any], folder: Path, agent: Path, *arguments: str
) -> Transferred:
    outcome = equirl_command(
        "transfer", f"agent={agent}", f"run_dir={folder}", "progress=false", *arguments
    )
    assert outcome.code == 0, outcome.err
    return Transferred(folder, outcome.out)


@pytest.fixture(scope="module")
def acrobot(
    equirl_command: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Transferred:
    folder = tmp_path_factory.mktemp("transfer") / "acrobot"
    agent = PUBLIC_AGENTS / "dqn-Acrobot-v1.zip"
    keys = ("env=acrobot", "episodes=50", "methods=[equitune,equizero]", *ZERO_SHOT)
    return transferred(equirl_command, folder, agent, *keys)


@pytest.fixture(scope="module")
def cartpole(
    equirl_command: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Transferred:
    folder = tmp_path_factory.mktemp("transfer") / "cartpole"
    agent = PUBLIC_AGENTS / "dqn-CartPole-v1.zip"
    keys = ("env=cartpole", "episodes=12", "methods=[equitune,equizero]", *ZERO_SHOT)
    return transferred(equirl_command, folder, agent, *keys)


@pytest.mark.long
@needs_public_agents
def test_public_acrobot_agent_gains_without_training(acrobot: Transferred) -> None:
    acrobot.assert_mean_is("plain", -76.9, 1.0)
    acrobot.assert_mean_is("equitune", -69.6, 0.5)
    acrobot.assert_mean_is("equizero", -70.0, 0.6)
    versions = acrobot.report["versions"]
    assert list(versions) == ["plain", "equitune", "equizero"]
    assert versions["equizero"]["mean_return"] > versions["plain"]["mean_return"]


@pytest.mark.long
@needs_public_agents
def test_public_cartpole_agent_stays_perfect_with_equizero_and_loses_with_equitune(
    cartpole: Transferred,
) -> None:
    versions = cartpole.report["versions"]
    assert versions["plain"]["mean_return"] == 500
    assert versions["equizero"]["mean_return"] == 500
    cartpole.assert_mean_is("equitune", 340, 10)


@needs_public_agents
def test_original_is_kept_where_nothing_is_gained(cartpole: Transferred) -> None:
    assert cartpole.report["chosen"] == "plain"
    assert "the original is kept" in cartpole.out
    assert type(DQN.load(cartpole.folder / "best_model.zip", device="cpu")) is DQN


@needs_public_agents
def test_report_says_the_gain_over_plain(cartpole: Transferred) -> None:
    for name, version in cartpole.report["versions"].items():
        assert version["episodes"] == 12
        if name != "plain":
            # Every plain return is 500, so the differences spread as the returns do.
            assert version["gain_over_plain"] == pytest.approx(version["mean_return"] - 500)
            assert version["gain_half_width_95"] == pytest.approx(version["half_width_95"])
    assert "gain_over_plain" not in cartpole.report["versions"]["plain"]


@pytest.mark.long
@needs_public_agents
def test_saved_agent_is_the_chosen_one_and_loads_like_any_other(acrobot: Transferred) -> None:
    chosen = acrobot.report["chosen"]
    assert f"({chosen})" in acrobot.out.splitlines()[-1]
    assert chosen in ("equitune", "equizero")
    expected = acrobot.report["versions"][chosen]["mean_return"]
    for agent_class in (DQN, EquivariantDQN):
        model = agent_class.load(acrobot.folder / "best_model.zip", device="cpu")
        assert model.policy_kwargs["method"] == chosen
        played = play_episodes(model, lambda: gym.make("Acrobot-v1"), range(SEED, SEED + 50))
        assert played.mean == pytest.approx(expected)


@needs_public_agents
def test_saved_agent_is_evaluated_without_further_hints(
    equirl_command: Callable[..., Any], acrobot: Transferred
) -> None:
    outcome = equirl_command(
        "evaluate", f"agent={acrobot.folder / 'best_model.zip'}", "episodes=50", "progress=false"
    )
    assert outcome.code == 0, outcome.err
    mean = acrobot.report["versions"][acrobot.report["chosen"]]["mean_return"]
    assert f"{mean:.1f} ±" in outcome.out


@pytest.mark.long
def test_agent_of_today_is_transferred_in_every_way(
    equirl_command: Callable[..., Any], plain_agent: Path, tmp_path: Path
) -> None:
    methods = ["equitune", "equizero", "canonical", "lambda"]
    keys = ("env=cartpole", "episodes=4", f"methods=[{','.join(methods)}]", *ZERO_SHOT)
    run = transferred(equirl_command, tmp_path / "run", plain_agent, *keys)
    assert list(run.report["versions"]) == ["plain", *methods]
    names = {path.name for path in run.folder.iterdir()}
    assert names == {"best_model.zip", "config.yaml", "transfer.json", "transfer.png"}
    played = play_episodes(
        DQN.load(plain_agent, device="cpu"),
        lambda: gym.make("CartPole-v1"),
        range(SEED, SEED + 4),
    )
    assert run.report["versions"]["plain"]["mean_return"] == played.mean


@pytest.mark.long
def test_agent_whose_error_symmetry_cancels_is_replaced_by_a_better_one(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    agent = save_unbalanced_agent(tmp_path / "pushes_right.zip")
    keys = ("env=cartpole", "episodes=8", "methods=[equitune]", *ZERO_SHOT)
    run = transferred(equirl_command, tmp_path / "run", agent, *keys)
    assert run.report["chosen"] == "equitune"
    versions = run.report["versions"]
    assert versions["plain"]["mean_return"] < 12  # a pole pushed one way falls in 8 to 11 steps
    assert versions["equitune"]["mean_return"] > 100
    saved = DQN.load(run.folder / "best_model.zip", device="cpu")
    played = play_episodes(saved, lambda: gym.make("CartPole-v1"), range(SEED, SEED + 8))
    assert played.mean == versions["equitune"]["mean_return"]


@pytest.mark.long
def test_agent_in_a_run_directory_brings_its_environment_and_leaves_it_to_the_version_saved(
    equirl_command: Callable[..., Any], plain_agent: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "trained"
    folder.mkdir()
    agent = Path(shutil.copy(plain_agent, folder / "final_model.zip"))
    (folder / "config.yaml").write_text("env: {name: cartpole, id: CartPole-v1}\n")
    keys = ("episodes=2", "methods=[equitune]", *ZERO_SHOT)
    run = transferred(equirl_command, tmp_path / "run", agent, *keys)
    assert "final_model.zip on CartPole-v1" in run.out
    again = equirl_command("evaluate", f"agent={run.folder / 'best_model.zip'}", "episodes=2")
    assert again.code == 0, again.err
    assert "on CartPole-v1" in " ".join(again.out.split())


def test_run_directory_is_named_after_the_environment_that_the_agent_brings(
    equirl_command: Callable[..., Any],
    plain_agent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(plain_agent, tmp_path / "agent.zip")
    Path("config.yaml").write_text("env: {name: cartpole, id: CartPole-v1}\n")
    keys = ("agent=agent.zip", "episodes=2", "methods=[equitune]", "progress=false", *ZERO_SHOT)
    assert equirl_command("transfer", *keys).code == 0
    (made,) = Path("runs").iterdir()
    assert made.name.startswith("transfer-cartpole-")


def test_agent_that_is_equivariant_already_is_refused(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    agent = tmp_path / "agent.zip"
    EquivariantDQN("MlpPolicy", "CartPole-v1", buffer_size=1, device="cpu").save(agent)
    outcome = equirl_command(
        "transfer", f"agent={agent}", "env=cartpole", f"run_dir={tmp_path / 'run'}"
    )
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "equivariant already" in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_agent_behind_statistics_is_transferred_and_evaluated_without_them_afterwards(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    agent, statistics = tmp_path / "agent.zip", tmp_path / "statistics.pkl"
    behind = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    PPO("MlpPolicy", behind, n_steps=64, seed=0, device="cpu").learn(256).save(agent)
    behind.save(str(statistics))
    keys = ("env=cartpole", f"normalize={statistics}", "episodes=2")
    methods = "methods=[equitune,familiar]"
    run = transferred(equirl_command, tmp_path / "run", agent, *keys, methods, *ZERO_SHOT)
    assert "measured before: averaging changes" in run.out
    measured = run.report["disagreement"]
    assert measured["risk"] == pytest.approx(measured["change"] * measured["one_sided"])
    evaluated = equirl_command("evaluate", f"agent={agent}", *keys, "transform=all")
    assert evaluated.code == 0, evaluated.err
    assert "if equirl transfer made it equivariant: averaging changes" in evaluated.out
    best = f"agent={run.folder / 'best_model.zip'}"
    again = equirl_command("evaluate", best, "episodes=2", "progress=false")
    mean = run.report["versions"][run.report["chosen"]]["mean_return"]
    assert f"{mean:.1f} ±" in again.out
