"""Pickles read as data: what they name is never imported and never called.

A pickle is a program; its only way to reach anything outside itself is to name a module's object.
Here every name becomes an `Inert` class, which accepts any arguments and state and does nothing.
NumPy's arrays, scalars and dtypes alone are made, by our own code, and of numbers only.
"""

from __future__ import annotations

import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt


class Inert:
    """Stands for an object of a class that is not imported.

    Attributes:
        named: module and name of the class.
        arguments: what the pickle makes it with.
        state: the attributes that the pickle gives it.
    """

    named: ClassVar[tuple[str, str]] = ("", "")
    arguments: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *arguments: Any, **_: Any) -> Any:
        self = super().__new__(cls)
        self.arguments, self.state = arguments, {}
        return self

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)  # beside the state of __slots__
        for part in parts:
            if isinstance(part, Mapping):
                self.state.update(part)

    def __call__(self, *_: Any, **__: Any) -> Inert:
        return self

    def __setitem__(self, _key: object, _value: object) -> None:
        pass

    def append(self, _item: object) -> None:
        """Ignored, as whatever else a pickle does with an object."""

    extend = add = append


class _Dtype(Inert):
    """A NumPy dtype; only those of numbers are made."""

    dtype: np.dtype[Any] | None

    def __new__(cls, code: str, *_: Any, **__: Any) -> Any:
        self = super().__new__(cls)
        is_number = re.fullmatch(r"[<>=|]?[?biuf]\d{0,2}", code)
        self.dtype = np.dtype(code) if is_number else None
        return self

    def __setstate__(self, state: Any) -> None:
        if self.dtype is not None and state[1] in "<>":
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(Inert):
    """An array that is made empty and then given its contents."""

    array: npt.NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, content = state
        if dtype.dtype is not None:
            self.array = _array(content, dtype, shape, "F" if is_fortran else "C")


class _FromBuffer(Inert):
    def __new__(cls, content: Any, dtype: Any, shape: Any, order: str = "C") -> Any:
        return _array(content, dtype, shape, order)


class _Scalar(Inert):
    def __new__(cls, dtype: Any, content: Any = b"") -> Any:
        return _array(content, dtype, (), "C")[()]


class _Bytes(Inert):
    """``bytearray(content)`` and ``_codecs.encode(text, "latin1")``."""

    def __new__(cls, content: Any = b"", *_: Any) -> Any:
        return content.encode("latin1") if isinstance(content, str) else bytes(memoryview(content))


def _array(content: Any, dtype: Any, shape: Any, order: str) -> npt.NDArray[Any]:
    sizes = (shape,) if isinstance(shape, int) else tuple(map(int, shape))
    flat = np.frombuffer(content, dtype.dtype)
    made = flat.reshape(sizes, order="F" if order == "F" else "C")
    return made.astype(made.dtype.newbyteorder("="))


MADE: dict[tuple[str, str], type[Any]] = {
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Bytes,
    ("builtins", "bytearray"): _Bytes,
    ("collections", "OrderedDict"): OrderedDict,
}
"""What is made; everything else that a pickle names is `Inert`."""

for _module in ("numpy.core", "numpy._core"):
    MADE[f"{_module}.multiarray", "_reconstruct"] = _Array
    MADE[f"{_module}.multiarray", "scalar"] = _Scalar
    MADE[f"{_module}.numeric", "_frombuffer"] = _FromBuffer


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        made = MADE.get((module, name))
        return made or type("Inert", (Inert,), {"named": (module, name)})


def read_inertly(content: bytes) -> Any:
    """What a pickle holds: plain data, arrays, and `Inert` in place of every other object.

    Raises:
        Exception: of almost any class, where the bytes are damaged.

    Example:
        >>> import os
        >>> read_inertly(pickle.dumps({"run": os.system}))["run"].named[1]
        'system'
        >>> read_inertly(pickle.dumps(np.arange(3)))
        array([0, 1, 2])
    """
    return value_of(_InertUnpickler(io.BytesIO(content)).load())


def value_of(read: Any) -> Any:
    """The array or dtype that something in a pickle stands for; anything else as it is."""
    if isinstance(read, _Array) and read.array is not None:
        return read.array
    return read.dtype if isinstance(read, _Dtype) else read
