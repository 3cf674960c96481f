"""SmalMask2 (thesis 3.4): SmalMask in two stages, masks of regions of interest instead of locations.

Legend used in shapes: N images, M annotations of an image, Q regions of interest of a batch, R side of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasperc.models.detector import DetectorOutput
from nasperc.models.fcos.losses import fcos_losses_at
from nasperc.models.fcos.positives import fcos_normalisers, fcos_positives
from nasperc.models.instance_segmenter import InstanceSegmenter
from nasperc.models.instances import Instances
from nasperc.models.masks.mask_loss import mask_loss
from nasperc.models.masks.targets import MaskTargets, owned_masks, stack_mask_targets
from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.models.smalmask.losses import SmalMaskLosses
from nasperc.models.smalmask.model import SmalMaskHeadOutput
from nasperc.models.smalmask.predictors import RoIPredPredictor
from nasperc.models.smalmask2.poolers import levels_of_boxes
from nasperc.models.smalmask2.recipe import SmalMask2Recipe
from nasperc.ops.boxes import box_area


class SmalMask2(InstanceSegmenter):
    """An instance segmenter on any backbone, neck and FCOS head.

    SmalHead, RoIAlign with one sample in k x k bins and one linear layer, is RoIPred at regions of interest, with the
    parameters of a shared SmalMask. The regions are the annotated boxes in training, and the detections in inference.

    Args:
        backbone, neck, head: as of every FCOS detector.
        recipe: every choice of section 3.4.
    """

    def __init__(
        self, backbone: nn.Module, neck: nn.Module, head: nn.Module, recipe: SmalMask2Recipe
    ) -> None:
        super().__init__(backbone, neck, head)
        self.recipe, self.region = recipe, recipe.region
        width: int = head.out_channels  # type: ignore[assignment]
        own = (0,) * len(self.levels)
        self.predictor = RoIPredPredictor(width, recipe.region**2, recipe.kernel, self.strides, own)

    def forward_features(self, features: list[Tensor]) -> DetectorOutput:
        """As of :class:`Detector`; ``head`` is a :class:`SmalMaskHeadOutput`."""
        output = super().forward_features(features)
        return output._replace(head=SmalMaskHeadOutput(output.head, output.head.box_tower))

    def targets(
        self, instances: Instances, level_sizes: Sequence[tuple[int, int]], size_scale: float = 1.0
    ) -> MaskTargets:
        """Targets of one image, whose annotations have masks.

        All objects count, whether or not a location belongs to them; the boxes of crowds, which are none, are empty.
        """
        detection = super().targets(instances, level_sizes, size_scale)
        assert instances.crowd is not None
        boxes = instances.boxes.masked_fill(instances.crowd[:, None], 0)
        regions = (box_area(boxes) > 0).nonzero()[:, 0]
        return MaskTargets(detection, boxes, owned_masks(instances, regions, self.region), semantic=None)

    def stack(self, targets: Sequence[MaskTargets]) -> MaskTargets:
        return stack_mask_targets(targets)

    def losses(
        self, output: DetectorOutput, targets: MaskTargets, reduce: Reduce = reduce_alone
    ) -> SmalMaskLosses:
        """Losses of a batch; ``reduce`` as in :func:`fcos_normalisers`. All regions of a batch weigh the same."""
        head: SmalMaskHeadOutput = output.head
        detection = targets.detection
        positives = fcos_positives(detection)
        normalisers = fcos_normalisers(positives, len(detection.labels), self.preset, reduce)
        found = fcos_losses_at(positives, normalisers, head.detection, detection, self.preset, self.strides)
        # The fillings of a batch are empty boxes too.
        image, owner = (box_area(targets.boxes) > 0).nonzero(as_tuple=True)
        boxes, masks = targets.boxes[image, owner], targets.masks[image, owner]
        lengths = self.recipe.canonical_lengths
        logits = torch.cat([self._logits(head, boxes, image, length) for length in lengths])
        weights = boxes.new_ones(len(logits))
        total = reduce(weights.sum()).clamp(min=1)
        mask = mask_loss(logits, masks.repeat(len(lengths), 1, 1), weights, total)
        return SmalMaskLosses(*found, mask=self.recipe.mask_weight * mask)

    def masks_at(self, output: DetectorOutput, boxes: Tensor, image: Tensor, location: Tensor) -> Tensor:
        return self._logits(output.head, boxes, image, max(self.recipe.canonical_lengths)).sigmoid()

    def _logits(
        self, head: SmalMaskHeadOutput, boxes: Tensor, image: Tensor, canonical_length: float
    ) -> Tensor:
        """(Q, R, R) of ``boxes`` (Q, 4) on the levels of one pooler."""
        level = levels_of_boxes(boxes, canonical_length, len(self.levels))
        return self.predictor.at(head.maps, image, level, boxes).unflatten(1, (self.region, self.region))
