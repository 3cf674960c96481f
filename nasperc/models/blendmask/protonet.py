"""The protonet of YOLACT as BlendMask's bottom module (thesis 4.4.1, Table 4.7: Proto-P3 and Proto-FPN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from nasperc.models.conv_layers import ConvNormReLU
from nasperc.models.features import FeatureSpec
from nasperc.ops.pointwise import PointwiseConv2d
from nasperc.ops.resize import resize_to


class ProtoNetRecipe(BaseModel):
    """One level of ``inputs`` is Proto-P3, several, the finest first, are Proto-FPN.

    ``convolutions``: 3x3 ones behind the inputs, not counting the first of each of several inputs. The thesis has 4 in
    Proto-P3 (width 256), one fewer in Proto-FPN (128), and "four" in BlendMask-RT, which is AdelaiDet's BlendMask.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["protonet"] = "protonet"
    inputs: tuple[str, ...] = Field(default=("P3", "P4", "P5"), min_length=1)
    width: int = Field(default=128, ge=1, le=8192)
    convolutions: int = Field(default=4, ge=1, le=64)


class ProtoNet(nn.Module):
    """``forward(levels) -> bases (N, K, 2 * H, 2 * W)``, H and W being the size of the finest level.

    Several levels: a 3x3 each to ``width``, resized to the finest one (bilinear), and summed. Then 3x3 convolutions,
    the last of which comes behind a bilinear upsampling by 2, and a 1x1 to the bases. Every 3x3 has BatchNorm and ReLU.

    Args:
        recipe: width and depth.
        inputs: the levels, the finest first.
        bases: K.
    """

    def __init__(self, recipe: ProtoNetRecipe, inputs: Sequence[FeatureSpec], bases: int) -> None:
        super().__init__()
        width = recipe.width
        channels = inputs[0].channels
        self.refine: nn.ModuleList | None = None
        if len(inputs) > 1:
            self.refine = nn.ModuleList(ConvNormReLU(spec.channels, width, 3) for spec in inputs)
            channels = width
        layers: list[nn.Module] = []
        for _ in range(recipe.convolutions):
            layers.append(ConvNormReLU(channels, width, 3))
            channels = width
        layers.insert(-1, nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False))
        self.tower = nn.Sequential(*layers, PointwiseConv2d(width, bases))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.stride = inputs[0].stride // 2

    def forward(self, levels: list[Tensor]) -> Tensor:
        x = levels[0]
        if self.refine is not None:
            size = (x.shape[-2], x.shape[-1])
            refined = [conv(level) for conv, level in zip(self.refine, levels, strict=True)]
            x, *coarser = (resize_to(level, size) for level in refined)
            for level in coarser:
                x = x + level
        return self.tower(x)
