"""The segments of one image: annotated or found, one type for both.

Legend used in shapes: S segments, (H, W) the image.

Classes of segments are numbered things first, then stuff: a thing has the label that its box has, stuff class k of a
data set with T classes of things is T + k. A semantic map has one class for all things, ``THINGS``, and stuff class k
is ``THINGS + 1 + k`` there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

VOID = 0
THINGS = 0
# In a semantic map: what is neither trained nor measured.
SEMANTIC_IGNORE = 255


@dataclass(frozen=True, eq=False)
class PanopticSegmentation:
    """Each pixel belongs to one segment at most.

    ``map``: (H, W) int64, k for segment k - 1, ``VOID`` for none. ``labels``: (S,) int64. ``crowd``: (S,) bool, regions
    of many things, which are no segment to be found; None: there are none. ``scores``: (S,) in 0..1 of what was found,
    1 of stuff; None where it was annotated.
    """

    map: Tensor
    labels: Tensor
    crowd: Tensor | None = None
    scores: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def areas(self) -> Tensor:
        """(S,) int64, pixels of each."""
        return torch.bincount(self.map.flatten(), minlength=len(self) + 1)[1:]

    def cpu(self) -> PanopticSegmentation:
        """On the CPU."""
        crowd, scores = (None if each is None else each.cpu() for each in (self.crowd, self.scores))
        return PanopticSegmentation(self.map.cpu(), self.labels.cpu(), crowd, scores)
