"""The mask head of Mask R-CNN (He et al. 2017) on an FCOS detector, for the comparison with segmenters that have none.

It stands here since the project has no model of it: it has no losses, and gives the masks of one class.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.models.detector import DetectorOutput
from nasperc.models.features import HeadOutput
from nasperc.models.instance_segmenter import InstanceSegmenter
from nasperc.ops.roi_align import roi_align

SIDE, WIDTH, CONVOLUTIONS, SAMPLES = 14, 256, 4, 2
# FPN, equation 1: an object of this many pixels belongs to the level of stride 16.
CANONICAL, CANONICAL_STRIDE = 224, 16
# P3 to P5, of strides 8 to 32: a head that begins at P3 has no P2.
COARSEST = 32


class MaskRCNNHeadOutput(NamedTuple):
    """``detection``: of the FCOS head."""

    detection: HeadOutput


class MaskRCNNMasks(InstanceSegmenter):
    """RoIAlign of 14 x 14 from the level of a box's size, four 3x3 of 256 channels with ReLU, a transposed 2x2 with
    ReLU, a 1x1 to the classes: 28 x 28. The work grows with the number of objects.

    Args:
        backbone, neck, head: as of every FCOS detector.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module) -> None:
        super().__init__(backbone, neck, head)
        channels: int = neck.out[0].channels  # type: ignore[index, union-attr]
        classes: int = head.num_classes  # type: ignore[assignment]
        widths = [channels] + [WIDTH] * CONVOLUTIONS
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths)
        )
        # A transposed 2x2 convolution of stride 2 is this and a shuffle of its channels into pixels.
        self.upsampling = nn.Conv2d(WIDTH, 4 * WIDTH, 1)
        self.classes = nn.Conv2d(WIDTH, classes, 1)

    def forward_features(self, features: list[Tensor]) -> DetectorOutput:
        output = super().forward_features(features)
        return output._replace(head=MaskRCNNHeadOutput(output.head))

    def masks_at(self, output: DetectorOutput, boxes: Tensor, image: Tensor, location: Tensor) -> Tensor:
        x = self._regions(output, boxes, image)
        for conv in self.convolutions:
            x = F.relu(conv(x))
        x = F.relu(F.pixel_shuffle(self.upsampling(x), 2))
        return self.classes(x)[:, 0].sigmoid()

    def _regions(self, output: DetectorOutput, boxes: Tensor, image: Tensor) -> Tensor:
        """(D, C, 14, 14), each from its level."""
        levels = [
            (spec.stride, level)
            for spec, level in zip(self.levels, output.neck[-len(self.levels) :], strict=True)
            if spec.stride <= COARSEST
        ]
        if boxes.is_meta:
            # Shapes alone: on whatever level, the work of the head is the same.
            return boxes.new_empty(len(boxes), levels[0][1].shape[1], SIDE, SIDE)
        size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1).sqrt()
        step = torch.floor(torch.log2(size / CANONICAL + 1e-8))
        stride = (CANONICAL_STRIDE * 2**step).clamp(levels[0][0], levels[-1][0])
        parts, places = [], []
        for each, level in levels:
            there = (stride == each).nonzero()[:, 0]
            parts.append(roi_align(level, boxes[there], image[there], (SIDE, SIDE), 1 / each, SAMPLES))
            places.append(there)
        regions = torch.cat(parts)[torch.cat(places).argsort()]
        return regions.contiguous(memory_format=torch.channels_last)
