"""What the auxiliary semantic segmentation should give, made from the instances on the fly, and its loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.models.instances import Instances, Masks
from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.ops.boxes import box_area

BACKGROUND = 0
IGNORE = -1


def semantic_target(instances: Instances, size: tuple[int, int], stride: int) -> Tensor:
    """Classes of the cells of a level: (H, W) int64, ``BACKGROUND``, 1 + label, or ``IGNORE``.

    Where objects overlap, the one with the smaller box lies on top. Cells of crowd regions that belong to no object
    are ignored. (AdelaiDet reads such maps from files that are made beforehand.)

    Args:
        instances: annotations of an image, with labels and masks.
        size: (H, W) of the level.
        stride: of the level, in input pixels.

    Raises:
        ValueError: labels or masks are unknown.
    """
    boxes, labels, masks = instances.boxes, instances.labels, instances.masks
    if labels is None or masks is None or isinstance(masks, Tensor):
        raise ValueError("the semantic target is made from annotated masks and their labels")
    target = torch.full(size, BACKGROUND, dtype=torch.int64, device=boxes.device)
    if len(instances) == 0:
        return target
    covered = _at_stride(masks, size, stride).to(boxes.device)
    crowd = torch.zeros_like(labels, dtype=torch.bool) if instances.crowd is None else instances.crowd
    target[covered[crowd].any(0)] = IGNORE
    for index in torch.sort(box_area(boxes), descending=True, stable=True).indices:
        if not crowd[index]:
            target = torch.where(covered[index], 1 + labels[index], target)
    return target


def semantic_loss(logits: Tensor, target: Tensor, reduce: Reduce = reduce_alone) -> Tensor:
    """Cross-entropy, mean over the cells of the batch that are not ignored.

    Args:
        logits: (N, 1 + classes, H, W).
        target: (N, H, W) int64.
        reduce: of the processes that share a batch, for the number of cells.
    """
    total = F.cross_entropy(logits.float(), target, ignore_index=IGNORE, reduction="sum")
    return total / reduce((target != IGNORE).sum().float()).clamp(min=1)


def _at_stride(masks: Masks, size: tuple[int, int], stride: int) -> Tensor:
    """The shapes on the grid of a level: (M, H, W) bool."""
    # A square that begins where the image does, as many cells wide as the level's longer side: its cells are the
    # level's, and no shape is drawn at the size of the image.
    side = max(size)
    square = torch.tensor([[0.0, 0.0, side * stride, side * stride]]).expand(len(masks), 4)
    return masks.within(square, side)[:, : size[0], : size[1]]
