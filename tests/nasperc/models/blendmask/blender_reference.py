"""The blender read slowly: one instance, one pixel, one basis at a time, with Python's numbers."""

from __future__ import annotations

import math

Map = list[list[float]]


def sample(plane: Map, y: float, x: float) -> float:
    """RoIAlign's value at ``y``, ``x`` in cells, 0 being the middle of the first; 0 further than a cell outside."""
    height, width = len(plane), len(plane[0])
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    upper = (1 - across) * plane[top][left] + across * plane[top][right]
    lower = (1 - across) * plane[bottom][left] + across * plane[bottom][right]
    return (1 - down) * upper + down * lower


def nearest(plane: Map, y: float, x: float) -> float:
    return plane[int(y)][int(x)]


def resized(plane: Map, y: float, x: float) -> float:
    """The bilinear value at ``y``, ``x`` in cells from the border, repeated at the borders."""
    y, x = max(y - 0.5, 0), max(x - 0.5, 0)
    return sample(plane, min(y, len(plane) - 1), min(x, len(plane[0]) - 1))


def scores_at(attentions: list[Map], y: int, x: int, side: int, bilinear: bool) -> list[float]:
    """Equations 4.2 and 4.3 at a pixel of the ``side`` x ``side`` mask."""
    scale = len(attentions[0]) / side
    if bilinear:
        values = [resized(plane, (y + 0.5) * scale, (x + 0.5) * scale) for plane in attentions]
    else:
        values = [nearest(plane, y * scale, x * scale) for plane in attentions]
    if len(values) == 1:
        return [1 / (1 + math.exp(-values[0]))]
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def blended(
    bases: list[Map], box: list[float], attentions: list[Map], side: int, stride: int, bilinear: bool
) -> Map:
    """Equations 4.1 to 4.4 for one instance: mask logits, or probabilities where there is one basis."""
    x1, y1, x2, y2 = (value / stride - 0.5 for value in box)
    mask: Map = []
    for row in range(side):
        mask.append([])
        for column in range(side):
            y, x = y1 + (row + 0.5) * (y2 - y1) / side, x1 + (column + 0.5) * (x2 - x1) / side
            regions = [sample(plane, y, x) for plane in bases]
            if len(regions) == 1:
                regions = [1 / (1 + math.exp(-regions[0]))]
            scores = scores_at(attentions, row, column, side, bilinear)
            mask[-1].append(sum(score * region for score, region in zip(scores, regions, strict=True)))
    return mask
