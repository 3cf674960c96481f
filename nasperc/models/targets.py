"""What the targets of every dense detector have in common, whatever their fields.

Legend used in shapes: N images, P places at which a head predicts (locations or anchors), level by level and row by
row, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor

# A label that is no class: nothing is there, or nothing is learned there.
BACKGROUND = -1
IGNORE = -2
# An owner where no object is.
NO_OWNER = -1

# What COCO's crowd regions are to the training.
Crowd = Literal["ignore", "background"]

Targets = TypeVar("Targets", bound=tuple[Tensor | None, ...])


def flatten_levels(levels: Sequence[Tensor]) -> Tensor:
    """Maps (N, C, H_l, W_l) of all levels as (N, P, C), in the order of the targets."""
    return torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in levels], dim=1)


def stack_targets(targets: Sequence[Targets]) -> Targets:
    """Targets of N images of one size as one: a leading N in every field that they have."""
    fields = zip(*targets, strict=True)
    stacked = (None if field[0] is None else torch.stack(field) for field in fields)
    return type(targets[0])(*stacked)  # type: ignore[arg-type]
