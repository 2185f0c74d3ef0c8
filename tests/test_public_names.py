"""The names of `equirl`: found on first use, and not before, as PyTorch takes long to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import equirl


def test_every_public_name_is_there_and_no_other() -> None:
    for name in equirl.__all__:
        assert getattr(equirl, name) is not None
        assert name in dir(equirl)
    with pytest.raises(AttributeError, match="no_such_name"):
        equirl.no_such_name  # noqa: B018  # looking is the test


@pytest.mark.parametrize("statement", ["import equirl", "import equirl.commands"])
def test_torch_is_not_imported_before_it_is_needed(statement: str) -> None:
    code = f"{statement}; import sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
