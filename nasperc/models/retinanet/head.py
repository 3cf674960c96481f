"""The head of RetinaNet (Lin et al. 2017, "Focal Loss for Dense Object Detection", section 4)."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn

from nasperc.models.features import FeatureSpec
from nasperc.models.retinanet.anchors import ANCHORS_PER_LOCATION

CLASS_PRIOR = 0.01


class AnchorOutput(NamedTuple):
    """Output of a head with A anchors at each location, each field a list by level.

    ``class_logits`` ``(N, A * K, H, W)`` and ``deltas`` ``(N, A * 4, H, W)``, anchor by anchor: channel
    ``a * K + k`` is class k of anchor a. ``deltas``: see :func:`nasperc.ops.box_coder.encode_boxes`.
    """

    cls_tower: list[Tensor]
    box_tower: list[Tensor]
    class_logits: list[Tensor]
    deltas: list[Tensor]


class RetinaNetHead(nn.Module):
    """``forward(levels) -> AnchorOutput``: two towers of 3x3 convolutions and ReLU, two 3x3 predictors.

    All levels share the weights. There is no normalisation in the towers, as in the paper and in the model that
    thesis Table 7.2 counts.

    Args:
        in_channels: of the levels.
        width: channels of the towers.
        depth: convolutions of a tower.
        num_classes: K, without background.
        levels: what the neck puts out.
    """

    def __init__(
        self, in_channels: int, width: int, depth: int, num_classes: int, levels: tuple[FeatureSpec, ...]
    ) -> None:
        super().__init__()
        self.out_channels, self.num_classes, self.levels = width, num_classes, levels
        self.cls_tower = _tower(in_channels, width, depth)
        self.box_tower = _tower(in_channels, width, depth)
        self.class_logits = _conv(width, ANCHORS_PER_LOCATION * num_classes)
        self.deltas = _conv(width, ANCHORS_PER_LOCATION * 4)
        nn.init.constant_(self.class_logits.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))  # type: ignore[arg-type]

    def forward(self, levels: list[Tensor]) -> AnchorOutput:
        cls_tower = [self.cls_tower(level) for level in levels]
        box_tower = [self.box_tower(level) for level in levels]
        return AnchorOutput(
            cls_tower=cls_tower,
            box_tower=box_tower,
            class_logits=[self.class_logits(x) for x in cls_tower],
            deltas=[self.deltas(x) for x in box_tower],
        )


def _tower(in_channels: int, width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [_conv(in_channels, width), nn.ReLU(inplace=True)]
        in_channels = width
    return nn.Sequential(*layers)


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
