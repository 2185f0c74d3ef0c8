"""`Symmetry`: one group, and how it moves the observations and the discrete actions of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

from equirl.actions.group_actions import Elements, GroupAction
from equirl.actions.layout import Leaf, leaves_of
from equirl.actions.lookups import Lookups
from equirl.actions.signed_permutations import SignedPermutations
from equirl.declaring.declarations import checked_action_space, checked_generators
from equirl.declaring.generated_actions import close_actions
from equirl.declaring.observation_maps import ObservationMap
from equirl.errors import SymmetryError
from equirl.groups import FiniteGroup
from equirl.groups.closures import Closure
from equirl.groups.element_names import word_name

Generators = Mapping[str, tuple[ObservationMap, Sequence[int] | npt.NDArray[np.integer[Any]]]]
"""By name: (map on ONE observation, permutation of the actions)."""


@dataclass(frozen=True, eq=False)
class Symmetry:
    """A finite group G acting on observations, s ↦ gs, and on discrete actions, a ↦ ga.

    A task has the symmetry when P(gs' | gs, ga) = P(s' | s, a) and R(gs, ga) = R(s, a) for every g
    (van der Pol et al. 2020, arXiv 2006.16908); then Q*(gs, ga) = Q*(s, a).

    Build one with `from_generators`. Immutable, picklable, and good for every device: tensors are
    transformed where they are.

    Args:
        group: the group G, identity first.
        observation_space: the space of s.
        action_space: the space of a, ``Discrete`` from 0.
        observations: the action on observations.
        permutations: int64 ``[|G|, actions]``; ``permutations[g, a]`` is ga.

    Raises:
        SymmetryError: the permutations are not an action of the group.
    """

    group: FiniteGroup
    observation_space: spaces.Space[Any]
    action_space: spaces.Discrete
    observations: GroupAction
    permutations: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        permutations = np.array(self.permutations, dtype=np.int64)
        permutations.setflags(write=False)
        object.__setattr__(self, "permutations", permutations)
        n = permutations.shape[1]
        index = np.zeros((self.group.order, 1), dtype=np.int64)
        tables = Lookups(index, permutations[:, None, :], np.zeros_like(index))
        actions = GroupAction(
            self.group, (Leaf(None, (), "int64", (0,), (n,)),), ((0,),), (tables,)
        )
        # (gQ)(a) = Q(g⁻¹a): entry a of gQ is entry g⁻¹a of Q.
        values = SignedPermutations(permutations[self.group.inverses])
        q_values = GroupAction(self.group, (Leaf(None, (n,), "float32"),), ((0,),), (values,))
        object.__setattr__(self, "actions", actions)
        object.__setattr__(self, "q_values", q_values)

    actions: GroupAction = field(init=False)
    """The action on discrete actions, a ↦ ga."""

    q_values: GroupAction = field(init=False)
    """The action on vectors of Q-values: (gQ)(a) = Q(g⁻¹a)."""

    @classmethod
    def from_generators(
        cls,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        generators: Generators,
    ) -> Symmetry:
        """The symmetry that the generators generate.

        Each observation map is compiled once, by probing, into a permutation, signed permutation
        or affine map of the entries (for finite entries: a permutation with renamed values), so the
        function may be ordinary NumPy code on ONE observation and is never called again.

        Args:
            observation_space: ``Box`` of any shape and dtype, ``Discrete``, ``MultiBinary``,
                ``MultiDiscrete``, or a ``Dict`` of these.
            action_space: ``Discrete``.
            generators: by name, (map, action permutation). The map is a function on one
                observation; or, for flat entries, a permutation, a vector of signs or a matrix;
                for a ``Dict`` also a dict of one map per key; None leaves everything in place.
                ``permutation[a]`` is the action that a becomes.

        Raises:
            SymmetryError: a map is not affine (the entry is named), changes the shape or leaves the
                space; a permutation is not one of the actions; the generators do not close within
                1,024 elements; or actions are permuted where observations are not, so that the
                permutations are not a homomorphism of the group.

        Example:
            >>> cartpole = spaces.Box(-1, 1, (4,)), spaces.Discrete(2)
            >>> symmetry = Symmetry.from_generators(*cartpole, {"mirror": (np.negative, [1, 0])})
            >>> symmetry.group.names
            ('e', 'mirror')
            >>> symmetry.transform_observation("mirror", np.array([0.1, 0.2, 0.3, 0.4]))
            array([-0.1, -0.2, -0.3, -0.4])
        """
        actions = checked_action_space(action_space)
        maps, permutations = checked_generators(generators, int(actions.n))
        if not maps:
            return cls.trivial(observation_space, actions)
        closure, observations = close_actions(observation_space, maps)
        return cls(
            observations.group,
            observation_space,
            actions,
            observations,
            _permutations_of(closure, permutations, int(actions.n)),
        )

    @classmethod
    def trivial(
        cls, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> Symmetry:
        """The group {e}: nothing moves."""
        actions = checked_action_space(action_space)
        _, observations = close_actions(observation_space, {"e": None})
        return cls(
            FiniteGroup.trivial(),
            observation_space,
            actions,
            observations,
            np.arange(actions.n)[None],
        )

    def transform_observation(self, g: Elements, observation: Any) -> Any:
        """gs for one observation or a batch; arrays stay arrays and tensors tensors.

        Args:
            g: an element by number or name, or one number per row of the batch.
            observation: ``[*shape]`` or ``[batch, *shape]``, or a dict of these.
        """
        return self.observations.transform(g, observation)

    def transform_action(self, g: Elements, action: Any) -> Any:
        """ga for one action or a batch ``[batch]``."""
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

    def carried_to(self, observation_space: spaces.Space[Any]) -> Symmetry:
        """The same symmetry for a policy whose observations SB3 may have transposed.

        Args:
            observation_space: what the policy sees: this symmetry's own space, or the same with
                images turned channel-first (`VecTransposeImage`).

        Raises:
            SymmetryError: the spaces differ in any other way, such as stacked frames.
        """
        theirs = leaves_of(observation_space)
        transposed = []
        if len(theirs) != len(self.observations.leaves):
            raise self._does_not_fit(observation_space)
        for mine, other in zip(self.observations.leaves, theirs, strict=True):
            if any(getattr(mine, a) != getattr(other, a) for a in ("key", "kind", "low", "values")):
                raise self._does_not_fit(observation_space)
            if mine.shape == other.shape:
                continue
            height_width_channels = mine.shape
            if len(mine.shape) != 3 or other.shape != (
                height_width_channels[2],
                *height_width_channels[:2],
            ):
                raise self._does_not_fit(observation_space)
            transposed.append(mine.key)
        if not transposed:
            return self
        return Symmetry(
            self.group,
            observation_space,
            self.action_space,
            self.observations.images_transposed(frozenset(transposed)),
            self.permutations,
        )

    def _does_not_fit(self, observation_space: spaces.Space[Any]) -> SymmetryError:
        return SymmetryError(
            f"the symmetry was declared for {self.observation_space}, the policy sees "
            f"{observation_space}: declare it for what comes out of the last wrapper, "
            "SymmetryWrapper(wrapped_env, symmetry)"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Symmetry):
            return NotImplemented
        same_maps = zip(self.observations.maps, other.observations.maps, strict=False)
        return (
            self.group == other.group
            and self.observation_space == other.observation_space
            and np.array_equal(self.permutations, other.permutations)
            and self.observations.blocks == other.observations.blocks
            and all(type(a) is type(b) and bool(a.equal(b).all()) for a, b in same_maps)
        )

    def __hash__(self) -> int:
        return hash((self.group, self.permutations.tobytes()))

    def __deepcopy__(self, memo: dict[int, Any]) -> Symmetry:
        return self  # immutable

    def __reduce__(self) -> tuple[Any, ...]:
        from equirl.saved_symmetry import from_plain, to_plain

        return from_plain, (to_plain(self),)  # agents must outlive our classes

    def __repr__(self) -> str:
        return f"Symmetry({self.group!r} on {self.observation_space}, {self.action_space})"


def _permutations_of(
    closure: Closure[Any], generators: Mapping[str, npt.NDArray[np.int64]], n: int
) -> npt.NDArray[np.int64]:
    """The homomorphism from G to permutations of n actions with these values on the generators.

    Raises:
        SymmetryError: there is none: two words name the same map of observations, but different
            permutations of the actions.
    """
    permutations = np.empty((len(closure.words), n), dtype=np.int64)
    for g, word in enumerate(closure.words):
        permutations[g] = np.arange(n)
        for name in word:
            permutations[g] = permutations[g][generators[name]]
    for name, permutation in generators.items():
        expected = permutations[:, permutation]
        actual = permutations[closure.table[:, closure.generators[name]]]
        if not np.array_equal(expected, actual):
            g = int(np.argmax((expected != actual).any(axis=1)))
            twice = word_name((*closure.words[g], name))
            same = closure.names[closure.table[g, closure.generators[name]]]
            raise SymmetryError(
                f"not a homomorphism: {twice} moves observations as {same} does, but actions as "
                f"{expected[g].tolist()} and not {actual[g].tolist()}; mend the action permutation "
                f"of {name!r}"
            )
    return permutations
