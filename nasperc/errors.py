"""The one error that a user's input can cause, and how it reads."""

from __future__ import annotations

import reprlib
from pathlib import Path

from nasperc.shown_text import printable

LONGEST, LONGEST_RULE = 400, 2000


class InputError(ValueError):
    """Bad input: a file, a recipe key, a token, a checkpoint. The commands print it in one line, exit code 2.

    What was found may come from a hostile file, so it is cut to ``LONGEST`` characters, and characters that a
    terminal would obey are written as escapes.

    Args:
        rule: what must hold, e.g. ``"a VOC annotation must be well-formed XML"``.
        value: what was found instead.
        where: the file, recipe key or command-line flag that it came from.
        repair: what the user can do about it.
    """

    def __init__(self, rule: str, *, value: object, where: str | Path, repair: str) -> None:
        self.rule, self.value, self.where, self.repair = (
            _printable(rule),
            value,
            _printable(str(where)),
            repair,
        )
        super().__init__(f"{self.rule}, but got {_text(value)} (in {self.where}). {_printable(repair)}")

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and workers send errors to the driver.
        return (_rebuild, (type(self), self.rule, _text(self.value), self.where, self.repair))


def shown(value: object) -> str:
    """``repr`` of any plain value in at most a line: cut in depth and length, however large the value is.

    A value of a few bytes in a file can be gigabytes written out: lists that hold one another, long integers.
    """
    return _SHORT.repr(value)


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write integers of more than 4300 digits.
        return f"an integer of {x.bit_length()} bits" if x.bit_length() > 256 else super().repr_int(x, level)


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 120


def _rebuild(kind: type[InputError], rule: str, value: str, where: str, repair: str) -> InputError:
    return kind(rule, value=value, where=where, repair=repair)


def _text(value: object) -> str:
    plain = isinstance(value, int | list | tuple | dict | set | frozenset)
    text = shown(value) if plain else str(value)
    return _printable(text if len(text) <= LONGEST else text[: LONGEST - 3] + "...")


def _printable(text: str) -> str:
    return printable(text[:LONGEST_RULE])
