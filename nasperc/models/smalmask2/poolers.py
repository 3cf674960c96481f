"""Which level a region of interest is read from (thesis 3.4): by its longer side, not by its area."""

from __future__ import annotations

import torch
from torch import Tensor

from nasperc.models.fcos.preset import sizes_of_interest


def levels_of_boxes(boxes: Tensor, canonical_length: float, levels: int) -> Tensor:
    """The level (Q,) int64 of ``boxes`` (Q, 4), 0 the finest: the one whose sizes of interest, [2^(p-2) L, 2^(p-1) L),
    have the longer side; the first and the last level are open.

    Args:
        boxes: as (x1, y1, x2, y2) in input pixels.
        canonical_length: L.
        levels: how many there are.
    """
    longer = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    # An exporter follows: a count that became a number would stay what it is.
    level = torch.zeros_like(longer, dtype=torch.int64)
    for _, end in sizes_of_interest(canonical_length, levels)[:-1]:
        level = level + (longer >= end)
    return level
