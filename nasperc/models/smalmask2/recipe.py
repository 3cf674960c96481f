"""The recipe section of SmalMask2 (thesis 3.4)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nasperc.models.smalmask.recipe import MaskRecipe


class SmalMask2Recipe(MaskRecipe):
    """The defaults are the best row of Table 3.6.

    ``canonical_lengths``: L of each pooler, in pixels of the network's input. Training has them all, so that most
    objects are read from two levels; inference has the largest alone. The levels of boxes are the preset's.

    The other keys: see :class:`MaskRecipe`.
    """

    canonical_lengths: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] = Field(
        default=(64, 128), min_length=1, max_length=16
    )
