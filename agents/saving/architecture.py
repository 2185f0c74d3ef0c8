"""Which algorithm a saved agent is of, and which networks it has, read off the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

Weights = Mapping[str, Tensor]

BY_SETTING = (
    ("top_quantiles_to_drop_per_net", "tqc"),
    ("policy_delay", "td3"),
    ("target_entropy", "sac"),
    ("exploration_fraction", "dqn"),
    ("cg_max_steps", "trpo"),
    ("clip_range", "ppo"),
    ("gae_lambda", "a2c"),
)
"""A setting that only this algorithm has of those further down. SB3 saves them all; a policy class
may be the user's own."""

BY_MODULE = {
    "sb3_contrib.ars": "ars",
    "sb3_contrib.crossq": "crossq",
    "sb3_contrib.qrdqn": "qrdqn",
    "sb3_contrib.tqc": "tqc",
    "sb3_contrib.common.maskable": "maskable_ppo",
    "sb3_contrib.ppo_mask": "maskable_ppo",
    "sb3_contrib.common.recurrent": "recurrent_ppo",
    "sb3_contrib.ppo_recurrent": "recurrent_ppo",
    "equirl.agents.actor_critic.maskable": "maskable_ppo",
    "stable_baselines3.dqn": "dqn",
    "stable_baselines3.sac": "sac",
    "equirl.agents.dqn": "dqn",
    "equirl.agents.native": "dqn",
    "equirl.agents.qrdqn": "qrdqn",
    "equirl.agents.sac": "sac",
    "equirl.agents.tqc": "tqc",
}
"""The algorithm by the module of its policy class or of its rollout buffer, where that tells it."""

LAYERS: dict[str, dict[str, tuple[str, bool]]] = {
    "dqn": {"q": ("q_net.q_net", True)},
    "qrdqn": {"q": ("quantile_net.quantile_net", True)},
    "actor_critic": {
        "pi": ("mlp_extractor.policy_net", False),
        "vf": ("mlp_extractor.value_net", False),
    },
    "sac": {"pi": ("actor.latent_pi", False), "qf": ("critic.qf0", True)},
    "td3": {"pi": ("actor.mu", True), "qf": ("critic.qf0", True)},
}
"""Where the weights of each network stand, and whether its last layer is the output."""

FAMILIES = {
    **dict.fromkeys(("ppo", "a2c", "trpo", "maskable_ppo"), "actor_critic"),
    "tqc": "sac",
    "ddpg": "td3",
    "dqn": "dqn",
    "qrdqn": "qrdqn",
    "sac": "sac",
    "td3": "td3",
}
"""Algorithms whose networks are laid out alike."""

SHARED = "mlp_extractor.shared_net"
"""Layers that policy and value had in common, before SB3 1.8."""


@dataclass(frozen=True)
class Architecture:
    """The networks of a saved agent.

    Args:
        algorithm: ``"dqn"``, ``"qrdqn"``, ``"ppo"``, ``"a2c"``, ``"trpo"``, ``"maskable_ppo"``,
            ``"sac"``, ``"tqc"``, ``"td3"`` or ``"ddpg"``.
        policy: its SB3 name, ``"MlpPolicy"``, ``"CnnPolicy"`` or ``"MultiInputPolicy"``.
        net_arch: widths of the hidden layers of each network: ``"q"``; ``"pi"`` and ``"vf"``; or
            ``"pi"`` and ``"qf"``.
        activation: as the file describes it, ``<class 'module.Name'>``, or the algorithm's default.
        shares_features: whether policy and value have one features extractor.
        normalize_images: whether images are divided by 255.
        use_sde: exploration by gSDE (arXiv 2005.05719).
        full_std: with gSDE, whether each action has its own scales.
        squash_output: whether actions pass through tanh.
        log_std_init: the log standard deviation at the start; None: not a Gaussian.
        n_critics: Q-networks beside each other; 0: none that take actions.
        n_quantiles: of each return distribution; 0: means only.
        top_quantiles_to_drop_per_net: see TQC (arXiv 2005.04269).
    """

    algorithm: str
    policy: str
    net_arch: Mapping[str, tuple[int, ...]]
    activation: str
    shares_features: bool
    normalize_images: bool = True
    use_sde: bool = False
    full_std: bool = True
    squash_output: bool = False
    log_std_init: float | None = None
    n_critics: int = 0
    n_quantiles: int = 0
    top_quantiles_to_drop_per_net: int = 0
    first_layers: tuple[str, ...] = field(default=(), repr=False)
    """The weights that features come into, by their names in the state dict."""


def algorithm_of(data: Mapping[str, Any], weights: Weights) -> str | None:
    """The algorithm of an agent, by what SB3 saves of it; None where nothing tells.

    Args:
        data: the JSON description.
        weights: the state dict of the policy.
    """
    for name in ("policy_class", "rollout_buffer_class"):  # a policy may be the user's own
        module = str(_described(data, name).get("__module__", ""))
        for start, algorithm in BY_MODULE.items():
            if f"{module}.".startswith(f"{start}."):
                return algorithm
    found = next((algorithm for key, algorithm in BY_SETTING if key in data), None)
    if found == "dqn" and any(key.startswith("quantile_net.") for key in weights):
        return "qrdqn"
    # DDPG is TD3 with one critic, no delay and no noise in its targets.
    is_ddpg = data.get("policy_delay") == 1 and data.get("target_noise_clip") == 0
    return "ddpg" if found == "td3" and is_ddpg and "critic.qf1.0.weight" not in weights else found


def read_architecture(data: Mapping[str, Any], weights: Weights, is_dict: bool) -> Architecture:
    """The networks of an agent.

    Args:
        data: the JSON description.
        weights: the state dict of the policy, in today's layout (`in_todays_layout`).
        is_dict: whether it was trained on dict observations.

    Raises:
        ValueError: no algorithm that is known, or networks that it does not have.
    """
    algorithm = algorithm_of(data, weights)
    family = FAMILIES.get(algorithm or "")
    if algorithm is None or family is None:
        raise ValueError(f"its algorithm is {algorithm or 'unknown'}")
    layers = {name: _layers(weights, prefix) for name, (prefix, _) in LAYERS[family].items()}
    outputs = {name: has_output for name, (_, has_output) in LAYERS[family].items()}
    for name, has_output in outputs.items():
        if has_output and not layers[name]:
            raise ValueError(f"its policy has no {LAYERS[family][name][0]} layers")
    if family != "dqn" and family != "qrdqn" and not _has_head(family, weights):
        raise ValueError("its policy has no layer that gives actions")
    arch = {
        name: tuple(len(weights[key]) for key in (keys[:-1] if outputs[name] else keys))
        for name, keys in layers.items()
    }
    kwargs = _described(data, "policy_kwargs")
    n_critics = sum(1 for key in weights if re.fullmatch(r"critic\.qf[0-9]+\.0\.weight", key))
    log_std = next((weights[k] for k in ("log_std", "actor.log_std") if k in weights), None)
    use_sde = bool(data.get("use_sde") or kwargs.get("use_sde"))
    is_gaussian = family == "sac" or log_std is not None
    default_activation = nn.Tanh if family == "actor_critic" else nn.ReLU
    return Architecture(
        algorithm,
        _policy(weights, is_dict),
        arch,
        str(kwargs.get("activation_fn") or default_activation),
        bool(kwargs.get("share_features_extractor", family == "actor_critic")),
        normalize_images=bool(kwargs.get("normalize_images", True)),
        use_sde=use_sde,
        full_std=log_std is None or not use_sde or log_std.dim() < 2 or _is_full(log_std, data),
        squash_output=family in ("sac", "td3") or bool(kwargs.get("squash_output", False)),
        log_std_init=_log_std_init(kwargs, family) if is_gaussian else None,
        n_critics=n_critics,
        n_quantiles=_quantiles(algorithm, weights, layers, data),
        top_quantiles_to_drop_per_net=int(data.get("top_quantiles_to_drop_per_net", 0)),
        first_layers=_first_layers(family, weights),
    )


def in_todays_layout(weights: Weights) -> dict[str, Tensor]:
    """The same weights as the current SB3 lays them out.

    Layers that policy and value shared (before SB3 1.8) become the first layers of each; the one
    features extractor of an actor-critic is known by three names since SB3 1.7.
    """
    shared = _layers(weights, SHARED)
    current: dict[str, Tensor] = {}
    for key, weight in weights.items():
        found = re.fullmatch(r"mlp_extractor\.(policy_net|value_net)\.([0-9]+)\.(\w+)", key)
        if found and shared:
            net, number, kind = found.groups()
            current[f"mlp_extractor.{net}.{int(number) + 2 * len(shared)}.{kind}"] = weight
        elif key.startswith(f"{SHARED}."):
            for net in ("policy_net", "value_net"):
                current[key.replace(SHARED, f"mlp_extractor.{net}")] = weight
        else:
            current[key] = weight
    if "action_net.weight" in weights:
        for key, weight in weights.items():
            if key.startswith("features_extractor."):
                for name in ("pi", "vf"):
                    current.setdefault(f"{name}_{key}", weight)
    return current


def _layers(weights: Weights, prefix: str) -> list[str]:
    """The linear layers of a network, first to last."""
    numbers = [
        int(found[1])
        for key, weight in weights.items()
        if (found := re.fullmatch(rf"{re.escape(prefix)}\.(0|[1-9][0-9]*)\.weight", key))
        and weight.dim() == 2
    ]
    return [f"{prefix}.{number}.weight" for number in sorted(numbers)]


def _has_head(family: str, weights: Weights) -> bool:
    if family == "actor_critic":
        return "action_net.weight" in weights and "value_net.weight" in weights
    return "actor.mu.weight" in weights or "actor.mu.0.weight" in weights


def _policy(weights: Weights, is_dict: bool) -> str:
    if is_dict:
        return "MultiInputPolicy"
    has_cnn = any(re.search(r"(^|[._])features_extractor\.cnn\.", key) for key in weights)
    return "CnnPolicy" if has_cnn else "MlpPolicy"


def _first_layers(family: str, weights: Weights) -> tuple[str, ...]:
    """Of every network and its target, the weights that features come into."""
    if family == "actor_critic":
        heads = {"pi": ["action_net.weight"], "vf": ["value_net.weight"]}
        return tuple(
            (_layers(weights, prefix) or heads[name])[0]
            for name, (prefix, _) in LAYERS["actor_critic"].items()
        )
    pattern = {
        "dqn": r"(q_net|q_net_target)\.q_net",
        "qrdqn": r"(quantile_net|quantile_net_target)\.quantile_net",
        "sac": r"actor\.latent_pi|(critic|critic_target)\.qf[0-9]+",
        "td3": r"(actor|actor_target)\.mu|(critic|critic_target)\.qf[0-9]+",
    }[family]
    prefixes = sorted({key.rsplit(".", 2)[0] for key in weights})
    found = [_layers(weights, p) for p in prefixes if re.fullmatch(pattern, p)]
    first = [layers[0] for layers in found if layers]
    if family == "sac" and not any(name.startswith("actor.") for name in first):
        first += [k for k in ("actor.mu.weight", "actor.log_std.weight") if k in weights]
    return tuple(first)


def _quantiles(
    algorithm: str, weights: Weights, layers: Mapping[str, list[str]], data: Mapping[str, Any]
) -> int:
    if algorithm == "tqc":
        return len(weights[layers["qf"][-1]])
    if algorithm == "qrdqn":
        actions = str(_described(data, "action_space").get("n", ""))
        return len(weights[layers["q"][-1]]) // int(actions) if actions.isdigit() else 0
    return 0


def _is_full(log_std: Tensor, data: Mapping[str, Any]) -> bool:
    shape = _described(data, "action_space")
    sizes = shape.get("_shape", shape.get("shape"))
    kwargs = _described(data, "policy_kwargs")
    if sizes == [1]:  # where the two look alike
        return bool(kwargs.get("full_std", True))
    return log_std.shape[1] != 1


def _log_std_init(kwargs: Mapping[str, Any], family: str) -> float:
    return float(kwargs.get("log_std_init", -3 if family == "sac" else 0))


def _described(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    described = data.get(name)
    return described if isinstance(described, dict) else {}
