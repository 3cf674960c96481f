"""The text file that names a data set's classes."""

from __future__ import annotations

from pathlib import Path

from nasperc.errors import InputError


def read_classes_file(file: Path) -> tuple[str, ...]:
    """Class names, one a line in the order of the labels; empty lines do not count.

    Raises:
        InputError: the file is missing, no UTF-8 text, empty, or names a class twice.
    """
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "a classes file must be readable text",
            value=error,
            where=file,
            repair="Write one class name a line.",
        ) from error
    if not names:
        raise InputError(
            "a classes file must name classes",
            value="none",
            where=file,
            repair="Write one class name a line.",
        )
    for k, name in enumerate(names):
        if name in names[:k]:
            raise InputError(
                "a class must be named once",
                value=f"'{name}' twice",
                where=file,
                repair="Remove one of the lines.",
            )
    return tuple(names)
