"""The decoder of DeepLabV3+ as BlendMask's bottom module (thesis 4.3.1, 4.4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from nasperc.models.conv_layers import ConvNormReLU, SeparableConv
from nasperc.models.decoders.deeplab_v3_plus import LOW_LEVEL_CHANNELS, SpatialPyramidPooling
from nasperc.models.features import FeatureSpec
from nasperc.ops.pointwise import PointwiseConv2d
from nasperc.ops.resize import resize_to


class DeepLabBottomRecipe(BaseModel):
    """``inputs``: a fine and a coarse level, e.g. C3 and C5 (the thesis's first ablations), P3 and P5 (the later ones),
    P2 and P5 (bases at stride 4). ``width`` 128 in the ablations, 256 in the main results."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["deeplab_v3_plus"] = "deeplab_v3_plus"
    inputs: tuple[str, str] = ("P3", "P5")
    width: int = Field(default=128, ge=1, le=8192)


class DeepLabBottom(nn.Module):
    """``forward([fine, coarse]) -> bases (N, K, H, W)``, H and W being the size of the fine level.

    ASPP on the coarse level, upsampled (bilinear) beside the fine one, two separable 3x3, a 1x1 to the bases. The
    image-level branch of ASPP is not normalised: a batch may be one image.

    Args:
        recipe: the width.
        inputs: the two levels.
        bases: K.
    """

    def __init__(self, recipe: DeepLabBottomRecipe, inputs: Sequence[FeatureSpec], bases: int) -> None:
        super().__init__()
        fine, coarse = inputs
        width = recipe.width
        self.pyramid = SpatialPyramidPooling(coarse.channels, width, pooled_norm=nn.Identity)
        self.low_level = ConvNormReLU(fine.channels, LOW_LEVEL_CHANNELS, 1)
        self.refine = nn.Sequential(
            SeparableConv(width + LOW_LEVEL_CHANNELS, width, 3), SeparableConv(width, width, 3)
        )
        self.bases = PointwiseConv2d(width, bases)
        self.stride = fine.stride

    def forward(self, levels: list[Tensor]) -> Tensor:
        fine, coarse = levels
        context = resize_to(self.pyramid(coarse), (fine.shape[-2], fine.shape[-1]))
        return self.bases(self.refine(torch.cat((context, self.low_level(fine)), 1)))
