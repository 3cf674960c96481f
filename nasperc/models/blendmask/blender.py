"""The blender: bases inside of boxes, weighted by attentions (thesis 4.3.2).

Legend used in shapes: D instances, K bases, M side of an attention, R side of a mask.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.ops.roi_align import roi_align
from nasperc.ops.roi_pool import roi_pool


def merge(regions: Tensor, scores: Tensor) -> Tensor:
    """Equation 4.4: the sum over the bases of ``regions`` times ``scores``, both (D, K, R, R); (D, R, R).

    The mergers of Table 4.1 differ in their scores alone.
    """
    return (regions * scores).sum(1)


class Blender(nn.Module):
    """``forward(bases, boxes, image_index, attentions) -> mask logits (D, R, R)``, at any D, 0 included.

    Args:
        recipe: R, K, M, the merger and the two samplings.
        stride: of the bases, in input pixels.
    """

    upsampling: Tensor
    cells: Tensor | None

    def __init__(self, recipe: BlendMaskRecipe, stride: int) -> None:
        super().__init__()
        self.region, self.bases, self.attention = recipe.region, recipe.bases, recipe.attention
        self.sampling = recipe.bottom_sampling
        self.stride = stride
        # Both interpolations are linear in rows and in columns. As two small matrix products they take a tenth of the
        # time of F.interpolate on a CPU.
        mode = "linear" if recipe.top_interpolation == "bilinear" else "nearest"
        rows = F.interpolate(torch.eye(self.attention)[None], size=self.region, mode=mode)[0].t()
        self.register_buffer("upsampling", rows.contiguous(), persistent=False)
        cells = None
        if recipe.merger == "assembler":
            cells = self._upsample(torch.eye(self.bases).view(-1, self.attention, self.attention))
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
        size, scale = (self.region, self.region), 1 / self.stride
        if self.sampling == "nearest":
            return roi_pool(bases, boxes, image_index, size, scale)
        return roi_align(bases, boxes, image_index, size, scale, sampling_ratio=1, aligned=True)

    def blend(self, regions: Tensor, attentions: Tensor | None) -> Tensor:
        """Equations 4.2 to 4.4: ``regions`` (D, K, R, R) and ``attentions`` (D, K * M * M) to mask logits (D, R, R)."""
        scores = self.scores(attentions)
        if self.single:
            return logit_of_product(regions, scores)[:, 0]
        return merge(regions, scores)

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
        side = self.attention
        scores = self._upsample(attentions.view(-1, self.bases, side, side))
        return scores if self.single else scores.softmax(1)

    def _upsample(self, attentions: Tensor) -> Tensor:
        """Equation 4.2: (..., M, M) -> (..., R, R)."""
        return self.upsampling @ attentions @ self.upsampling.t()


def logit_of_product(a: Tensor, b: Tensor) -> Tensor:
    """The logit of sigmoid(a) * sigmoid(b), of any one shape.

    With one basis that product is the mask already (4.4.1, Table 4.3); as a logit it is trained and decoded like any
    other mask, and its logarithms do not overflow.
    """
    return -torch.logsumexp(torch.stack((-a, -b, -a - b)), 0)
