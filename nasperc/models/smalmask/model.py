"""SmalMask (thesis chapter 3): FCOS that predicts a mask of fixed size at each location, by a layer aligned to its box.

Legend used in shapes: N images, Q positive locations of a batch, R side of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nasperc.models.detector import DetectorOutput
from nasperc.models.fcos.losses import fcos_losses_at
from nasperc.models.fcos.positives import Positives, fcos_normalisers, fcos_positives
from nasperc.models.fcos.targets import FCOSTargets
from nasperc.models.fcos.towers import FCOSTowers
from nasperc.models.features import HeadOutput
from nasperc.models.instance_segmenter import InstanceSegmenter
from nasperc.models.instances import Instances
from nasperc.models.masks.mask_loss import mask_loss
from nasperc.models.masks.targets import MaskTargets, owned_masks, stack_mask_targets
from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.models.smalmask.levels import mask_levels
from nasperc.models.smalmask.losses import SmalMaskLosses
from nasperc.models.smalmask.predictors import PREDICTORS, Objects
from nasperc.models.smalmask.recipe import SmalMaskRecipe
from nasperc.models.smalmask.supervision import by_ground_truth
from nasperc.models.targets import flatten_levels
from nasperc.ops.boxes import distances_to_boxes, locations


class SmalMaskHeadOutput(NamedTuple):
    """``detection``: of the FCOS head. ``maps``: by level of boxes the map (N, C, H', W') that masks are predicted
    from, where they are looked at."""

    detection: HeadOutput
    maps: list[Tensor]


class SmalMask(InstanceSegmenter):
    """An instance segmenter on any backbone, neck and FCOS head.

    What is learned of masks is learned at the positive locations: a location outside of the boxes has no mask loss.

    Args:
        backbone, neck, head: as of every FCOS detector.
        recipe: every choice of chapter 3.

    Raises:
        InputError: ``levels`` that the head does not look at, or that are coarser than the boxes'.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module, recipe: SmalMaskRecipe) -> None:
        super().__init__(backbone, neck, head)
        self.recipe, self.region = recipe, recipe.region
        self.progress = 0.0
        width: int = head.out_channels  # type: ignore[assignment]
        self.tower = None
        if recipe.tower == "separate":
            self.tower = FCOSTowers(self.levels[0].channels, width, recipe.tower_depth, merged=True)
        self._source, lower = mask_levels(recipe.levels, self.levels)
        predictor = PREDICTORS[recipe.predictor]
        self.predictor = predictor(width, recipe.region**2, recipe.kernel, self.strides, lower)

    def on_progress(self, fraction: float) -> None:
        self.progress = fraction

    def forward_features(self, features: list[Tensor]) -> DetectorOutput:
        """As of :class:`Detector`; ``head`` is a :class:`SmalMaskHeadOutput`."""
        output = super().forward_features(features)
        return output._replace(head=SmalMaskHeadOutput(output.head, self._maps(output)))

    def _maps(self, output: DetectorOutput) -> list[Tensor]:
        if self.tower is None:
            return [output.head.box_tower[place] for place in self._source]
        levels = output.neck[-len(self.levels) :]
        used = sorted(set(self._source))
        towers, _ = self.tower([levels[place] for place in used])
        return [towers[used.index(place)] for place in self._source]

    def targets(
        self, instances: Instances, level_sizes: Sequence[tuple[int, int]], size_scale: float = 1.0
    ) -> MaskTargets:
        """Targets of one image, whose annotations have masks."""
        detection = super().targets(instances, level_sizes, size_scale)
        masks = owned_masks(instances, detection.owner, self.region)
        return MaskTargets(detection, instances.boxes, masks, semantic=None)

    def stack(self, targets: Sequence[MaskTargets]) -> MaskTargets:
        return stack_mask_targets(targets)

    def losses(
        self, output: DetectorOutput, targets: MaskTargets, reduce: Reduce = reduce_alone
    ) -> SmalMaskLosses:
        """Losses of a batch; ``reduce`` as in :func:`fcos_normalisers`.

        The target of a mask is the object inside of its annotated box, whatever box the predictor was aligned to:
        "only the ground truth box is aligned with our mask target" (3.3.1).
        """
        head: SmalMaskHeadOutput = output.head
        detection = targets.detection
        positives = fcos_positives(detection)
        normalisers = fcos_normalisers(positives, len(detection.labels), self.preset, reduce)
        found = fcos_losses_at(positives, normalisers, head.detection, detection, self.preset, self.strides)
        logits = self._logits(head, *self._aligned_to(head.detection, detection, positives))
        assert positives.owner is not None
        masks = targets.masks[positives.image, positives.owner]
        mask = mask_loss(logits, masks, positives.weight, normalisers.weight)
        return SmalMaskLosses(*found, mask=self.recipe.mask_weight * mask)

    def masks_at(self, output: DetectorOutput, boxes: Tensor, image: Tensor, location: Tensor) -> Tensor:
        head: SmalMaskHeadOutput = output.head
        return self._logits(head, Objects(image, location, boxes), head.detection.boxes).sigmoid()

    def _logits(self, head: SmalMaskHeadOutput, objects: Objects, distances: Sequence[Tensor]) -> Tensor:
        """(Q, R, R)."""
        logits: Tensor = self.predictor(head.maps, objects, distances)
        return logits.unflatten(1, (self.region, self.region))

    def _aligned_to(
        self, predicted: HeadOutput, wanted: FCOSTargets, positives: Positives
    ) -> tuple[Objects, list[Tensor]]:
        """The positives with the boxes of this iteration's schedule, and the boxes at all locations by level: predicted
        ones wherever no object is."""
        distances = flatten_levels(predicted.boxes).detach()
        if by_ground_truth(self.recipe.box_supervision, self.progress):
            distances = torch.where((wanted.labels >= 0)[..., None], wanted.distances, distances)
        sizes = [(level.shape[-2], level.shape[-1]) for level in predicted.boxes]
        points = torch.cat(
            [
                locations(size, stride, distances.device)
                for size, stride in zip(sizes, self.strides, strict=True)
            ]
        )
        image, location = positives.image, positives.location
        boxes = distances_to_boxes(points[location], distances[image, location])
        levels = distances.split([height * width for height, width in sizes], dim=1)
        by_level = [
            level.transpose(1, 2).unflatten(2, size) for level, size in zip(levels, sizes, strict=True)
        ]
        return Objects(image, location, boxes), by_level
