"""The blender: bases inside of boxes, weighted by attentions (thesis 4.3.2).

Legend used in shapes: D instances, K bases, M side of an attention, R side of a mask.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.models.masks.blending import Blending, blended, crop
from nasperc.ops.roi_pool import roi_pool


class Blender(nn.Module):
    """``forward(bases, boxes, image_index, attentions) -> mask logits (D, R, R)``, at any D, 0 included.

    Args:
        recipe: R, K, M, the merger and the two samplings.
        stride: of the bases, in input pixels.
    """

    cells: Tensor | None

    def __init__(self, recipe: BlendMaskRecipe, stride: int) -> None:
        super().__init__()
        self.region, self.bases, self.attention = recipe.region, recipe.bases, recipe.attention
        self.sampling = recipe.bottom_sampling
        self.stride = stride
        self.blending = Blending(recipe.region, recipe.attention, recipe.top_interpolation)
        cells = None
        if recipe.merger == "assembler":
            cells = self.blending.upsample(torch.eye(self.bases).view(-1, self.attention, self.attention))
        self.register_buffer("cells", cells, persistent=False)

    def forward(self, bases: Tensor, boxes: Tensor, image_index: Tensor, attentions: Tensor | None) -> Tensor:
        """Masks of D instances of a batch.

        Args:
            bases: (N, K, H / s, W / s).
            boxes: (D, 4) as (x1, y1, x2, y2) in input pixels.
            image_index: (D,) int64, which image each is in.
            attentions: (D, K * M * M); of the assembler None.
        """
        return self.blend(self.crop(bases, boxes, image_index), attentions)

    def crop(self, bases: Tensor, boxes: Tensor, image_index: Tensor) -> Tensor:
        """Equation 4.1: the bases inside of ``boxes``, (D, K, R, R)."""
        if self.sampling == "nearest":
            return roi_pool(bases, boxes, image_index, (self.region, self.region), 1 / self.stride)
        return crop(bases, boxes, image_index, self.region, self.stride)

    def blend(self, regions: Tensor, attentions: Tensor | None, index: Tensor | None = None) -> Tensor:
        """Equations 4.2 to 4.4: mask logits (D, R, R).

        Args:
            regions: (O, K, R, R).
            attentions: (D, K * M * M); of the assembler None.
            index: (D,) int64, which of the regions each is of; None: one after the other.
        """
        if index is not None:
            regions = regions[index]
        return blended(regions, self.scores(attentions), single=self.single)

    @property
    def single(self) -> bool:
        """Whether there is one basis, of which the mask is a product of probabilities, see :func:`logit_of_product`."""
        return self.bases == 1 and self.cells is None

    def scores(self, attentions: Tensor | None) -> Tensor:
        """Equations 4.2 and 4.3: what regions are multiplied by, (D, K, R, R) or, of the assembler, (K, R, R); of one
        basis a logit."""
        if self.cells is not None:
            return self.cells
        assert attentions is not None
        return self.blending.scores(attentions.view(-1, self.bases, self.attention, self.attention))
