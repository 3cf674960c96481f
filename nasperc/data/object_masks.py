"""The shapes of an image's objects, kept as they are annotated and rasterised only where they are looked at.

Legend used in shapes: M objects, (H, W) the image as it is now, R side of a mask inside its box, K points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nasperc.data.coco_masks import RunLengths, compressed, decode_mask, encode_masks, fill_polygons
from nasperc.data.pixel_axis import PixelAxis
from nasperc.data.pooled_mask import pooled_mask

# One or more of (K, 2) float64 as (x, y).
Polygons: TypeAlias = tuple[np.ndarray, ...]
# A box of less is taken for one of so many pixels, as in detectron2: nothing is divided by zero.
_SMALLEST_SIDE = 0.1
# pycocotools walks along every edge. A polygon that reaches this many sides of its box away from it would take memory
# by the square of the image's size, and is looked at as a bitmap.
_FAR = 64


@dataclass(frozen=True, eq=False)
class ObjectMasks:
    """Keeps the protocol of :class:`nasperc.models.instances.Masks`.

    A geometric transform costs the same for one object as for a hundred: it is kept beside ``shapes``, which stay
    those of the original. Polygons follow it as points, bitmaps as pixels, each the nearest. What lies outside of the
    original image, or was cut off, is nothing, also where the image was padded.

    ``shapes``: of each object its polygons, or compressed run lengths. ``original``: (H, W) of the image that they were
    drawn on. ``rows``, ``columns``: the sides of the image as it is now.
    """

    shapes: tuple[Polygons | RunLengths, ...]
    original: tuple[int, int]
    rows: PixelAxis
    columns: PixelAxis

    @classmethod
    def of(cls, segmentations: Sequence[Any], size: tuple[int, int]) -> ObjectMasks:
        """COCO segmentations that :func:`nasperc.data.coco_masks.check_segmentation` let pass.

        Args:
            segmentations: one an object.
            size: (H, W) of the image.
        """
        height, width = size
        shapes = tuple(map(_shape, segmentations))
        return cls(shapes, size, PixelAxis.untouched(height), PixelAxis.untouched(width))

    @classmethod
    def of_bitmaps(cls, masks: Tensor | np.ndarray) -> ObjectMasks:
        """Masks (M, H, W) of pixels."""
        height, width = masks.shape[-2:]
        return cls.of(encode_masks(masks), (height, width))

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: Tensor) -> ObjectMasks:
        """Those at ``index``: (K,) int64, or (M,) bool."""
        chosen = torch.arange(len(self))[index.cpu()].tolist()
        return replace(self, shapes=tuple(self.shapes[k] for k in chosen))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return len(self.rows), len(self.columns)

    def resized(self, size: tuple[int, int]) -> ObjectMasks:
        """In the image resized to ``size`` (H, W)."""
        return replace(self, rows=self.rows.resized(size[0]), columns=self.columns.resized(size[1]))

    def mirrored(self) -> ObjectMasks:
        """In the image with left and right exchanged."""
        return replace(self, columns=self.columns.mirrored())

    def cropped(self, top: int, left: int, bottom: int, right: int) -> ObjectMasks:
        """In a window of the image, which ends where the image does. Objects that it does not show stay, as empty."""
        return replace(self, rows=self.rows.cropped(top, bottom), columns=self.columns.cropped(left, right))

    def padded(self, left: int, right: int, top: int, bottom: int) -> ObjectMasks:
        """In the image with so many pixels added at its sides."""
        return replace(self, rows=self.rows.padded(top, bottom), columns=self.columns.padded(left, right))

    def bitmaps(self) -> Tensor:
        """(M, H, W) bool, by pycocotools' rule; polygons of a resized image are filled at its size."""
        masks = np.zeros((len(self), *self.size), bool)
        for mask, shape in zip(masks, self.shapes, strict=True):
            mask[:] = self._bitmap(shape)
        return torch.from_numpy(masks)

    def visible(self) -> Tensor:
        """(M,) bool: whether the image shows a pixel of each."""
        return torch.tensor([bool(self._bitmap(shape).any()) for shape in self.shapes], dtype=torch.bool)

    def within(self, boxes: Tensor, side: int) -> Tensor:
        """Each shape inside its box, stretched to a square: (M, R, R) bool.

        Polygons are moved and scaled and filled at that size, the image's never being made (detectron2's
        ``rasterize_polygons_within_box``); bitmaps are pooled by the aligned rule of RoIAlign, with as many samples
        as a cell has pixels, and cut at one half (its ``BitMasks.crop_and_resize``).

        Args:
            boxes: (M, 4) as (x1, y1, x2, y2) in pixels; they need not lie inside of the image.
            side: R.
        """
        corners = boxes.detach().to("cpu", torch.float64).numpy()
        masks = np.zeros((len(self), side, side), bool)
        for mask, shape, box in zip(masks, self.shapes, corners, strict=True):
            if isinstance(shape, dict):
                mask[:] = pooled_mask(decode_mask(shape), self.rows, self.columns, box, side)
            else:
                mask[:] = self._filled(shape, box, side)
        return torch.from_numpy(masks)

    def _filled(self, polygons: Polygons, box: np.ndarray, side: int) -> np.ndarray:
        """(R, R) of polygons inside a box."""
        extent = np.maximum(box[2:] - box[:2], _SMALLEST_SIDE)
        moved = [(self._placed(points) - box[:2]) * (side / extent) for points in polygons]
        if max(np.abs(points).max() for points in moved) > _FAR * side:
            height, width = self.size
            rows, columns = PixelAxis.untouched(height), PixelAxis.untouched(width)
            return pooled_mask(self._bitmap(polygons), rows, columns, box, side)
        centres = box[:2] + (np.arange(side) + 0.5)[:, None] * (extent / side)
        shown = np.logical_and.outer(self.rows.shown_at(centres[:, 1]), self.columns.shown_at(centres[:, 0]))
        return decode_mask(fill_polygons(moved, (side, side))) * shown

    def _bitmap(self, shape: Polygons | RunLengths) -> np.ndarray:
        """(H, W) of a shape, not zero inside."""
        if not isinstance(shape, dict) and self._resized:
            shown = np.logical_and.outer(self.rows.shown, self.columns.shown)
            return decode_mask(fill_polygons([self._placed(points) for points in shape], self.size)) * shown
        drawn = decode_mask(shape if isinstance(shape, dict) else fill_polygons(shape, self.original))
        return self.columns.take(self.rows.take(drawn, 0), 1)

    @property
    def _resized(self) -> bool:
        """Otherwise each pixel is one of the original image, and so it stays."""
        return not abs(self.rows.scale) == abs(self.columns.scale) == 1

    def _placed(self, points: np.ndarray) -> np.ndarray:
        """Points of the original where they are now."""
        return np.stack((self.columns.position(points[:, 0]), self.rows.position(points[:, 1])), axis=1)


def _shape(segmentation: Any) -> Polygons | RunLengths:
    if isinstance(segmentation, dict):
        return compressed(segmentation)
    return tuple(np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in segmentation)
