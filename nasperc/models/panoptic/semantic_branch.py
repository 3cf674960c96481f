"""The semantic branch of Panoptic-FPN (Kirillov et al. 2019, 3; thesis 4.4.4): classes of pixels from a pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.conv_layers import ConvNormReLU
from nasperc.models.features import FeatureSpec
from nasperc.models.named_levels import NamedLevels
from nasperc.models.normalisation import GroupNorm
from nasperc.ops.pointwise import PointwiseConv2d

_GROUPS = 32
_WHERE = "recipe key task.semantic_branch"


class SemanticBranchRecipe(BaseModel):
    """``levels`` of the neck or the backbone, from fine to coarse: a found neck begins with P3, the original branch
    reads P2 to P5. ``width`` of its convolutions. ``weight`` of its loss (detectron2, AdelaiDet)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    levels: tuple[str, ...] = Field(default=("P3", "P4", "P5"), min_length=1)
    width: int = Field(default=128, ge=1, le=8192)
    weight: float = Field(default=0.5, gt=0)


class SemanticBranch(nn.Module):
    """``forward(backbone levels, neck levels) -> logits (N, classes, H, W)``, in the size of the finest level.

    Each level goes through stages of 3x3, GroupNorm, ReLU and a bilinear upsampling by 2 until it has the stride of the
    finest, which has one stage without upsampling; they are summed, and a 1x1 tells the classes. Where sizes do not
    halve evenly, an upsampled map is cropped at the bottom and at the right.

    Args:
        recipe: levels and width.
        classes: of a semantic map: all things as one, and stuff.
        backbone: what the backbone puts out.
        neck: what the neck puts out.

    Attributes:
        stride: of the logits.

    Raises:
        InputError: neither backbone nor neck has a level of that name; the levels do not go from fine to coarse; the
            width is no multiple of 32.
    """

    def __init__(
        self,
        recipe: SemanticBranchRecipe,
        classes: int,
        backbone: tuple[FeatureSpec, ...],
        neck: tuple[FeatureSpec, ...],
    ) -> None:
        super().__init__()
        self._levels = NamedLevels(recipe.levels, backbone, neck, f"{_WHERE}.levels")
        specs = self._levels.specs
        strides = [spec.stride for spec in specs]
        if sorted(set(strides)) != strides:
            raise InputError(
                "the levels of a semantic branch must go from fine to coarse",
                value=", ".join(f"{spec.name} of stride {spec.stride}" for spec in specs),
                where=f"{_WHERE}.levels",
                repair="Order them, each stride once.",
            )
        if recipe.width % _GROUPS:
            raise InputError(
                f"the width of a semantic branch must be a multiple of {_GROUPS}",
                value=recipe.width,
                where=f"{_WHERE}.width",
                repair="Choose 128, as Panoptic-FPN has it, or 32, 64 or 256.",
            )
        self.stride = strides[0]
        self.stages = nn.ModuleList(_stages(spec, self.stride, recipe.width) for spec in specs)
        self.classifier = PointwiseConv2d(recipe.width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, backbone: Sequence[Tensor], neck: Sequence[Tensor]) -> Tensor:
        finest, *coarser = (
            stages(level) for stages, level in zip(self.stages, self._levels.of(backbone, neck), strict=True)
        )
        height, width = finest.shape[-2:]
        for level in coarser:
            finest = finest + level[..., :height, :width]
        return self.classifier(finest)


def _stages(spec: FeatureSpec, stride: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    doublings = (spec.stride // stride).bit_length() - 1
    channels = spec.channels
    for _ in range(max(1, doublings)):
        layers.append(ConvNormReLU(channels, width, 3, norm=partial(GroupNorm, _GROUPS)))
        if doublings:
            layers.append(nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False))
        channels = width
    return nn.Sequential(*layers)
