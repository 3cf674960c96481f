"""RoIPool (Girshick 2015, Fast R-CNN; thesis, Table 4.6: nearest): the maxima of the whole cells inside of boxes."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor

from nasperc.ops.bilinear_rows import channel_rows
from nasperc.ops.rois import alike, in_order
from nasperc.ops.tracing import is_traced


def roi_pool(
    features: Tensor, boxes: Tensor, image_index: Tensor, output_size: tuple[int, int], scale: float
) -> Tensor:
    """The maxima of h x w bins of each box, (R, C, h, w) in the type of ``features``.

    The corners of a box, rounded (halves away from zero), are its first and last cell; it has at least one. Bins are
    rounded outwards, so that neighbours may share cells, and end where the map does; an empty one is 0. That is the
    rule of torchvision and of ONNX's MaxRoiPool. Where several cells are the largest, they share the gradient.

    Args:
        features: (N, C, H, W).
        boxes: (R, 4) as (x1, y1, x2, y2) in pixels of the input; they get no gradient.
        image_index: (R,) integers, which image each box is in.
        output_size: (h, w).
        scale: cells of the map in a pixel of the input, 1 / stride.
    """
    _, channels, height, width = features.shape
    if features.is_meta:
        return features.new_empty(len(boxes), channels, *output_size)
    x1, y1, x2, y2 = (boxes.detach() * scale).unbind(1)
    y = _bins(y1, y2, output_size[0], height)
    x = _bins(x1, x2, output_size[1], width)
    table, top = channel_rows(features), image_index[:, None] * height

    def read(rows: int, columns: int, m: Tensor | slice) -> Tensor:
        return _largest(table, y.of(m).cells(rows) + top[m], x.of(m).cells(columns), width)

    if is_traced():
        out = read(_most(y), _most(x), slice(None))
    elif not len(boxes):
        out = read(1, 1, slice(None))
    else:
        cells = torch.stack((y.size.amax(1), x.size.amax(1)), 1)
        sets = alike(cells, output_size[0] * output_size[1] * channels)
        parts = ((m, read(rows, columns, m)) for rows, columns, m in sets)
        out = in_order(parts, len(boxes), torch.is_grad_enabled() and table.requires_grad)
    empty = y.empty[:, :, None] | x.empty[:, None]
    return torch.where(empty[..., None], 0, out).permute(0, 3, 1, 2)


class _Bins(NamedTuple):
    """Bins along an axis, each (R, bins): the first cell inside of the map, how many there are, or 1 if none."""

    first: Tensor
    size: Tensor
    empty: Tensor

    def of(self, members: Tensor | slice) -> _Bins:
        return _Bins(*(each[members] for each in self))

    def cells(self, count: int) -> Tensor:
        """The cells of each bin, its last one repeated up to ``count``: (count, R, bins)."""
        step = torch.arange(count, device=self.first.device)[:, None, None]
        return self.first + torch.minimum(step, self.size - 1)


def _bins(low: Tensor, high: Tensor, bins: int, size: int) -> _Bins:
    """Of boxes from ``low`` to ``high`` (R,) in cells of an axis that has ``size`` of them."""
    start, end = _rounded(low), _rounded(high)
    # In the type of the boxes, as everywhere else: its rounding may add a cell to a bin.
    side = (end - start + 1).clamp(min=1).to(low.dtype)[:, None] / bins
    place = torch.arange(bins, device=low.device).to(low.dtype)
    first = (start[:, None] + (place * side).floor().long()).clamp(0, size)
    beyond = (start[:, None] + ((place + 1) * side).ceil().long()).clamp(0, size)
    return _Bins(first.clamp(max=size - 1), (beyond - first).clamp(min=1), beyond <= first)


def _rounded(x: Tensor) -> Tensor:
    """To the nearest integer, halves away from zero, in exact steps."""
    whole = x.trunc()
    return (whole + (2 * (x - whole)).trunc()).long()


def _most(bins: _Bins) -> int:
    """The largest count of cells, 1 without boxes: a number that an exporter does not know."""
    # No int() around it: a symbol would not survive.
    most = cast(int, torch.cat((bins.size.flatten(), bins.size.new_ones(1))).amax(0).item())
    torch._check(most >= 1)
    return most


def _largest(table: Tensor, y: Tensor, x: Tensor, width: int) -> Tensor:
    """The maxima (R, h, w, C) of the rows of ``table`` of cells ``y`` (rows, R, h) by ``x`` (columns, R, w)."""
    index = (y * width)[:, None, :, :, None] + x[None, :, :, None, :]
    # The first axis is the one along which the maximum of many numbers is taken at a time.
    cells = table.index_select(0, index.flatten())
    return cells.view(index.shape[0] * index.shape[1], *index.shape[2:], table.shape[1]).amax(0)
