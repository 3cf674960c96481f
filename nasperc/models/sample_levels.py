"""Bilinear samples at single points of the maps of all levels: what a layer with taps of its own reads at an object.

Legend used in shapes: N images, C channels, Q objects, T points of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.models.targets import flatten_levels
from nasperc.ops.bilinear_rows import corner_weights
from nasperc.ops.tracing import is_traced

Size = tuple[int, int]


class Cells(NamedTuple):
    """Where Q locations are: number of the level, row and column in it, each (Q,) int64."""

    level: Tensor
    row: Tensor
    column: Tensor


def cells_of(location: Tensor, sizes: Sequence[Size]) -> Cells:
    """Of ``location`` (Q,), counted level by level and row by row, as in the targets; ``sizes`` (H, W) of the levels.

    An exporter follows: sizes may be symbols.
    """
    starts = _starts(sizes)
    level = torch.zeros_like(location)
    for start in starts[1:]:
        level = level + (location >= start)
    width = of_levels(level, [size[1] for size in sizes])
    place = location - of_levels(level, starts)
    return Cells(level, torch.div(place, width, rounding_mode="floor"), place % width)


def of_levels(level: Tensor, values: Sequence[int] | Sequence[float]) -> Tensor:
    """The one of ``values`` that belongs to each ``level`` (...), in its shape and type."""
    found = torch.full_like(level, values[0])
    for number, value in enumerate(values[1:], start=1):
        found = torch.where(level == number, value, found)
    return found


def _starts(sizes: Sequence[Size]) -> list[int]:
    """How many locations come before each level."""
    return [0, *accumulate(height * width for height, width in sizes[:-1])]


def sample_levels(
    levels: Sequence[Tensor], image: Tensor, level: Tensor, y: Tensor, x: Tensor, mask: Tensor | None = None
) -> Tensor:
    """(Q, T, C) in the type of the maps; zero outside of a map, as a deformable convolution reads it.

    Differentiable in the maps, the points and the mask. The maps are copied once.

    Args:
        levels: (N, C, H_l, W_l).
        image: (Q,) int64.
        level: (Q,) int64, which map each object reads.
        y, x: (Q, T) in cells of that map, the centre of cell k at k.
        mask: (Q, T), a factor on what is read; None: 1.
    """
    rows = flatten_levels(levels)
    images, places, channels = rows.shape
    exact = torch.promote_types(rows.dtype, torch.float32)
    table = rows.reshape(images * places, channels).to(exact)
    sizes = [(map_.shape[-2], map_.shape[-1]) for map_ in levels]
    height, width, start = (
        of_levels(level, each)[:, None, None]
        for each in ([size[0] for size in sizes], [size[1] for size in sizes], _starts(sizes))
    )
    y, x = y.to(exact), x.to(exact)
    # Detached, since the steps of a floor have no gradient. What is far outside stays near enough for an integer.
    top, left = y.detach().floor(), x.detach().floor()
    weights = corner_weights((x - left).flatten(), (y - top).flatten())
    if mask is not None:
        weights = weights * mask.to(exact).flatten()[:, None]
    row = top.clamp(-2, 1 << 20).long()[..., None] + torch.tensor([0, 0, 1, 1], device=y.device)
    column = left.clamp(-2, 1 << 20).long()[..., None] + torch.tensor([0, 1, 0, 1], device=y.device)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    index = torch.where(inside, start + row * width + column, 0) + (image * places)[:, None, None]
    index = index.view(-1, 4)
    weights = weights.masked_fill(~inside.view(-1, 4), 0)
    if is_traced() or table.is_meta or not len(index):
        read = (table[index] * weights[..., None]).sum(1)
    else:
        read = F.embedding_bag(index, table, mode="sum", per_sample_weights=weights)
    return read.view(*y.shape, channels).to(rows.dtype)
