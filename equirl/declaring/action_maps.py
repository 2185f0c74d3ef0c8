"""From what is declared for actions to the group's action on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.actions import GroupAction, Maps, SignedPermutations, leaves_of
from equirl.declaring.generated_actions import compiled_maps
from equirl.declaring.observation_maps import ObservationMap
from equirl.errors import SymmetryError
from equirl.groups import Closure, FiniteGroup, word_name
from equirl.shown import shown

ActionSpace = spaces.Discrete | spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary


def checked_action_space(space: Any) -> ActionSpace:
    """The action space.

    Raises:
        SymmetryError: it is not one array.
    """
    if not isinstance(space, ActionSpace):
        raise SymmetryError(
            "the action space must be Discrete, Box, MultiDiscrete or MultiBinary, got "
            f"{space if isinstance(space, spaces.Space) else shown(space)}"
        )
    return space


def declared_action(
    space: ActionSpace, closure: Closure[Any], declared: Mapping[str, ObservationMap]
) -> GroupAction:
    """The action on ``space`` with these maps for the generators of a group that is known.

    Args:
        space: of actions.
        closure: of the generators, as they move observations.
        declared: the map of one action by generator.

    Raises:
        SymmetryError: a map is not a permutation (``Discrete``), leaves the space, or on a ``Box``
            is not a signed permutation that maps the box to itself; or there is no such action of
            the group: two words name the same map of observations but different maps of actions.
    """
    if isinstance(space, spaces.Discrete):
        declared = {n: _checked_permutation(n, d, space) for n, d in declared.items()}
    compiled = {name: _compiled(name, action_map, space) for name, action_map in declared.items()}
    maps = list(compiled.values())
    letters = {name: k for k, name in enumerate(compiled)}
    words = [[letters[name] for name in word] for word in closure.words]
    elements = type(maps[0]).stacked(maps).products(words)
    for name, generator in compiled.items():
        _check_homomorphism(space, closure, name, elements, generator)
    group = FiniteGroup(closure.table, closure.names)
    return GroupAction(
        group, leaves_of(space, "action"), ((0,),), (elements.polished(group.table),)
    )


def unmoved(space: ActionSpace, group: FiniteGroup) -> GroupAction:
    """The action that leaves every point of ``space`` where it is."""
    maps = _compiled("e", None, space).polished(group.table)
    stack = maps.take(np.zeros(group.order, dtype=np.int64))
    return GroupAction(group, leaves_of(space, "action"), ((0,),), (stack,))


def check_box(action: GroupAction, space: Any) -> None:
    """Refuse an action on a finite ``Box`` of which a generator does not map it to itself.

    Raises:
        SymmetryError: one does not.
    """
    if not isinstance(space, spaces.Box) or space.dtype == np.bool_ or not space.is_bounded():
        return
    for g in action.group.generators:
        _check_maps_box_to_itself(action.group.names[g], action.maps[0].take(g), space)


def _compiled(name: str, action_map: ObservationMap, space: ActionSpace) -> Maps:
    _, _, ((maps,),) = compiled_maps(space, {name: action_map}, "action")
    if isinstance(space, spaces.Box) and space.dtype != np.bool_:
        _check_maps_box_to_itself(name, maps, space)
    return maps


def _check_maps_box_to_itself(name: str, maps: Maps, box: spaces.Box) -> None:
    """In the dtype of the box, so that no rounding leads out of it."""
    rule = (
        "on a Box only permutations and changes of sign that map the box to itself commute with "
        "clipping, squashing and a diagonal covariance"
    )
    if not isinstance(maps, SignedPermutations):
        raise SymmetryError(f"action map {name!r} mixes or scales entries: {rule}")
    low, high = box.low.ravel(), box.high.ravel()
    unbounded = np.isinf(low) | np.isinf(high)
    offset = maps.with_all_arrays().arrays["offset"]
    assert offset is not None
    with np.errstate(all="ignore"):
        least, most = (ends[0] for ends in maps.range_over(low, high))
    wrong = (least != low) | (most != high) | (unbounded & (offset[0] != 0))
    if wrong.any():
        entry = int(np.argmax(wrong))
        becomes = f"{least[entry] + 0.0:g} … {most[entry] + 0.0:g}"
        raise SymmetryError(
            f"action map {name!r} does not map the box to itself: entry {entry} would range over "
            f"{becomes}{' after a shift' * bool(offset[0, entry])}, the box has {low[entry]:g} … "
            f"{high[entry]:g}; {rule} (RescaleAction gives all entries the bounds -1 … 1)"
        )


def _check_homomorphism(
    space: ActionSpace, closure: Closure[Any], name: str, elements: Maps, generator: Maps
) -> None:
    expected = elements.compose(generator)
    actual = elements.take(closure.table[:, closure.generators[name]])
    same = expected.equal(actual)
    if same.all():
        return
    g = int(np.argmin(same))
    twice = word_name((*closure.words[g], name))
    like = closure.names[closure.table[g, closure.generators[name]]]
    discrete = isinstance(space, spaces.Discrete)
    how = "differently"
    if discrete:
        # Lookups always have a table.
        as_one, as_other = (m.arrays["table"][g, 0].tolist() for m in (expected, actual))  # type: ignore[index]
        how = f"as {as_one} and not {as_other}"
    raise SymmetryError(
        f"not a homomorphism: {twice} moves observations as {like} does, but actions {how}; mend "
        f"the action {'permutation' if discrete else 'map'} of {name!r}"
    )


def _checked_permutation(name: str, given: Any, space: spaces.Discrete) -> npt.NDArray[np.int64]:
    n, start = int(space.n), int(space.start)
    wrong = f"is not a permutation of {start} … {start + n - 1}"
    try:
        permutation = np.asarray(given)
    except Exception as error:  # ragged, or a class of the caller's own
        raise SymmetryError(f"generator {name!r}: {shown(given)} {wrong}") from error
    if permutation.shape != (n,):
        raise SymmetryError(
            f"generator {name!r}: the action permutation must list all {n} actions once, got "
            f"{shown(permutation.tolist())}"
        )
    listed = permutation.tolist()
    if permutation.dtype.kind not in "iu" or sorted(listed) != list(range(start, start + n)):
        raise SymmetryError(f"generator {name!r}: {shown(listed)} {wrong}")
    return permutation.astype(np.int64)
