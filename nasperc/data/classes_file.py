"""The text file that names a data set's classes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from nasperc.errors import InputError
from nasperc.limits import require_names
from nasperc.plain_files import read_bounded

# Thousands of classes take kilobytes.
MOST_CLASSES_BYTES = 1 << 20


def read_classes_file(file: Path) -> tuple[str, ...]:
    """Class names, one a line in the order of the labels; empty lines do not count.

    Raises:
        InputError: the file is missing, no UTF-8 text, empty, or names a class twice, too many, or at too great a
            length.
    """
    try:
        text = read_bounded(file, MOST_CLASSES_BYTES).decode()
    except (OSError, ValueError) as error:
        raise InputError(
            "a classes file must be readable text",
            value=error,
            where=file,
            repair="Write one class name a line.",
        ) from error
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise InputError(
            "a classes file must name classes",
            value="none",
            where=file,
            repair="Write one class name a line.",
        )
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(
            "a class must be named once",
            value=f"'{name}' twice",
            where=file,
            repair="Remove one of the lines.",
        )
    require_names(names, where=file)
    return tuple(names)
