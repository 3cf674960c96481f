"""What stands at single places of the maps of a head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gather_locations(levels: Sequence[Tensor], image: Tensor, location: Tensor) -> Tensor:
    """The channels (Q, C) at Q locations of the maps (N, C, H_l, W_l) of all levels.

    The maps of a top layer have hundreds of channels: laying them side by side, as the targets are, would copy them.

    Args:
        levels: the maps.
        image: (Q,) int64.
        location: (Q,) int64, level by level and row by row, as in the targets.
    """

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
