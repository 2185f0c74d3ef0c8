"""`Symmetry`: one group, and how it moves the observations and the actions of a task."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

from equirl.actions import Elements, GroupAction, leaves_of, output_actions
from equirl.declaring import (
    ObservationMap,
    check_box,
    checked_action_space,
    checked_generators,
    close_actions,
    declared_action,
    unmoved,
)
from equirl.errors import EquirlWarning, SymmetryError
from equirl.groups import FiniteGroup

Generators = Mapping[str, tuple[ObservationMap, ObservationMap]]
"""By name: (map on ONE observation, permutation of the actions or map on ONE action)."""

LARGE_ORDER = 64
"""A generator of a larger order is more likely a mistake, such as degrees taken for radians."""


@dataclass(frozen=True, eq=False)
class Symmetry:
    """A finite group G acting on observations, s ↦ gs, and on actions, a ↦ ga.

    A task has the symmetry when P(gs' | gs, ga) = P(s' | s, a) and R(gs, ga) = R(s, a) for every g
    (van der Pol et al. 2020, arXiv 2006.16908); then Q*(gs, ga) = Q*(s, a).

    Build one with `from_generators`. Immutable, picklable, and good for every device: tensors are
    transformed where they are.

    Args:
        group: the group G, identity first.
        observation_space: the space of s.
        action_space: the space of a: ``Discrete``, ``Box``, ``MultiDiscrete`` or ``MultiBinary``.
        observations: the action on observations.
        actions: the action on actions.

    Raises:
        SymmetryError: the actions are of different groups, or do not fit the spaces.
    """

    group: FiniteGroup
    observation_space: spaces.Space[Any]
    action_space: Any
    observations: GroupAction
    actions: GroupAction

    _policy_outputs: dict[str, GroupAction] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.observations.group != self.group or self.actions.group != self.group:
            raise SymmetryError("observations and actions must be acted on by the same group")
        fitting = {
            "observations": _fitting(self.observations, self.observation_space, "observation"),
            "actions": _fitting(self.actions, self.action_space, "action"),
        }
        for name, action in fitting.items():
            object.__setattr__(self, name, action)
        check_box(self.actions, self.action_space)
        outputs = output_actions(self.actions, self.action_space)
        object.__setattr__(self, "_policy_outputs", outputs)

    @property
    def permutations(self) -> npt.NDArray[np.int64]:
        """For ``Discrete`` actions, int64 ``[|G|, n]``: action number a becomes this number.

        Numbers count from 0, wherever the space starts, as the entries of Q-values do.
        """
        if not isinstance(self.action_space, spaces.Discrete):
            raise self._lacks("permutations")
        table = self.actions.maps[0].arrays["table"]
        assert table is not None
        numbers: npt.NDArray[np.int64] = table[:, 0] - int(self.action_space.start)
        return numbers

    @property
    def q_values(self) -> GroupAction:
        """For ``Discrete`` actions, on vectors of Q-values: (gQ)(a) = Q(g⁻¹a)."""
        return self._output("q_values")

    @property
    def action_logits(self) -> GroupAction:
        """On the logits of a policy of finitely many actions, as SB3 lays them out.

        ``Discrete``: as `q_values`. ``MultiDiscrete``: ``nvec[i]`` logits for each entry, one block
        after the other; entries that are exchanged exchange their blocks, values that are renamed
        their places in the block. ``MultiBinary``: the logit of each bit being 1, which changes its
        sign where 0 and 1 are exchanged.
        """
        return self._output("action_logits")

    @property
    def scaled_actions(self) -> GroupAction:
        """For ``Box`` actions, on flat vectors rescaled to -1 … 1, where no map has an offset.

        The actors of SAC, TD3 and DDPG give such actions, and SB3's replay buffers hold them.
        """
        return self._output("scaled_actions")

    @property
    def action_means(self) -> GroupAction:
        """For ``Box`` actions, on flat vectors in the units of the box, which may lie outside it.

        So is the mean of an unsquashed Gaussian, as PPO has.
        """
        return self._output("action_means")

    @property
    def log_stds(self) -> GroupAction:
        """For ``Box`` actions, on the scales of each entry, flat: the permutation without signs."""
        return self._output("log_stds")

    def _output(self, name: str) -> GroupAction:
        if name not in self._policy_outputs:
            raise self._lacks(name)
        return self._policy_outputs[name]

    def _lacks(self, name: str) -> SymmetryError:
        return SymmetryError(f"a symmetry of actions in {self.action_space} has no {name}")

    @classmethod
    def from_generators(
        cls,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        generators: Generators,
    ) -> Symmetry:
        """The symmetry that the generators generate.

        Each map is compiled once, by probing, into a permutation, signed permutation or affine map
        of the entries (for finite entries: a permutation with renamed values), so the function may
        be ordinary NumPy code on ONE observation or action and is never called again.

        Args:
            observation_space: ``Box`` of any shape and dtype, ``Discrete``, ``MultiBinary``,
                ``MultiDiscrete``, or a ``Dict`` of these.
            action_space: ``Discrete``, ``Box``, ``MultiDiscrete`` or ``MultiBinary``.
            generators: by name, (map of observations, map of actions).

                A map is a function on one observation; or, for the n flat entries of an array, a
                permutation of 0 … n-1 (entry i of the result is entry ``permutation[i]``), a vector
                of n signs ±1, or an n × n matrix; for a ``Dict`` also a dict of one map per key;
                None leaves everything in place. A permutation holds a 0 and signs do not, so
                ``[1, 0]`` exchanges, ``[1]`` leaves in place and ``[-1]`` changes the sign.

                Maps of actions are given in the same ways, except for ``Discrete`` actions: as a
                permutation that lists what each action becomes, ``permutation[a - start]`` for a.
                On a ``Box`` they are signed permutations that map the box to itself, such as
                a ↦ -a, or a ↦ low + high - a where that is exact in the dtype of the box.

        Raises:
            SymmetryError: a map is not affine (the entry is named), changes the shape or leaves the
                space; the generators do not close within 1,024 elements; or actions are moved where
                observations are not, so that their maps are not a homomorphism of the group.

        Warns:
            EquirlWarning: a generator is of an order above 64.

        Example:
            >>> cartpole = spaces.Box(-1, 1, (4,)), spaces.Discrete(2)
            >>> symmetry = Symmetry.from_generators(*cartpole, {"mirror": (np.negative, [1, 0])})
            >>> symmetry.group.names
            ('e', 'mirror')
            >>> symmetry.transform_observation("mirror", np.array([0.1, 0.2, 0.3, 0.4]))
            array([-0.1, -0.2, -0.3, -0.4])
            >>> pendulum = spaces.Box(-8, 8, (3,)), spaces.Box(-2, 2, (1,))
            >>> symmetry = Symmetry.from_generators(*pendulum, {"mirror": ([1, -1, -1], [-1])})
            >>> symmetry.transform_action("mirror", np.array([0.5]))
            array([-0.5])
        """
        actions = checked_action_space(action_space)
        maps, action_maps = checked_generators(generators)
        if not maps:
            return cls.trivial(observation_space, actions)
        closure, observations = close_actions(observation_space, maps)
        group = observations.group
        for name, g in closure.generators.items():
            if group.order_of(g) > LARGE_ORDER:
                warnings.warn(
                    f"the generator {name!r} is of order {group.order_of(g)}: every observation "
                    f"goes through the network {group.order} times; is it what you meant?",
                    EquirlWarning,
                    stacklevel=2,
                )
        moved = declared_action(actions, closure, action_maps)
        return cls(group, observation_space, actions, observations, moved)

    @classmethod
    def trivial(
        cls, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> Symmetry:
        """The group {e}: nothing moves."""
        actions = checked_action_space(action_space)
        _, observations = close_actions(observation_space, {"e": None})
        group = FiniteGroup.trivial()
        return cls(group, observation_space, actions, observations, unmoved(actions, group))

    def transform_observation(self, g: Elements, observation: Any) -> Any:
        """gs for one observation or a batch; arrays stay arrays and tensors tensors.

        Args:
            g: an element by number or name, or one number per row of the batch.
            observation: ``[*shape]`` or ``[batch, *shape]``, or a dict of these.
        """
        return self.observations.transform(g, observation)

    def transform_action(self, g: Elements, action: Any) -> Any:
        """ga for one action or a batch ``[batch, *shape]``.

        Raises:
            SymmetryError: the action is not of the space: negative, fractional or out of range.
        """
        return self.actions.transform(g, action)

    def orbit(self, observations: Any) -> Any:
        """All gs: ``[batch, *shape] -> [|G|, batch, *shape]``."""
        return self.observations.orbit(observations)

    def pull_back(self, q: Any) -> Any:
        """``[|G|, batch, actions]``, same shape out: row g becomes g⁻¹Q, (g⁻¹Q)(a) = Q(ga)."""
        return self.q_values.pull_back(q)

    def to(self, device: torch.device | str) -> Symmetry:
        """This symmetry; it transforms tensors on whatever device they are, so nothing moves."""
        torch.device(device)
        return self

    def carried_to(
        self,
        observation_space: spaces.Space[Any],
        axes: Mapping[str | None, Sequence[int]] | None = None,
    ) -> Symmetry:
        """The same symmetry for the same observations laid out in another way.

        Args:
            observation_space: the keys of a ``Dict`` may stand in another order, and arrays may
                have their axes exchanged.
            axes: by key (None where the observation is one array), the axes as `numpy.transpose`
                takes them.

        Raises:
            SymmetryError: the spaces differ in any other way, such as stacked frames.
        """
        mine = {leaf.key: leaf for leaf in self.observations.leaves}
        theirs, axes = leaves_of(observation_space), axes or {}
        if set(mine) != {leaf.key for leaf in theirs}:
            raise self._does_not_fit(observation_space)
        for other in theirs:
            leaf = mine[other.key]
            shape = tuple(leaf.shape[axis] for axis in axes.get(leaf.key, range(len(leaf.shape))))
            same = (leaf.kind, leaf.low, leaf.values) == (other.kind, other.low, other.values)
            if not same or other.shape != shape:
                raise self._does_not_fit(observation_space)
        if theirs == self.observations.leaves:
            return self
        carried = self.observations.rearranged(theirs, axes)
        return Symmetry(self.group, observation_space, self.action_space, carried, self.actions)

    def _does_not_fit(self, observation_space: spaces.Space[Any]) -> SymmetryError:
        return SymmetryError(
            f"the symmetry was declared for {self.observation_space}, the policy sees "
            f"{observation_space}: declare it for what comes out of the last wrapper, "
            "SymmetryWrapper(wrapped_env, symmetry)"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Symmetry):
            return NotImplemented
        return (
            self.group == other.group
            and self.observation_space == other.observation_space
            and self.action_space == other.action_space
            and self.actions.same_as(other.actions)
            and self.observations.same_as(other.observations)
        )

    def __hash__(self) -> int:
        return hash((self.group, str(self.action_space)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Symmetry:
        return self  # immutable

    def __reduce__(self) -> tuple[Any, ...]:
        from equirl.saved_symmetry import from_plain, to_plain

        return from_plain, (to_plain(self),)  # agents must outlive our classes

    def __repr__(self) -> str:
        return f"Symmetry({self.group!r} on {self.observation_space}, {self.action_space})"


def _fitting(action: GroupAction, space: spaces.Space[Any], what: str) -> GroupAction:
    """The action with the arrays of a space, whose dtypes one on vectors does not know.

    Raises:
        SymmetryError: it is on other arrays.
    """
    leaves = leaves_of(space, what)
    mine, theirs = (
        [(one.key, one.shape, one.low, one.values) for one in each]
        for each in (action.leaves, leaves)
    )
    if mine != theirs:
        raise SymmetryError(
            f"the group does not act on the {what}s of {space}: build the symmetry by "
            "Symmetry.from_generators(observation_space, action_space, generators)"
        )
    if action.leaves == leaves:
        return action
    return GroupAction(action.group, leaves, action.blocks, action.maps)
