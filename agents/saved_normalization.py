"""Reading a saved `VecNormalize` without running what its pickle says."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from equirl.errors import AgentError

TRUSTED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy.core.multiarray", "scalar"): np.float64(0).__reduce__()[0],
}
"""What a pickle may name: the four by which NumPy rebuilds arrays and numbers."""


SETTINGS = (
    "training",
    "norm_obs",
    "norm_reward",
    "clip_obs",
    "clip_reward",
    "gamma",
    "epsilon",
)
"""What a `VecNormalize` is made with, under the names that it keeps."""


class _Inert:
    """Stands for an object of any other class: keeps its attributes, does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            vars(self).update(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """As a pickle fills lists."""

    def extend(self, values: Any) -> None:
        """As a pickle fills lists."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return TRUSTED.get((module.replace("numpy._core", "numpy.core"), name), _Inert)


def read_vec_normalize(path: str | Path) -> dict[str, Any]:
    """The attributes of the `VecNormalize` that its ``save`` has written.

    Arrays and numbers are what they were, objects of other classes are inert. A pickle can run any
    code through the classes and functions that it names; this one gets NumPy's arrays only, so that
    the file need not be trusted, and its classes (such as old Gym's spaces) need not be installed.

    Raises:
        AgentError: there is no such file, or it holds something else.
    """
    try:
        with Path(path).open("rb") as file:
            saved = _ArraysOnly(file).load()
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # a damaged pickle may raise anything
        raise AgentError(f"{path} is not a saved VecNormalize: it is damaged") from error
    attributes = vars(saved) if isinstance(saved, _Inert) else {}
    missing = {*SETTINGS, "obs_rms", "ret_rms"} - attributes.keys()
    missing |= {name for name in SETTINGS if not isinstance(attributes.get(name), int | float)}
    if missing:
        raise AgentError(
            f"{path} is not a saved VecNormalize: it lacks {', '.join(sorted(missing))}"
        )
    return attributes
