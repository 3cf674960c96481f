"""Boxes relative to reference boxes (R-CNN, Girshick et al. 2014, appendix C)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Growth beyond this factor is cut off before the exponential: early in training anything may be predicted.
_MAX_LOG_SCALE = math.log(1000 / 16)


def encode_boxes(boxes: Tensor, references: Tensor) -> Tensor:
    """Deltas (..., 4) that turn ``references`` into ``boxes``, both (..., 4) as (x1, y1, x2, y2).

    (dx, dy): the step from centre to centre in widths and heights of the reference; (dw, dh): the logarithms of the
    ratios of the sides. No side may be 0.
    """
    centre, size = _centre_size(boxes)
    reference_centre, reference_size = _centre_size(references)
    return torch.cat(((centre - reference_centre) / reference_size, (size / reference_size).log()), dim=-1)


def decode_boxes(deltas: Tensor, references: Tensor) -> Tensor:
    """The boxes that ``deltas`` make of ``references``: the inverse of :func:`encode_boxes`.

    dw and dh are cut off at log(1000 / 16).
    """
    centre, size = _centre_size(references)
    centre = centre + deltas[..., :2] * size
    half = size * deltas[..., 2:].clamp(max=_MAX_LOG_SCALE).exp() / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low
