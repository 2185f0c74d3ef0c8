"""`mirror_by_names`: a mirror of a robot or a board from the names of its entries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt

from equirl.declaring.described import Row, table
from equirl.errors import SymmetryError
from equirl.shown import shown

_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[A-Z]|\d+")


@dataclass(frozen=True, eq=False)
class Mirror:
    """A map that exchanges named entries and changes the signs of some: ``y[i] = ±x[index[i]]``.

    Call it on ONE flat observation or action; printed, it is a table to proof-read.

    Args:
        names: of the entries, in their order.
        index: int64 ``[n]``, the entry that each entry becomes.
        sign: ±1 as int64 ``[n]``.
    """

    names: tuple[str, ...]
    index: npt.NDArray[np.int64]
    sign: npt.NDArray[np.int64]

    def __call__(self, x: Any) -> npt.NDArray[Any]:
        """``[n] -> [n]``.

        Raises:
            SymmetryError: there are not as many entries as names.
        """
        x = np.asarray(x)
        if x.size != len(self.names):
            raise SymmetryError(f"{len(self.names)} entries have names, given are {x.size}")
        moved: npt.NDArray[Any] = x.ravel()[self.index].reshape(x.shape)
        if (self.sign == 1).all():
            return moved
        signs = self.sign.reshape(x.shape).astype(np.result_type(x.dtype, np.int8))
        turned: npt.NDArray[Any] = moved * signs
        return turned

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """The permutation, such as of Discrete actions; with signs, the matrix ``[n, n]``."""
        if (self.sign == 1).all():
            return np.array(self.index, dtype=dtype)
        return np.array(self.sign[:, None] * np.eye(len(self.index))[self.index], dtype=dtype)

    def __str__(self) -> str:
        signs = np.where(self.sign == 1, "+", "-")
        others = [self.names[i] for i in self.index]
        return table([Row(*row) for row in zip(self.names, others, signs.tolist(), strict=True)])

    def __repr__(self) -> str:
        return f"<mirror of {len(self.names)} entries>"


def mirror_by_names(
    names: Sequence[str],
    swap: Sequence[tuple[str, str]] = (),
    negate: Sequence[str] = (),
) -> Mirror:
    """The mirror that exchanges the entries of two sides and changes the signs of some.

    Give it as the map of observations, of actions or of both in `Symmetry.from_generators` and
    `SymmetryWrapper`, each with its own names; of Discrete actions it is the permutation. Print it
    and read it through: a sign that was forgotten is found by nobody else than you and
    ``equirl check``.

    A side is matched as whole words. Names consist of words that end at ``_ - . /``, spaces and
    other signs, at a change between letters and digits, and at a capital (``frontLeftHip2`` is
    front, left, hip, 2): ``left`` is in ``left_leg``, ``LegLeft`` and ``LEFT.leg``, not in
    ``upleft_leg``. Upper and lower case are kept: the partner of ``LeftLeg`` is ``RightLeg``. A
    side may be several words (``front_left``), which stand beside each other in the name. Where it
    occurs more than once in a name, all are exchanged. A side with ``*`` or ``?`` is instead
    matched against the whole name, and its partner has the same texts in their places:
    ``("*_l", "*_r")``.

    Patterns of ``negate`` match whole names as `fnmatch` does, with upper and lower case; a name
    changes its sign once, however many match it.

    Args:
        names: of the entries, in their order, each once.
        swap: pairs of the two sides.
        negate: the entries that change their sign, swapped or not.

    Raises:
        SymmetryError: a side or a pattern matches nothing; the partner of a name is missing; two
            pairs give a name different partners, or a name has both sides; only one of two
            partners changes its sign, so that the mirror applied twice were not the identity.

    Example:
        >>> mirror = mirror_by_names(
        ...     ["left_hip", "right_hip", "torso_roll", "height"],
        ...     swap=[("left", "right")],
        ...     negate=["*_roll"],
        ... )
        >>> print(mirror)
        entry       becomes     sign
        left_hip    right_hip   +
        right_hip   left_hip    +
        torso_roll  torso_roll  -
        height      height      +
        >>> mirror(np.array([1.0, 2.0, 3.0, 4.0]))
        array([ 2.,  1., -3.,  4.])
    """
    entries = _checked_texts("names", names)
    twice = sorted({name for name in entries if entries.count(name) > 1})
    if twice:
        raise SymmetryError(f"entries need names of their own, {shown(twice)} occur twice")
    pairs, patterns = _checked_pairs(swap), _checked_texts("negate", negate)
    position = {name: i for i, name in enumerate(entries)}
    index = np.array([position[p] for p in _partners(entries, pairs)], dtype=np.int64)
    sign = np.ones(len(entries), dtype=np.int64)
    for pattern in patterns:
        found = [i for i, name in enumerate(entries) if _matches(name, pattern)]
        if not found:
            raise SymmetryError(
                f"negate={pattern!r} matches none of the names {shown(list(entries))}: patterns "
                "match whole names, such as '*_roll'"
            )
        sign[found] = -1
    uneven = np.flatnonzero(sign != sign[index])
    if len(uneven):
        one, other = sorted((uneven[0], index[uneven[0]]), key=lambda i: -int(sign[i] == -1))
        raise SymmetryError(
            f"{entries[one]!r} changes its sign and its partner {entries[other]!r} does not, so "
            "that the mirror applied twice were not the identity: let negate match both or none"
        )
    return Mirror(entries, index, sign)


def _partners(names: tuple[str, ...], pairs: list[tuple[str, str]]) -> list[str]:
    """For each name the name it is exchanged with, itself where no pair matches."""
    partners: dict[str, str] = {}
    unmatched = {side for pair in pairs for side in pair}
    for name in names:
        found: dict[str, tuple[str, str]] = {}
        for pair in pairs:
            one, other = _exchanged(name, *pair), _exchanged(name, *pair[::-1])
            unmatched -= {side for side, to in zip(pair, (one, other), strict=True) if to}
            if one and other and one != other:
                raise SymmetryError(
                    f"{name!r} has both sides of swap={pair!r}: write a pair that matches one"
                )
            partner = one or other
            if partner:
                found[partner] = pair
        if len(found) > 1:
            (one, pair), (other, another) = list(found.items())[:2]
            raise SymmetryError(
                f"{name!r} would be exchanged with {one!r} by swap={pair!r} and with {other!r} by "
                f"swap={another!r}: let one of them match it"
            )
        partner = next(iter(found), name)
        if partner not in names:
            raise SymmetryError(
                f"{name!r} has no partner: swap={found[partner]!r} makes it {partner!r}, which is "
                "not among the names"
            )
        partners[name] = partner
    if unmatched:
        side = next(side for pair in pairs for side in pair if side in unmatched)
        raise SymmetryError(
            f"swap={side!r} matches none of the names {shown(list(names))}: a side is matched as "
            "whole words, or with * as the whole name"
        )
    for name, partner in partners.items():
        if partners[partner] != name:
            raise SymmetryError(
                f"{name!r} becomes {partner!r}, which becomes {partners[partner]!r}: a mirror "
                "applied twice must be the identity"
            )
    return list(partners.values())


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)  # names may hold brackets


def _exchanged(name: str, side: str, other: str) -> str | None:
    """The name with the other side where it has this one, else None."""
    if "*" in side or "?" in side:
        return _exchanged_glob(name, side, other)
    words = list(_TOKEN.finditer(name))
    wanted, given = _TOKEN.findall(side), _TOKEN.findall(other)
    if name == side:
        return other
    result, end, k = "", 0, 0
    while k <= len(words) - len(wanted):
        here = words[k : k + len(wanted)]
        if [word.group().lower() for word in here] != [word.lower() for word in wanted]:
            k += 1
            continue
        if len(given) == len(wanted):
            for word, new in zip(here, given, strict=True):
                result += name[end : word.start()] + _in_the_case_of(word.group(), new)
                end = word.end()
        else:
            result += name[end : here[0].start()] + _in_the_case_of(here[0].group(), other)
            end = here[-1].end()
        k += len(wanted)
    return result + name[end:] if end else None


def _exchanged_glob(name: str, side: str, other: str) -> str | None:
    pieces = re.split(r"([*?])", side)
    wild = {"*": "(.*)", "?": "(.)"}
    match = re.fullmatch("".join(wild.get(piece, re.escape(piece)) for piece in pieces), name)
    if match is None:
        return None
    texts = iter(match.groups())
    return "".join(next(texts) if p in wild else p for p in re.split(r"([*?])", other))


def _in_the_case_of(word: str, new: str) -> str:
    if word.isupper() and (len(word) > 1 or len(new) == 1):
        return new.upper()
    if word.islower():
        return new.lower()
    return new[:1].upper() + new[1:]


def _checked_texts(argument: str, given: Any) -> tuple[str, ...]:
    texts = None if isinstance(given, str) else _listed(given)
    if texts is None or not all(isinstance(text, str) and text for text in texts):
        raise SymmetryError(f"{argument} must be a list of texts, got {shown(given)}")
    if argument == "names" and not texts:
        raise SymmetryError("names must be a list of at least one text")
    return tuple(texts)


def _checked_pairs(given: Any) -> list[tuple[str, str]]:
    pairs = []
    for pair in [given] if isinstance(given, str) else _listed(given) or []:
        sides = None if isinstance(pair, str) else _listed(pair)
        if sides is None or len(sides) != 2 or not all(isinstance(s, str) and s for s in sides):
            raise SymmetryError(f"swap must be a list of pairs of texts, got {shown(given)}")
        one, other = sides
        if [one.count(c) for c in "*?"] != [other.count(c) for c in "*?"] or re.findall(
            r"[*?]", one
        ) != re.findall(r"[*?]", other):
            raise SymmetryError(f"the sides of swap={(one, other)!r} need the same * and ?")
        for side in sides:
            if not re.search(r"[*?]", side) and not _TOKEN.search(side):
                raise SymmetryError(f"swap={side!r} has no letter or digit to match")
        if one == other:
            raise SymmetryError(f"swap={(one, other)!r} exchanges a side with itself")
        pairs.append((one, other))
    if not pairs and _listed(given) is None:
        raise SymmetryError(f"swap must be a list of pairs of texts, got {shown(given)}")
    return pairs


def _listed(given: Any) -> list[Any] | None:
    try:
        return list(given)
    except TypeError:
        return None
