"""What the operations on regions of interest (boxes on a feature map) share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

# What may be held beside the result for the boxes that are read at a time (16 MB in float32).
_CHUNK_ELEMENTS = 1 << 22


def alike(counts: Tensor, elements: int) -> Iterator[tuple[int, int, Tensor]]:
    """Boxes of equal ``counts`` (R, 2), R > 0, which can be read together.

    Yields (rows, columns, members (K,) int64, ascending); each box is in one of these sets. A box takes rows * columns
    * ``elements`` of memory; a set that would take too much is cut.
    """
    kinds, kind = torch.unique(counts, dim=0, return_inverse=True)
    sizes = torch.bincount(kind, minlength=len(kinds)).tolist()
    sets = torch.sort(kind, stable=True).indices.split(sizes)
    for (rows, columns), members in zip(kinds.tolist(), sets, strict=True):
        for part in members.split(max(1, _CHUNK_ELEMENTS // (rows * columns * elements))):
            yield rows, columns, part


def in_order(parts: Iterable[tuple[Tensor, Tensor]], boxes: int, differentiable: bool) -> Tensor:
    """What the sets of :func:`alike` became, (members (K,), values (K, ., ., .)) of each, in the order of the boxes."""
    if differentiable:
        # Assigned one after the other, each would have autograd copy the gradient of all.
        members, values = zip(*parts, strict=True)
        return torch.cat(values)[torch.cat(members).argsort()]
    out: Tensor | None = None
    for indices, part in parts:
        if out is None:
            layout = torch.contiguous_format if part.is_contiguous() else torch.channels_last
            out = part.new_empty(boxes, *part.shape[1:]).to(memory_format=layout)
        out[indices] = part
    assert out is not None
    return out
