"""Reading JSON that anybody may have written: plain values of a bounded size, or a ValueError.

Parsers, that of YAML too (:mod:`nasperc.plain_yaml`), let through what breaks programs later: numbers that are none,
keys that stand twice (the last one silently wins), nesting that exhausts the stack, aliases by which a few bytes become
gigabytes.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

MOST_BYTES = 64 << 20
MOST_VALUES = 1_000_000
DEEPEST = 64
_LARGEST = 2**63


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: as :func:`parse_json`; larger than ``most_bytes``.
    """
    return parse_json(read_bounded(path, most_bytes))


def parse_json(content: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        ValueError: no such text (:class:`json.JSONDecodeError` says where), a key that stands twice in one object,
            or not plain, as :func:`check_plain` says.
    """
    try:
        value = json.loads(content.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    check_plain(value)
    return value


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than ``most_bytes``, or its name is none.
    """
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"more than {most_bytes} bytes")
    return content


def check_plain(value: Any, *, finite: bool = True) -> None:
    """Check that a value is made of what JSON has, and is not too much when written out.

    Raises:
        ValueError: another type; numbers of more than 64 bits (or, with ``finite``, that are not finite); text
            that is no Unicode or holds NUL; keys that are no text; deeper or larger than this module's limits.
    """
    seen = 0
    level, depth = [value], 0
    while level:
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                for key in item:
                    _check_text(key)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            else:
                _check_leaf(item, finite)
            # What holds itself, or grows with every level, ends here.
            if seen + len(below) > MOST_VALUES:
                raise ValueError(f"more than {MOST_VALUES} values")
        seen += len(below)
        level, depth = below, depth + 1


def _check_leaf(item: Any, finite: bool) -> None:
    if isinstance(item, str):
        _check_text(item)
    elif isinstance(item, int):
        if not -_LARGEST <= item < _LARGEST:
            raise ValueError(f"a number of {item.bit_length()} bits")
    elif isinstance(item, float):
        if finite and not math.isfinite(item):
            raise ValueError(f"{item} where a finite number must stand")
    elif item is not None:
        raise ValueError(f"a value of type {type(item).__name__}")


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise ValueError(f"a key of type {type(text).__name__}")
    if "\0" in text or not (text.isascii() or text.encode(errors="replace").decode() == text):
        raise ValueError(f"text with a character that is none: {text[:40]!r}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text}, which is no JSON number")
