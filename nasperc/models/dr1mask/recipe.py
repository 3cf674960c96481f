"""The recipe section of DR1Mask: every choice of thesis chapter 5 that is not its backbone's or its detector's."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from nasperc.models.masks.recipe import BasisSegmenterRecipe

Factors = Literal["neither", "A", "B", "both"]
ContextPlace = Literal["neck", "cls_tower", "box_tower"]
EmbeddingKind = Literal["vector", "full", "factored"]


class DR1MaskRecipe(BasisSegmenterRecipe):
    """The defaults are the instance segmenter of Table 5.8.

    ``width``: D, channels of the basis. ``factors`` (Table 5.1): which of the two dynamic factors its convolutions
    have; with neither it is a plain FPN, and there is no context. ``context_on`` (Table 5.3): what the factors are
    predicted from, the levels of the neck or a tower of the head; the embedding always stands on the box tower.

    ``embedding`` (Table 5.4): a ``vector`` of D weights; a ``full`` attention of ``bases`` x ``attention`` x
    ``attention`` values; or a ``factored`` one, of ``bases`` products of ``rank`` (K, M x M, 4 in the thesis).

    ``divisor`` of the sides of a batch and ``upsampling`` inside of the basis (Table 5.5: 32 and 128 are ``resized``, 4
    is ``aligned``): see :func:`upsample_aligned`; ``resized`` is bilinear to the size of the finer level, and exact
    only where all sizes halve, at a divisor of 128.

    The other keys: see :class:`BasisSegmenterRecipe`.
    """

    width: int = Field(default=32, ge=1, le=8192)
    factors: Factors = "both"
    context_on: ContextPlace = "box_tower"
    embedding: EmbeddingKind = "factored"
    bases: int = Field(default=4, ge=1, le=256)
    attention: int = Field(default=14, ge=1, le=56)
    rank: int = Field(default=4, ge=1, le=56)
    divisor: Literal[4, 32, 128] = 4
    upsampling: Literal["aligned", "resized"] = "aligned"

    @property
    def context_channels(self) -> int:
        """Of C_l: D for each factor."""
        return self.width * {"neither": 0, "A": 1, "B": 1, "both": 2}[self.factors]

    @property
    def embedding_channels(self) -> int:
        """What is predicted for an instance."""
        if self.embedding == "vector":
            return self.width
        if self.embedding == "full":
            return self.bases * self.attention**2
        return self.width * self.bases + self.bases * self.rank

    @model_validator(mode="after")
    def _attention_fits_the_region(self) -> Self:
        if self.embedding != "vector" and self.attention > self.region:
            raise ValueError(f"attention (now {self.attention}) must not exceed region (now {self.region})")
        return self
