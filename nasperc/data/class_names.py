"""Names of classes: what annotations call them, and which label that is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nasperc.errors import InputError


def labels_by_name(classes: Sequence[str], where: Path) -> dict[str, int]:
    """Label by name, without the blanks around it: readers strip what annotations say.

    Args:
        classes: in the order of the labels; those of a checkpoint may have blanks.
        where: the annotations that are read, for the message.

    Raises:
        InputError: two names differ in blanks alone.
    """
    labels: dict[str, int] = {}
    for label, name in enumerate(classes):
        first = labels.setdefault(name.strip(), label)
        if first != label:
            raise InputError(
                "the names of classes must differ in more than blanks",
                value=f"{classes[first]!r} and {name!r}",
                where=where,
                repair="Mend the annotations or the list of classes; a model trained on both must be trained anew.",
            )
    return labels
