"""Crop, then segment: one map of bases, what boxes cut out of it, and what a top layer predicts of each object.

Legend used in shapes: N images, K bases, s their stride, Q positive locations of a batch, R side of a mask.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from nasperc.models.detector import DetectorOutput
from nasperc.models.fcos.losses import fcos_losses_at
from nasperc.models.fcos.positives import Positives, fcos_normalisers, fcos_positives
from nasperc.models.features import FeatureSpec, HeadOutput
from nasperc.models.gather import gather_locations
from nasperc.models.instance_segmenter import InstanceSegmenter
from nasperc.models.instances import Instances
from nasperc.models.masks.mask_loss import mask_loss, most_central
from nasperc.models.masks.recipe import BasisSegmenterRecipe
from nasperc.models.masks.semantic_head import SemanticHead
from nasperc.models.masks.semantic_loss import semantic_loss, semantic_target
from nasperc.models.masks.targets import MaskTargets, owned_masks, stack_mask_targets
from nasperc.models.named_levels import NamedLevels
from nasperc.models.reduction import Reduce, reduce_alone


class BasisHeadOutput(NamedTuple):
    """``detection``: of the FCOS head. ``bases`` (N, K, H / s, W / s). ``top``: what is predicted of the object at each
    location, by level, (N, C, H, W), of which only what is looked at is computed; None where nothing is."""

    detection: HeadOutput
    bases: Tensor
    top: Sequence[Tensor] | None


class BasisLosses(NamedTuple):
    """Scalars, weighted; ``semantic`` is 0 without that loss."""

    classification: Tensor
    box: Tensor
    centerness: Tensor
    mask: Tensor
    semantic: Tensor

    def total(self) -> Tensor:
        """Their sum."""
        return torch.stack(self).sum()


class Blends(Protocol):
    """How a mask comes of bases and of what was predicted at a location."""

    def crop(self, bases: Tensor, boxes: Tensor, image_index: Tensor) -> Tensor:
        """The bases (N, K, H / s, W / s) inside of O ``boxes`` (O, 4) of images ``image_index`` (O,): (O, K', R, R)."""

    def blend(self, regions: Tensor, top: Any, index: Tensor | None = None) -> Tensor:
        """Mask logits (D, R, R) of what :meth:`crop` gave and of ``top`` (D, C), None where nothing is predicted.
        ``index`` (D,): which region each is of; None: one after the other."""

    def __call__(self, bases: Tensor, boxes: Tensor, image_index: Tensor, top: Any) -> Tensor:
        """Both, one region an object: mask logits (D, R, R)."""


class BasisSegmenter(InstanceSegmenter, ABC):
    """Targets, losses and masks of BlendMask and DR1Mask.

    A subclass sets ``blender``, calls :meth:`add_semantic_head` as the last thing of its ``__init__`` (what is trained
    keeps its order), and makes bases and top in ``forward_features``.

    Args:
        backbone, neck, head: as of every FCOS detector.
        recipe: what all of them choose.
    """

    blender: Blends
    recipe: BasisSegmenterRecipe
    semantic_head: SemanticHead | None

    def __init__(
        self, backbone: nn.Module, neck: nn.Module, head: nn.Module, recipe: BasisSegmenterRecipe
    ) -> None:
        super().__init__(backbone, neck, head)
        self.recipe, self.region = recipe, recipe.region

    def add_semantic_head(self, section: str) -> None:
        """The auxiliary segmentation, where the recipe has one; ``section``: of the recipe, for errors.

        Raises:
            InputError: it is on a level that neither backbone nor neck has.
        """
        self.semantic_head = None
        recipe = self.recipe.semantic
        if recipe is None:
            return
        inputs: tuple[FeatureSpec, ...] = self.backbone.out  # type: ignore[assignment]
        levels: tuple[FeatureSpec, ...] = self.neck.out  # type: ignore[assignment]
        where = f"recipe key {section}.semantic.level"
        self._semantic_level = NamedLevels((recipe.level,), inputs, levels, where)
        (spec,) = self._semantic_level.specs
        classes: int = self.head.num_classes  # type: ignore[assignment]
        self.semantic_head = SemanticHead(spec.channels, recipe.width, classes)

    def targets(
        self, instances: Instances, level_sizes: Sequence[tuple[int, int]], size_scale: float = 1.0
    ) -> MaskTargets:
        """Targets of one image, whose annotations have masks."""
        detection = super().targets(instances, level_sizes, size_scale)
        semantic = None
        if self.semantic_head is not None:
            (spec,) = self._semantic_level.specs
            semantic = semantic_target(instances, self._size_at(spec.stride, level_sizes), spec.stride)
        masks = owned_masks(instances, detection.owner, self.recipe.region)
        return MaskTargets(detection, instances.boxes, masks, semantic)

    def stack(self, targets: Sequence[MaskTargets]) -> MaskTargets:
        return stack_mask_targets(targets)

    def losses(
        self, output: DetectorOutput, targets: MaskTargets, reduce: Reduce = reduce_alone
    ) -> BasisLosses:
        """Losses of a batch; ``reduce`` as in :func:`fcos_normalisers`."""
        head: BasisHeadOutput = output.head
        detection = targets.detection
        positives = fcos_positives(detection)
        normalisers = fcos_normalisers(positives, len(detection.labels), self.preset, reduce)
        found = fcos_losses_at(positives, normalisers, head.detection, detection, self.preset, self.strides)
        total_weight = normalisers.weight
        if self.recipe.positives is not None:
            positives = _at(positives, most_central(positives.image, positives.weight, self.recipe.positives))
            total_weight = reduce(positives.weight.sum()).clamp(min=1e-6)
        mask = mask_loss(*self._masks_of_owners(positives, head, targets), positives.weight, total_weight)
        return BasisLosses(
            *found, mask=self.recipe.mask_weight * mask, semantic=self._semantic_loss(output, targets, reduce)
        )

    def masks_at(self, output: DetectorOutput, boxes: Tensor, image: Tensor, location: Tensor) -> Tensor:
        head: BasisHeadOutput = output.head
        return self.blender(head.bases, boxes, image, top_at(head, image, location)).sigmoid()

    def _masks_of_owners(
        self, positives: Positives, head: BasisHeadOutput, targets: MaskTargets
    ) -> tuple[Tensor, Tensor]:
        """Mask logits and masks of the objects at Q positive locations, in the objects' boxes: (Q, R, R) each."""
        assert positives.owner is not None
        most = targets.boxes.shape[1]
        # Many locations share an object, and with it what is cropped.
        objects, index = (positives.image * most + positives.owner).unique(return_inverse=True)
        boxes, masks = targets.boxes.flatten(0, 1)[objects], targets.masks.flatten(0, 1)[objects]
        regions = self.blender.crop(head.bases, boxes, objects // max(most, 1))
        top = top_at(head, positives.image, positives.location)
        return self.blender.blend(regions, top, index), masks[index]

    def _semantic_loss(self, output: DetectorOutput, targets: MaskTargets, reduce: Reduce) -> Tensor:
        if self.semantic_head is None:
            return output.head.bases.new_zeros(())
        assert self.recipe.semantic is not None
        assert targets.semantic is not None
        # Here, not in the forward pass: inference does not look at it.
        (level,) = self._semantic_level.of(output.backbone, output.neck)
        height, width = level.shape[-2:]
        wanted = targets.semantic[:, :height, :width]
        return self.recipe.semantic.weight * semantic_loss(self.semantic_head(level), wanted, reduce)

    def _size_at(self, stride: int, level_sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """(H, W) of a level of backbone or neck; of one finer than the head's, up to a row and a column too many."""
        known = dict(zip(self.strides, level_sizes, strict=True))
        if stride in known:
            return known[stride]
        (height, width), finest = level_sizes[0], self.strides[0]
        return height * finest // stride, width * finest // stride


def top_at(head: BasisHeadOutput, image: Tensor, location: Tensor) -> Tensor | None:
    """What the top layer predicts at D locations, (D, C); None where nothing is predicted."""
    return None if head.top is None else gather_locations(head.top, image, location)


def _at(positives: Positives, index: Tensor) -> Positives:
    return Positives(*(None if field is None else field[index] for field in positives))  # type: ignore[arg-type]
