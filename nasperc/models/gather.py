"""What stands at single places of the maps of a head, also of maps that are computed nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

from nasperc.models.targets import flatten_levels
from nasperc.ops.patch_conv import PatchConv2d


class ConvMaps(Sequence[Tensor]):
    """The maps by level that one convolution makes of a tower, each computed when it is looked at.

    A top layer predicts hundreds of channels, and of its thousands of locations a hundred detections or the positives
    of a batch are read: :func:`gather_locations` computes those alone. Indexed, it gives the whole map of a level.

    Args:
        tower: (N, C, H_l, W_l) of all levels.
        conv: the convolution.
    """

    def __init__(self, tower: Sequence[Tensor], conv: PatchConv2d) -> None:
        self._tower, self._conv = tower, conv

    def __len__(self) -> int:
        return len(self._tower)

    @overload
    def __getitem__(self, level: int) -> Tensor: ...

    @overload
    def __getitem__(self, level: slice) -> list[Tensor]: ...

    def __getitem__(self, level: int | slice) -> Tensor | list[Tensor]:
        if isinstance(level, slice):
            return [self._conv(each) for each in self._tower[level]]
        found: Tensor = self._conv(self._tower[level])
        return found

    def at(self, image: Tensor, location: Tensor) -> Tensor:
        """(Q, O) at Q locations; arguments as in :func:`gather_locations`."""
        found: Tensor = self._conv(gather_patches(self._tower, image, location, self._conv.side))
        return found


def gather_locations(levels: Sequence[Tensor], image: Tensor, location: Tensor) -> Tensor:
    """The channels (Q, C) at Q locations of the maps (N, C, H_l, W_l) of all levels.

    The maps of a top layer have hundreds of channels: laying them side by side, as the targets are, would copy them.

    Args:
        levels: the maps; of :class:`ConvMaps` no more is computed than these locations.
        image: (Q,) int64.
        location: (Q,) int64, level by level and row by row, as in the targets.
    """
    if isinstance(levels, ConvMaps):
        return levels.at(image, location)
    values: Tensor | None = None
    first = 0
    for level in levels:
        count = level.shape[-2] * level.shape[-1]
        # Without asking where they are: an exporter follows, and a device is not waited for.
        here = level.flatten(2).transpose(1, 2)[image, (location - first).clamp(0, count - 1)]
        values = here if values is None else torch.where((location >= first)[:, None], here, values)
        first += count
    assert values is not None
    return values


def gather_patches(levels: Sequence[Tensor], image: Tensor, location: Tensor, side: int) -> Tensor:
    """The ``side`` x ``side`` squares around Q locations, inside of their level: (Q, side * side * C), row by row, the
    channels last; zeros beyond its borders.

    Its sizes follow from those of the arguments, and a device is not waited for.

    Args:
        levels, image, location: as in :func:`gather_locations`; here the maps are copied once.
        side: odd.
    """
    place = location[:, None, None]
    first, height, width = _level_of(place, levels)
    step = torch.arange(side, device=place.device) - side // 2
    row = torch.div(place - first, width, rounding_mode="floor") + step[:, None]
    column = (place - first) % width + step
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    index = torch.where(inside, first + row * width + column, 0)
    patches = flatten_levels(levels)[image[:, None, None], index]
    return patches.masked_fill(~inside[..., None], 0).flatten(1)


def _level_of(location: Tensor, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Of the level that each ``location`` is in: its first location, height and width, in the shape of ``location``."""
    first = height = width = torch.zeros_like(location)
    start = 0
    for level in levels:
        later = location >= start
        first = torch.where(later, start, first)
        height = torch.where(later, level.shape[-2], height)
        width = torch.where(later, level.shape[-1], width)
        start += level.shape[-2] * level.shape[-1]
    return first, height, width
