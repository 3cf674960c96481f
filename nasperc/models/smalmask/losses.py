"""The losses of SmalMask and SmalMask2."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SmalMaskLosses(NamedTuple):
    """Scalars, weighted."""

    classification: Tensor
    box: Tensor
    centerness: Tensor
    mask: Tensor

    def total(self) -> Tensor:
        """Their sum."""
        return torch.stack(self).sum()
