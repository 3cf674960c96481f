"""A detection head that works as it is, and then finds what was made up: random weights find nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.roi_ops import coco_boxes
from nasperc.models.features import HeadOutput

# Of class logits. With centerness logits of mean 0, so many pass a threshold of 0.05 that on every level suppression
# gets as many candidates as the preset allows, or thousands.
MEAN, SPREAD = -3.0, 1.5


class PlantedHead(nn.Module):
    """``forward(levels) -> HeadOutput``: all that ``head`` computes, and in the place of its predictions those of boxes
    of COCO's sizes around every location, with random classes.

    They are drawn once a size of the levels, by a seed. How many become detections is for the preset to say: its
    ``detections``, which is exact, since no two scores are equal.

    Args:
        head: an FCOS head; of a segmenter, it is replaced by this one.
        image: (H, W) that sizes of boxes are relative to.
    """

    def __init__(self, head: nn.Module, image: tuple[int, int]) -> None:
        super().__init__()
        self.head, self.image = head, image
        self.preset: Any = head.preset
        self.levels, self.num_classes, self.out_channels = head.levels, head.num_classes, head.out_channels
        self._planted: list[tuple[Tensor, Tensor, Tensor]] = []

    def detections(self, count: int) -> None:
        """So many from now on."""
        self.preset = self.preset.model_copy(update={"detections": count})

    def forward(self, levels: list[Tensor]) -> HeadOutput:
        output: HeadOutput = self.head(levels)
        if [x.shape for x in output.boxes] != [boxes.shape for _, boxes, _ in self._planted]:
            self._planted = self._draw(output)
        logits, boxes, centerness = (list(each) for each in zip(*self._planted, strict=True))
        return output._replace(class_logits=logits, boxes=boxes, centerness=centerness)

    def _draw(self, output: HeadOutput) -> list[tuple[Tensor, Tensor, Tensor]]:
        planted = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for logits in output.class_logits:
                images, _, height, width = logits.shape
                corners = coco_boxes(images * height * width, self.image)
                extent = corners[:, 2:] - corners[:, :2]
                # The location lies anywhere inside of its box.
                before = extent * torch.rand_like(extent)
                sides = torch.cat((before, extent - before), 1).view(images, height, width, 4)
                maps = (
                    MEAN + SPREAD * torch.randn_like(logits),
                    sides.permute(0, 3, 1, 2),
                    torch.randn(images, 1, height, width),
                )
                planted.append(tuple(x.contiguous(memory_format=torch.channels_last) for x in maps))
        return planted  # type: ignore[return-value]
