"""What the values of a journal's events are made of: checked once, where lines are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]
_LARGEST = 2**63


def _whole(value: Any) -> bool:
    return type(value) is int and -_LARGEST <= value < _LARGEST


def _number(value: Any) -> bool:
    return (type(value) is float and math.isfinite(value)) or _whole(value)


def _text(value: Any) -> bool:
    # JSON can write halves of characters, which cannot be printed.
    return isinstance(value, str) and (value.isascii() or value.encode(errors="replace").decode() == value)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(number is None or _number(number) for number in value.values())


def _widths(value: Any) -> bool:
    return isinstance(value, dict) and all(_whole(width) for width in value.values())


def _named(value: Any) -> bool:
    return isinstance(value, dict) and _text(value.get("name"))


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


_CANDIDATE: dict[str, Check] = {"id": _whole, "architecture": _object, "hash": _text, "seed": _whole}
_CANDIDATE |= {"widths": _widths}
_RESULT: dict[str, Check] = {**_CANDIDATE, "metrics": _numbers, "cost": _numbers, "seconds": _number}
_DRAWN: dict[str, Check] = {"proposal": _whole, "architecture": _object, "hash": _text, "stage": _text}
# Keys that an event of this kind must have; others are whoever's concern that reads them.
REQUIRED: Mapping[str, Mapping[str, Check]] = {
    "run_start": {"plan": _object, "stages": lambda value: _list(value) and all(map(_named, value))},
    "run_resume": {"session": _text},
    "stage_start": {"stage": _text, "free": lambda value: _list(value) and all(map(_text, value))},
    "proposal": {**_CANDIDATE, "stage": _text},
    "reassign": {"id": _whole, "slot": _whole},
    "halfway": {"id": _whole, "reward": _number},
    "completion": {**_RESULT, "stage": _text, "reward": _number, "halfway": _or_none(_number)},
    "stop": {**_RESULT, "stage": _text, "halfway": _number},
    "retry": {"id": _whole, "reason": _text, "seconds": _number},
    "failure": {**_RESULT, "stage": _text, "reason": _text},
    "rejection": {**_CANDIDATE, "stage": _text, "reason": _text, "cost": _numbers, "seconds": _number},
    "replay": {**_DRAWN, "of": _whole, "reward": _number},
    "redraw": {**_DRAWN, "reason": _text},
    "external": {"architecture": _object, "reward": _number},
    "warm_start": {"evaluations": _whole, "skipped": _object},
    "update": {"diagnostics": _numbers},
    "snapshot": {"file": _text, "sha256": _text},
    "setup_failure": {"slot": _whole, "error": _text},
    "selection": {"hash": _text, "seconds": _number},
    "pause": {"reason": _text, "error": _text},
    "run_end": {"reason": _text, "error": _or_none(_text)},
}


def has_right_types(event: Mapping[str, Any]) -> bool:
    """Whether an event's values are of the types that its readers count on; kinds not known here pass."""
    kind = event.get("event")
    required = REQUIRED.get(kind) if isinstance(kind, str) else None
    if required is None:
        return isinstance(kind, str)
    try:
        return (
            _number(event["time"])
            and _number(event.get("at", 0.0))
            and _number(event.get("zero", 0.0))
            and _number(event.get("penalty", 0.0))
            and all(check(event[key]) for key, check in required.items())
        )
    except KeyError:
        return False
