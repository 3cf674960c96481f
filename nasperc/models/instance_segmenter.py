"""What every instance segmenter has in common: an FCOS detector, and masks of what was found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from nasperc.models.detector import DetectorOutput
from nasperc.models.fcos.decode import detect
from nasperc.models.fcos.model import FCOS
from nasperc.models.features import HeadOutput
from nasperc.models.instances import Instances, PasteInto


class SegmenterHeadOutput(Protocol):
    """What ``forward`` of a segmenter puts out as ``head``: a named tuple with fields of its own beside this one."""

    @property
    def detection(self) -> HeadOutput:
        """Of the FCOS head."""


class InstanceSegmenter(FCOS, ABC):
    """A detector whose detections have masks; training, evaluation, costs and exported files know this class only.

    A subclass repeats nothing of FCOS:

    * ``__init__``: beside backbone, neck and head, modules of its own, e.g. a bottom module and a top layer.
    * ``forward_features``: ``output = super().forward_features(features)``; what its modules make of
      ``output.backbone``, ``output.neck`` and ``output.head.box_tower`` goes with ``output.head`` into a named tuple of
      its own (:class:`SegmenterHeadOutput`), ``output._replace(head=...)``.
    * ``targets``: ``super().targets(...)`` knows the owner of each location; masks go beside it, and ``stack`` says
      what becomes of them in a batch.
    * ``losses``: ``fcos_positives`` and ``fcos_normalisers``, once; ``fcos_losses_at`` with both; then its own loss at
      the same positives, over the same sums.
    * ``masks_at``: the masks of detections, with ``region`` x ``region`` cells.

    What a top layer predicts is a :class:`nasperc.models.gather.ConvMaps`: it is computed at the locations that losses
    and ``masks_at`` gather, and nowhere else.

    ``paste_into``: what these are pasted into, once boxes are clipped. An instance may have another one than the
    default, which is detectron2's and AdelaiDet's order.
    """

    region: int
    paste_into: PasteInto = "clipped_box"

    @abstractmethod
    def masks_at(self, output: DetectorOutput, boxes: Tensor, image: Tensor, location: Tensor) -> Tensor:
        """Masks (D, R, R) in 0..1 of D objects of a batch, each inside of its box; at any D, 0 included.

        In an exported file, D is fixed, and the sides of the image are free.

        Args:
            output: of the batch.
            boxes: (D, 4) as (x1, y1, x2, y2) in input pixels, as the head predicts them: where the preset does not clip
                them, masks reach beyond the image too.
            image: (D,) int64, which image each is in.
            location: (D,) int64, where each was found, level by level and row by row, as in the targets.
        """

    @torch.no_grad()
    def detect(self, output: DetectorOutput, image_sizes: Sequence[tuple[int, int]]) -> list[Instances]:
        """Detections of each image as of :class:`Detector`, with ``masks`` (D, R, R) of :meth:`masks_at`."""
        head: SegmenterHeadOutput = output.head
        found = detect(head.detection, self.strides, image_sizes, self.preset)
        counts = torch.tensor([len(each) for each in found])
        together = Instances.cat(found)
        assert together.location is not None
        image = torch.arange(len(found)).repeat_interleave(counts).to(together.boxes.device)
        masks = self.masks_at(output, together.boxes, image, together.location)
        if self.paste_into == "pooled_box":
            found = [each.with_fields(pooled=each.boxes) for each in found]
        parts = masks.split(counts.tolist())
        return [each.with_fields(masks=part) for each, part in zip(found, parts, strict=True)]


class WholeSegmenter(nn.Module):
    """All that an image costs: ``forward(images (1, 3, H, W)) -> masks (D, R, R)``.

    Suppression is left out, as for detectors, and boxes and locations are made up, since random weights find none. What
    runs is counted: of a top layer D locations. The public releases compute BlendMask's at all of them, which at
    800 x 1088 is 32.8 GFLOPs for 784 attentions (0.18 at 100 locations); no table of chapter 4 has FLOPs.

    Args:
        model: the network.
        instances: D; by default as many as are reported of an image at most.
    """

    def __init__(self, model: InstanceSegmenter, instances: int = 100) -> None:
        super().__init__()
        self.model, self.instances = model, instances

    @property
    def divisor(self) -> int:
        """Of the model's images."""
        return self.model.divisor

    def forward(self, images: Tensor) -> Tensor:
        return self.masks(self.model(images), images)

    def masks(self, output: DetectorOutput, images: Tensor) -> Tensor:
        """Of D made-up objects of an image (1, 3, H, W), from what the model put out for it."""
        device, (height, width) = images.device, images.shape[-2:]
        # Of a quarter of the image's sides, spread over it, all found on the finest level.
        steps = torch.linspace(0, 0.75, self.instances, device=device)
        corner = torch.stack((steps * width, steps.flip(0) * height), dim=1)
        boxes = torch.cat((corner, corner + corner.new_tensor((width / 4, height / 4))), dim=1)
        finest = self.model.strides[0]
        places = (height // finest) * (width // finest)
        location = torch.arange(self.instances, device=device) * 7 % places
        return self.model.masks_at(output, boxes, torch.zeros_like(location), location)
