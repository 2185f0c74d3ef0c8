"""Keys of a training's configuration, dotted: which of them bear on what is learned."""

from __future__ import annotations

from typing import Any

HOW_IT_RUNS = ("checkpoint_every", "device", "threads", "progress", "video", "loggers")
"""Where and how a run is computed, but not what it learns."""

WHICH_RUN = ("run_dir", "resume", "repeat")
"""Which directory a run has, and which run it goes on with."""

OTHERS_DEFAULTS = ("algorithm.total_timesteps", "env.eval_every", "env.eval_episodes")
"""What ``total_timesteps`` and ``eval`` are when nothing else is said."""

MAY_CHANGE = ("total_timesteps", "env.target_return", "eval.final_episodes", *HOW_IT_RUNS)
"""What may be given beside ``resume=``: how long and where, but not what is learned, and how."""


def flattened(node: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping with dotted keys; a list is one value.

    Example:
        >>> flattened({"a": {"b": 1, "c": [2]}, "d": None})
        {'a.b': 1, 'a.c': [2], 'd': None}
    """
    if not isinstance(node, dict):
        return {prefix: node}
    flat = {}
    for key, value in node.items():
        flat.update(flattened(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat
