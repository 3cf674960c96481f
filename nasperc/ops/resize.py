"""Bilinear resizing of feature maps (thesis 7.3.2: inputs of an aggregation are brought to one size; 5.4.3)."""

from __future__ import annotations

import torch
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


def upsample_aligned(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Double ``x`` (N, C, H, W) so that ``[..., 2i, 2j]`` of the result is ``[..., i, j]`` of ``x``.

    A convolution of stride 2 that is padded evenly puts its outputs on every second cell of its input, beginning with
    the first: this puts them back there, whatever the size (thesis 5.4.3, 5.5.2). Between them it is bilinear, beyond
    the last row and column it repeats them, and what is more than ``size`` is cropped at the right and at the bottom.

    Args:
        x: the coarse map.
        size: (H', W') of the fine one, at most (2H, 2W).
    """
    # Channels last: interleaving rows and columns then moves whole pixels.
    doubled = _interleave(_interleave(x.permute(0, 2, 3, 1), 1), 2)
    return doubled[:, : size[0], : size[1]].permute(0, 3, 1, 2)


def _interleave(x: Tensor, dim: int) -> Tensor:
    """``x`` along ``dim``, behind each entry the mean of it and the next one, behind the last itself."""
    count = x.shape[dim]
    following = torch.cat((x.narrow(dim, 1, count - 1), x.narrow(dim, count - 1, 1)), dim)
    return torch.stack((x, (x + following) / 2), dim + 1).flatten(dim, dim + 1)
