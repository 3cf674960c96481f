"""Exact non-maximum suppression in plain torch, in blocks: few and large tensor operations."""

from __future__ import annotations

import torch
from torch import Tensor

from nasperc.ops.boxes import box_iou

# Large enough to amortise the cost of a tensor operation, small enough that a block's own matrix is cheap.
_BLOCK = 256


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes that greedy suppression keeps, by descending score (equal scores: lowest index).

    Args:
        boxes: (N, 4) as (x1, y1, x2, y2).
        scores: (N,).
        iou_threshold: a box goes when its IoU with a kept box of higher score is *above* this.
    """
    order = torch.sort(scores, descending=True, stable=True).indices
    kept: list[Tensor] = []
    while order.numel():
        head, order = order[:_BLOCK], order[_BLOCK:]
        head_boxes = boxes[head]
        head = head[_greedy(box_iou(head_boxes, head_boxes) > iou_threshold)]
        kept.append(head)
        if order.numel():
            order = order[~(box_iou(boxes[head], boxes[order]) > iou_threshold).any(dim=0)]
    return torch.cat(kept) if kept else order


def batched_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """:func:`nms` within each class of ``labels`` (N,); kept indices of all classes by descending score.

    Each class is suppressed on the boxes as they are: shifting the classes apart, as is often done, rounds
    the coordinates and breaks for negative ones.
    """
    by_label = torch.sort(labels, stable=True)
    counts = torch.unique_consecutive(by_label.values, return_counts=True)[1]
    kept = [
        members[nms(boxes[members], scores[members], iou_threshold)]
        for members in by_label.indices.split(counts.tolist())
    ]
    # Ascending first, so that the stable sort breaks ties between classes by index as nms does.
    indices = torch.cat(kept).sort().values if kept else by_label.indices
    return indices[torch.sort(scores[indices], descending=True, stable=True).indices]


def _greedy(overlaps: Tensor) -> Tensor:
    """Greedy survivors (N,) bool of boxes in score order, given which pairs ``overlaps`` (N, N) bool.

    A box survives when no surviving box before it overlaps it. That equation has one solution, and iterating
    it from "all survive" fixes at least one more leading box each time, mostly very many.
    """
    earlier = torch.triu(overlaps, diagonal=1).to(torch.float32)
    survives = torch.ones(len(overlaps), dtype=torch.bool, device=overlaps.device)
    while True:
        update = (survives.to(torch.float32) @ earlier) == 0
        if torch.equal(update, survives):
            return survives
        survives = update
