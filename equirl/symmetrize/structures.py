"""What models take and give: one tensor, or a tuple or dict of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from equirl.actions import GroupAction
from equirl.errors import MethodError

OutputAction = GroupAction | tuple[GroupAction, ...] | Mapping[str, GroupAction]
"""How the group moves what a model gives, one action for each tensor."""


def parts(tree: Any) -> tuple[Any, ...]:
    """The parts of a dict or tuple, or the thing itself."""
    if isinstance(tree, Mapping):
        return tuple(tree.values())
    return tuple(tree) if isinstance(tree, tuple) else (tree,)


def first(tree: Any) -> Any:
    """The first of the parts."""
    return parts(tree)[0]


def map_parts(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """The function of a tensor, or of each in a dict or tuple, which others match."""
    if isinstance(tree, Mapping):
        return {key: function(part, *(o[key] for o in others)) for key, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(function(*parts) for parts in zip(tree, *others, strict=True))
    return function(tree, *others)


def each_part(actions: Any, outputs: Any, function: Callable[[GroupAction, Any], Any]) -> Any:
    """The function of every output and its action, which must match."""
    match = isinstance(outputs, Tensor) == isinstance(actions, GroupAction)
    if isinstance(outputs, Mapping):
        match = isinstance(actions, Mapping) and outputs.keys() == actions.keys()
    if not match or len(parts(outputs)) != len(parts(actions)):
        raise MethodError(
            f"the model gives a {type(outputs).__name__} of {len(parts(outputs))}, output_action "
            f"is a {type(actions).__name__} of {len(parts(actions))}: give one action for each"
        )
    if isinstance(outputs, Mapping):
        return {key: function(actions[key], part) for key, part in outputs.items()}
    return map_parts(lambda part, action: function(action, part), outputs, actions)
