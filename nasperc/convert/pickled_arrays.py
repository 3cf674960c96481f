"""Reading pickles of numpy arrays (detectron2's .pkl weights) without running anything that they name.

A pickle may name any function and have it called. Here the few names that numpy's arrays need stand for
functions of this file, which build arrays of numbers from bytes; every other name is refused. numpy's own
functions are not called: a forged dtype could make them take bytes for pointers.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from nasperc.errors import InputError

_NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


def load_pickled_arrays(path: Path) -> Any:
    """The content of a pickle of Python 2 or 3: numbers, strings, lists, dicts and numpy arrays of numbers.

    Arrays are found in the (nested) dicts only, which is where weights are.

    Raises:
        InputError: missing, cut short, no pickle, or it names anything else.
    """
    try:
        with path.open("rb") as file:
            return _unwrapped(_ArrayUnpickler(file, encoding="latin1").load(), {})
    except _RefusedNameError as error:
        raise InputError(
            "a pickle of weights may hold arrays and plain values only",
            value=f"the name {error}",
            where=path,
            repair="Nothing of it was run. Such a file can run code: do not open it with anything else.",
        ) from error
    # Bytes that are no pickle make the unpickler fail in every way there is.
    except Exception as error:
        raise InputError(
            "a .pkl file of weights must be a whole pickle of arrays",
            value=(str(error) or type(error).__name__).splitlines()[0],
            where=path,
            repair="Check the path, or download the file again.",
        ) from error


class _RefusedNameError(pickle.UnpicklingError):
    """The pickle names something that is not admitted."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in _ADMITTED.get(module, {}):
            return _ADMITTED[module][name]
        raise _RefusedNameError(f"{module}.{name}")


class _DType:
    """In place of ``numpy.dtype``: one of the plain number types, in either byte order."""

    def __init__(self, code: str) -> None:
        if code not in _NUMBERS:
            raise ValueError(f"arrays of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """In place of ``numpy.ndarray``: pickle makes it empty, then hands it shape, type and bytes."""

    value: np.ndarray

    def __setstate__(self, state: tuple[int, tuple[int, ...], _DType, bool, bytes | str]) -> None:
        _, shape, dtype, is_fortran, data = state
        self.value = _array(data, dtype, shape, "F" if is_fortran else "C")


def _array(data: bytes | str, dtype: _DType, shape: tuple[int, ...], order: Any) -> np.ndarray:
    # Python 2's byte strings arrive as text of the same codes.
    values = np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype.dtype)
    return values.astype(dtype.dtype.newbyteorder("=")).reshape(shape, order=order)


# Objects without attributes rather than functions: a pickle can also set attributes of what it names.
class _MakeDType:
    __slots__ = ()

    def __call__(self, code: str, *_: Any) -> _DType:
        return _DType(code)


class _MakeArray:
    __slots__ = ()

    def __call__(self, *_: Any) -> _Array:
        return _Array()


class _FromBuffer:
    __slots__ = ()

    def __call__(self, data: bytes, dtype: _DType, shape: tuple[int, ...], order: str) -> _Array:
        array = _Array()
        array.value = _array(data, dtype, shape, order)
        return array


class _Scalar:
    __slots__ = ()

    def __call__(self, dtype: _DType, data: bytes | str) -> Any:
        return _array(data, dtype, (), "C").item()


class _Latin1:
    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise ValueError(f"bytes as text in {encoding!r}")
        return text.encode("latin1")


class _EmptyBytes:
    __slots__ = ()

    def __call__(self) -> bytes:
        return b""


class _Nothing:
    __slots__ = ()


_MULTIARRAY = {"_reconstruct": _MakeArray(), "scalar": _Scalar()}
_NUMERIC = {"_frombuffer": _FromBuffer()}
_ADMITTED: dict[str, dict[str, Any]] = {
    "numpy": {"ndarray": _Nothing(), "dtype": _MakeDType()},
    "numpy.core.multiarray": _MULTIARRAY,
    "numpy._core.multiarray": _MULTIARRAY,
    "numpy.core.numeric": _NUMERIC,
    "numpy._core.numeric": _NUMERIC,
    # How Python 3 writes bytes for Python 2.
    "_codecs": {"encode": _Latin1()},
    "__builtin__": {"bytes": _EmptyBytes()},
    "collections": {"OrderedDict": OrderedDict},
}


def _unwrapped(content: Any, done: dict[int, Any]) -> Any:
    # Each dict once: one that is held twice by each of many would take for ever.
    if isinstance(content, dict):
        if id(content) not in done:
            done[id(content)] = {key: _unwrapped(value, done) for key, value in content.items()}
        return done[id(content)]
    return content.value if isinstance(content, _Array) else content
