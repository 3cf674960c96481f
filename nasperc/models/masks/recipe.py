"""What the recipe sections of segmenters with bases have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from nasperc.models.masks.semantic_head import SemanticRecipe


class BasisSegmenterRecipe(BaseModel):
    """``region``: R, the side of a mask inside its box. ``semantic``: the auxiliary loss, null for none.
    ``mask_weight``: of the mask loss. ``positives``: how many locations of an image the mask loss looks at, those of
    the highest centerness; null: all, as AdelaiDet has it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: int = Field(default=56, ge=1, le=224)
    semantic: SemanticRecipe | None = SemanticRecipe()
    mask_weight: float = Field(default=1.0, gt=0)
    positives: int | None = Field(default=None, ge=1)
