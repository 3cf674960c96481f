import math

import pytest

from nasperc.data.typed_values import is_number, read_flag, read_number


@pytest.mark.parametrize("value", [0, False, 0.0, -0.0, "0", "false", "False", " FALSE\n"])
def test_no(value):
    assert read_flag(value) is False


@pytest.mark.parametrize("value", [1, True, 1.0, "1", "true", "True"])
def test_yes(value):
    assert read_flag(value) is True


@pytest.mark.parametrize("value", [2, -1, 0.5, math.nan, 10**400, "", "yes", "00", "1.0", None, [], [0], {}])
def test_neither(value):
    assert read_flag(value) is None


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3.0), (-2.5, -2.5), ("3", 3.0), (" -2.5 ", -2.5), (".5", 0.5), ("5.", 5.0), ("+1e3", 1000.0)],
)
def test_numbers(value, number):
    found = read_number(value)
    assert found == number
    assert type(found) is float


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        1e15,
        -(10**400),
        True,
        None,
        [1],
        "",
        "nan",
        "inf",
        "1_000",
        "0x10",
        "1,5",
        "٣",
        "1e400",
        "9" * 401,
    ],
)
def test_no_numbers(value):
    assert read_number(value) is None


def test_a_truth_value_is_no_number():
    assert not is_number(True)
    assert is_number(10**400)
