"""What may stand in a configuration: names, types, meanings and defaults, checked by Hydra."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import Any, Optional

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from equirl.configs.algorithms import ALGORITHMS, AUTO
from equirl.configs.fields import described, group, key, part, walked
from equirl.configs.methods import METHODS

# OmegaConf reads these annotations at run time and wants Optional spelled out.
# ruff: noqa: UP045

AGENT = "a .zip, or hub:user/repo"
THREADS = "of PyTorch on the CPU; null is PyTorch's default"
DEVICE = "cpu, cuda, …; auto is a GPU where there is one"
PROGRESS = "show a progress bar"
NORMALIZE = "the VecNormalize statistics it was trained behind, a .pkl; false: there were none"
TRUST = "weights unpickles nothing; pickle runs what the file says"


@dataclass
class EnvConfig:
    """A task: the environment and its symmetry."""

    name: Optional[str] = key(None, "in the run directory's name; null is the id")
    id: Optional[str] = key(None, "what gymnasium.make takes: ID or module:ID")
    kwargs: dict[str, Any] = key({}, "and its keyword arguments")
    register: Optional[str] = key(None, "module:function to call first, where ids come from one")
    wrappers: list[str] = key([], "module:class, innermost first")
    frame_stack: int = key(1, "frames in one observation", least=1)
    install: Optional[str] = key(None, 'the extra that brings it: pip install "equirl[…]"')
    symmetry: Optional[str] = key(None, "module:object; null is the registered symmetry")
    state_maps: Optional[str] = key(None, "as symmetry, of the simulator, for equirl check")
    target_return: Optional[float] = key(None, "reached in fresh episodes too, it ends training")
    threshold_return: Optional[float] = key(None, "solved, for equirl report: times to reach it")
    eval_every: int = key(2000, "environment steps, where eval.every= is not given")
    eval_episodes: int = key(20, "episodes, where eval.episodes= is not given")


@dataclass
class OldEnvConfig(EnvConfig):
    """An environment file, which may be of version 0.1 (`equirl.configs.old_keys`)."""

    policy: Optional[str] = None
    features: Optional[str] = None
    net_arch: Optional[list[int]] = None
    total_timesteps: Optional[int] = None
    n_envs: Optional[int] = None
    subprocess: Optional[bool] = None
    dqn: Optional[dict[str, Any]] = None


@dataclass
class EvaluationConfig:
    """Evaluation during training."""

    every: int = key(2000, "environment steps", least=1)
    episodes: int = key(20, "of each evaluation", least=1)
    final_episodes: int = key(20, "fresh ones, played with the best model at the end", least=1)
    zero_shot: list[str] = key(
        [],
        "what else plain agents are evaluated as: equitune, equizero, canonical",
        choices=("equitune", "equizero", "canonical"),
    )


@dataclass
class TrainConfig:
    """equirl train."""

    resume: Optional[str] = key(None, "a run directory, to go on with where it stopped")
    repeat: Optional[str] = key(None, "a run directory, whose configuration is trained anew")
    env: EnvConfig = group("the task")
    algorithm: Any = group("what learns, and its hyper-parameters")
    method: Any = group("how symmetry enters")
    normalize: bool = key(False, "observations and rewards, in a way that keeps the symmetry")
    pretrained: Optional[str] = key(None, f"{AGENT}, whose weights training begins with")
    seed: int = key(0, "of everything random in training", least=0, most=2**32 - 1)
    total_timesteps: int = key(MISSING, "environment steps", least=1)
    run_dir: str = key(MISSING, "where everything goes")
    eval: EvaluationConfig = part(EvaluationConfig, "evaluation during training")
    check: str = key(
        "auto",
        "auto tests a symmetry of your own on what is played; off does not",
        choices=("auto", "off"),
    )
    checkpoint_every: int = key(10_000, "environment steps, or soon after; 0 is never", least=0)
    device: str = key("auto", DEVICE)
    device_replay: bool = key(False, "keep the replay buffer in the device's memory")
    compile: bool = key(False, "training steps through torch.compile (a GPU, large networks)")
    bf16: bool = key(False, "networks in bfloat16 while training (a GPU, large networks)")
    threads: Optional[int] = key(1, THREADS, least=1)
    video: bool = key(False, "film the best model in the end: best_model.gif")
    callbacks: list[str] = key([], "module:Class of SB3 callbacks, made without arguments")
    loggers: list[str] = key(
        [], "what logs beside TensorBoard: wandb, mlflow", choices=("wandb", "mlflow")
    )
    progress: bool = key(True, PROGRESS)


@dataclass
class EvaluateConfig:
    """equirl evaluate."""

    agent: str = key(MISSING, AGENT)
    normalize: Any = key(None, NORMALIZE)
    env: EnvConfig = group("left out: the one the agent was trained in")
    episodes: int = key(100, "to play", least=1)
    seed: int = key(1_000_000, "of the first episode", least=0)
    threads: Optional[int] = key(1, THREADS, least=1)
    transform: str = key("e", "a group element, or all")
    trust: str = key("weights", TRUST, choices=("weights", "pickle"))
    video: bool = key(False, "record one episode")
    alpha: bool = key(
        False, "draw where method=relaxed lets go of the symmetry, on boards and small images"
    )
    device: str = key("auto", DEVICE)
    progress: bool = key(True, PROGRESS)


@dataclass
class ExportConfig:
    """equirl export."""

    agent: str = key(MISSING, AGENT)
    normalize: Any = key(None, NORMALIZE)
    output: str = key(MISSING, "the file to write; hub:user/repo pushes the agent itself")
    format: str = key("onnx", "onnx, or torch for a torch.export program")
    env: EnvConfig = group("left out: what the agent says, or the one it was trained in")
    trust: str = key("weights", TRUST, choices=("weights", "pickle"))


@dataclass
class WeightsConfig:
    """λ learned with the networks frozen."""

    steps: int = key(10_000, "environment steps, comparing the candidates included")


@dataclass
class FinetuneConfig:
    """The original and one equivariant version trained further, everything trainable."""

    method: str = key("equitune", "of the equivariant version")
    steps: int = key(50_000, "environment steps of each")
    every: int = key(2500, "environment steps between two evaluations; the best is taken")
    episodes: int = key(20, "of each evaluation")
    learning_rate: Any = key(
        "auto", "falls to 0; null: as it was trained; auto: 1e-4 of DQN and QR-DQN, else null"
    )
    n_steps: Optional[int] = key(5, "of the returns of DQN and QR-DQN; null: as it was trained")
    exploration_initial_eps: Optional[float] = key(0.3, "of these two; null: as it was trained")


@dataclass
class TransferConfig:
    """equirl transfer."""

    agent: str = key(MISSING, AGENT)
    normalize: Any = key(None, NORMALIZE)
    env: EnvConfig = group("left out: the one the agent was trained in")
    stage: str = key("weights", "zero_shot, weights, relaxed, finetune or all")
    methods: list[str] = key(
        ["equitune", "equizero", "canonical", "familiar"], "compared with the original"
    )
    betas: list[float] = key(
        [-3.0, -1.0, 0.3, 1.0, 3.0], "of lambda(gs) = exp(beta * score), compared zero-shot"
    )
    weights: WeightsConfig = part(WeightsConfig, "lambda learned with the network frozen")
    finetune: FinetuneConfig = part(FinetuneConfig, "everything trained further")
    episodes: int = key(200, "of each version in the comparison")
    seed: int = key(1_000_000, "of the first of them", least=0)
    learning_seed: int = key(0, "of what weights and finetune learn from", least=0)
    threads: Optional[int] = key(1, THREADS, least=1)
    run_dir: str = key(MISSING, "where everything goes")
    device: str = key("auto", DEVICE)
    progress: bool = key(True, PROGRESS)


@dataclass
class CheckConfig:
    """equirl check."""

    env: EnvConfig = group("the task")
    transitions: int = key(30_000, "to look at")
    level: float = key(0.05, "probability of refusing a true symmetry")
    budget: Optional[float] = key(None, "seconds; what is not done by then is undecided")
    discover: Any = key(False, "true: search for symmetries in play; model: in the MuJoCo model")
    show: bool = key(False, "what it does to every entry, instead of the check")
    seed: int = key(0, "of the transitions", least=0)
    run_dir: str = key(MISSING, "where the report goes")
    progress: bool = key(True, PROGRESS)


PARTS = ("training", "gradient_step", "predict", "orbit", "memory")
NETWORKS = ("mlp-64-64", "mlp-256-256", "nature-cnn")


@dataclass
class BenchmarkConfig:
    """equirl benchmark."""

    parts: list[str] = key([*PARTS], f"of {', '.join(PARTS)}")
    methods: list[str] = key(
        ["augment", "equitune", "lambda", "equizero", "canonical"], "beside the stock algorithm"
    )
    orders: list[int] = key([1, 2, 4, 8], "|G|, not of training")
    networks: list[str] = key([*NETWORKS], f"of {', '.join(NETWORKS)}; not of training")
    batch_sizes: list[int] = key([32, 64, 512], "observations handled at once; not of training")
    env: EnvConfig = group("of training")
    algorithm: Any = group("of training")
    training_steps: Optional[int] = key(
        None, "environment steps in one turn of training; null is 2560, or 256 of SAC and its like"
    )
    rounds: int = key(5, "turns of each method")
    turn_seconds: float = key(0.1, "least length of a turn")
    cell_seconds: float = key(
        60, "of gradient_step and predict: what would take longer is left out, and said to be"
    )
    seed: int = key(0, "of networks and environments", least=0)
    threads: Optional[int] = key(1, THREADS, least=1)
    device: str = key("auto", DEVICE)
    device_replay: bool = key(False, "as of train, and for stock too")
    compile: bool = key(False, "as of train")
    bf16: bool = key(False, "as of train")
    run_dir: str = key(MISSING, "where the numbers and the plot go")
    progress: bool = key(True, PROGRESS)


@dataclass
class ReportConfig:
    """equirl report."""

    runs: list[str] = key(MISSING, "run directories, or folders to be searched for them")
    baseline: str = key("plain", "the method that the others are compared with")
    threshold: Any = key(None, "mean return, or {env: return}; null is env.threshold_return")
    unfinished: bool = key(False, "take runs that are not finished, as far as they came")
    reps: int = key(2000, "bootstrap resamples of every interval", least=100)
    seed: int = key(0, "of the resampling", least=0, most=2**32 - 1)
    run_dir: str = key(MISSING, "where the report goes")
    progress: bool = key(True, PROGRESS)


SCHEMAS: dict[str, type[Any]] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "transfer": TransferConfig,
    "check": CheckConfig,
    "benchmark": BenchmarkConfig,
    "report": ReportConfig,
}
"""By the name of the command."""


def register_schemas() -> None:
    """Make the schemas known to Hydra, under the names that the YAML files refer to."""
    OmegaConf.register_new_resolver(
        "equirl.label", lambda name, env_id: name or re.sub("[/:]", "-", str(env_id)), replace=True
    )
    OmegaConf.register_new_resolver("equirl.options", options, replace=True)
    OmegaConf.register_new_resolver("equirl.keys", keys, replace=True)
    store = ConfigStore.instance()
    for name, schema in SCHEMAS.items():
        store.store(group="schema", name=name, node=schema)
    store.store(group="schema", name="env", node=OldEnvConfig)


def options(name: str) -> str:
    """The names that ``name=`` takes: the YAML files of the configuration group."""
    folder = resources.files("equirl.configs") / name
    if not folder.is_dir():
        return "none"
    files = [entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    return ", ".join(sorted(file.removesuffix(".yaml") for file in files))


def keys(command: str, algorithm: str = "dqn") -> str:
    """What ``--help`` says of a command's keys, with those of one algorithm and of every method."""
    algorithm = "dqn" if algorithm == AUTO else algorithm
    lines = [described(SCHEMAS[command])]
    groups = {name for name, _, kind in walked(SCHEMAS[command]) if kind is Any}
    if "algorithm" in groups:
        lines += [f"\nof algorithm={algorithm}:", described(ALGORITHMS[algorithm], "algorithm.")]
    if "method" in groups:
        for name, schema in METHODS.items():
            if of_it := described(schema, "method.").splitlines()[1:]:
                lines += [f"\nof method={name}:", *of_it]
    return "\n".join(lines)


def known_keys(command: str | None = None) -> list[str]:
    """Every key of a command, or of every command, for suggesting the nearest right one."""
    schemas = SCHEMAS.values() if command is None else [SCHEMAS[command]]
    found = {name for schema in schemas for name, *_ in walked(schema)}
    for group_name, own in (("algorithm", ALGORITHMS), ("method", METHODS)):
        if group_name in found:
            found |= {name for one in own.values() for name, *_ in walked(one, f"{group_name}.")}
    return sorted(found)
