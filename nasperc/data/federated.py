"""Annotations that are complete in each image for some categories only, as those of LVIS (Gupta et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasperc.data.coco_fields import REPAIR
from nasperc.errors import InputError, shown

NEGATIVE, NOT_EXHAUSTIVE = "neg_category_ids", "not_exhaustive_category_ids"


@dataclass(frozen=True)
class FederatedLabels:
    """Of one image. ``negative``: labels that were looked for and are not there. ``not_exhaustive``: labels of which
    not every object is annotated. Of labels that are neither negative nor annotated nothing is known."""

    negative: tuple[int, ...] = ()
    not_exhaustive: tuple[int, ...] = ()


def read_federated_labels(
    images: Mapping[int, Mapping[str, Any]], labels: Mapping[int, int | None], file: Path
) -> dict[int, FederatedLabels]:
    """By image id, from the lists of category ids beside each image; empty where no image has any.

    Args:
        images: their entries by id.
        labels: by the id of each listed category; None: it is no class, and nothing is detected of it.
        file: that they stand in.

    Raises:
        InputError: no list of ids of listed categories.
    """
    if not any(key in entry for entry in images.values() for key in (NEGATIVE, NOT_EXHAUSTIVE)):
        return {}

    def known(entry: Mapping[str, Any], key: str) -> tuple[int, ...]:
        stated = entry.get(key, [])
        if not isinstance(stated, list) or not all(type(each) is int and each in labels for each in stated):
            raise InputError(
                f"'{key}' of image {entry['id']} must be a list of ids of listed categories",
                value=shown(stated),
                where=file,
                repair=REPAIR,
            )
        return tuple(sorted({label for each in stated if (label := labels[each]) is not None}))

    return {
        key: FederatedLabels(known(entry, NEGATIVE), known(entry, NOT_EXHAUSTIVE))
        for key, entry in images.items()
    }
