"""The text files that list the images of a split, one a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nasperc.errors import InputError
from nasperc.plain_files import MOST_BYTES, read_bounded


def read_split_list(
    file: Path, layout: str, splits: tuple[str, ...], stem: Callable[[str], str] = str
) -> list[str]:
    """The stems of a split's images, in the order of the file; empty lines do not count.

    Args:
        file: the list.
        layout: its name, for messages.
        splits: the data set's, for messages.
        stem: makes a stem of a line (without the blanks around it).

    Raises:
        InputError: the file is missing, no UTF-8 text or empty, or lists an image twice.
    """
    try:
        lines = [line.strip() for line in read_bounded(file, MOST_BYTES).decode().splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(
            f"a {layout} split must be a readable list of image stems",
            value=error,
            where=file,
            repair=f"Splits found: {', '.join(splits) or 'none'}.",
        ) from error
    stems = [stem(line) for line in lines if line]
    outside = next((stem for stem in stems if "/" in stem or "\\" in stem or "\0" in stem), None)
    if outside is not None:
        raise InputError(
            f"a {layout} split must list stems, which are no paths",
            value=repr(outside),
            where=file,
            repair="Take the line off the list.",
        )
    if not stems:
        raise InputError(
            f"a {layout} split must list images", value="an empty file", where=file, repair="Fill the list."
        )
    if len(set(stems)) != len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise InputError(
            "a split must list an image once",
            value=f"'{twice}' twice",
            where=file,
            repair="Remove one of the lines.",
        )
    return stems
