"""The plan of the house: who may import whom, what is public, how deep and how wide it is.

Read from the sources, of which nothing is run.
"""

from __future__ import annotations

import ast
import importlib
import importlib.resources
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import equirl
import equirl.agents
import equirl.envs
from equirl.old_names import OLD_NAMES

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable  # of Python 3.11

LONGEST_CHAIN = 12
WIDEST_FOLDER = 12

MATHS = {"groups", "actions", "declaring", "symmetrize", "symmetry", "saved_symmetry", "testing"}
FOR_ALL = {"errors", "shown", "recording", "old_names"}
"""What any room may import."""

MAY_IMPORT = {
    **{name: set[str]() for name in FOR_ALL},
    "groups": set(),
    "actions": {"groups"},
    "declaring": {"groups", "actions"},
    "symmetrize": {"groups", "actions"},
    "symmetry": MATHS - {"symmetrize", "testing"},
    "saved_symmetry": MATHS - {"symmetrize", "testing"},
    "testing": MATHS,
    "runs": set(),
    "configs": {"symmetrize"},  # the options of methods, which the methods say themselves
    "envs": MATHS,
    "verification": MATHS | {"envs"},
    "reporting": {"runs", "configs"},
    "agents": MATHS | {"envs", "verification", "runs"},
    "commands": MATHS | {"envs", "verification", "agents", "runs", "configs", "reporting"},
    "integrations": MATHS | {"envs", "verification", "agents", "runs", "configs"},
    "__main__": {"commands"},
}
"""Of every room, the other rooms that it may import, inside functions too."""


def sources(folder: Traversable, name: str) -> Iterator[tuple[str, ast.Module]]:
    """Every module below a folder, an ``__init__.py`` by the name of its package."""
    for entry in folder.iterdir():
        if entry.is_dir() and entry.joinpath("__init__.py").is_file():
            yield from sources(entry, f"{name}.{entry.name}")
        elif entry.name.endswith(".py"):
            stem = entry.name.removesuffix(".py")
            module = name if stem == "__init__" else f"{name}.{stem}"
            yield module, ast.parse(entry.read_text(encoding="utf-8"))


@cache
def modules() -> dict[str, ast.Module]:
    tops = ("equirl", "equirl.agents", "equirl.configs", "equirl.envs")
    return {
        module: tree
        for top in tops
        for module, tree in sources(importlib.resources.files(top), top)
    }


@cache
def packages() -> frozenset[str]:
    """The folders, whose ``__init__.py`` is their face."""
    return frozenset(name.rpartition(".")[0] for name in modules()) - {""}


def room(module: str) -> str:
    return module.split(".")[1]


def imported(tree: ast.AST) -> Iterator[str]:
    """The names of modules, and of what may be modules, in imports anywhere below a node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_run_one_way() -> None:
    against = {
        (name, other)
        for name, tree in modules().items()
        if name != "equirl"
        for other in imported(tree)
        if other in modules() and other != "equirl" and room(other) != room(name)
        if room(other) not in MAY_IMPORT[room(name)] | FOR_ALL
    }
    assert not against


@pytest.mark.parametrize("library", ["stable_baselines3", "sb3_contrib", "gymnasium"])
def test_the_maths_knows_of_gymnasium_only_its_spaces_and_nothing_of_sb3(library: str) -> None:
    used = {
        (name, other)
        for name, tree in modules().items()
        if name != "equirl" and room(name) in MATHS | FOR_ALL
        for other in imported(tree)
        if other.split(".")[0] == library and other not in ("gymnasium", "gymnasium.spaces")
    }
    assert not used
    whole = {
        name
        for name, tree in modules().items()
        if name != "equirl" and room(name) in MATHS
        for node in ast.walk(tree)
        if isinstance(node, ast.Import) and any(a.name == "gymnasium" for a in node.names)
    }
    assert not whole


def chain(module: str, known: dict[str, list[str]]) -> list[str]:
    """The longest chain of modules that import one another on being imported.

    It ends at the face of a room: what stands behind it is that room's own affair.
    """
    if module not in known:
        known[module] = [module]  # of a circle, each module is counted once
        inner = [
            chain(other, known)
            for node in modules()[module].body
            if isinstance(node, ast.ImportFrom)
            for other in imported(node)
            if other in modules() and other not in packages() and other != module
        ]
        known[module] = [module, *max(inner, key=len, default=[])]
    return known[module]


def test_chains_of_imports_are_short() -> None:
    known: dict[str, list[str]] = {}
    longest = max((chain(name, known) for name in modules() if name not in packages()), key=len)
    assert len(longest) <= LONGEST_CHAIN, longest


def test_no_folder_holds_more_than_a_dozen_modules() -> None:
    held = Counter(name.rpartition(".")[0] for name in modules() if name not in packages())
    assert {folder: n for folder, n in held.items() if n > WIDEST_FOLDER} == {}


def test_every_folder_is_packaged() -> None:
    pyproject = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^packages = (\[[^\]]*\])", pyproject, re.MULTILINE)
    assert listed is not None
    assert sorted(ast.literal_eval(listed[1])) == sorted(packages())


def test_the_public_names_of_equirl() -> None:
    assert set(equirl.__all__) == {
        "FiniteGroup",
        "GroupAction",
        "Symmetrized",
        "Symmetry",
        "__version__",
        "mirror_by_names",
    }


def test_the_public_names_of_envs() -> None:
    assert set(equirl.envs.__all__) == {
        "Declaration",
        "RandomTransformWrapper",
        "SymmetryWrapper",
        "TransformWrapper",
        "declared_symmetry",
        "register_symmetry",
        "registered_ids",
        "symmetry_by_id",
        "symmetry_of",
    }


def test_the_public_names_of_agents() -> None:
    assert set(equirl.agents.__all__) == {
        "DeviceDictReplayBuffer",
        "DeviceNStepReplayBuffer",
        "DeviceReplayBuffer",
        "DoubleDQN",
        "EquivarianceCallback",
        "EquivariantA2C",
        "EquivariantActorCriticCnnPolicy",
        "EquivariantActorCriticPolicy",
        "EquivariantCnnPolicy",
        "EquivariantDDPG",
        "EquivariantDQN",
        "EquivariantDQNPolicy",
        "EquivariantMaskablePPO",
        "EquivariantMultiInputActorCriticPolicy",
        "EquivariantMultiInputPolicy",
        "EquivariantPPO",
        "EquivariantQNetwork",
        "EquivariantQRDQN",
        "EquivariantQRDQNCnnPolicy",
        "EquivariantQRDQNMultiInputPolicy",
        "EquivariantQRDQNPolicy",
        "EquivariantSAC",
        "EquivariantSACCnnPolicy",
        "EquivariantSACMultiInputPolicy",
        "EquivariantSACPolicy",
        "EquivariantTD3",
        "EquivariantTD3CnnPolicy",
        "EquivariantTD3MultiInputPolicy",
        "EquivariantTD3Policy",
        "EquivariantTQC",
        "EquivariantTQCCnnPolicy",
        "EquivariantTQCMultiInputPolicy",
        "EquivariantTQCPolicy",
        "EquivariantTRPO",
        "EvaluationCallback",
        "MirrorLossA2C",
        "MirrorLossDQN",
        "MirrorLossPPO",
        "MirrorLossSAC",
        "MirrorLossTD3",
        "NativeEquivariantCnnPolicy",
        "NativeEquivariantPolicy",
        "NativeEquivariantQNetwork",
        "OrbitDictReplayBuffer",
        "OrbitDictRolloutBuffer",
        "OrbitNStepReplayBuffer",
        "OrbitReplayBuffer",
        "OrbitRolloutBuffer",
        "SmallCnn",
        "SymmetricVecNormalize",
        "Transferred",
        "from_pretrained",
        "transfer_agent",
    }


@pytest.mark.parametrize("package", [equirl, equirl.agents, equirl.envs])
def test_every_public_name_is_there(package: object) -> None:
    for name in package.__all__:  # type: ignore[attr-defined]
        assert getattr(package, name) is not None
        assert name in dir(package)
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name  # type: ignore[attr-defined]  # noqa: B018  # looking is the test


def test_torch_is_not_imported_before_it_is_needed() -> None:
    code = "import equirl, equirl.commands, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_takes_seconds_to_import_is_imported_where_it_is_used() -> None:
    """Every training and every process of a sweep would wait for it, or lack it."""
    heavy = ("sklearn", "scipy.stats", "scipy.integrate", "pandas", "matplotlib")
    heavy += ("minatar", "minigrid", "gymnasium_2048", "ale_py", "Box2D")
    early = {
        (name, other)
        for name, tree in modules().items()
        if name != "equirl.commands.evaluate" and not name.startswith("equirl.reporting.")
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for other in imported(node)
        if f"{other}.".startswith(tuple(f"{library}." for library in heavy))
    }
    assert not early


USED_OUTSIDE = {
    "equirl.agents.device_replay": ["DeviceArray", "DeviceReplayBuffer"],
    "equirl.agents.dqn": ["EquivariantDQN"],
    "equirl.agents.evaluation": ["Episodes"],
    "equirl.agents.evaluation_callback": ["Evaluation", "EvaluationCallback", "Spent"],
    "equirl.agents.features": ["SmallCnn"],
    "equirl.agents.native_policies": ["NativeEquivariantCnnPolicy", "NativeEquivariantPolicy"],
    "equirl.agents.policies": [
        "EquivariantCnnPolicy",
        "EquivariantDQNPolicy",
        "EquivariantMultiInputPolicy",
    ],
    "equirl.agents.replay": ["OrbitDictReplayBuffer", "OrbitReplayBuffer"],
    "equirl.agents.transfer": ["transfer_agent"],
    "equirl.envs.known_symmetries.atari": ["crop_breakout", "crop_pong"],
    "equirl.envs.resumable": ["Episode"],
    "equirl.saved_symmetry": ["from_plain"],
    "equirl.verification": ["check_symmetry"],
}
"""What users' pickles, configurations and scripts of the first version name."""


@pytest.mark.parametrize("old", sorted(USED_OUTSIDE.keys() | OLD_NAMES.keys()))
def test_what_the_first_version_called_its_modules_still_imports(old: str) -> None:
    module = importlib.import_module(old)
    for name in USED_OUTSIDE.get(old, []):
        assert getattr(module, name) is not None
    assert OLD_NAMES.get(old, old) in modules(), "the table names a module that is not there"


ROOT = Path(__file__).parents[1]
PAGES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *(str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").rglob("*.md"))),
]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    folders = r"(?:equirl|envs|agents|configs|tests|docs|examples)"
    # ``equirl/GridWorld-v0`` has no suffix, and is an environment.
    named = re.findall(rf"(?<![\w/.])({folders}/[\w/]*\.(?:py|yaml|md|csv|png))\b", text)
    for path in named:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_folder_of_the_plan_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:equirl|envs|agents|configs|tests|docs)/[\w/.]*)`", text)
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), path
