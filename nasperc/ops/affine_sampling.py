"""Bilinear sampling of a map on an affine grid (Jaderberg et al. 2015, spatial transformer networks)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nasperc.ops.bilinear_rows import row_products, rows_to_table


def affine_sample(x: Tensor, theta: Tensor) -> Tensor:
    """``x`` (N, C, H, W) sampled where ``theta`` (N, 2, 3) sends its pixels; (N, C, H, W).

    Coordinates run from -1 to 1 between the outer edges of the map (``align_corners=False``), x before y; zeros
    lie around it. Gradients of both, once.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    grid = _affine_grid(theta.to(wide.dtype), x.shape[2], x.shape[3])
    if _by_rows(wide):
        out: Tensor = _GridSampleCPU.apply(wide, grid)
    else:
        out = F.grid_sample(wide, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return out.to(x.dtype)


def _affine_grid(theta: Tensor, height: int, width: int) -> Tensor:
    """``F.affine_grid``, but for the matrix product in it, which autocast would round by half a pixel: (N, H, W, 2)."""
    x = (2 * torch.arange(width).to(theta) + 1) / width - 1
    y = (2 * torch.arange(height).to(theta) + 1) / height - 1
    along, across, shift = theta[:, None, None].unbind(-1)
    return along * x[:, None] + (across * y[:, None, None] + shift)


def _by_rows(x: Tensor) -> bool:
    """torch's kernel goes through the channels one by one; on a CPU whole rows of them are faster."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


class _GridSampleCPU(torch.autograd.Function):
    """``F.grid_sample`` of ``x`` (N, C, H, W) at ``grid`` (N, H, W, 2) in the words of ``bilinear_rows``.

    The table is ``x`` itself, without a border: what lies outside is read somewhere inside, with weight 0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Tensor) -> Tensor:
        rows, inside, right, down = _locate(grid, x.shape)
        weights = _corner_weights(right, down) * inside
        ctx.save_for_backward(x, rows, inside, weights, right, down)
        out = F.embedding_bag(rows, _table(x), mode="sum", per_sample_weights=weights)
        return out.view(_last(x).shape).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor]:
        x, rows, inside, weights, right, down = ctx.saved_tensors
        grad, table = _table(grad_out), _table(x)
        grad_table = rows_to_table(rows, weights, grad, len(table))
        corners = (row_products(table, rows, grad) * inside).unbind(1)
        top_left, top_right, bottom_left, bottom_right = corners
        along_x = torch.lerp(top_right - top_left, bottom_right - bottom_left, down)
        along_y = torch.lerp(bottom_left - top_left, bottom_right - top_right, right)
        # From pixels to halves of the map.
        grad_grid = torch.stack((along_x * (x.shape[3] / 2), along_y * (x.shape[2] / 2)), 1)
        n, _, height, width = x.shape
        return grad_table.view(_last(x).shape).permute(0, 3, 1, 2), grad_grid.view(n, height, width, 2)


def _last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _table(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N * H * W, C), without a copy where ``x`` is channels-last."""
    return _last(x).reshape(-1, x.shape[1])


def _corner_weights(right: Tensor, down: Tensor) -> Tensor:
    """Bilinear weights (S, 4) of points ``right`` and ``down`` (S,) of their top left corner."""
    left, up = 1 - right, 1 - down
    return torch.stack((left * up, right * up, left * down, right * down), 1)


def _locate(grid: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each point of ``grid`` (N, H, W, 2): the rows of its corners (S, 4), whether these are inside (S, 4), and
    the way from the top left one to the right and down (S,), in pixels."""
    n, _, height, width = shape
    x, y = ((grid.view(-1, 2) + 1) * grid.new_tensor((width, height)) - 1).div_(2).unbind(1)
    left, top = x.floor(), y.floor()
    # One column and one row further out, all that is read is outside. NaN becomes some integer, and is clamped too.
    columns = torch.stack((left, left + 1, left, left + 1), 1).clamp_(-1, width).int()
    lines = torch.stack((top, top, top + 1, top + 1), 1).clamp_(-1, height).int()
    inside = (columns >= 0) & (columns < width) & (lines >= 0) & (lines < height)
    image = torch.arange(n, dtype=torch.int32).repeat_interleave(height * width)[:, None]
    rows = (image * height + lines.clamp_(0, height - 1)) * width + columns.clamp_(0, width - 1)
    return rows, inside, x - left, y - top
