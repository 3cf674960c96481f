"""The mask loss at positive locations: binary cross-entropy of what each predicts of its object (BlendMask, DR1Mask).

Legend used in shapes: Q positive locations of a batch, R side of a mask.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def mask_loss(logits: Tensor, masks: Tensor, weights: Tensor, total_weight: Tensor) -> Tensor:
    """Cross-entropy, mean over R x R, weighted by location and divided by the sum of the weights (AdelaiDet).

    Args:
        logits: (Q, R, R).
        masks: (Q, R, R) bool, the objects inside of the same boxes.
        weights: (Q,), the centerness targets of the locations.
        total_weight: their sum over all processes that share the batch, above 0.
    """
    losses = F.binary_cross_entropy_with_logits(logits.float(), masks.float(), reduction="none").mean((1, 2))
    return (losses * weights).sum() / total_weight


def most_central(image: Tensor, weights: Tensor, count: int) -> Tensor:
    """Which of Q locations, ordered by image, are among the ``count`` of their image with the largest weights.

    Args:
        image: (Q,) int64, ascending.
        weights: (Q,).
        count: of an image.

    Returns:
        (Q',) int64, ascending; of equal weights the first.
    """
    by_weight = torch.sort(weights, descending=True, stable=True).indices
    order = by_weight[torch.sort(image[by_weight], stable=True).indices]
    first = torch.searchsorted(image, image)
    rank = torch.arange(len(image), device=image.device) - first
    return order[rank < count].sort().values
