"""Token sequences as vectors for a model of rewards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from search_spaces.base import Decision


class OneHot:
    """A 1 for the chosen token of each decision, one after another.

    ``width``: F, the sum of the numbers of choices.
    """

    def __init__(self, decisions: Sequence[Decision]) -> None:
        sizes = torch.tensor([len(decision.choices) for decision in decisions])
        self.width = int(sizes.sum())
        self._offsets = sizes.cumsum(0) - sizes

    def __call__(self, tokens: Tensor) -> Tensor:
        """(N, D) int64 -> (N, F) float32."""
        return torch.zeros(len(tokens), self.width).scatter_(1, tokens + self._offsets, 1.0)
