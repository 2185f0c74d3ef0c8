"""What may stand in a configuration: names, types and defaults, checked by Hydra."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Optional, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from equirl.configs.help_text import keys, options

# OmegaConf reads these annotations at run time and wants Optional spelled out.
# ruff: noqa: UP045


@dataclass
class DQNConfig:
    """Hyper-parameters of DQN; those of SB3's have its names and meaning."""

    learning_rate: float = 1e-4
    learning_rate_final: Optional[float] = None  # where it falls to, linearly; null keeps it
    buffer_size: int = 100_000
    learning_starts: int = 100
    batch_size: int = 32
    tau: float = 1.0
    gamma: float = 0.99
    train_freq: int = 4
    gradient_steps: int = 1
    n_steps: int = 1
    target_update_interval: int = 10_000
    exploration_fraction: float = 0.1
    exploration_initial_eps: float = 1.0
    exploration_final_eps: float = 0.05
    max_grad_norm: float = 10.0
    double_q: bool = False  # the target of Double DQN


@dataclass
class EnvConfig:
    """An environment and how plain DQN learns it best."""

    name: Optional[str] = None  # in the run directory's name; null is the id
    id: Optional[str] = None  # what gymnasium.make takes
    kwargs: dict[str, Any] = field(default_factory=dict)  # and its keyword arguments
    register: Optional[str] = None  # module:function to call first, where ids come from one
    wrappers: list[str] = field(default_factory=list)  # module:class, innermost first
    frame_stack: int = 1  # frames in one observation
    install: Optional[str] = None  # the extra that brings it: pip install "equirl[…]"
    symmetry: Optional[str] = None  # module:object; null is the registered symmetry
    state_maps: Optional[str] = None  # module:object, for equirl check; null is the registered ones
    policy: str = "MlpPolicy"  # MlpPolicy, CnnPolicy or MultiInputPolicy
    features: Optional[str] = None  # module:class of a features extractor; null is SB3's
    net_arch: Optional[list[int]] = None  # hidden layers; null is SB3's default
    total_timesteps: int = 100_000
    target_return: Optional[float] = None  # training ends when an evaluation reaches it
    threshold_return: Optional[float] = None  # solved, for equirl report: times to reach it
    eval_every: int = 2000  # environment steps between evaluations during training
    eval_episodes: int = 20  # of each
    n_envs: int = 1
    subprocess: bool = False  # each of them in a process of its own
    dqn: DQNConfig = field(default_factory=DQNConfig)


@dataclass
class MethodConfig:
    """How symmetry enters."""

    name: str = MISSING  # equitune|lambda|equizero|canonical|native|mirror_loss|augment|plain
    gradient: str = "selected"  # of a hard choice: selected or straight_through
    init: str = "equitune"  # where lambda starts: equitune or equizero
    canonical_score: str = "lexicographic"  # lexicographic or learned
    orbit_samples: Optional[int] = None  # of equitune, random elements in the loss; null is all
    mirror_weight: float = 1.0  # of mirror_loss, of the penalty beside the loss of DQN
    match_parameters: bool = False  # of native, as many as plain has, not as many units


@dataclass
class EvaluationConfig:
    """Evaluation during training."""

    every: int = 2000  # environment steps
    episodes: int = 20
    final_episodes: int = 20  # fresh ones, played with the best model at the end
    # of equitune, equizero, canonical: what else plain agents are evaluated as
    zero_shot: list[str] = field(default_factory=list)


@dataclass
class TrainConfig:
    """equirl train."""

    resume: Optional[str] = None  # a run directory, to go on with where it stopped
    repeat: Optional[str] = None  # a run directory, whose configuration is trained anew
    env: EnvConfig = MISSING
    method: MethodConfig = MISSING
    pretrained: Optional[str] = None  # a .zip, or hub:user/repo, whose weights training begins with
    seed: int = 0
    total_timesteps: int = MISSING
    run_dir: str = MISSING
    eval: EvaluationConfig = field(default_factory=EvaluationConfig)
    check: str = "auto"  # a symmetry of your own is tested on what is played; off: it is not
    checkpoint_every: int = 10_000  # environment steps, or soon after; 0 is never
    device: str = "auto"
    device_replay: bool = False  # keep the replay buffer in the device's memory
    compile: bool = False  # training steps through torch.compile (a GPU, large networks)
    bf16: bool = False  # networks in bfloat16 while training (a GPU, large networks)
    threads: Optional[int] = 1  # of PyTorch on the CPU; null is PyTorch's default
    progress: bool = True


@dataclass
class EvaluateConfig:
    """equirl evaluate."""

    agent: str = MISSING  # a .zip, or hub:user/repo
    env: EnvConfig = MISSING  # left out: the one the agent was trained in
    episodes: int = 100
    seed: int = 1_000_000  # of the first episode
    threads: Optional[int] = 1  # of PyTorch on the CPU; null is PyTorch's default
    transform: str = "e"  # a group element, or all
    trust: str = "weights"  # weights unpickles nothing; pickle runs what the file says
    video: bool = False
    device: str = "auto"
    progress: bool = True


@dataclass
class ExportConfig:
    """equirl export."""

    agent: str = MISSING  # a .zip, or hub:user/repo
    output: str = MISSING  # the file to write
    format: str = "onnx"  # onnx, or torch for a torch.export program
    env: EnvConfig = MISSING  # left out: what the agent says, or the one it was trained in
    trust: str = "weights"  # weights unpickles nothing; pickle runs what the file says


@dataclass
class WeightsConfig:
    """λ learned with the Q-network frozen."""

    steps: int = 10_000  # environment steps, comparing the candidates included


@dataclass
class FinetuneConfig:
    """The original and one equivariant version trained further, everything trainable."""

    method: str = "equitune"
    steps: int = 50_000  # environment steps of each
    every: int = 2500  # environment steps between two evaluations
    episodes: int = 20  # of each evaluation
    learning_rate: Optional[float] = 1e-4  # falls to 0; null: as the agent was trained
    n_steps: Optional[int] = 5  # of the returns it learns from; null: as the agent was trained
    exploration_initial_eps: Optional[float] = 0.3  # null: as the agent was trained


@dataclass
class TransferConfig:
    """equirl transfer."""

    agent: str = MISSING  # a .zip, or hub:user/repo
    env: EnvConfig = MISSING
    stage: str = "weights"  # zero_shot, weights, finetune or all
    methods: list[str] = field(default_factory=lambda: ["equitune", "equizero", "canonical"])
    # of lambda(gs) = exp(beta * score), compared zero-shot
    betas: list[float] = field(default_factory=lambda: [-3.0, -1.0, 0.3, 1.0, 3.0])
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    episodes: int = 200  # of each version in the comparison
    seed: int = 1_000_000  # of the first of them
    learning_seed: int = 0  # of what weights and finetune learn from
    threads: Optional[int] = 1  # of PyTorch on the CPU; null is PyTorch's default
    run_dir: str = MISSING
    device: str = "auto"
    progress: bool = True


@dataclass
class CheckConfig:
    """equirl check."""

    env: EnvConfig = MISSING
    transitions: int = 30_000  # to look at
    level: float = 0.05  # probability of refusing a true symmetry
    budget: Optional[float] = None  # seconds; what is not done by then is undecided
    discover: bool = False  # search for the symmetries instead
    seed: int = 0
    run_dir: str = MISSING  # where the report goes
    progress: bool = True


@dataclass
class BenchmarkConfig:
    """equirl benchmark."""

    # of training, gradient_step, predict, orbit, memory
    parts: list[str] = field(
        default_factory=lambda: ["training", "gradient_step", "predict", "orbit", "memory"]
    )
    # beside stock DQN
    methods: list[str] = field(
        default_factory=lambda: ["augment", "equitune", "lambda", "equizero", "canonical"]
    )
    orders: list[int] = field(default_factory=lambda: [1, 2, 4, 8])  # |G|, not of training
    # of mlp-64-64, mlp-256-256, nature-cnn; not of training
    networks: list[str] = field(default_factory=lambda: ["mlp-64-64", "mlp-256-256", "nature-cnn"])
    batch_sizes: list[int] = field(default_factory=lambda: [32, 64, 512])
    env: EnvConfig = MISSING  # of training
    training_steps: int = 2560  # environment steps in one turn of training
    rounds: int = 5  # turns of each method
    turn_seconds: float = 0.1  # least length of a turn
    cell_seconds: float = 60  # what would take longer is left out, and said to be
    seed: int = 0
    threads: Optional[int] = 1  # of PyTorch on the CPU; null is PyTorch's default
    device: str = "auto"
    device_replay: bool = False  # as of train, and for stock too
    compile: bool = False  # as of train
    bf16: bool = False  # as of train
    run_dir: str = MISSING  # where the numbers and the plot go
    progress: bool = True


@dataclass
class ReportConfig:
    """equirl report."""

    runs: list[str] = MISSING  # run directories, or folders to be searched for them
    baseline: str = "plain"  # the method that the others are compared with
    threshold: Any = None  # mean return, or {environment: return}; null is env.threshold_return
    unfinished: bool = False  # take runs that are not finished, as far as they came
    reps: int = 2000  # bootstrap resamples of every interval
    seed: int = 0  # of the resampling
    run_dir: str = MISSING  # where the report goes
    progress: bool = True


def register_schemas() -> None:
    """Make the schemas known to Hydra, under the names that the YAML files refer to."""
    OmegaConf.register_new_resolver(
        "equirl.label", lambda name, env_id: name or re.sub("[/:]", "-", str(env_id)), replace=True
    )
    OmegaConf.register_new_resolver("equirl.options", options, replace=True)
    OmegaConf.register_new_resolver("equirl.keys", lambda name: keys(SCHEMAS[name]), replace=True)
    store = ConfigStore.instance()
    for name, schema in SCHEMAS.items():
        store.store(group="schema", name=name, node=schema)


SCHEMAS: dict[str, type[Any]] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "transfer": TransferConfig,
    "check": CheckConfig,
    "benchmark": BenchmarkConfig,
    "report": ReportConfig,
    "env": EnvConfig,
    "method": MethodConfig,
}


def known_keys() -> list[str]:
    """Every key of every command, for suggesting the nearest right one."""
    commands = (
        TrainConfig,
        EvaluateConfig,
        ExportConfig,
        TransferConfig,
        CheckConfig,
        BenchmarkConfig,
        ReportConfig,
    )
    return sorted({key for schema in commands for key in _keys_of(schema)})


def _keys_of(schema: Any) -> list[str]:
    keys = []
    for name, hint in get_type_hints(schema).items():
        keys.append(name)
        if is_dataclass(hint):
            keys += [f"{name}.{inner}" for inner in _keys_of(hint)]
    return keys
