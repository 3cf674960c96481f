"""Elementwise losses of the detectors; reduction and normalisation belong to the head."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss ``-alpha_t (1 - p_t)^gamma log(p_t)`` for each element (Lin et al., "Focal Loss", eq. 5).

    Args:
        logits: any shape.
        targets: the same shape, float, 1 for the positive class and 0 for the rest.
        alpha: weight of the positives (1 - alpha for the rest).
        gamma: how strongly easy elements are played down.
    """
    # -log(p_t) and log(1 - p_t) from the signed logit: exact where sigmoid has saturated.
    signed = logits * (2 * targets - 1)
    modulation = torch.exp(gamma * F.logsigmoid(-signed))
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return -weight * modulation * F.logsigmoid(signed)


def iou_loss(pred: Tensor, target: Tensor, kind: Literal["iou", "giou"]) -> Tensor:
    """Loss of shape (...) between boxes around one location, as distances (..., 4) left, top, right, bottom.

    With I, U and C the areas of intersection, union and smallest enclosing box: ``"iou"`` is
    ``-log((I + 1) / (U + 1))`` (NAS-FCOS release), ``"giou"`` is ``1 - ((I + 1) / (U + 1) - (C - U) / C)``
    (AdelaiDet). Distances are not negative.
    """
    lower, upper = torch.minimum(pred, target), torch.maximum(pred, target)
    intersection = _area(lower)
    union = _area(pred) + _area(target) - intersection
    iou = (intersection + 1) / (union + 1)
    if kind == "iou":
        return -torch.log(iou)
    enclosing = _area(upper)
    # Two empty boxes enclose nothing: C - U is 0 then, and so is the penalty.
    return 1 - iou + (enclosing - union) / enclosing.clamp(min=torch.finfo(enclosing.dtype).tiny)


def _area(distances: Tensor) -> Tensor:
    left, top, right, bottom = distances.unbind(-1)
    return (left + right) * (top + bottom)
