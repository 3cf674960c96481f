"""How much a recipe, a checkpoint or a data set may ask for: a digit too many in a file would take all memory."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from nasperc.errors import InputError

# Pixels of a side that images are resized, cropped or padded to; also the largest that an exported file takes.
LONGEST_SIDE = 4096
# Of a bound on a side, which "no bound" is commonly written as; the short side, bounded above, says what is allocated.
LARGEST_BOUND = 1_000_000
# Images of a batch, views of an image, frames of a sequence.
MOST_AT_ONCE = 4096
MOST_CLASSES = 10_000
# Characters of the name of a class, a split or a run.
LONGEST_NAME = 200


def require_names(names: Collection[str], *, where: str | Path) -> None:
    """Check the names of classes.

    Raises:
        InputError: there are too many, or one is too long.
    """
    if len(names) > MOST_CLASSES:
        raise InputError(
            f"there may be {MOST_CLASSES} classes at most",
            value=f"{len(names)} classes",
            where=where,
            repair="Check that these are the names of classes.",
        )
    require_name(max(names, key=len, default=""), "the name of a class", where=where)


def require_name(name: str, what: str, *, where: str | Path) -> None:
    """Check one name; ``what`` it is of, in the error.

    Raises:
        InputError: it is too long.
    """
    if len(name) > LONGEST_NAME:
        raise InputError(
            f"{what} may have {LONGEST_NAME} characters at most",
            value=f"{len(name)}: {name[:40]}...",
            where=where,
            repair="Choose a shorter one.",
        )
