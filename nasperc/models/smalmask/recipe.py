"""The recipe section of SmalMask: every choice of thesis chapter 3 that is not its backbone's or its detector's."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

PredictorName = Literal["conv", "def_conv", "roi_conv", "roi_pred"]
BoxSupervision = Literal["predicted", "random", "fix", "ground_truth"]


class MaskRecipe(BaseModel):
    """What SmalMask and SmalMask2 have in common.

    ``region``: R, the side of a mask inside its box. ``kernel``: k, of the predictor. ``mask_weight``: of the mask
    loss.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: int = Field(default=28, ge=1, le=224)
    kernel: Literal[3, 5, 7] = 5
    mask_weight: float = Field(default=1.0, gt=0)


class SmalMaskRecipe(MaskRecipe):
    """The defaults are the best row of Table 3.1.

    ``predictor`` (Table 3.1, Figure 3.3): of masks, on a ``tower`` of its own of ``tower_depth`` 3x3 convolutions, or
    on the box tower. ``box_supervision`` (Table 3.3): whose boxes ``roi_conv`` and ``roi_pred`` are aligned to in
    training: predictions ("w/o"), ground truth with a probability that falls from 1 to 0 ("random"), in the first fifth
    ("fix") or always ("w/").

    ``levels`` (Table 3.4, equation 3.5): of the neck, from which masks are predicted at each level of boxes, e.g. P3,
    P3, P4, P5, P6; null: each from its own. ``canonical_length`` (3.3.2): L in pixels, the boxes of level p are from
    2^(p-2) L to 2^(p-1) L; null: the sizes of interest of the preset.

    The other keys: see :class:`MaskRecipe`.
    """

    predictor: PredictorName = "roi_pred"
    tower: Literal["separate", "shared"] = "separate"
    tower_depth: int = Field(default=4, ge=1, le=64)
    box_supervision: BoxSupervision = "ground_truth"
    levels: tuple[str, ...] | None = None
    canonical_length: float | None = Field(default=None, gt=0, le=1e6)
