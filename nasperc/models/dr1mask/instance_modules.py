"""The instance prediction modules of DR1Mask: how an embedding makes a mask of a region of the basis (thesis 5.4.2).

Legend used in shapes: N images, O regions, Q instances, D channels of the basis, K bases, M side of an attention, R
side of a mask, r rank of a factored attention.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from nasperc.models.dr1mask.recipe import DR1MaskRecipe, EmbeddingKind
from nasperc.models.masks.blending import Blending, crop
from nasperc.ops.pointwise import PointwiseConv2d


def project(regions: Tensor, weights: Tensor, index: Tensor | None = None) -> Tensor:
    """Equation 5.7: a 1x1 convolution of its own for each instance, (Q, K, R, R).

    Args:
        regions: (O, D, R, R).
        weights: (Q, K, D), the T of each.
        index: (Q,) int64, which region each is of; None: one after the other. No region is copied for the many
            instances that look at it, since D is large.
    """
    pixels = regions.flatten(2)
    if index is None or len(regions) == 0:
        projected = weights @ pixels
    else:
        order = index.argsort(stable=True)
        counts = torch.bincount(index, minlength=len(regions)).tolist()
        parts = zip(weights[order].split(counts), pixels, strict=True)
        sizes = (weights.shape[1], pixels.shape[2])
        ordered = [(own.flatten(0, 1) @ region).view(len(own), *sizes) for own, region in parts]
        projected = torch.cat(ordered)[order.argsort()]
    return projected.unflatten(2, regions.shape[2:])


class InstanceModule(nn.Module, ABC):
    """What all of them do: regions by RoIAlign, R x R from a basis of ``stride``.

    ``forward(bases, boxes, image_index, embeddings) -> mask logits (Q, R, R)``, at any Q, 0 included.
    """

    def __init__(self, recipe: DR1MaskRecipe, stride: int) -> None:
        super().__init__()
        self.region, self.stride = recipe.region, stride

    def crop(self, bases: Tensor, boxes: Tensor, image_index: Tensor) -> Tensor:
        """The basis (N, D, H, W) inside of ``boxes`` (O, 4) of images ``image_index`` (O,): (O, D, R, R)."""
        return crop(bases, boxes, image_index, self.region, self.stride)

    @abstractmethod
    def blend(self, regions: Tensor, top: Tensor, index: Tensor | None = None) -> Tensor:
        """Mask logits (Q, R, R).

        Args:
            regions: (O, ., R, R), what :meth:`crop` gave.
            top: (Q, E), the embeddings.
            index: (Q,) int64, which region each is of; None: one after the other.
        """

    def forward(self, bases: Tensor, boxes: Tensor, image_index: Tensor, top: Tensor) -> Tensor:
        return self.blend(self.crop(bases, boxes, image_index), top)


class VectorModule(InstanceModule):
    """The sum of the channels weighted by an embedding of D values, as it is (YOLACT; equation 5.9 multiplies the basis
    with the same embeddings)."""

    def blend(self, regions: Tensor, top: Tensor, index: Tensor | None = None) -> Tensor:
        return project(regions, top[:, None], index)[:, 0]


class FullModule(InstanceModule):
    """BlendMask's attention of K x M x M values.

    "196 parameters per channel prohibits applying this to a wider basis": a static 1x1, BlendMask's last one, brings D
    channels to K before regions are cropped.
    """

    def __init__(self, recipe: DR1MaskRecipe, stride: int) -> None:
        super().__init__(recipe, stride)
        self.shape = (recipe.bases, recipe.attention, recipe.attention)
        self.projection = PointwiseConv2d(recipe.width, recipe.bases)
        nn.init.kaiming_uniform_(self.projection.weight, a=1)
        nn.init.zeros_(self.projection.bias)  # type: ignore[arg-type]
        self.blending = Blending(recipe.region, recipe.attention)

    def crop(self, bases: Tensor, boxes: Tensor, image_index: Tensor) -> Tensor:
        """(O, K, R, R)."""
        return super().crop(self.projection(bases), boxes, image_index)

    def blend(self, regions: Tensor, top: Tensor, index: Tensor | None = None) -> Tensor:
        return self.blending(regions if index is None else regions[index], top.view(-1, *self.shape))


class FactoredModule(InstanceModule):
    """Factored attention: e = [t : s], t (K * D) the weights of a projection from D channels to K (5.7), s (K * r) the
    diagonals of Q_k = U_k^T Sigma_k V_k (5.8); then the blender of chapter 4.

    U and V are learned, and the same for all instances.
    """

    def __init__(self, recipe: DR1MaskRecipe, stride: int) -> None:
        super().__init__(recipe, stride)
        self.width, self.bases, self.rank = recipe.width, recipe.bases, recipe.rank
        components = (recipe.bases, recipe.rank, recipe.attention)
        # Each component starts as a pattern of its own: equal ones would stay equal.
        self.u, self.v = nn.Parameter(torch.randn(components)), nn.Parameter(torch.randn(components))
        self.blending = Blending(recipe.region, recipe.attention)

    def blend(self, regions: Tensor, top: Tensor, index: Tensor | None = None) -> Tensor:
        t, s = top.split((self.width * self.bases, self.bases * self.rank), dim=1)
        projected = project(regions, t.view(-1, self.bases, self.width), index)
        return self.blending(projected, self.attentions(s.view(-1, self.bases, self.rank)))

    def attentions(self, s: Tensor) -> Tensor:
        """Equation 5.8: diagonals (Q, K, r) to attentions (Q, K, M, M)."""
        return self.u.transpose(1, 2) @ (s[..., None] * self.v)


MODULES: dict[EmbeddingKind, type[InstanceModule]] = {
    "vector": VectorModule,
    "full": FullModule,
    "factored": FactoredModule,
}
