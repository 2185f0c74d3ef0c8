"""The configuration files fit the schema, one another, and the environments they name."""

from __future__ import annotations

import ast
import importlib.resources
import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib.resources.abc import Traversable
from typing import Any, get_type_hints

import gymnasium as gym
import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from equirl.configs import schema
from equirl.envs import symmetry_of
from equirl.symmetrize import METHODS as SYMMETRIZING

CONFIGS = importlib.resources.files("equirl.configs")


def names(group: str) -> list[str]:
    files = (CONFIGS / group).iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


ENVS = [name for name in names("env") if name != "generic"]
METHODS = names("method")
EXPERIMENTS = names("experiment")
INSTALLED = ("acrobot", "cartpole", "gridworld")  # these need nothing that we do not depend on
COMMANDS = sorted(f.name.removesuffix(".yaml") for f in CONFIGS.iterdir() if ".yaml" in f.name)


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    schema.register_schemas()
    with initialize_config_module("equirl.configs", version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def composed(command: str, *overrides: str) -> Any:
    return OmegaConf.to_object(compose(command, list(overrides)))


def test_the_promised_files_are_there() -> None:
    assert {"train", "evaluate", "transfer"} <= set(COMMANDS)
    assert {*INSTALLED, "generic"} <= set(names("env"))
    assert set(METHODS) == {"plain", "augment", "mirror_loss", "native", *SYMMETRIZING}


@pytest.mark.parametrize("env", [*ENVS, "generic"])
def test_every_environment_composes_with_every_method(env: str) -> None:
    for method in METHODS:
        config = composed("train", f"env={env}", f"method={method}", "seed=3")
        assert isinstance(config, schema.TrainConfig)
        assert config.method.name == method
        assert config.seed == 3
        assert config.total_timesteps == config.env.total_timesteps
        assert config.eval.episodes == config.env.eval_episodes
        assert f"-{method}-seed3-" in config.run_dir


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_with_all_it_sweeps_over(experiment: str) -> None:
    sweep = compose("train", [f"+experiment={experiment}"], return_hydra_config=True).hydra
    swept = {key: value.split(",") for key, value in sweep.sweeper.params.items()}
    assert set(swept) == {"env", "method", "seed"}
    assert set(swept["env"]) <= set(ENVS)
    assert set(swept["method"]) <= set(METHODS)
    for env in swept["env"]:
        config = composed(
            "train", f"env={env}", f"method={swept['method'][-1]}", f"+experiment={experiment}"
        )
        assert config.env.target_return is None  # whole curves
        assert config.total_timesteps > config.eval.every
        assert config.env.dqn.learning_starts < config.total_timesteps


def test_the_suite_has_every_method_and_every_environment_once() -> None:
    sweep = compose("train", ["+experiment=suite"], return_hydra_config=True).hydra
    assert sorted(sweep.sweeper.params.method.split(",")) == METHODS
    # RL Zoo's settings are for what others have measured with them.
    assert sorted(sweep.sweeper.params.env.split(",")) == [e for e in ENVS if e != "cartpole_zoo"]


@pytest.mark.parametrize("command", ["evaluate", "transfer"])
@pytest.mark.parametrize("env", [*ENVS, "generic"])
def test_every_environment_composes_with_every_other_command(command: str, env: str) -> None:
    config = composed(command, f"env={env}", "agent=agent.zip")
    assert config.agent == "agent.zip"
    assert config.env.name == (None if env == "generic" else env)


@pytest.mark.parametrize("command", ["train", "evaluate", "transfer"])
def test_method_is_lambda_and_environment_is_asked_for_unless_said_otherwise(command: str) -> None:
    config = compose(command)
    assert config.env.id is None
    if command == "train":
        assert config.method.name == "lambda"


@pytest.mark.parametrize("env", ENVS)
def test_environment_can_be_made_and_has_its_symmetry(env: str) -> None:
    config = composed("train", f"env={env}").env
    assert config.name == env
    try:
        made = gym.make(config.id, **config.kwargs)
    except (gym.error.DependencyNotInstalled, gym.error.NamespaceNotFound, ImportError) as error:
        if env in INSTALLED:
            raise
        pytest.skip(f"the package of {config.id} is not installed: {error}")
    with made:
        assert config.symmetry is None
        assert symmetry_of(made).group.order > 1
        observation, _ = made.reset(seed=0)
        assert made.observation_space.contains(observation)


@pytest.mark.parametrize("env", [*ENVS, "generic"])
def test_hyper_parameters_are_sane(env: str) -> None:
    config = composed("train", f"env={env}")
    dqn = config.env.dqn
    assert 1e-5 <= dqn.learning_rate <= 1e-2
    assert 0.9 <= dqn.gamma < 1
    assert 0 <= dqn.exploration_final_eps < dqn.exploration_initial_eps == 1
    assert 0 < dqn.exploration_fraction <= 1
    assert dqn.batch_size <= dqn.buffer_size
    assert dqn.learning_starts < config.total_timesteps
    assert config.eval.every < config.total_timesteps
    assert config.env.policy in ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")


def test_defaults_of_dqn_are_those_of_sb3() -> None:
    from stable_baselines3 import DQN

    defaults = inspect.signature(DQN).parameters
    ours = {"double_q": False, "learning_rate_final": None}
    for field in fields(schema.DQNConfig):
        if field.name in ours:
            assert field.default is ours[field.name]
            continue
        assert getattr(schema.DQNConfig, field.name) == defaults[field.name].default or (
            # The same number of transitions in a tenth of the memory.
            field.name == "buffer_size"
        )


def keys_of(text: str) -> Iterator[tuple[str, ...]]:
    def below(node: Any, prefix: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for key, value in node.items():
            yield (*prefix, key)
            if isinstance(value, dict):
                yield from below(value, (*prefix, key))

    for path in below(yaml.safe_load(text), ()):
        if path[0] not in ("defaults", "hydra") and "kwargs" not in path[:-1]:
            yield path


def yaml_files(folder: Traversable) -> Iterator[Traversable]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from yaml_files(entry)
        elif entry.name.endswith(".yaml"):
            yield entry


@pytest.mark.parametrize(
    ("group", "kind"), [("env", "env"), ("method", "method"), ("experiment", "train")]
)
def test_every_key_in_a_file_is_in_the_schema(group: str, kind: str) -> None:
    for file in yaml_files(CONFIGS / group):
        for path in keys_of(file.read_text(encoding="utf-8")):
            node: Any = schema.SCHEMAS[kind]
            for key in path:
                assert is_dataclass(node)
                hints = get_type_hints(node)
                assert key in hints, f"{file.name}: {'.'.join(path)}"
                node = hints[key]


@pytest.mark.parametrize("group", ["env", "method"])
def test_every_file_begins_with_what_it_is(group: str) -> None:
    for file in yaml_files(CONFIGS / group):
        first = file.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("# ")
        assert first.endswith((".", ".)"))


def test_every_choice_between_words_is_documented() -> None:
    """A key that takes one of several words says which, in the schema."""
    source = inspect.getsource(schema)
    said = {
        node.target.id: source.splitlines()[node.lineno - 1].partition("#")[2]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    for key, words in {
        "name": METHODS,
        "gradient": ("selected", "straight_through"),
        "init": ("equitune", "equizero"),
        "canonical_score": ("lexicographic", "learned"),
        "policy": ("MlpPolicy", "CnnPolicy", "MultiInputPolicy"),
        "symmetry": ("module:object",),
        "transform": ("all",),
        "net_arch": ("null",),
    }.items():
        assert all(word in said[key] for word in words), key


def test_schemas_have_no_key_without_a_type() -> None:
    for config in schema.SCHEMAS.values():
        assert {f.name for f in fields(config)} == set(get_type_hints(config))
        assert isinstance(OmegaConf.structured(config), DictConfig)
