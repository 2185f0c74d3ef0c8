"""`assert_equivariant` finds what is not equivariant, and says where."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equirl import GroupAction
from equirl.groups import cyclic
from equirl.testing import assert_equivariant

TURN = GroupAction.on_vectors(cyclic(3), permutations=[[0, 1, 2], [1, 2, 0], [2, 0, 1]])
FIXED = GroupAction.trivial(cyclic(3), (1,))


def broken(x: Tensor) -> Tensor:
    return x + 0.5 * (x[:, :1] > 2) * torch.eye(3, dtype=x.dtype)[0]


def test_the_element_the_row_and_the_size_of_an_error_are_named() -> None:
    x = torch.tensor([[0.0, 0, 0], [0, 0, 3]])
    with pytest.raises(AssertionError, match=r"by 0.1.* \(tolerance 1e-05\) for g = 'r', row 1$"):
        assert_equivariant(broken, TURN, TURN, x)
    assert_equivariant(broken, TURN, TURN, x, tolerance=0.2)
    assert_equivariant(broken, TURN, TURN, x[:1])


@pytest.mark.parametrize("outputs", [tuple, dict])
def test_several_outputs_are_compared_each_with_its_action(outputs: Any) -> None:
    def f(x: Tensor) -> Any:
        y = {"turned": 2 * x, "size": x.norm(dim=1, keepdim=True)}
        return tuple(y.values()) if outputs is tuple else y

    right: Any = {"turned": TURN, "size": FIXED}
    wrong: Any = {"turned": GroupAction.trivial(cyclic(3), (3,)), "size": FIXED}
    if outputs is tuple:
        right, wrong = tuple(right.values()), tuple(wrong.values())
    x = torch.randn(4, 3)
    assert_equivariant(f, TURN, right, x, seed=0)
    with pytest.raises(AssertionError, match=r"of output (0|'turned')"):
        assert_equivariant(f, TURN, wrong, x)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e-4), (torch.float64, 1e-11)])
def test_the_tolerance_is_that_of_the_dtype(dtype: torch.dtype, size: float) -> None:
    x = torch.tensor([[0, 0, 3]], dtype=dtype)
    for error, holds in ((size / 100, True), (size, False)):
        offset = torch.tensor([error, 0, 0], dtype=dtype)
        if holds:
            assert_equivariant(lambda x, by=offset: x + by, TURN, TURN, x)
            continue
        with pytest.raises(AssertionError):
            assert_equivariant(lambda x, by=offset: x + by, TURN, TURN, x)


def test_what_is_not_finite_is_an_error_and_a_module_is_left_as_it_is() -> None:
    with pytest.raises(AssertionError, match="inf"):
        assert_equivariant(lambda x: x / 0 * 0, TURN, TURN, torch.ones(2, 3))
    norm = nn.BatchNorm1d(3)
    assert_equivariant(norm, TURN, TURN, torch.randn(4, 3))
    assert norm.num_batches_tracked == 0
