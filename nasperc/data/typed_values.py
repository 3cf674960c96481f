"""Flags and numbers of annotation files, as values or as text: tools write both, and truth would read "0" as yes."""

from __future__ import annotations

import math
import re

# Larger ones are no coordinates or areas, and JSON has integers that no float holds.
LARGEST = 1e15
_FLAGS = {"0": False, "false": False, "1": True, "true": True}
# Python's float takes more: "nan", "1_000", the digits of other scripts.
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_LONGEST_NUMBER = 400


def read_flag(value: object) -> bool | None:
    """0, 1, false, true, as a value or as text in any case; None for all else."""
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    # True, 1 and 1.0 are equal.
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def read_number(value: object) -> float | None:
    """A finite number below 1e15, as a value or as text; None for all else, truth values among it."""
    if isinstance(value, str):
        text = value.strip()
        value = float(text) if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) else math.nan
    if not is_number(value):
        return None
    # Comparing comes first: an integer may be too long for a float; NaN is never below.
    return float(value) if abs(value) < LARGEST else None  # type: ignore[arg-type]


def is_number(value: object) -> bool:
    """Whether it is an integer or a float of any size; a truth value is an integer to Python only."""
    return isinstance(value, int | float) and not isinstance(value, bool)
