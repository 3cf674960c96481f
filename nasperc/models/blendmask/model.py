"""BlendMask (thesis chapter 4): FCOS with bases below, attentions on top, and a blender between them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from nasperc.models.blendmask.blender import Blender
from nasperc.models.blendmask.bottom import Bottom
from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.models.blendmask.top import TopLayer
from nasperc.models.detector import DetectorOutput
from nasperc.models.features import FeatureSpec
from nasperc.models.masks.basis_segmenter import BasisHeadOutput, BasisSegmenter, top_at


class Blended(NamedTuple):
    """``regions`` (D, K, R, R): the bases inside of D boxes. ``scores``: what each is multiplied by, of the same shape.
    ``masks`` (D, R, R): the sum of the products, from logits to 0..1. Of one basis all are in 0..1, and the product is
    the mask."""

    regions: Tensor
    scores: Tensor
    masks: Tensor


class BlendMask(BasisSegmenter):
    """An instance segmenter on any backbone, neck and FCOS head.

    Args:
        backbone, neck, head: as of every FCOS detector.
        recipe: every choice of chapter 4.

    Raises:
        InputError: the bottom module or the semantic loss read a level that neither backbone nor neck has; the top
            layer stands on the merged tower of a head that has two.
    """

    blender: Blender
    recipe: BlendMaskRecipe

    def __init__(
        self, backbone: nn.Module, neck: nn.Module, head: nn.Module, recipe: BlendMaskRecipe
    ) -> None:
        super().__init__(backbone, neck, head, recipe)
        inputs: tuple[FeatureSpec, ...] = backbone.out  # type: ignore[assignment]
        levels: tuple[FeatureSpec, ...] = neck.out  # type: ignore[assignment]
        self.bottom = Bottom(recipe.bottom, recipe.bases, inputs, levels)
        self.top_layer = (
            TopLayer(head, recipe.top_channels, recipe.top_layer_on) if recipe.top_channels else None  # type: ignore[arg-type]
        )
        self.blender = Blender(recipe, self.bottom.stride)
        self.add_semantic_head("blendmask")

    def forward_features(self, features: list[Tensor]) -> DetectorOutput:
        """As of :class:`Detector`; ``head`` is a :class:`BasisHeadOutput`, its ``top`` attentions (N, K * M * M, H, W)
        by level."""
        output = super().forward_features(features)
        bases = self.bottom(output.backbone, output.neck)
        top = None if self.top_layer is None else self.top_layer(output.head)
        return output._replace(head=BasisHeadOutput(output.head, bases, top))

    def blended_at(self, output: DetectorOutput, boxes: Tensor, image: Tensor, location: Tensor) -> Blended:
        """How :meth:`masks_at` makes the masks of the same D objects."""
        head: BasisHeadOutput = output.head
        top = top_at(head, image, location)
        regions = self.blender.crop(head.bases, boxes, image)
        masks, scores = self.blender.blend(regions, top).sigmoid(), self.blender.scores(top)
        if self.blender.single:
            regions, scores = regions.sigmoid(), scores.sigmoid()
        return Blended(regions, scores.expand_as(regions), masks)
