"""``equirl transfer``: what a plain, trained agent gains from symmetry without any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast, get_args

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from stable_baselines3 import DQN
from tqdm import tqdm

from equirl.agents import EquivariantDQN
from equirl.agents.callbacks import save_atomically
from equirl.agents.evaluation import Episodes, half_width, play_episodes
from equirl.agents.saved_agent import read_agent
from equirl.commands.environments import check_device, check_run_dir, environment_maker
from equirl.configs.schema import TransferConfig
from equirl.errors import AgentError, ConfigError
from equirl.symmetrize import Method


def transfer(config: DictConfig) -> str:
    """Compare the versions as configured; returns the name of the one that was saved."""
    if OmegaConf.is_missing(config, "agent") or not config.agent:
        raise ConfigError("which agent? Say agent=PATH, the .zip of a plain SB3 DQN agent")
    settings = cast(TransferConfig, OmegaConf.to_object(config))
    run_dir = Path(settings.run_dir)
    check_run_dir(run_dir)
    if settings.episodes < 2:
        raise ConfigError(f"episodes must be at least 2, got {settings.episodes}")
    if not settings.methods:
        raise ConfigError(f"methods: name at least one of {', '.join(get_args(Method))}")
    for method in settings.methods:
        if method not in get_args(Method):
            raise ConfigError(f"methods: no method {method!r}, only {', '.join(get_args(Method))}")
    check_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    agent = read_agent(settings.agent)
    if agent.is_equivariant:
        raise AgentError(f"{agent.path} is equivariant already: give a plain SB3 agent")
    make_env, _ = environment_maker(settings.env)

    common: dict[str, Any] = {"device": settings.device, "buffer_size": 1}
    models: dict[str, DQN] = {"plain": agent.build(DQN, make_env(), **common)}
    for method in settings.methods:
        models[method] = agent.build(EquivariantDQN, make_env(), method=method, **common)

    seeds = range(settings.seed, settings.seed + settings.episodes)
    played: dict[str, Episodes] = {}
    with tqdm(
        total=settings.episodes * len(models), unit="episode", disable=not settings.progress
    ) as bar:
        for name, model in models.items():
            bar.set_description(name)
            played[name] = play_episodes(model, make_env, seeds, bar.update)

    chosen = choose(played)
    run_dir.mkdir(parents=True)
    save_atomically(models[chosen], run_dir / "best_model.zip")
    OmegaConf.save(config, run_dir / "config.yaml", resolve=True)
    (run_dir / "transfer.json").write_text(json.dumps(_report(played, chosen), indent=2) + "\n")
    _print(played, chosen, f"{agent.path} on {settings.env.id}, no training")
    print(f"saved: {run_dir / 'best_model.zip'} ({chosen})")
    return chosen


def choose(played: dict[str, Episodes]) -> str:
    """The version with the best mean among those better than plain with 95 % confidence.

    Episodes are paired by seed, so it is the differences whose interval must lie above zero. Plain
    where there is none.
    """
    better = {
        name: difference.mean()
        for name, difference in _differences(played).items()
        if difference.mean() > half_width(difference)
    }
    return max(better, key=lambda name: better[name], default="plain")


def _differences(played: dict[str, Episodes]) -> dict[str, Any]:
    plain = played["plain"].returns
    return {name: e.returns - plain for name, e in played.items() if name != "plain"}


def _report(played: dict[str, Episodes], chosen: str) -> dict[str, Any]:
    differences = _differences(played)
    versions = {}
    for name, episodes in played.items():
        versions[name] = {
            "mean_return": episodes.mean,
            "half_width_95": episodes.half_width,
            "episodes": len(episodes.returns),
        }
        if name in differences:
            versions[name]["gain_over_plain"] = float(differences[name].mean())
            versions[name]["gain_half_width_95"] = half_width(differences[name])
    return {"versions": versions, "chosen": chosen}


def _print(played: dict[str, Episodes], chosen: str, title: str) -> None:
    differences = _differences(played)
    table = Table("version", "return", "gain over plain", "", title=title)
    for name, episodes in played.items():
        gain = ""
        if name in differences:
            gain = f"{differences[name].mean():+.1f} ± {half_width(differences[name]):.1f}"
        table.add_row(name, str(episodes), gain, "saved" if name == chosen else "")
    Console(highlight=False).print(table)
    if chosen == "plain":
        print("no version is better than the original with 95 % confidence: the original is kept")
