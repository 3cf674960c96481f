"""From which level of the pyramid masks are predicted at each level of boxes (thesis Table 3.4, equation 3.5)."""

from __future__ import annotations

from typing import NamedTuple

from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec


class MaskLevels(NamedTuple):
    """By level of boxes: ``source``, the number of the level that masks are predicted from, and ``lower``, how many
    times its stride is half of the boxes'."""

    source: tuple[int, ...]
    lower: tuple[int, ...]


def mask_levels(names: tuple[str, ...] | None, levels: tuple[FeatureSpec, ...]) -> MaskLevels:
    """Of the ``levels`` that the head looks at; ``names`` None: each its own.

    Raises:
        InputError: not one for each level; a name that none of them has; one that is coarser than the boxes' level.
    """
    if names is None:
        return MaskLevels(tuple(range(len(levels))), (0,) * len(levels))
    known = [spec.name for spec in levels]
    where = "recipe key smalmask.levels"
    unknown = [name for name in names if name not in known]
    if unknown or len(names) != len(levels):
        raise InputError(
            "masks need a level for each level of boxes, one that the head looks at",
            value=", ".join(names),
            where=where,
            repair=f"Give {len(levels)} of {', '.join(known)}, or null.",
        )
    source = tuple(known.index(name) for name in names)
    ratios = [levels[own].stride / levels[place].stride for own, place in enumerate(source)]
    if any(ratio < 1 or not ratio.is_integer() or int(ratio).bit_count() > 1 for ratio in ratios):
        raise InputError(
            "masks are predicted from the boxes' level or from a lower one, of half the stride, a quarter, ...",
            value=", ".join(names),
            where=where,
            repair=f"The levels of boxes are {', '.join(known)}: name these or lower ones in this order.",
        )
    return MaskLevels(source, tuple(int(ratio).bit_length() - 1 for ratio in ratios))
