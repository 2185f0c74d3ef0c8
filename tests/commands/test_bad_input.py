"""Bad input: one line that says what was wrong, exit code 2, and nothing left behind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from equirl.commands.composition import completed
from equirl.commands.training.settings import check_settings
from equirl.configs.algorithms import ALGORITHMS
from equirl.configs.methods import METHODS
from equirl.configs.schema import EnvConfig, TrainConfig, register_schemas
from equirl.errors import ConfigError
from shared.refusals import SHORT, TRAIN, Refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("trian", "no command 'trian': did you mean 'train'? --help"),
        ("--verbose", "no command '--verbose' --help"),
    ],
)
def test_unknown_command_is_refused(refused: Refused, arguments: str, words: str) -> None:
    line = refused(arguments)
    assert all(word in line for word in words.split(" "))


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("env=cartpol", "unknown env 'cartpol': did you mean 'cartpole'?"),
        ("env=CartPole-v1", "env.id=My/Env-v0"),
        ("env=null", ""),
        ("method=equitun", "unknown method 'equitun': did you mean 'equitune'?"),
        (
            "method=nonsense",
            "known: augment, canonical, equitune, equizero, lambda, mirror_loss, native, plain",
        ),
        ("seeed=1", "no such key 'seeed': did you mean 'seed'?"),
        ("algo=dqn", "no such key 'algo': did you mean 'algorithm'?"),
        ("wandb=true", "no such key 'wandb'; see --help"),
        ("algorithm.gama=1", "no such key 'algorithm.gama': did you mean 'algorithm.gamma'?"),
        ("eval.evry=1", "no such key 'eval.evry': did you mean 'eval.every'?"),
        ("gradient=selected", "no such key 'gradient': did you mean 'method.gradient'?"),
        ("hydra/launcher=nonsense", "unknown hydra/launcher 'nonsense'"),
        ("seed=abc", "seed: expected a whole number, got 'abc'"),
        ("seed=1.5", "seed: expected a whole number, got '1.5'"),
        ("seed=", "seed: expected a whole number, got ''"),
        ("total_timesteps=many", "total_timesteps: expected a whole number, got 'many'"),
        ("algorithm.gamma=high", "algorithm.gamma: expected a number, got 'high'"),
        ("algorithm.net_arch=5", "algorithm.net_arch: expected a list"),
        ("algorithm.net_arch=[a]", "algorithm.net_arch[0]: expected a whole number, got 'a'"),
        ("env.kwargs=5", "env.kwargs: expected a mapping"),
        ("progress=maybe", "progress: expected true or false, got 'maybe'"),
        ("run_dir=null", "run_dir"),
        ("foo", "'foo' (arguments are written key=value)"),
        ("=3", ""),
        ("seed=1=2", "arguments are written key=value"),
        ("algorithm.net_arch=[8", "arguments are written key=value"),
        ("--seed=3", "no option '--seed' (arguments are written key=value, without dashes)"),
        ("--verbose", "no option '--verbose'"),
        ("+sed=3", "'+sed=3' adds or removes a key"),
        ("~seed", "'~seed' adds or removes a key"),
        ("seed=${nothing}", "nothing"),
        ("algorithm.policy=MlpPolice", "got 'MlpPolice': did you mean 'MlpPolicy'?"),
        (
            "method.name=plain",
            "method.name by itself leaves out what a name brings with it: say me",
        ),
        ("++algorithm.name=ppo", "say algorithm=ppo"),
        ("algorithm={gamma: 0.5, name: ppo}", "say algorithm=ppo"),
        ("algorithm={nothing: 1}", "in algorithm={…}: say algorithm.nothing=…"),
        ("env.kwargs={size: 5}", "in env.kwargs={…}: say env.kwargs.size=…"),
        ("seed=null", "seed: expected a value, got null"),
        ("check=null", "check: expected one of auto, off, got null"),
        ("algorithm.gamma=null", "algorithm.gamma: expected a number, got null"),
        (
            "algorithm.policy=null",
            "algorithm.policy: expected one of MlpPolicy, CnnPolicy, MultiInp",
        ),
        ("method.init=equizero", "method.init is for method=lambda, got method=equitune"),
        ("method.nothing=1", "no such key 'method.nothing'"),
        ("algorithm=dqm", "unknown algorithm 'dqm': did you mean 'dqn'?"),
    ],
)
def test_what_cannot_be_read_is_refused(refused: Refused, argument: str, said: str) -> None:
    assert said in refused(*TRAIN, *SHORT, argument)


@pytest.mark.parametrize(
    ("method", "argument", "said"),
    [
        ("equizero", "method.gradient=all", "must be one of selected, straight_through"),
        ("lambda", "method.init=zero", "must be one of equitune, equizero, got 'zero'"),
        ("canonical", "method.canonical_score=x", "must be one of lexicographic, learned"),
    ],
)
def test_an_option_of_the_method_that_means_nothing_is_refused(
    refused: Refused, method: str, argument: str, said: str
) -> None:
    assert said in refused("train", "env=cartpole", f"method={method}", *SHORT, argument)


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    """The configuration of a training, composed once: that takes longer than all of its checks."""
    register_schemas()
    with initialize_config_module("equirl.configs", version_base="1.3"):
        config = compose("train", overrides=["env=cartpole", "method=equitune", "algorithm=dqn"])
        return completed("train", config)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("total_timesteps=0", "total_timesteps must be at least 1, got 0"),
        ("total_timesteps=-5", "total_timesteps must be at least 1, got -5"),
        ("seed=-1", "seed must be between 0 and 4294967295, got -1"),
        ("checkpoint_every=-1", "checkpoint_every must be at least 0, got -1"),
        ("threads=0", "threads must be at least 1, got 0"),
        ("eval.every=0", "eval.every must be at least 1, got 0"),
        ("eval.episodes=0", "eval.episodes must be at least 1, got 0"),
        ("eval.final_episodes=-2", "eval.final_episodes must be at least 1, got -2"),
        ("algorithm.n_envs=0", "algorithm.n_envs must be at least 1, got 0"),
        ("algorithm.net_arch=[0]", "algorithm.net_arch must be at least 1, got 0"),
        ("algorithm.net_arch=[8,-8]", "algorithm.net_arch must be at least 1, got -8"),
        ("algorithm.learning_rate=-1", "algorithm.learning_rate must be between 0"),
        ("algorithm.learning_rate=inf", "algorithm.learning_rate must be between 0"),
        ("algorithm.gamma=nan", "algorithm.gamma must be between 0 and 1, got nan"),
        ("algorithm.gamma=1.1", "algorithm.gamma must be between 0 and 1, got 1.1"),
        ("algorithm.tau=-1", "algorithm.tau must be between 0 and 1, got -1"),
        ("algorithm.exploration_fraction=2", "exploration_fraction must be between 0 and 1"),
        ("algorithm.exploration_final_eps=-1", "exploration_final_eps must be between 0 and 1"),
        ("algorithm.buffer_size=0", "algorithm.buffer_size must be at least 1, got 0"),
        ("algorithm.batch_size=0", "algorithm.batch_size must be at least 1, got 0"),
        ("algorithm.learning_starts=-1", "algorithm.learning_starts must be at least 0, got -1"),
        ("algorithm.train_freq=0", "algorithm.train_freq must be at least 1, got 0"),
        ("algorithm.gradient_steps=-2", "algorithm.gradient_steps must be at least -1, got -2"),
        ("algorithm.n_steps=0", "algorithm.n_steps must be at least 1, got 0"),
        ("algorithm.target_update_interval=0", "target_update_interval must be at least 1, got 0"),
        ("algorithm.max_grad_norm=-1", "algorithm.max_grad_norm must be at least 0, got -1"),
    ],
)
def test_number_out_of_range_is_refused(composed: DictConfig, argument: str, said: str) -> None:
    config = OmegaConf.merge(composed, OmegaConf.from_dotlist([argument]))
    settings: Any = OmegaConf.to_object(config)
    with pytest.raises(ConfigError, match=re.escape(said)):
        check_settings(settings)


def settings_of(algorithm: str, **keys: Any) -> TrainConfig:
    learner, plain = ALGORITHMS[algorithm](**keys), METHODS["plain"]()
    return TrainConfig(
        env=EnvConfig(), algorithm=learner, method=plain, total_timesteps=1, run_dir="run"
    )


@pytest.mark.parametrize(
    ("algorithm", "keys", "said"),
    [
        ("sac", {"ent_coef": "auto_0"}, "algorithm.ent_coef must be auto, auto_ and a number abov"),
        ("sac", {"ent_coef": "auto_-1"}, "got 'auto_-1'"),
        ("sac", {"ent_coef": "auto_"}, "got 'auto_'"),
        ("tqc", {"ent_coef": "auto_nan"}, "got 'auto_nan'"),
        ("sac", {"target_entropy": "auto_0.5"}, "target_entropy must be auto or a number, got 'a"),
        ("tqc", {"top_quantiles_to_drop_per_net": 25}, "must be between 0 and 24, got 25"),
        ("ppo", {"clip_range_vf": 0.0}, "algorithm.clip_range_vf must be above 0; null is any"),
        ("ppo", {"n_steps": 1}, "algorithm.normalize_advantage needs rollouts of two steps"),
        ("a2c", {"n_steps": 1, "normalize_advantage": True}, "algorithm.n_steps=1 and algorithm.n"),
    ],
)
def test_a_number_that_its_algorithm_cannot_use_is_refused(
    algorithm: str, keys: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        check_settings(settings_of(algorithm, **keys))


@pytest.mark.parametrize(
    ("algorithm", "keys"),
    [
        ("sac", {"ent_coef": "auto_0.5", "target_entropy": "-1.5"}),
        ("sac", {"ent_coef": "0"}),
        ("tqc", {"top_quantiles_to_drop_per_net": 24}),
        ("ppo", {"clip_range_vf": None}),
        ("a2c", {"n_steps": 1, "n_envs": 2, "normalize_advantage": True}),
        ("a2c", {"n_steps": 1}),
    ],
)
def test_a_number_at_the_edge_is_taken(algorithm: str, keys: dict[str, Any]) -> None:
    check_settings(settings_of(algorithm, **keys))


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("algorithm.net_arch=[8,-8]", "algorithm.net_arch must be at least 1, got -8"),
        ("algorithm.buffer_size=1000000000000000", "allocate"),
    ],
)
def test_a_command_says_which_number_it_cannot_use(
    refused: Refused, argument: str, said: str
) -> None:
    assert said in refused(*TRAIN, *SHORT, argument)


@pytest.mark.parametrize("device", ["foo", "cuda:99", "meta"])
def test_device_that_is_not_there_is_refused(refused: Refused, device: str) -> None:
    line = refused(*TRAIN, *SHORT, f"device={device}")
    assert f"device '{device}' cannot be used" in line
    assert "say auto or cpu" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("command", ["train", "evaluate", "transfer"])
def test_cuda_without_a_gpu_is_refused(refused: Refused, plain_agent: Path, command: str) -> None:
    agent = () if command == "train" else (f"agent={plain_agent}",)
    line = refused(command, "env=cartpole", "device=cuda", *agent)
    assert "device 'cuda' cannot be used" in line


@pytest.mark.parametrize("command", ["train", "transfer"])
def test_run_directory_that_exists_is_left_alone(
    refused: Refused, folder: Path, plain_agent: Path, command: str
) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "result.json").write_text("precious")
    agent = () if command == "train" else (f"agent={plain_agent}",)
    line = refused(command, "env=cartpole", "run_dir=run", *agent)
    assert line == "run exists already: choose another run_dir, or remove it"


@pytest.mark.covering(1)
@pytest.mark.parametrize("run_dir", ["file/run", "file/deep/run", "x" * 300])
@pytest.mark.parametrize("command", ["train", "transfer"])
def test_run_directory_that_cannot_be_made_is_refused(
    refused: Refused, folder: Path, plain_agent: Path, command: str, run_dir: str
) -> None:
    (folder / "file").write_text("a regular file")
    agent = () if command == "train" else (f"agent={plain_agent}", "progress=false")
    assert run_dir in refused(command, "env=cartpole", f"run_dir={run_dir}", *agent)
