"""DR1Mask (thesis chapter 5): FCOS whose towers tell a basis of dynamic rank-1 convolutions what to look for."""

from __future__ import annotations

from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.detector import DetectorOutput
from nasperc.models.dr1mask.basis import DR1Basis
from nasperc.models.dr1mask.instance_modules import MODULES, InstanceModule
from nasperc.models.dr1mask.recipe import DR1MaskRecipe
from nasperc.models.dr1mask.top import TopLayer
from nasperc.models.features import FeatureSpec
from nasperc.models.masks.basis_segmenter import BasisHeadOutput, BasisSegmenter


class DR1Mask(BasisSegmenter):
    """An instance segmenter on any backbone, neck and FCOS head.

    Args:
        backbone, neck, head: as of every FCOS detector.
        recipe: every choice of chapter 5.

    Raises:
        InputError: the strides of the neck do not double from level to level; neither backbone nor neck has a level at
            the stride of the basis; the semantic loss reads a level that neither of them has.
    """

    blender: InstanceModule
    recipe: DR1MaskRecipe

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module, recipe: DR1MaskRecipe) -> None:
        super().__init__(backbone, neck, head, recipe)
        self.divisor = recipe.divisor
        self.top_layer = TopLayer(head, recipe)  # type: ignore[arg-type]
        self.basis = DR1Basis(self.levels, recipe.width, recipe.upsampling)
        self.blender = MODULES[recipe.embedding](recipe, self.basis.stride)
        self._as_large = _place_of(self.basis.stride, backbone.out)  # type: ignore[arg-type]
        self.add_semantic_head("dr1mask")

    def forward_features(self, features: list[Tensor]) -> DetectorOutput:
        """As of :class:`Detector`; ``head`` is a :class:`BasisHeadOutput`: ``bases`` are F, (N, D, H / 4, W / 4), and
        ``top`` the embeddings, (N, E, H, W) by level."""
        output = super().forward_features(features)
        levels = output.neck[-len(self.levels) :]
        contexts, embeddings = self.top_layer(levels, output.head)
        height, width = features[self._as_large].shape[-2:]
        bases = self.basis(levels, contexts, (height, width))
        return output._replace(head=BasisHeadOutput(output.head, bases, embeddings))


def _place_of(stride: int, features: tuple[FeatureSpec, ...]) -> int:
    """The feature of the backbone that has the size of the basis: the finest level, doubled, may be a cell longer."""
    places = [place for place, spec in enumerate(features) if spec.stride == stride]
    if not places:
        raise InputError(
            f"DR1Mask needs a backbone with a feature of stride {stride}, to which its basis is cropped",
            value=", ".join(f"{spec.name} of stride {spec.stride}" for spec in features),
            where="backbone features",
            repair="Choose a backbone that offers C2.",
        )
    return places[0]
