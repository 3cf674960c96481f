"""BlendMask (thesis chapter 4): FCOS with bases below, attentions on top, and a blender between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nasperc.models.blendmask.blender import Blender
from nasperc.models.blendmask.bottom import Bottom
from nasperc.models.blendmask.mask_loss import mask_loss, most_central
from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.models.blendmask.semantic_head import SemanticHead
from nasperc.models.blendmask.semantic_loss import semantic_loss, semantic_target
from nasperc.models.blendmask.targets import BlendMaskTargets, owned_masks, stack_blendmask_targets
from nasperc.models.blendmask.top import TopLayer
from nasperc.models.detector import DetectorOutput
from nasperc.models.fcos.losses import fcos_losses_at
from nasperc.models.fcos.positives import Positives, fcos_normalisers, fcos_positives
from nasperc.models.features import FeatureSpec, HeadOutput
from nasperc.models.gather import gather_locations
from nasperc.models.instance_segmenter import InstanceSegmenter
from nasperc.models.instances import Instances
from nasperc.models.named_levels import NamedLevels
from nasperc.models.reduction import Reduce, reduce_alone


class BlendMaskHeadOutput(NamedTuple):
    """``detection``: of the FCOS head. ``bases`` (N, K, H / s, W / s). ``top``: attentions by level,
    (N, K * M * M, H, W), of which only what is looked at is computed; None where none are predicted."""

    detection: HeadOutput
    bases: Tensor
    top: Sequence[Tensor] | None


class Blended(NamedTuple):
    """``regions`` (D, K, R, R): the bases inside of D boxes. ``scores``: what each is multiplied by, of the same shape.
    ``masks`` (D, R, R): the sum of the products, from logits to 0..1. Of one basis all are in 0..1, and the product is
    the mask."""

    regions: Tensor
    scores: Tensor
    masks: Tensor


class BlendMaskLosses(NamedTuple):
    """Scalars, weighted; ``semantic`` is 0 without that loss."""

    classification: Tensor
    box: Tensor
    centerness: Tensor
    mask: Tensor
    semantic: Tensor

    def total(self) -> Tensor:
        """Their sum."""
        return torch.stack(self).sum()


class BlendMask(InstanceSegmenter):
    """An instance segmenter on any backbone, neck and FCOS head.

    Args:
        backbone, neck, head: as of every FCOS detector.
        recipe: every choice of chapter 4.

    Raises:
        InputError: the bottom module or the semantic loss read a level that neither backbone nor neck has; the top
            layer stands on the merged tower of a head that has two.
    """

    def __init__(
        self, backbone: nn.Module, neck: nn.Module, head: nn.Module, recipe: BlendMaskRecipe
    ) -> None:
        super().__init__(backbone, neck, head)
        inputs: tuple[FeatureSpec, ...] = backbone.out  # type: ignore[assignment]
        levels: tuple[FeatureSpec, ...] = neck.out  # type: ignore[assignment]
        self.recipe, self.region = recipe, recipe.region
        self.bottom = Bottom(recipe.bottom, recipe.bases, inputs, levels)
        self.top_layer = (
            TopLayer(head, recipe.top_channels, recipe.top_layer_on) if recipe.top_channels else None  # type: ignore[arg-type]
        )
        self.blender = Blender(recipe, self.bottom.stride)
        self.semantic_head: SemanticHead | None = None
        if recipe.semantic is not None:
            names, where = (recipe.semantic.level,), "recipe key blendmask.semantic.level"
            self._semantic_level = NamedLevels(names, inputs, levels, where)
            (spec,) = self._semantic_level.specs
            classes: int = head.num_classes  # type: ignore[assignment]
            self.semantic_head = SemanticHead(spec.channels, recipe.semantic.width, classes)

    def forward_features(self, features: list[Tensor]) -> DetectorOutput:
        """As of :class:`Detector`; ``head`` is a :class:`BlendMaskHeadOutput`."""
        output = super().forward_features(features)
        bases = self.bottom(output.backbone, output.neck)
        top = None if self.top_layer is None else self.top_layer(output.head)
        return output._replace(head=BlendMaskHeadOutput(output.head, bases, top))

    def targets(
        self, instances: Instances, level_sizes: Sequence[tuple[int, int]], size_scale: float = 1.0
    ) -> BlendMaskTargets:
        """Targets of one image, whose annotations have masks."""
        detection = super().targets(instances, level_sizes, size_scale)
        semantic = None
        if self.semantic_head is not None:
            (spec,) = self._semantic_level.specs
            height, width = level_sizes[0]
            finest = self.levels[0].stride
            size = (height * finest // spec.stride, width * finest // spec.stride)
            semantic = semantic_target(instances, size, spec.stride)
        masks = owned_masks(instances, detection.owner, self.recipe.region)
        return BlendMaskTargets(detection, instances.boxes, masks, semantic)

    def stack(self, targets: Sequence[BlendMaskTargets]) -> BlendMaskTargets:
        return stack_blendmask_targets(targets)

    def losses(
        self, output: DetectorOutput, targets: BlendMaskTargets, reduce: Reduce = reduce_alone
    ) -> BlendMaskLosses:
        """Losses of a batch; ``reduce`` as in :func:`fcos_normalisers`."""
        head: BlendMaskHeadOutput = output.head
        detection = targets.detection
        positives = fcos_positives(detection)
        normalisers = fcos_normalisers(positives, len(detection.labels), self.preset, reduce)
        found = fcos_losses_at(positives, normalisers, head.detection, detection, self.preset, self.strides)
        total_weight = normalisers.weight
        if self.recipe.positives is not None:
            positives = _at(positives, most_central(positives.image, positives.weight, self.recipe.positives))
            total_weight = reduce(positives.weight.sum()).clamp(min=1e-6)
        mask = mask_loss(*self._masks_at(positives, head, targets), positives.weight, total_weight)
        return BlendMaskLosses(
            *found, mask=self.recipe.mask_weight * mask, semantic=self._semantic_loss(output, targets, reduce)
        )

    def _masks_at(
        self, positives: Positives, head: BlendMaskHeadOutput, targets: BlendMaskTargets
    ) -> tuple[Tensor, Tensor]:
        """Mask logits and masks of the objects at Q positive locations, in the objects' boxes: (Q, R, R) each."""
        assert positives.owner is not None
        most = targets.boxes.shape[1]
        # Many locations share an object, and with it what is cropped.
        objects, index = (positives.image * most + positives.owner).unique(return_inverse=True)
        boxes, masks = targets.boxes.flatten(0, 1)[objects], targets.masks.flatten(0, 1)[objects]
        regions = self.blender.crop(head.bases, boxes, objects // max(most, 1))
        attentions = None
        if head.top is not None:
            attentions = gather_locations(head.top, positives.image, positives.location)
        return self.blender.blend(regions[index], attentions), masks[index]

    def _semantic_loss(self, output: DetectorOutput, targets: BlendMaskTargets, reduce: Reduce) -> Tensor:
        if self.semantic_head is None:
            return output.head.bases.new_zeros(())
        assert self.recipe.semantic is not None
        assert targets.semantic is not None
        # Here, not in the forward pass: inference does not look at it.
        (level,) = self._semantic_level.of(output.backbone, output.neck)
        return self.recipe.semantic.weight * semantic_loss(
            self.semantic_head(level), targets.semantic, reduce
        )

    def blended_at(self, output: DetectorOutput, boxes: Tensor, image: Tensor, location: Tensor) -> Blended:
        """How :meth:`masks_at` makes the masks of the same D objects."""
        head: BlendMaskHeadOutput = output.head
        top = None if head.top is None else gather_locations(head.top, image, location)
        regions = self.blender.crop(head.bases, boxes, image)
        masks, scores = self.blender.blend(regions, top).sigmoid(), self.blender.scores(top)
        if self.blender.single:
            regions, scores = regions.sigmoid(), scores.sigmoid()
        return Blended(regions, scores.expand_as(regions), masks)

    def masks_at(self, output: DetectorOutput, boxes: Tensor, image: Tensor, location: Tensor) -> Tensor:
        head: BlendMaskHeadOutput = output.head
        top = None if head.top is None else gather_locations(head.top, image, location)
        masks: Tensor = self.blender(head.bases, boxes, image, top)
        return masks.sigmoid()


def _at(positives: Positives, index: Tensor) -> Positives:
    return Positives(*(None if field is None else field[index] for field in positives))  # type: ignore[arg-type]
