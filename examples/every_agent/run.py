"""Every trained agent in a folder made equivariant in every way, and what came of it as a table.

python examples/every_agent/run.py agents=FOLDER             # each ALGORITHM-ENVIRONMENT.zip
python examples/every_agent/run.py agents=model.zip env=Pendulum-v1 name=sac-Pendulum
python examples/every_agent/run.py agents=FOLDER episodes=0  # the table of what is in results=
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from equirl.agents.training.evaluation import half_width
from equirl.agents.transfer import LEARNED, PLAIN, Transferred, choose, transfer_agent
from equirl.envs import SymmetryWrapper
from equirl.envs.known_symmetries.box2d import EvenHips
from equirl.errors import ConfigError, EquirlError
from equirl.runs.atomic_write import written_whole
from running import Row, main

DEFAULTS = {
    "agents": "shared/data/rl_zoo_agents",
    "env": "",
    "name": "",
    "only": "",
    "results": "transferred",
    "episodes": 100,
    "mujoco_episodes": 20,
    "weight_steps": 10_000,
}
QUICK = {"episodes": 5, "mujoco_episodes": 2, "weight_steps": 1000}

WRAPPERS: dict[str, Callable[[Any], Any]] = {"BipedalWalker-v3": EvenHips}
"""What makes an environment's symmetry exact."""


def todays_id(old: str) -> str:
    """The newest version of an environment, whatever version an agent was trained in.

    Raises:
        ConfigError: there is none.
    """
    name = old.rpartition("-v")[0]
    versions = [
        int(i.rpartition("-v")[2]) for i in gym.registry if re.fullmatch(rf"{name}-v\d+", i)
    ]
    if not versions:
        raise ConfigError(f"{old} is no environment of Gymnasium any more")
    return f"{name}-v{max(versions)}"


def transferred(agent: Path, env_id: str, settings: DictConfig) -> dict[str, Any]:
    """Everything that is measured of one agent, in plain data."""

    def make() -> gym.Env[Any, Any]:
        return SymmetryWrapper(WRAPPERS.get(env_id, lambda env: env)(gym.make(env_id)))

    beside = agent.with_name(f"{agent.stem}.vecnormalize.pkl")
    is_slow = "mujoco" in str(gym.spec(env_id).entry_point)
    kwargs: dict[str, Any] = {
        "normalize": beside if beside.is_file() else None,
        "episodes": settings.mujoco_episodes if is_slow else settings.episodes,
        "device": "cpu",
    }
    begin = time.perf_counter()
    result = transfer_agent(agent, make, stage="zero_shot", **kwargs)
    learned = transfer_agent(
        agent, make, stage="weights", methods=[], weight_steps=settings.weight_steps, **kwargs
    )
    result.played[LEARNED] = learned.played[LEARNED]
    assert learned.learned is not None
    assert result.disagreement is not None
    return {
        "env": env_id,
        "versions": {name: _numbers(result, name) for name in result.played},
        "chosen": choose(result.played),
        "measured_before": asdict(result.disagreement),
        "learned": learned.learned.chosen,
        "learned_compared": learned.learned.compared.returns,
        "seconds": time.perf_counter() - begin,
    }


def _numbers(result: Transferred, name: str) -> dict[str, float]:
    played, plain = result.played[name], result.played[PLAIN]
    gain = played.returns - plain.returns
    return {
        "mean": played.mean,
        "half_width": played.half_width,
        "gain": float(gain.mean()),
        "gain_half_width": half_width(gain) if name != PLAIN else 0.0,
        "episodes": len(played.returns),
    }


def row(name: str, found: dict[str, Any]) -> Row:
    """One line of the table."""
    if "refused" in found:
        return {"agent": name, "plain": found["refused"]}
    versions = found["versions"]
    betas = [version for version in versions if version.startswith("beta=")]
    best = max(betas, key=lambda version: versions[version]["mean"])
    before = found["measured_before"]
    regret = "" if before["regret"] is None else f"{before['regret']:.2f}"
    return {
        "agent": name,
        **{v: _shown(versions[v]) for v in (PLAIN, "equitune", "equizero", "canonical")},
        "familiar": _shown(versions["familiar"]),
        "best β": f"{best.removeprefix('beta=')}: {_shown(versions[best])}",
        LEARNED: f"{_shown(versions[LEARNED])} ({found['learned']})",
        "choice": found["chosen"],
        "change": f"{before['change']:.2f}",
        "one-sided": f"{before['one_sided']:.2f}",
        "risk": f"{before['change'] * before['one_sided']:.2f}",
        "away": f"{before['away']:.2f}",
        "regret": regret,
    }


def _shown(version: dict[str, float]) -> str:
    return f"{version['mean']:.1f} ± {version['half_width']:.1f}"


def run(settings: DictConfig) -> list[Row]:
    """Transfer the agents, then show all that is in the folder of results."""
    folder, source = Path(settings.results), Path(settings.agents)
    folder.mkdir(parents=True, exist_ok=True)
    found = [source] if source.is_file() else sorted(source.glob("*.zip"))
    if settings.episodes and not found:
        raise ConfigError(f"there are no agents at {source}")
    for agent in found if settings.episodes else []:
        name = settings.name or agent.stem
        if settings.only and settings.only != name:
            continue
        try:
            env_id = settings.env or todays_id(agent.stem.partition("-")[2])
            told = transferred(agent, env_id, settings)
        except EquirlError as error:
            told = {"refused": str(error)}
        with written_whole(folder / f"{name}.json") as aside:
            aside.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    files = sorted(folder.glob("[!.]*.json"))
    rows = [row(f.stem, json.loads(f.read_text(encoding="utf-8"))) for f in files]
    columns = max(rows, key=len, default={})
    return [{column: line.get(column, "") for column in columns} for line in rows]


if __name__ == "__main__":
    sys.exit(main(run, DEFAULTS, QUICK))
