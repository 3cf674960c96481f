"""The recipe section of the space ``fcos_decoder``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from search_spaces.base import WIDEST
from search_spaces.fcos_genotype import Variant

StageName = Literal["fpn", "head", "joint"]
# GroupNorm in 32 groups.
WIDTH_STEP = 32


class DecoderWidths(BaseModel):
    """Channels of the FPN and of the head; the head's are a multiple of the FPN's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fpn: int = Field(gt=0, le=WIDEST, multiple_of=WIDTH_STEP)
    head: int = Field(gt=0, le=WIDEST, multiple_of=WIDTH_STEP)


STAGE_WIDTHS: dict[StageName, DecoderWidths] = {
    "fpn": DecoderWidths(fpn=64, head=64),
    "head": DecoderWidths(fpn=128, head=128),
    "joint": DecoderWidths(fpn=128, head=128),
}


class FcosDecoderRecipe(BaseModel):
    """How the FCOS decoder is searched.

    ``variant``: the release's reading of the space or the thesis's. ``mode``: ``progressive`` = FPN, then
    head with the best FPN; ``fpn`` / ``head`` alone, beside the original other part; ``joint``.
    ``stage_widths``: by stage, those left out keep their defaults. ``shares``: of the budget, for the two
    stages of ``progressive``. ``overrides``: proxy recipe keys by stage.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: Variant = "nas_fcos"
    mode: Literal["progressive", "fpn", "head", "joint"] = "progressive"
    stage_widths: dict[StageName, DecoderWidths] = Field(default_factory=dict)
    shares: tuple[float, float] = (0.75, 0.25)
    overrides: dict[StageName, dict[str, Any]] = Field(default_factory=dict)

    @field_validator("shares")
    @classmethod
    def _shares_make_a_whole(cls, shares: tuple[float, float]) -> tuple[float, float]:
        if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError("shares are positive and sum to 1")
        return shares

    def widths(self, stage: StageName) -> dict[str, int]:
        """Channels by part in a stage."""
        return self.stage_widths.get(stage, STAGE_WIDTHS[stage]).model_dump()
