"""What every anchor of RetinaNet should predict for one image (Lin et al. 2017, section 4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nasperc.models.targets import BACKGROUND, IGNORE, NO_OWNER
from nasperc.ops.box_coder import encode_boxes
from nasperc.ops.boxes import box_iou, boxes_to_distances

POSITIVE_IOU = 0.5
NEGATIVE_IOU = 0.4


class AnchorTargets(NamedTuple):
    """Targets of P anchors; a batch has a leading N.

    ``labels`` (P,) int64: class, ``BACKGROUND`` or ``IGNORE``. ``deltas`` (P, 4) float32 from the anchor to its
    object, 0 where not positive. ``owner`` (P,) int64: index of that object's box, -1 where not positive; None: not
    known.
    """

    labels: Tensor
    deltas: Tensor
    owner: Tensor | None = None


def anchor_targets(boxes: Tensor, labels: Tensor, crowd: Tensor, anchors: Tensor) -> AnchorTargets:
    """Targets of one image.

    An anchor belongs to the object that it overlaps most (equal overlaps: the first one), if their IoU is at
    least 0.5; below 0.4 it is background, between the two it is ignored. An object's best anchors are positive at any
    IoU above 0, or small objects would have none. What is centred in a crowd region and not positive is ignored.

    Args:
        boxes: (M, 4) as (x1, y1, x2, y2) in input pixels; empty ones are no objects.
        labels: (M,) int64.
        crowd: (M,) bool; such a box counts in the numbering of the owners.
        anchors: (P, 4).
    """
    is_object = ~crowd & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    index = is_object.nonzero()[:, 0]
    objects = boxes[index].float()
    out_labels = torch.full((len(anchors),), BACKGROUND, dtype=torch.int64, device=anchors.device)
    deltas = torch.zeros(len(anchors), 4, device=anchors.device)
    owner = torch.full_like(out_labels, NO_OWNER)
    out_labels[_centred_in(anchors, boxes[crowd].float())] = IGNORE
    if len(objects) == 0:
        return AnchorTargets(out_labels, deltas, owner)

    iou = box_iou(objects, anchors)
    best_iou, best = iou.max(dim=0)
    # All anchors that share an object's highest overlap; each still goes to the object that it overlaps most.
    highest = iou.amax(dim=1, keepdim=True)
    best_of_object = ((iou == highest) & (highest > 0)).any(dim=0)
    positive = (best_iou >= POSITIVE_IOU) | best_of_object
    out_labels[(best_iou >= NEGATIVE_IOU) & ~positive] = IGNORE
    best = best[positive]
    owner[positive] = index[best]
    out_labels[positive] = labels[index[best]].to(torch.int64)
    deltas[positive] = encode_boxes(objects[best], anchors[positive])
    return AnchorTargets(out_labels, deltas, owner)


def _centred_in(anchors: Tensor, regions: Tensor) -> Tensor:
    """Which of the P anchors have their centre strictly inside one of ``regions`` (M, 4): (P,) bool."""
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    return (boxes_to_distances(centres, regions[:, None]).amin(dim=-1) > 0).any(dim=0)
