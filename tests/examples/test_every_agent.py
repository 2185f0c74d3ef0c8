"""The table over a folder of agents: names of environments, and what cannot be played."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from equirl.errors import ConfigError
from every_agent.run import DEFAULTS, run, todays_id


@pytest.mark.parametrize(
    ("old", "new"), [("LunarLander-v2", "LunarLander-v3"), ("Walker2d-v3", "Walker2d-v5")]
)
def test_old_environments_are_played_in_their_newest_version(old: str, new: str) -> None:
    assert todays_id(old) == new


def test_an_environment_that_is_gone_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "ppo-BreakoutNoFrameskip-v4.zip").write_bytes(b"")
    (tmp_path / "agents" / "ppo-CartPole-v1.zip").write_bytes(b"no zip")
    settings = OmegaConf.create(
        {**DEFAULTS, "agents": str(tmp_path / "agents"), "results": str(tmp_path / "results")}
    )
    gone, damaged = run(settings)
    assert "no environment of Gymnasium any more" in gone["plain"]
    assert "damaged or not a zip" in damaged["plain"]
    told = json.loads((tmp_path / "results" / "ppo-CartPole-v1.json").read_text())
    assert list(told) == ["refused"]
    settings.agents = str(tmp_path)
    with pytest.raises(ConfigError, match="no agents at"):
        run(settings)
