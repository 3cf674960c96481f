"""The auxiliary semantic segmentation beside the masks: classes of a level's pixels (thesis 4.4.1, 5.5.1)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from nasperc.models.conv_layers import ConvNormReLU
from nasperc.ops.pointwise import PointwiseConv2d


class SemanticRecipe(BaseModel):
    """``weight`` of the loss; ``level`` of the backbone or the neck that it is on; ``width`` of its two 3x3 layers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(default=0.3, gt=0)
    level: str = "P3"
    width: int = Field(default=128, ge=1, le=8192)


class SemanticHead(nn.Sequential):
    """(N, C, H, W) -> logits (N, 1 + classes, H, W), background first. Training alone looks at it.

    Two 3x3 with BatchNorm and ReLU, and a 1x1 (AdelaiDet).
    """

    def __init__(self, in_channels: int, width: int, num_classes: int) -> None:
        super().__init__(
            ConvNormReLU(in_channels, width, 3),
            ConvNormReLU(width, width, 3),
            PointwiseConv2d(width, num_classes + 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
