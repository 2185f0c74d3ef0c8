"""The configuration files fit the schema, one another, and the environments they name."""

from __future__ import annotations

import importlib.resources
import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from equirl.commands.composition import completed
from equirl.commands.environments import environment_maker
from equirl.configs import schema
from equirl.configs.algorithms import ALGORITHMS, AlgorithmConfig
from equirl.configs.completion import from_saved, typed
from equirl.configs.fields import check_values, walked
from equirl.configs.methods import METHODS
from equirl.errors import ConfigError
from equirl.symmetrize import METHODS as SYMMETRIZING
from fuzz.composed_once import files_composed_once
from shared.rarely import rarely

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable  # of Python 3.11

CONFIGS = importlib.resources.files("equirl.configs")


def names(group: str) -> list[str]:
    folder = CONFIGS / group
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


ENVS = [name for name in names("env") if name != "generic"]
TUNED = [(algorithm, env) for algorithm in ALGORITHMS for env in names(f"tuned/{algorithm}")]
EXPERIMENTS = names("experiment")
INSTALLED = ("acrobot", "cartpole", "gridworld")  # these need nothing that we do not depend on
OUTPUT = {"export": ("output=policy.onnx",)}
COMMANDS = sorted(f.name.removesuffix(".yaml") for f in CONFIGS.iterdir() if ".yaml" in f.name)


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    schema.register_schemas()
    with files_composed_once(), initialize_config_module("equirl.configs", version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


@cache
def composed(command: str, *overrides: str) -> Any:
    """What a command takes, to look at and not to change."""
    more = ["algorithm=dqn"] if command == "train" else []
    return OmegaConf.to_object(completed(command, compose(command, [*more, *overrides])))


def test_the_promised_files_are_there() -> None:
    assert {"train", "evaluate", "transfer"} <= set(COMMANDS)
    assert {*INSTALLED, "generic"} <= set(names("env"))
    assert set(names("method")) == set(METHODS)
    assert set(METHODS) == {"plain", "augment", "mirror_loss", "native", *SYMMETRIZING}


def test_every_algorithm_has_its_file() -> None:
    assert {*ALGORITHMS, "auto"} == set(names("algorithm"))
    assert {env for _, env in TUNED} <= set(ENVS)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_own_keys_only(method: str) -> None:
    config = composed("train", "env=cartpole", f"method={method}", "seed=3")
    assert isinstance(config, schema.TrainConfig)
    assert type(config.method) is METHODS[method]
    assert config.method == METHODS[method]()  # the file says what the schema has
    assert f"-{method}-seed3-" in config.run_dir


@pytest.mark.parametrize("experiment", rarely(EXPERIMENTS, "paper_pretrain", "paper_finetune"))
def test_every_experiment_composes_with_all_it_sweeps_over(experiment: str) -> None:
    sweep = compose("train", [f"+experiment={experiment}"], return_hydra_config=True).hydra
    swept = {key: value.split(",") for key, value in sweep.sweeper.params.items()}
    assert set(swept) == {"env", "method", "seed"}
    assert set(swept["env"]) <= set(ENVS)
    assert set(swept["method"]) <= set(METHODS)
    for env in {swept["env"][0], swept["env"][-1]}:  # each alone is composed below
        method = swept["method"][-1]
        config = composed("train", f"env={env}", f"method={method}", f"+experiment={experiment}")
        assert config.env.target_return is None  # whole curves
        assert config.total_timesteps > config.eval.every
        assert config.algorithm.learning_starts < config.total_timesteps


def test_a_name_that_no_schema_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"method.name must be one of equitune, lambda, equizero"):
        typed(OmegaConf.create({"method": {"name": "nonsense"}}))


def test_off_in_a_file_is_off_and_not_false() -> None:
    config = typed(from_saved(yaml.safe_load("check: off")), groups=())
    assert config.check == "off"
    assert yaml.safe_load(OmegaConf.to_yaml(config, resolve=False))["check"] == "off"


def test_the_suite_has_every_method_and_every_environment_of_dqn_once() -> None:
    sweep = compose("train", ["+experiment=suite"], return_hydra_config=True).hydra
    assert sorted(sweep.sweeper.params.method.split(",")) == sorted(METHODS)
    # RL Zoo's settings are for what others have measured with them.
    tuned = [env for algorithm, env in TUNED if algorithm == "dqn" and env != "cartpole_zoo"]
    tuned = [env for env in tuned if not env.startswith("broken_")]
    assert sorted(sweep.sweeper.params.env.split(",")) == tuned


@pytest.mark.parametrize("command", ["evaluate", "export", "transfer"])
def test_other_commands_take_an_environment_and_an_agent(command: str) -> None:
    config = composed(command, "env=cartpole", "agent=agent.zip", *OUTPUT.get(command, ()))
    assert (config.agent, config.env.name) == ("agent.zip", "cartpole")


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
        make_env, symmetry = environment_maker(config)
    except ConfigError as error:
        if config.install is None:
            raise
        pytest.skip(str(error))
    assert symmetry is not None
    assert symmetry.group.order > 1
    with make_env() as made:
        observation, _ = made.reset(seed=0)
        assert made.observation_space.contains(observation)


@pytest.mark.parametrize("env", [*ENVS, "generic"])
def test_what_is_tuned_for_an_environment_is_applied_and_sane(env: str) -> None:
    config = composed("train", f"env={env}")
    check_values(config)
    algorithm = config.algorithm
    assert (algorithm != ALGORITHMS["dqn"]()) == (("dqn", env) in TUNED)
    assert config.total_timesteps == algorithm.total_timesteps
    assert config.eval.episodes == config.env.eval_episodes
    assert 1e-5 <= algorithm.learning_rate <= 1e-2
    assert 0.9 <= algorithm.gamma < 1
    assert algorithm.exploration_final_eps < algorithm.exploration_initial_eps == 1
    assert algorithm.batch_size <= algorithm.buffer_size
    assert algorithm.learning_starts < config.total_timesteps
    assert config.eval.every < config.total_timesteps


def test_defaults_of_dqn_are_those_of_sb3() -> None:
    from stable_baselines3 import DQN

    defaults = inspect.signature(DQN).parameters
    ours = {field.name for field in fields(AlgorithmConfig)} | {"double_q", "learning_rate_final"}
    for field in fields(ALGORITHMS["dqn"]):
        # As for buffer_size: a tenth of the memory.
        if field.name not in ours | {"buffer_size"}:
            assert field.default == defaults[field.name].default


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


def schemas_of(file: Traversable, group: str) -> dict[str, Any]:
    """What may stand in a file: a schema for each of its parts, or one for all."""
    if group == "env":
        return {"": schema.EnvConfig}
    if group == "method":
        return {"": METHODS[file.name.removesuffix(".yaml")]}
    if group.startswith("tuned"):
        return {"": ALGORITHMS[group.partition("/")[2]]}
    return {"": schema.TrainConfig, "algorithm.": ALGORITHMS["dqn"]}


@pytest.mark.parametrize(
    "group", ["env", "method", "experiment", *(f"tuned/{a}" for a in ALGORITHMS)]
)
def test_every_key_in_a_file_is_in_the_schema(group: str) -> None:
    folder = CONFIGS / group
    for file in yaml_files(folder) if folder.is_dir() else ():  # not all algorithms are tuned
        schemas = schemas_of(file, group).items()
        known = {name for prefix, kind in schemas for name, *_ in walked(kind, prefix)}
        for path in keys_of(file.read_text(encoding="utf-8")):
            assert ".".join(path) in known, f"{file.name}: {'.'.join(path)}"


@pytest.mark.parametrize("group", ["env", "algorithm", "method", "tuned"])
def test_every_file_begins_with_what_it_is(group: str) -> None:
    for file in yaml_files(CONFIGS / group):
        first = file.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("# ")


ALL_SCHEMAS = [*schema.SCHEMAS.values(), *ALGORITHMS.values(), *METHODS.values()]


@pytest.mark.parametrize("config", ALL_SCHEMAS, ids=lambda config: config.__name__)
def test_every_key_of_every_command_has_a_meaning_and_a_type(config: Any) -> None:
    for name, field, _ in walked(config):
        assert field.metadata["meaning"], name
        # A key that takes one of several words says which.
        assert all(word in field.metadata["meaning"] for word in field.metadata.get("choices", ()))
    assert {f.name for f in fields(config)} <= set(get_type_hints(config))
    assert isinstance(OmegaConf.structured(config), DictConfig)


@pytest.mark.parametrize("command", schema.SCHEMAS)
def test_help_says_what_every_key_means(command: str) -> None:
    shown = schema.keys(command, "auto")
    for name, field, kind in walked(schema.SCHEMAS[command]):
        if not is_dataclass(kind) and name not in ("algorithm", "method"):
            (line,) = [line for line in shown.splitlines() if line.split()[:1] == [name]]
            assert line.endswith(f" {field.metadata['meaning']}")
    assert "None" not in shown
    assert "MISSING" not in shown
