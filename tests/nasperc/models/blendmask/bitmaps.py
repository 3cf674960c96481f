"""Annotated masks as plain bitmaps: the simplest thing that is a ``Masks``."""

from __future__ import annotations

import torch
from torch import Tensor


class Bitmaps:
    """``planes`` (M, H, W) bool; a cell of a box is what the pixel under its middle is."""

    def __init__(self, planes: Tensor) -> None:
        self.planes = planes

    def __len__(self) -> int:
        return len(self.planes)

    def __getitem__(self, index: Tensor) -> Bitmaps:
        return Bitmaps(self.planes[index])

    def within(self, boxes: Tensor, side: int) -> Tensor:
        found = torch.zeros(len(self), side, side, dtype=torch.bool)
        height, width = self.planes.shape[1:]
        for mask, plane, (x1, y1, x2, y2) in zip(found, self.planes, boxes.tolist(), strict=True):
            for row in range(side):
                for column in range(side):
                    y, x = y1 + (row + 0.5) * (y2 - y1) / side, x1 + (column + 0.5) * (x2 - x1) / side
                    if 0 <= y < height and 0 <= x < width:
                        mask[row, column] = plane[int(y), int(x)]
        return found
