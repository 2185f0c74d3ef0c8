"""Agents named ``hub:user/repo``."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from equirl.agents.saving.hub import local_agent, push_agent
from equirl.errors import AgentError


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is asked of the Hub, which knows one repository."""
    asked: list[tuple[str, str]] = []

    def load_from_hub(repository: str, filename: str) -> str:
        asked.append((repository, filename))
        if repository != "sb3/dqn-CartPole-v1":
            raise ConnectionError("no route\nto host")
        return f"/cache/{filename}"

    module = ModuleType("huggingface_sb3")

    def push_to_hub(repository: str, filename: str, message: str) -> None:
        if repository != "me/mine":
            raise ConnectionError("not logged in")
        asked.append((repository, f"{Path(filename).name}: {Path(filename).read_text()}"))

    vars(module).update(load_from_hub=load_from_hub, push_to_hub=push_to_hub)
    monkeypatch.setitem(sys.modules, "huggingface_sb3", module)
    return asked


def test_repository_and_file_are_asked_for_by_name(hub: list[tuple[str, str]]) -> None:
    path = local_agent("hub:sb3/dqn-CartPole-v1")
    assert path == Path("/cache/dqn-CartPole-v1.zip")
    assert local_agent("hub:sb3/dqn-CartPole-v1/old/a.zip") == Path("/cache/old/a.zip")
    assert hub == [
        ("sb3/dqn-CartPole-v1", "dqn-CartPole-v1.zip"),
        ("sb3/dqn-CartPole-v1", "old/a.zip"),
    ]


def test_path_stays_a_path(hub: list[tuple[str, str]]) -> None:
    assert local_agent("runs/hub:x.zip") == Path("runs/hub:x.zip")
    assert not hub


def test_what_cannot_be_fetched_is_one_line(hub: list[tuple[str, str]]) -> None:
    with pytest.raises(AgentError, match="hub:a/b cannot be fetched: ConnectionError: no route to"):
        local_agent("hub:a/b")
    for wrong in ("hub:", "hub:sb3", "hub:/x", "hub:sb3/"):
        with pytest.raises(AgentError, match="expected hub:user/repo"):
            local_agent(wrong)
    assert hub == [("a/b", "b.zip")]


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_sb3", None)
    with pytest.raises(AgentError, match=r'needs pip install "equirl\[hub\]"'):
        local_agent("hub:a/b")


def test_what_is_pushed_has_the_name_under_which_it_is_looked_for(
    hub: list[tuple[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "best_model.zip"
    path.write_text("an agent")
    assert push_agent(path, "hub:me/mine") == "https://huggingface.co/me/mine"
    assert hub == [("me/mine", "mine.zip: an agent")]
    with pytest.raises(AgentError, match="hub:a/b cannot be pushed: ConnectionError: not logged"):
        push_agent(path, "hub:a/b")
    with pytest.raises(AgentError, match="expected hub:user/repo"):
        push_agent(path, "hub:me/mine/old.zip")
