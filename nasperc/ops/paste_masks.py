"""Masks inside of boxes, pasted into their image: to whole images, or to COCO's run lengths without making any.

The rule of all of it is that of detectron2 and AdelaiDet. The pixels in column x have their centres at x + 0.5. With
R columns in a mask whose box goes from x1 to x2, that is ``u = (x + 0.5 - x1) / (x2 - x1) * R - 0.5`` among the centres
of the mask's cells, which are at 0 .. R - 1; rows likewise. A mask is bilinear between four centres and zero around
them (``grid_sample`` with ``align_corners=False``), and from 0.5 up a pixel belongs to the object. So none does whose
centre is outside of the box, and only those inside are computed. A box without area has no pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.ops.tracing import is_traced

_THRESHOLD = 0.5


def paste(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The pixels of D objects in whole images, (D, H, W) bool.

    Exported or compiled it is two matrix products, for any number of masks and any size.

    Args:
        masks: (D, R, R) in 0..1.
        boxes: (D, 4) as (x1, y1, x2, y2) in pixels; they may reach out of the image.
        size: (H, W) of the image.
    """
    masks, boxes = masks.detach().float(), boxes.detach().float()
    if is_traced():
        return _by_products(masks, boxes, size)
    images = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
    for image, (top, left, pixels) in zip(images, paste_regions(masks, boxes, size), strict=True):
        height, width = pixels.shape
        image[top : top + height, left : left + width] = pixels
    return images


def paste_to_rle(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The same pixels as COCO's compressed run lengths ``{"size": [H, W], "counts": str}``, one of each object.

    They are what pycocotools makes of the whole images, and fit for JSON. Arguments as in :func:`paste`.
    """
    masks, boxes = masks.detach().float().cpu(), boxes.detach().float().cpu()
    # Along the columns first: run lengths go down the columns of an image.
    padded = F.pad(masks, (1, 1, 1, 1))
    return [
        _run_lengths(
            _between(_between(mask, rows).t(), columns) >= _THRESHOLD, rows.first, columns.first, size
        )
        for mask, rows, columns in zip(padded, *_spans(masks, boxes, size), strict=True)
    ]


class Region(NamedTuple):
    """A part of an image that holds an object: ``pixels`` (h, w) bool, the first of them in row ``top`` and column
    ``left``."""

    top: int
    left: int
    pixels: Tensor


def paste_regions(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Iterator[Region]:
    """The same pixels one object after the other, each inside of its box: no image is made. Arguments as in
    :func:`paste`."""
    masks, boxes = masks.detach().float(), boxes.detach().float()
    # Along the rows of a mask first, so that the pixels come out row by row.
    padded = F.pad(masks, (1, 1, 1, 1)).transpose(1, 2)
    for mask, rows, columns in zip(padded, *_spans(masks, boxes, size), strict=True):
        inside = _between(_between(mask, columns).t(), rows) >= _THRESHOLD
        yield Region(rows.first, columns.first, inside)


class _Span(NamedTuple):
    """The pixels from ``first`` to before ``beyond`` along an axis of the image: of each the cell of the padded mask
    before it, int32, and how far it is on the way to the next one."""

    first: int
    beyond: int
    cell: Tensor
    way: Tensor


def _spans(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> tuple[list[_Span], list[_Span]]:
    """Of each box the rows and the columns whose centres are inside of it and of the image."""
    x1, y1, x2, y2 = boxes.unbind(1)
    return _spans_along(y1, y2, masks.shape[1], size[0]), _spans_along(x1, x2, masks.shape[2], size[1])


def _spans_along(low: Tensor, high: Tensor, cells: int, size: int) -> list[_Span]:
    first = (low - 0.5).ceil().clamp(0, size)
    beyond = ((high - 0.5).floor() + 1).clamp(0, size)
    ends = torch.stack((first, beyond), 1).where((high > low)[:, None], 0).int().tolist()
    # The padding moves every cell by one.
    places = _places(low, high, cells, size) + 1
    before = places.floor()
    way = places - before
    before = before.int().clamp_(0, cells)
    return [_Span(a, b, before[d, a:b], way[d, a:b, None]) for d, (a, b) in enumerate(ends)]


def _places(low: Tensor, high: Tensor, cells: int, size: int) -> Tensor:
    """u of every row or column of the image, (D, ``size``)."""
    centres = torch.arange(size, device=low.device).to(low) + 0.5
    return (centres - low[:, None]) / (high - low)[:, None] * cells - 0.5


def _between(cells: Tensor, span: _Span) -> Tensor:
    """(R + 2, K) -> (pixels, K): whole rows at a time."""
    cells = cells.contiguous()
    return torch.lerp(cells.index_select(0, span.cell), cells.index_select(0, span.cell + 1), span.way)


def _run_lengths(columns: Tensor, top: int, left: int, size: tuple[int, int]) -> dict[str, Any]:
    """Of the pixels ``columns`` (w, h) bool, of which the first is at row ``top`` and column ``left`` of the image."""
    # Where it is needed: whoever searches or exports does without them.
    import numpy as np
    from pycocotools import mask as coco_mask

    (count, side), (height, width) = columns.shape, size
    # A zero before everything and one after each column: then runs are in pairs of edges.
    line = np.zeros(1 + count * (side + 1), dtype=bool)
    line[1:].reshape(count, side + 1)[:, :side] = columns.numpy()
    column, row = np.divmod(np.flatnonzero(line[1:] != line[:-1]), side + 1)
    edges = (left + column) * height + top + row
    if side == height:
        # One run where the bottom of a column and the top of the next one belong to the object.
        edges, times = np.unique(edges, return_counts=True)
        edges = edges[times == 1]
    ends = edges if len(edges) and edges[-1] == height * width else np.append(edges, height * width)
    counts = np.diff(ends, prepend=0).tolist()
    compressed = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": compressed["counts"].decode("ascii")}


def _by_products(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """In operations that every runtime of an exported program has."""
    x1, y1, x2, y2 = boxes.unbind(1)
    rows = _weights(y1, y2, masks.shape[1], size[0])
    columns = _weights(x1, x2, masks.shape[2], size[1])
    return rows @ masks @ columns.transpose(1, 2) >= _THRESHOLD


def _weights(low: Tensor, high: Tensor, cells: int, size: int) -> Tensor:
    """What each row or column of the image takes of each cell: (D, ``size``, ``cells``)."""
    places = _places(low, high, cells, size)
    weights = (1 - (places[..., None] - torch.arange(cells, device=low.device)).abs()).relu()
    inside = (places >= -0.5) & (places <= cells - 0.5) & (high > low)[:, None]
    return weights.where(inside[..., None], 0)
