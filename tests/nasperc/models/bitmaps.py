"""Annotated masks as plain bitmaps: the simplest thing that keeps to the protocol ``Masks``."""

from __future__ import annotations

import torch
from torch import Tensor


class Bitmaps:
    """``planes`` (M, H, W) bool; a cell of a box is what the pixel under its middle is."""

    def __init__(self, planes: Tensor) -> None:
        self.planes = planes

    @classmethod
    def of_boxes(cls, boxes: Tensor, size: tuple[int, int]) -> Bitmaps:
        """Objects that fill their ``boxes`` (M, 4), whole pixels of an image of ``size`` (H, W)."""
        planes = torch.zeros(len(boxes), *size, dtype=torch.bool)
        for plane, (x1, y1, x2, y2) in zip(planes, boxes.int().tolist(), strict=True):
            plane[y1:y2, x1:x2] = True
        return cls(planes)

    def __len__(self) -> int:
        return len(self.planes)

    def __getitem__(self, index: Tensor) -> Bitmaps:
        return Bitmaps(self.planes[index])

    def within(self, boxes: Tensor, side: int) -> Tensor:
        found = torch.zeros(len(self), side, side, dtype=torch.bool)
        height, width = self.planes.shape[1:]
        steps = (torch.arange(side) + 0.5) / side
        for mask, plane, (x1, y1, x2, y2) in zip(found, self.planes, boxes.tolist(), strict=True):
            rows, columns = (y1 + steps * (y2 - y1)).floor().long(), (x1 + steps * (x2 - x1)).floor().long()
            inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
            mask[:] = inside & plane[rows.clamp(0, height - 1)[:, None], columns.clamp(0, width - 1)]
        return found
