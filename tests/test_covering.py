"""The combinations of parameters in the default run have every value, or every pair of values."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from shared.covering import covering


@pytest.mark.parametrize("strength", [1, 2])
@pytest.mark.parametrize("sizes", [(3,), (4, 5), (2, 3, 4), (2, 2, 2, 2, 2)])
def test_what_is_left_covers_what_was_there(sizes: tuple[int, ...], strength: int) -> None:
    rows = [tuple(enumerate(row)) for row in product(*map(range, sizes))]
    kept = [rows[number] for number in covering(rows, strength)]

    def parts(chosen: list[tuple[tuple[int, int], ...]]) -> set[object]:
        return {part for row in chosen for part in combinations(row, min(strength, len(row)))}

    assert parts(kept) == parts(rows)
    assert len(kept) == len(rows) or len(sizes) > strength or len(sizes) == 1


def test_of_one_value_each_no_more_are_left_than_the_longest_parameter_has() -> None:
    rows = [tuple(enumerate(row)) for row in product(range(8), range(5), range(3))]
    assert len(covering(rows, 1)) == 8
