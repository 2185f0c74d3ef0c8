"""`Constructions`: the ways in which users make a `GroupAction`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from equirl.actions.affines import Affines
from equirl.actions.image_moves import Move, moved_pixels
from equirl.actions.layout import Block, Leaf
from equirl.actions.lookups import Lookups
from equirl.actions.maps import Maps
from equirl.actions.signed_permutations import SignedPermutations
from equirl.errors import SymmetryError
from equirl.groups import FiniteGroup

Made = TypeVar("Made", bound="Constructions")


class Constructions:
    """What `GroupAction` inherits: on vectors, images and tokens, and made of other actions."""

    if TYPE_CHECKING:
        group: FiniteGroup
        leaves: tuple[Leaf, ...]
        blocks: tuple[Block, ...]
        maps: tuple[Maps, ...]

        def __init__(
            self,
            group: FiniteGroup,
            leaves: tuple[Leaf, ...],
            blocks: tuple[Block, ...],
            maps: tuple[Maps, ...],
        ) -> None: ...

    @classmethod
    def on_vectors(
        cls: type[Made],
        group: FiniteGroup,
        matrices: npt.ArrayLike | None = None,
        permutations: npt.ArrayLike | None = None,
    ) -> Made:
        """An action on vectors of n entries, from |G| matrices or permutations, identity first.

        Args:
            group: the group G.
            matrices: ``[|G|, n, n]``; g·x is ``matrices[g] @ x``. Rounded ones are brought to the
                exact representation beside them.
            permutations: ``[|G|, n]``; entry i of x becomes entry ``permutations[g, i]`` of g·x.

        Raises:
            SymmetryError: they are of another shape, or not an action of this group.

        Example:
            >>> from equirl import GroupAction
            >>> from equirl.groups import cyclic
            >>> turns = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
            >>> turn = GroupAction.on_vectors(cyclic(3), permutations=turns)
            >>> turn.transform(1, np.array([5.0, 6.0, 7.0]))
            array([7., 5., 6.])
        """
        if (matrices is None) == (permutations is None):
            raise SymmetryError("give either matrices or permutations")
        if permutations is not None:
            given = _checked_permutations(group, permutations)
            return cls._on_array(group, SignedPermutations(np.argsort(given, axis=1)))
        matrix = np.array(matrices, dtype=np.float64)
        if matrix.shape != (group.order, *matrix.shape[-1:] * 2):
            raise SymmetryError(
                f"expected {group.order} square matrices, one a row, got shape {matrix.shape}"
            )
        maps = Affines(matrix, np.zeros(matrix.shape[:2]))
        cls._on_array(group, maps, dtype="float64")  # which checks them
        return cls._on_array(group, maps.polished(group.table), dtype="float64")

    @classmethod
    def on_images(
        cls: type[Made], group: FiniteGroup, shape: tuple[int, ...], moves: Mapping[str, Move]
    ) -> Made:
        """Turns and reflections of images ``[…, C, H, W]``: of their last two axes.

        Args:
            group: the group G.
            shape: of one image, such as ``(3, 32, 32)`` or ``(8, 8)``.
            moves: what elements that generate the group do: ``"rot90"`` (counter-clockwise),
                ``"rot180"``, ``"fliplr"``, ``"flipud"``, ``"transpose"``, or a function that
                exchanges the entries of an array of this shape.

        Raises:
            SymmetryError: the elements do not generate the group, the moves are not an action of
                it, or a quarter turn is asked for of images that are not square.

        Example:
            >>> from equirl import GroupAction
            >>> from equirl.groups import dihedral
            >>> moves = {"r": "rot90", "s": "flipud"}
            >>> square = GroupAction.on_images(dihedral(4), (1, 2, 2), moves)
            >>> square.transform("r", np.array([[[1, 2], [3, 4]]]))
            array([[[2, 4],
                    [1, 3]]])
        """
        shape = tuple(shape)
        if len(shape) < 2:
            raise SymmetryError(f"an image has at least two axes, got shape {shape}")
        index = [moved_pixels(name, move, shape).ravel() for name, move in moves.items()]
        words = group.words([group.index(name) for name in moves])
        generators = SignedPermutations(np.stack(index)).with_all_arrays()
        return cls._on_array(group, generators.products(words).simplified(), shape)

    @classmethod
    def on_tokens(
        cls: type[Made],
        group: FiniteGroup,
        permutations: npt.ArrayLike,
        length: int | None = None,
    ) -> Made:
        """Renames integer tokens 0 … V-1: token v becomes ``permutations[g, v]``.

        On logits over the vocabulary the same permutations act by `on_vectors`, and on logits
        ``[length, V]`` of a sequence by ``on_vectors(…).copies(length)``.

        Args:
            group: the group G.
            permutations: ``[|G|, V]``.
            length: of a sequence of tokens; None for points that are one token.

        Raises:
            SymmetryError: these are not permutations of the tokens, or not an action of the group.

        Example:
            >>> from equirl import GroupAction
            >>> from equirl.groups import cyclic
            >>> swap = GroupAction.on_tokens(cyclic(2), [[0, 1, 2], [0, 2, 1]], length=4)
            >>> swap.transform(1, np.array([0, 1, 2, 2]))
            array([0, 2, 1, 1])
        """
        table = _checked_permutations(group, permutations)
        n, (order, values) = length or 1, table.shape
        index = np.broadcast_to(np.arange(n), (order, n)).copy()
        maps = Lookups(index, np.repeat(table[:, None], n, axis=1), np.zeros_like(index))
        shape = () if length is None else (n,)
        leaf = Leaf(None, shape, "int64", (0,) * n, (values,) * n)
        return cls(group, (leaf,), ((0,),), (maps,))

    @classmethod
    def trivial(cls: type[Made], group: FiniteGroup, shape: tuple[int, ...]) -> Made:
        """Every element leaves every array of this shape where it is (an invariant quantity)."""
        size = int(np.prod(shape, dtype=np.int64))
        index = np.broadcast_to(np.arange(size), (group.order, size)).copy()
        return cls._on_array(group, SignedPermutations(index), shape)

    @classmethod
    def direct_sum(cls: type[Made], *actions: Constructions) -> Made:
        """The action on concatenated flat points (x, y, …) ↦ (gx, gy, …), a vector.

        Args:
            actions: of one group, each on points that are one array.

        Raises:
            SymmetryError: they are of several groups, on dicts, or on tokens and numbers at once.

        Example:
            >>> from equirl import GroupAction
            >>> from equirl.groups import cyclic
            >>> swap = GroupAction.on_vectors(cyclic(2), permutations=[[0, 1], [1, 0]])
            >>> both = GroupAction.direct_sum(swap, GroupAction.trivial(cyclic(2), (1,)))
            >>> both.transform(1, np.array([1.0, 2.0, 3.0]))
            array([2., 1., 3.])
        """
        if not actions:
            raise SymmetryError("a direct sum needs at least one action")
        leaves = [leaf for action in actions for leaf in action.leaves]
        group = actions[0].group
        if any(action.group != group for action in actions):
            raise SymmetryError("a direct sum needs actions of one group")
        finite = {leaf.low is not None for leaf in leaves}
        if any(leaf.key is not None for leaf in leaves) or len(finite) > 1:
            raise SymmetryError(
                "a direct sum needs actions on arrays, and all on tokens or all on numbers"
            )
        maps: list[Any] = [action.maps[0] for action in actions]
        if any(isinstance(m, Affines) for m in maps):
            maps = [m.as_affines() if isinstance(m, SignedPermutations) else m for m in maps]
        dtypes = {leaf.dtype for leaf in leaves}
        joined = type(maps[0]).joined(maps)
        leaf = Leaf(
            None,
            (joined.entries,),
            dtypes.pop() if len(dtypes) == 1 else "",
            sum((leaf.low for leaf in leaves if leaf.low), ()) if True in finite else None,
            sum((leaf.values for leaf in leaves if leaf.values), ()) if True in finite else None,
        )
        return cls(group, (leaf,), ((0,),), (joined,))

    def copies(self: Made, n: int) -> Made:
        """The same action on each of n points, ``[n, *shape]``: (x₁, …, xₙ) ↦ (gx₁, …, gxₙ).

        Example:
            >>> from equirl import GroupAction
            >>> from equirl.groups import cyclic
            >>> swap = GroupAction.on_vectors(cyclic(2), permutations=[[0, 1], [1, 0]])
            >>> swap.copies(2).transform(1, np.array([[1.0, 2.0], [3.0, 4.0]]))
            array([[2., 1.],
                   [4., 3.]])
        """
        if n < 1 or n != int(n):
            raise SymmetryError(f"copies(n) needs a whole n ≥ 1, got {n}")
        together = self.direct_sum(*[self] * n)
        leaf = replace(together.leaves[0], shape=(n, *self.leaves[0].shape))
        return type(self)(self.group, (leaf,), together.blocks, together.maps)

    def rearranged(
        self: Made, leaves: Sequence[Leaf], axes: Mapping[str | None, Sequence[int]] | None = None
    ) -> Made:
        """The same action on points whose keys stand in another order, or with axes exchanged.

        Args:
            leaves: those of this action, in their new order; shapes and dtypes are the new ones.
            axes: by key, what `numpy.transpose` does to the arrays that are not as they were.
        """
        position = {leaf.key: j for j, leaf in enumerate(leaves)}
        old = [position[leaf.key] for leaf in self.leaves]
        blocks, stacks = [], []
        for block, maps in zip(self.blocks, self.maps, strict=True):
            order, start = {}, 0
            for j in block:
                leaf = self.leaves[j]
                entries = start + np.arange(leaf.size).reshape(leaf.shape)
                turned = (axes or {}).get(leaf.key)
                order[old[j]] = (entries if turned is None else entries.transpose(turned)).ravel()
                start += leaf.size
            blocks.append(tuple(sorted(order)))
            stacks.append(maps.relabelled(np.concatenate([order[j] for j in sorted(order)])))
        by_first = sorted(range(len(blocks)), key=lambda b: blocks[b])
        return type(self)(
            self.group,
            tuple(leaves),
            tuple(blocks[b] for b in by_first),
            tuple(stacks[b] for b in by_first),
        )

    @classmethod
    def _on_array(
        cls: type[Made],
        group: FiniteGroup,
        maps: Maps,
        shape: tuple[int, ...] | None = None,
        dtype: str = "",
    ) -> Made:
        leaf = Leaf(None, (maps.entries,) if shape is None else shape, dtype)
        return cls(group, (leaf,), ((0,),), (maps,))


def _checked_permutations(group: FiniteGroup, permutations: npt.ArrayLike) -> npt.NDArray[np.int64]:
    given = np.asarray(permutations)
    numbered = np.arange(given.shape[-1] if given.ndim else 0)
    if given.ndim != 2 or (np.sort(given, axis=1) != numbered).any():
        raise SymmetryError(f"expected {group.order} permutations of 0 … n-1, one a row")
    return given.astype(np.int64)
