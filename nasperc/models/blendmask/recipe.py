"""The recipe section of BlendMask: every choice of thesis chapter 4 that is not its backbone's or its detector's."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from nasperc.models.blendmask.bottom import BottomRecipe
from nasperc.models.blendmask.protonet import ProtoNetRecipe
from nasperc.models.masks.recipe import BasisSegmenterRecipe

Merger = Literal["blender", "weighted_sum", "assembler"]
Sampling = Literal["nearest", "bilinear"]
TopLayerPlace = Literal["box_tower", "cls_tower", "merged_tower"]


class BlendMaskRecipe(BasisSegmenterRecipe):
    """The defaults are AdelaiDet's BlendMask (thesis Table 4.7, Proto-FPN, with one more convolution).

    ``region``, ``bases``, ``attention``: R, K and M of the thesis's R_K_M. ``merger`` (Table 4.1): the blender;
    ``weighted_sum``, YOLACT's, which is the blender at M = 1; ``assembler``, FCIS's, with one basis for each of the
    M x M cells of a region and nothing predicted at the top.

    ``bottom_sampling`` of the bases in a box: RoIAlign with one sample a bin (bilinear), or RoIPool (nearest).
    ``top_interpolation`` of the attentions from M x M to R x R. ``top_layer_on``: the tower that attentions are
    predicted from; ``merged_tower`` says that it must be the only one (BlendMask-RT).

    The other keys: see :class:`BasisSegmenterRecipe`.
    """

    bases: int = Field(default=4, ge=1, le=256)
    attention: int = Field(default=14, ge=1, le=56)
    merger: Merger = "blender"
    bottom: BottomRecipe = ProtoNetRecipe()
    bottom_sampling: Sampling = "bilinear"
    top_interpolation: Sampling = "bilinear"
    top_layer_on: TopLayerPlace = "box_tower"

    @property
    def name(self) -> str:
        """R_K_M."""
        return f"{self.region}_{self.bases}_{self.attention}"

    @property
    def top_channels(self) -> int:
        """What is predicted for an instance: K * M * M attentions, or nothing."""
        return 0 if self.merger == "assembler" else self.bases * self.attention**2

    @model_validator(mode="after")
    def _resolutions_fit_the_merger(self) -> Self:
        if self.attention > self.region:
            raise ValueError(f"attention (now {self.attention}) must not exceed region (now {self.region})")
        if (self.merger == "weighted_sum") != (self.attention == 1):
            raise ValueError(
                "attention 1 is the merger weighted_sum, and the others have more: "
                f"set merger (now {self.merger}) or attention (now {self.attention})"
            )
        if self.merger == "assembler" and self.bases != self.attention**2:
            raise ValueError(
                f"the assembler has a basis for each of the attention x attention cells: set bases "
                f"(now {self.bases}) to {self.attention**2}"
            )
        if self.merger == "assembler" and self.top_interpolation != "nearest":
            raise ValueError(
                "the cells of the assembler have borders: set top_interpolation to nearest, or another merger"
            )
        return self
