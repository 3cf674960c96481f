"""Bilinear sampling of a map on an affine grid (Jaderberg et al. 2015, spatial transformer networks)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nasperc.ops.bilinear_rows import channel_rows, corner_weights, row_products, rows_to_table


def affine_sample(x: Tensor, theta: Tensor) -> Tensor:
    """``x`` (N, C, H, W) sampled where ``theta`` (N, 2, 3) sends its pixels; (N, C, H, W).

    Coordinates run from -1 to 1 between the outer edges of the map (``align_corners=False``), x before y; zeros
    lie around it. Gradients of both, once; at whole pixels, where the identity sends all of them, that of a position
    is the right-hand one.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    points = _positions(theta.to(wide.dtype), x.shape[2], x.shape[3])
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        out = _by_grid_sample(wide, points)
    elif x.device.type == "cpu" and not torch.compiler.is_compiling():
        out = _SampleCPU.apply(wide, points)
    else:
        out = _by_autograd(wide, points)
    return out.to(x.dtype)


def _positions(theta: Tensor, height: int, width: int) -> Tensor:
    """Where ``theta`` (N, 2, 3) sends each pixel, (N, H, W, 2) in pixels, x before y.

    ``F.affine_grid`` would go by way of a matrix product, which autocast rounds by half a pixel, and of coordinates
    from -1 to 1, which place some pixels of the identity on the left of themselves.
    """
    x = torch.arange(width).to(theta) - (width - 1) / 2
    y = torch.arange(height).to(theta) - (height - 1) / 2
    (x_x, x_y, x_shift), (y_x, y_y, y_shift) = (row.unbind(-1) for row in theta[:, None, None].unbind(-2))
    columns = x_x * x + (x_y * (width / height)) * y[:, None] + x_shift * (width / 2) + (width - 1) / 2
    lines = (y_x * (height / width)) * x + y_y * y[:, None] + y_shift * (height / 2) + (height - 1) / 2
    return torch.stack((columns, lines), -1)


def _by_grid_sample(x: Tensor, points: Tensor) -> Tensor:
    """In an operation that every runtime of an exported program has."""
    columns, lines = points.unbind(-1)
    grid = torch.stack(((2 * columns + 1) / x.shape[3] - 1, (2 * lines + 1) / x.shape[2] - 1), -1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _by_autograd(x: Tensor, points: Tensor) -> Tensor:
    """The samples of the CPU's path, differentiated by torch."""
    rows, inside, right, down = _locate(points, x.shape)
    weights = corner_weights(right, down) * inside
    out = F.embedding_bag(rows, channel_rows(x), mode="sum", per_sample_weights=weights)
    return out.view(_last(x).shape).permute(0, 3, 1, 2)


class _SampleCPU(torch.autograd.Function):
    """``x`` (N, C, H, W) at ``points`` (N, H, W, 2) in pixels, in the words of ``bilinear_rows``: on a CPU whole rows
    of channels are faster than torch's kernel, which goes through them one by one.

    The table is ``x`` itself, without a border: what lies outside is read somewhere inside, with weight 0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, points: Tensor) -> Tensor:
        rows, inside, right, down = _locate(points, x.shape)
        weights = corner_weights(right, down) * inside
        ctx.save_for_backward(x, rows, inside, weights, right, down)
        out = F.embedding_bag(rows, channel_rows(x), mode="sum", per_sample_weights=weights)
        return out.view(_last(x).shape).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor]:
        x, rows, inside, weights, right, down = ctx.saved_tensors
        grad, table = channel_rows(grad_out), channel_rows(x)
        grad_table = rows_to_table(rows, weights, grad, len(table))
        corners = (row_products(table, rows, grad) * inside).unbind(1)
        top_left, top_right, bottom_left, bottom_right = corners
        along_x = torch.lerp(top_right - top_left, bottom_right - bottom_left, down)
        along_y = torch.lerp(bottom_left - top_left, bottom_right - top_right, right)
        n, _, height, width = x.shape
        grad_points = torch.stack((along_x, along_y), 1).view(n, height, width, 2)
        return grad_table.view(_last(x).shape).permute(0, 3, 1, 2), grad_points


def _last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _locate(points: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each of ``points`` (N, H, W, 2): the rows of its corners (S, 4), whether these are inside (S, 4), and the
    way from the top left one to the right and down (S,), in pixels."""
    n, _, height, width = shape
    x, y = points.reshape(-1, 2).unbind(1)
    # Detached, since the steps of a floor have no gradient.
    left, top = x.detach().floor(), y.detach().floor()
    # One column and one row further out, all that is read is outside. NaN becomes some integer, and is clamped too.
    columns = torch.stack((left, left + 1, left, left + 1), 1).clamp_(-1, width).int()
    lines = torch.stack((top, top, top + 1, top + 1), 1).clamp_(-1, height).int()
    inside = (columns >= 0) & (columns < width) & (lines >= 0) & (lines < height)
    image = torch.arange(n, dtype=torch.int32, device=points.device)
    image = image.repeat_interleave(height * width)[:, None]
    rows = (image * height + lines.clamp_(0, height - 1)) * width + columns.clamp_(0, width - 1)
    return rows, inside, x - left, y - top
