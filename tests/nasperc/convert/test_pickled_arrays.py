from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from nasperc.convert.pickled_arrays import load_pickled_arrays
from nasperc.errors import InputError

NUMBERS = st.one_of(
    st_numpy.floating_dtypes(sizes=(16, 32, 64), endianness="?"),
    st_numpy.integer_dtypes(endianness="?"),
    st_numpy.unsigned_integer_dtypes(endianness="?"),
    st_numpy.boolean_dtypes(),
)


def load(path: Path, data: bytes) -> Any:
    (path / "w.pkl").write_bytes(data)
    return load_pickled_arrays(path / "w.pkl")


@settings(max_examples=60, deadline=None)
@given(
    st_numpy.arrays(NUMBERS, st_numpy.array_shapes(min_dims=0, min_side=0)),
    st.integers(0, pickle.HIGHEST_PROTOCOL),
    st.booleans(),
)
def test_arrays_come_back(tmp_path_factory, array: np.ndarray, protocol: int, fortran: bool) -> None:
    given = np.asfortranarray(array) if fortran else array
    content = {
        "model": OrderedDict(a=given),
        "n": 3,
        "text": "é",
        "list": [1.5, None, True],
        "scalar": np.float32(2),
    }
    found = load(tmp_path_factory.mktemp("p"), pickle.dumps(content, protocol))
    back = found["model"]["a"]
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.dtype.isnative
    assert back.flags.writeable
    assert {key: found[key] for key in ("n", "text", "list", "scalar")} == {
        "n": 3, "text": "é", "list": [1.5, None, True], "scalar": 2.0,
    }  # fmt: skip


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    values = np.array([[1, 2, 3], [-4, 5, 0.25]], "<f4")
    data = (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x18" + values.tobytes() + b"tbs."
    )
    assert np.array_equal(pickle.loads(data, encoding="latin1")["a"], values)
    assert np.array_equal(load(tmp_path, data)["a"], values)


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "was-run"
    weights = {"conv1_w": np.zeros(3, np.float32), "x": Call(os.system, f"touch {mark}")}
    with pytest.raises(InputError, match=r"the name (posix|nt)\.system .*Nothing of it was run"):
        load(tmp_path, pickle.dumps(weights, protocol))
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        Call(eval, "1"),
        Call(getattr, {}, "keys"),
        Call(np.load, "x.npy"),
        Call(np.frombuffer, b"1234"),
        Path("x"),
        np.random.default_rng,
    ],
)
def test_other_names_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(InputError, match="arrays and plain values only"):
        load(tmp_path, pickle.dumps({"a": content}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a pickle",
        pickle.dumps({"a": np.zeros(1000)})[:500],
        pickle.dumps({"a": np.array([{}, []], dtype=object)}),
        pickle.dumps({"a": np.zeros(2, [("x", "f4")])}),
        # Attributes of what is admitted must not be set: (dtype, {"__call__": 1}) to BUILD.
        b"\x80\x02cnumpy\ndtype\n}X\x08\x00\x00\x00__call__K\x01sb.",
        b"\x80\x02cnumpy\ndtype\nN}X\x08\x00\x00\x00__call__K\x01s\x86b.",
        # bytes through another codec than latin1
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
        # fewer bytes than the shape needs
        pickle.dumps({"a": np.zeros(3, np.float32)}, 4).replace(b"K\x03\x85", b"K\x09\x85"),
        # a dict that holds itself
        b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
    ],
)
def test_what_is_no_whole_pickle_of_numbers(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match="must be a whole pickle of arrays") as error:
        load(tmp_path, data)
    assert "\n" not in str(error.value)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 4), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6)
)
def test_a_damaged_pickle_is_read_or_refused(
    tmp_path_factory, protocol: int, damage: list[tuple[int, int]]
) -> None:
    content = {"model": OrderedDict(a=np.arange(6.0).reshape(2, 3)), "b": [1, "x", np.float32(2)]}
    data = bytearray(pickle.dumps(content, protocol))
    for position, value in damage:
        data[position % len(data)] = value
    try:
        load(tmp_path_factory.mktemp("p"), bytes(data))
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load_pickled_arrays(tmp_path / "absent.pkl")


def test_dicts_that_hold_one_another_are_read_once(tmp_path: Path) -> None:
    laughs: dict[str, Any] = {"a": np.ones(1)}
    for _ in range(60):
        laughs = {"x": laughs, "y": laughs}
    found = load(tmp_path, pickle.dumps(laughs))
    assert found["x"] is found["y"]
