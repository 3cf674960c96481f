"""The one error that a user's input can cause, and how it reads."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """Bad input: a file, a recipe key, a token, a checkpoint. The commands print it in one line, exit code 2.

    Args:
        rule: what must hold, e.g. ``"a VOC annotation must be well-formed XML"``.
        value: what was found instead.
        where: the file, recipe key or command-line flag that it came from.
        repair: what the user can do about it.
    """

    def __init__(self, rule: str, *, value: object, where: str | Path, repair: str) -> None:
        self.rule, self.value, self.where, self.repair = rule, value, str(where), repair
        super().__init__(f"{rule}, but got {value!s} (in {self.where}). {repair}")

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and workers send errors to the driver.
        return (_rebuild, (type(self), self.rule, str(self.value), self.where, self.repair))


def _rebuild(kind: type[InputError], rule: str, value: str, where: str, repair: str) -> InputError:
    return kind(rule, value=value, where=where, repair=repair)
