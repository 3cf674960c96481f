"""Non-maximum suppression of a fixed number of rounds, for exported graphs: every size but the batch's is known."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nasperc.ops.boxes import box_area
from nasperc.ops.tracing import is_traced


class Chosen(NamedTuple):
    """``scores`` (N, D) by descending score, 0 where nothing was left; ``candidates`` (N, D) int64, which they are."""

    scores: Tensor
    candidates: Tensor


def nms_rounds(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, rounds: int) -> Chosen:
    """What greedy suppression within each class keeps, the ``rounds`` best of each image.

    Each round takes the best that is left (of equal ones the first) and drops what overlaps it too much, as
    :func:`nasperc.ops.nms.batched_nms` does; those that tie with the last one are cut.

    Args:
        boxes: (N, T, 4) as (x1, y1, x2, y2), T candidates in each image.
        scores: (N, T), 0 for what is no candidate.
        labels: (N, T) int64.
        iou_threshold: a box goes when its IoU with a better one of its class is *above* this.
        rounds: D.
    """
    # Tensors of their own: what a traced loop closes over must not share memory.
    x1, y1, x2, y2 = (side.clone() for side in boxes.unbind(2))
    areas = box_area(boxes)
    places = torch.arange(boxes.shape[1], device=boxes.device)[None]

    def take_best(left: Tensor, _: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        score, index = left.max(dim=1)
        (left1, top1, right1, bottom1, area, label) = (
            values.gather(1, index[:, None]) for values in (x1, y1, x2, y2, areas, labels)
        )
        width = (torch.minimum(right1, x2) - torch.maximum(left1, x1)).clamp(min=0)
        height = (torch.minimum(bottom1, y2) - torch.maximum(top1, y1)).clamp(min=0)
        common = width * height
        # As box_iou computes it, so that both round alike.
        union = (areas + area - common).clamp(min=torch.finfo(common.dtype).tiny)
        dropped = (common / union > iou_threshold) & (labels == label) | (places == index[:, None])
        return left.masked_fill(dropped, 0.0), (score, index)

    steps = torch.arange(rounds, device=boxes.device)
    if is_traced():
        # One node with the round in it; unrolled, a graph of a hundred rounds has thousands.
        from torch._higher_order_ops.scan import scan

        _, (best, index) = scan(take_best, scores, steps)
        return Chosen(best.transpose(0, 1), index.transpose(0, 1))
    found = []
    for step in steps:
        scores, taken = take_best(scores, step)
        found.append(taken)
    best, index = (torch.stack(each, dim=1) for each in zip(*found, strict=True))
    return Chosen(best, index)
