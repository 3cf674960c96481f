"""The core of the blender (thesis 4.3.2): regions of bases, weighted by attentions that are softmaxed over the bases.

Legend used in shapes: D instances, K bases, M side of an attention, R side of a mask.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.ops.roi_align import roi_align


def crop(bases: Tensor, boxes: Tensor, image_index: Tensor, side: int, stride: int) -> Tensor:
    """Equation 4.1: the bases inside of boxes by RoIAlign with one sample a bin, (D, K, R, R).

    Args:
        bases: (N, K, H / s, W / s).
        boxes: (D, 4) as (x1, y1, x2, y2) in input pixels.
        image_index: (D,) int64, which image each is in.
        side: R.
        stride: s, of the bases in input pixels.
    """
    return roi_align(bases, boxes, image_index, (side, side), 1 / stride, sampling_ratio=1, aligned=True)


def merge(regions: Tensor, scores: Tensor) -> Tensor:
    """Equation 4.4: the sum over the bases of ``regions`` times ``scores``, both (D, K, R, R); (D, R, R).

    The mergers of Table 4.1 differ in their scores alone.
    """
    return (regions * scores).sum(1)


def logit_of_product(a: Tensor, b: Tensor) -> Tensor:
    """The logit of sigmoid(a) * sigmoid(b), of any one shape.

    With one basis that product is the mask already (4.4.1, Table 4.3); as a logit it is trained and decoded like any
    other mask, and its logarithms do not overflow.
    """
    return -torch.logsumexp(torch.stack((-a, -b, -a - b)), 0)


def blended(regions: Tensor, scores: Tensor, *, single: bool) -> Tensor:
    """Mask logits (D, R, R) of ``regions`` and ``scores``, see :meth:`Blending.scores`; ``single``: both are the logits
    of one basis."""
    return logit_of_product(regions, scores)[:, 0] if single else merge(regions, scores)


class Blending(nn.Module):
    """Equations 4.2 to 4.4: ``forward(regions (D, K, R, R), attentions (D, K, M, M)) -> mask logits (D, R, R)``.

    Args:
        region: R.
        attention: M.
        interpolation: of the attentions from M x M to R x R.
    """

    upsampling: Tensor

    def __init__(
        self, region: int, attention: int, interpolation: Literal["nearest", "bilinear"] = "bilinear"
    ) -> None:
        super().__init__()
        # Both interpolations are linear in rows and in columns. As two small matrix products they take a tenth of the
        # time of F.interpolate on a CPU.
        mode = "linear" if interpolation == "bilinear" else "nearest"
        rows = F.interpolate(torch.eye(attention)[None], size=region, mode=mode)[0].t()
        self.register_buffer("upsampling", rows.contiguous(), persistent=False)

    def forward(self, regions: Tensor, attentions: Tensor) -> Tensor:
        return blended(regions, self.scores(attentions), single=attentions.shape[1] == 1)

    def scores(self, attentions: Tensor) -> Tensor:
        """Equations 4.2 and 4.3: what regions are multiplied by, (D, K, R, R); of one basis a logit."""
        upsampled = self.upsample(attentions)
        return upsampled if attentions.shape[1] == 1 else upsampled.softmax(1)

    def upsample(self, attentions: Tensor) -> Tensor:
        """Equation 4.2: (..., M, M) -> (..., R, R)."""
        return self.upsampling @ attentions @ self.upsampling.t()
