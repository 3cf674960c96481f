"""Bilinear resizing of feature maps (thesis 7.3.2: inputs of an aggregation are brought to one size)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from nasperc.ops.tracing import is_traced


def resize_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize (``align_corners=False``) of ``x`` (N, C, H, W) to ``size`` (H', W'), up or down.

    Returns ``x`` itself when it has that size already.
    """
    if all(_same(*sides) for sides in zip(x.shape[-2:], size, strict=True)):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _same(side: int, other: int) -> bool:
    if not is_traced():
        return side == other
    # Sides of any image are formulas. Those that are equal for some images only are no reason to bind the program to
    # such images, or to others: resized to the size that it has, a map stays as it is.
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(side == other)


def resize_to_larger(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Upsample the smaller of ``a`` (N, C, H, W) and ``b`` (N, C', H', W') to the size of the larger one."""
    if a.shape[-2] * a.shape[-1] < b.shape[-2] * b.shape[-1]:
        return resize_to(a, (b.shape[-2], b.shape[-1])), b
    return a, resize_to(b, (a.shape[-2], a.shape[-1]))
