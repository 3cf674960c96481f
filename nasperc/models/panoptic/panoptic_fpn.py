"""Panoptic-FPN on any instance segmenter (Kirillov et al. 2019; thesis 4.4.4): a semantic branch beside it, and the
rule that merges both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from nasperc.models.detector import DetectorOutput
from nasperc.models.features import FeatureSpec
from nasperc.models.instances import Instances
from nasperc.models.panoptic.merge import MergeRecipe, merge_instances
from nasperc.models.panoptic.pixel_classes import pixel_classes, pixel_loss
from nasperc.models.panoptic.segmentation import PanopticSegmentation
from nasperc.models.panoptic.segmenter import PanopticSegmenter
from nasperc.models.panoptic.semantic_branch import SemanticBranch, SemanticBranchRecipe
from nasperc.models.reduction import Reduce, reduce_alone


class PanopticFPN(PanopticSegmenter):
    """A subclass of it and of a segmenter calls :meth:`add_branch` as the last thing of its ``__init__``."""

    branch: SemanticBranch

    def add_branch(self, recipe: SemanticBranchRecipe, merge: MergeRecipe, stuff: int) -> None:
        """Make the branch.

        Raises:
            InputError: as of :class:`SemanticBranch`.
        """
        inputs: tuple[FeatureSpec, ...] = self.backbone.out  # type: ignore[assignment]
        levels: tuple[FeatureSpec, ...] = self.neck.out  # type: ignore[assignment]
        self.stuff, self.merge, self._weight = stuff, merge, recipe.weight
        self.branch = SemanticBranch(recipe, 1 + stuff, inputs, levels)

    def pixel_logits(self, output: DetectorOutput) -> Tensor:
        """(N, 1 + stuff, H / s, W / s): all things, then each class of stuff."""
        logits: Tensor = self.branch(output.backbone, output.neck)
        return logits

    def panoptic_losses(
        self, output: DetectorOutput, targets: Any, semantic: Tensor, reduce: Reduce = reduce_alone
    ) -> dict[str, Tensor]:
        loss = pixel_loss(self.pixel_logits(output), semantic, self.branch.stride, reduce)
        return {"stuff": self._weight * loss}

    def segment(
        self,
        output: DetectorOutput,
        found: Sequence[Instances],
        image_sizes: Sequence[tuple[int, int]],
        sizes: Sequence[tuple[int, int]],
        confidence: float | None = None,
    ) -> list[PanopticSegmentation]:
        limits = self.merge
        if confidence is not None:
            limits = limits.model_copy(update={"confidence": confidence})
        stride = self.branch.stride
        images = zip(self.pixel_logits(output), found, image_sizes, sizes, strict=True)
        return [
            merge_instances(of_it, pixel_classes(logits, stride, image_size, size), self.things, limits)
            for logits, of_it, image_size, size in images
        ]
