"""Boxes as (x1, y1, x2, y2) in pixels, and the distances (left, top, right, bottom) that FCOS regresses."""

from __future__ import annotations

import torch
from torch import Tensor


def box_area(boxes: Tensor) -> Tensor:
    """Area in pixels^2 of ``boxes`` (..., 4); shape (...). An inverted box has area 0."""
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every box of ``a`` (N, 4) with every box of ``b`` (M, 4); shape (N, M).

    The IoU of two empty boxes is 0.
    """
    width = torch.minimum(a[:, None, 2], b[None, :, 2]) - torch.maximum(a[:, None, 0], b[None, :, 0])
    height = torch.minimum(a[:, None, 3], b[None, :, 3]) - torch.maximum(a[:, None, 1], b[None, :, 1])
    intersection = width.clamp_(min=0).mul_(height.clamp_(min=0))
    union = (box_area(a)[:, None] + box_area(b)[None, :]).sub_(intersection)
    # Where the union is 0 the intersection is 0 too: any positive divisor gives the 0 that is wanted.
    return intersection.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """``boxes`` (..., 4) with every corner moved inside an image of ``size`` (H, W) pixels."""
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(
        (x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)), dim=-1
    )


def locations(size: tuple[int, int], stride: int, device: torch.device | str | None = None) -> Tensor:
    """Image positions (x, y) in pixels of the cells of a feature map of ``size`` (H, W), row by row.

    Shape (H * W, 2), float32; a coordinate is ``stride // 2 + k * stride`` (thesis 3.2, FCOS).
    """
    height, width = size
    x = torch.arange(width, device=device, dtype=torch.float32) * stride + stride // 2
    y = torch.arange(height, device=device, dtype=torch.float32) * stride + stride // 2
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((grid_x, grid_y), dim=-1).reshape(-1, 2)


def distances_to_boxes(locations: Tensor, distances: Tensor) -> Tensor:
    """Boxes (..., P, 4) from ``locations`` (P, 2) and ``distances`` (..., P, 4) to the four sides."""
    x, y = locations[:, 0], locations[:, 1]
    left, top, right, bottom = distances.unbind(-1)
    return torch.stack((x - left, y - top, x + right, y + bottom), dim=-1)


def boxes_to_distances(locations: Tensor, boxes: Tensor) -> Tensor:
    """Distances (..., P, 4) from ``locations`` (P, 2) to the sides of ``boxes`` (..., P, 4).

    All four are positive exactly where the location lies strictly inside its box. For all pairs of P
    locations and M boxes pass ``boxes[:, None]`` (M, 1, 4): the result is (M, P, 4).
    """
    x, y = locations[:, 0], locations[:, 1]
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x - x1, y - y1, x2 - x, y2 - y), dim=-1)
