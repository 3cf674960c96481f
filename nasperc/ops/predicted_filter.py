"""A filter of its own for every pixel, predicted by a network and applied to all channels alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nasperc.ops.tracing import is_traced

TAPS = 9


def predicted_filter(filters: Tensor, x: Tensor) -> Tensor:
    """``out[n, c, i, j] = sum_k filters[n, k, i, j] * x[n, c, i + k // 3 - 1, j + k % 3 - 1]``, zeros around ``x``.

    Args:
        filters: (N, 9, H, W), of each pixel the 3x3 kernel, row by row; the same for every channel.
        x: (N, C, H, W).

    Returns:
        (N, C, H, W) in the type and layout of ``x``; gradients of both, once.
    """
    filters = filters.to(x.dtype)
    if is_traced():
        return _weighted_shifts(filters, F.pad(x, (1, 1, 1, 1)))
    out: Tensor = _PredictedFilter.apply(filters, x)
    return out


def _shifts(padded: Tensor) -> list[Tensor]:
    """The nine views (N, C, H, W) of ``padded`` (N, C, H + 2, W + 2) that the taps read."""
    height, width = padded.shape[2] - 2, padded.shape[3] - 2
    return [padded[:, :, tap // 3 : tap // 3 + height, tap % 3 : tap % 3 + width] for tap in range(TAPS)]


def _weighted_shifts(filters: Tensor, padded: Tensor) -> Tensor:
    first, *others = _shifts(padded)
    out = filters[:, :1] * first
    for tap, shifted in enumerate(others, start=1):
        out = torch.addcmul(out, filters[:, tap : tap + 1], shifted)
    return out


class _PredictedFilter(torch.autograd.Function):
    """Shift, multiply and add in place: no nine copies of the input (im2col), forward or backward."""

    @staticmethod
    def forward(ctx: Any, filters: Tensor, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1))
        ctx.save_for_backward(filters, padded)
        first, *others = _shifts(padded)
        out = filters[:, :1] * first
        for tap, shifted in enumerate(others, start=1):
            out.addcmul_(filters[:, tap : tap + 1], shifted)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor]:
        filters, padded = ctx.saved_tensors
        grad_filters, grad_padded = torch.empty_like(filters), torch.zeros_like(padded)
        for tap, (shifted, grad_shifted) in enumerate(
            zip(_shifts(padded), _shifts(grad_padded), strict=True)
        ):
            grad_shifted.addcmul_(filters[:, tap : tap + 1], grad_out)
            torch.sum(grad_out * shifted, 1, out=grad_filters[:, tap])
        return grad_filters, grad_padded[:, :, 1:-1, 1:-1]
