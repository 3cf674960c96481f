"""RoIAlign (He et al. 2017, Mask R-CNN; thesis, equation 4.1): what is inside of boxes, brought to one size."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.ops.bilinear_rows import channel_rows
from nasperc.ops.rois import alike, in_order
from nasperc.ops.tracing import is_traced

# From so many channels on, if they lie together, they are faster read so than one after the other.
_WIDE = 64
# As many rows of all maps together have coordinates in float32 that are exact to a thousandth of a row.
_HIGHEST = 8192


def roi_align(
    features: Tensor,
    boxes: Tensor,
    image_index: Tensor,
    output_size: tuple[int, int],
    scale: float,
    sampling_ratio: int,
    aligned: bool = True,
) -> Tensor:
    """The means of bilinear samples in h x w bins of each box, (R, C, h, w) in the type of ``features``.

    Cell k of the map has its centre at coordinate k. A sample below -1 or beyond H (W) is 0, one that is nearer reads
    the map's outermost cells: the rule of torchvision, detectron2 and ONNX.

    Args:
        features: (N, C, H, W).
        boxes: (R, 4) as (x1, y1, x2, y2) in pixels of the input; they get no gradient.
        image_index: (R,) integers, which image each box is in.
        output_size: (h, w).
        scale: cells of the map in a pixel of the input, 1 / stride.
        sampling_ratio: samples in a bin along each axis; 0: as many as the bins of a box are cells long, rounded up
            (a box without area has none and is 0).
        aligned: whether the centre of a pixel or cell is half of it away from its corner. False, the rule before
            detectron2: it is the corner, and a box is at least one cell high and exact.

    Raises:
        ValueError: ``sampling_ratio`` 0 in a program that is exported or compiled.
    """
    exact = features if features.dtype == torch.float64 else features.float()
    corners = boxes.detach().to(exact.dtype) * scale - (0.5 if aligned else 0.0)
    start, extent = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not aligned:
        extent = extent.clamp(min=1)
    if sampling_ratio:
        out = _read(exact, start, extent, image_index, output_size, (sampling_ratio, sampling_ratio))
    elif is_traced():
        raise ValueError("RoIAlign with sampling_ratio 0 cannot be exported or compiled: make it 1 or more")
    elif not len(boxes) or exact.is_meta:
        out = _read(exact, start, extent, image_index, output_size, (1, 1))
    else:
        height, width = output_size
        samples = (extent.flip(1) / extent.new_tensor(output_size)).ceil().long()
        start = start.masked_fill((samples < 1).any(1, keepdim=True), -math.inf)
        parts = (
            (m, _read(exact, start[m], extent[m], image_index[m], output_size, (rows, columns)))
            for rows, columns, m in alike(samples.clamp(min=1), height * width * exact.shape[1])
        )
        out = in_order(parts, len(boxes), torch.is_grad_enabled() and exact.requires_grad)
    return out.to(features.dtype)


def _read(
    features: Tensor,
    start: Tensor,
    extent: Tensor,
    image_index: Tensor,
    output_size: tuple[int, int],
    samples: tuple[int, int],
) -> Tensor:
    """(R, C, h, w) of boxes from ``start`` (R, 2) over ``extent`` (R, 2), (x, y) in cells, with ``samples`` (rows,
    columns) in each bin."""
    y = _positions(start[:, 1], extent[:, 1], output_size[0], samples[0])
    x = _positions(start[:, 0], extent[:, 0], output_size[1], samples[1])
    if not is_traced() and _better_by_rows(features):
        return _by_rows(features, y, x, image_index)
    return _by_grid_sample(features, y, x, image_index)


def _better_by_rows(features: Tensor) -> bool:
    n, channels, height, _ = features.shape
    together = features.is_contiguous(memory_format=torch.channels_last)
    return n * height > _HIGHEST or (features.device.type == "cpu" and channels >= _WIDE and together)


def _positions(start: Tensor, extent: Tensor, bins: int, samples: int) -> Tensor:
    """Where the samples are along an axis, (R, bins, samples)."""
    place = torch.arange(bins * samples, device=start.device).to(start) + 0.5
    return (start[:, None] + place * (extent / (bins * samples))[:, None]).unflatten(1, (bins, samples))


def _by_grid_sample(features: Tensor, y: Tensor, x: Tensor, image_index: Tensor) -> Tensor:
    """In an operation that every runtime of an exported program has, and that reads few channels fastest.

    It has one grid an image: here the images are one below the other, and all boxes are in one grid.
    """
    n, channels, height, width = features.shape
    (boxes, rows, y_samples), (_, columns, x_samples) = y.shape, x.shape
    images = features.transpose(0, 1).reshape(1, channels, n * height, width)
    # Outside of the whole, since there grid_sample reads 0.
    y = torch.where(_inside(y, height), y.clamp(0, height - 1) + image_index[:, None, None] * height, -2)
    x = torch.where(_inside(x, width), x.clamp(0, width - 1), -2)
    # From -1 to 1 between the outer edges.
    y, x = (2 * y + 1) / (n * height) - 1, (2 * x + 1) / width - 1
    shape = (y_samples, x_samples, boxes, rows, columns)
    y = y.permute(2, 0, 1)[:, None, :, :, None].expand(shape)
    x = x.permute(2, 0, 1)[None, :, :, None, :].expand(shape)
    grid = torch.stack((x, y), -1).reshape(1, y_samples * x_samples * boxes * rows, columns, 2)
    out = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    out = out.reshape(channels, y_samples * x_samples, boxes, rows, columns)
    out = out[:, 0] if y_samples * x_samples == 1 else out.mean(1)
    return out.transpose(0, 1).contiguous()


def _by_rows(features: Tensor, y: Tensor, x: Tensor, image_index: Tensor) -> Tensor:
    """The weighted sums of rows of channels, which is what ``embedding_bag`` computes (:mod:`bilinear_rows`)."""
    _, channels, height, width = features.shape
    rows, y_weights = _corners(y, height)
    columns, x_weights = _corners(x, width)
    rows = (rows + image_index[:, None, None].int() * height) * width
    bags = rows[:, :, None, :, None] + columns[:, None, :, None, :]
    weights = (y_weights / y.shape[2])[:, :, None, :, None] * (x_weights / x.shape[2])[:, None, :, None, :]
    out = F.embedding_bag(
        bags.flatten(3).flatten(0, 2),
        channel_rows(features),
        mode="sum",
        per_sample_weights=weights.flatten(3).flatten(0, 2),
    )
    return out.view(*bags.shape[:3], channels).permute(0, 3, 1, 2)


def _corners(positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The two cells that each of ``positions`` (R, bins, samples) lies between, int32, and their weights; both
    (R, bins, 2 * samples)."""
    inside, positions = _inside(positions, size), positions.clamp(0, size - 1)
    low = positions.floor()
    weight = positions - low
    # NaN becomes some integer, with weight 0.
    low = low.int().clamp_(0, size - 1)
    cells = torch.cat((low, (low + 1).clamp_(max=size - 1)), 2)
    return cells, torch.cat((1 - weight, weight), 2).where(inside.repeat(1, 1, 2), 0)


def _inside(positions: Tensor, size: int) -> Tensor:
    return (positions >= -1) & (positions <= size)
