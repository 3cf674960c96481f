"""Bilinear sampling of a map on an affine grid (Jaderberg et al. 2015, spatial transformer networks)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nasperc.ops.bilinear_rows import (
    PAD,
    Samples,
    add_input_gradient,
    bilinear_weights,
    neighbour_steps,
    padded_table,
    position_gradients,
    sampled_rows,
    table_interior,
)


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
    """torch's kernel goes through the channels one by one; on a CPU whole rows of them are twice as fast."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


class _GridSampleCPU(torch.autograd.Function):
    """``F.grid_sample`` of ``x`` (N, C, H, W) at ``grid`` (N, H, W, 2), see :mod:`nasperc.ops.bilinear_rows`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Tensor) -> Tensor:
        table = padded_table(x)
        samples = _locate(grid, x.shape)
        ctx.save_for_backward(table, *samples)
        ctx.shape = x.shape
        n, channels, height, width = x.shape
        out = sampled_rows(table, samples.rows, bilinear_weights(samples))
        return out.view(n, height, width, channels).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor]:
        table, *saved = ctx.saved_tensors
        samples = Samples(*saved)
        n, channels, height, width = ctx.shape
        grad = grad_out.permute(0, 2, 3, 1).reshape(-1, channels)
        grad_table = torch.zeros_like(table)
        steps = neighbour_steps(width)
        add_input_gradient(grad_table, samples.rows[:, 0], grad, bilinear_weights(samples), steps)
        grad_points, grad_mask = grad.new_empty(len(grad), 2), grad.new_empty(len(grad))
        position_gradients(table, samples, grad, grad_points, grad_mask)
        # From (y, x) in pixels to (x, y) in halves of the map.
        grad_grid = grad_points.flip(1) * grad.new_tensor((width / 2, height / 2))
        return table_interior(grad_table, ctx.shape), grad_grid.view(n, height, width, 2)


def _locate(grid: Tensor, shape: torch.Size) -> Samples:
    """The points of ``grid`` (N, H, W, 2) as samples of the table of an input of ``shape``."""
    n, _, height, width = shape
    table_width = width + 2 * PAD
    size = grid.new_tensor((width, height))
    x, y = ((grid.view(-1, 2) + 1) * size - 1).div_(2).unbind(1)
    left, top = x.floor(), y.floor()
    right, down = x - left, y - top
    left.clamp_(-PAD, width)
    top.clamp_(-PAD, height)
    # NaN becomes some integer; clamped, it does not leave the table, and the NaN lives on in the weights.
    pixel = top.mul_(table_width).add_(left).int()
    pixel.clamp_(-PAD * (table_width + 1), (height + 1) * table_width)
    image = torch.arange(n, dtype=torch.int32).repeat_interleave(height * width)
    origin = image * ((height + 2 * PAD) * table_width) + PAD * (table_width + 1)
    rows = (origin + pixel)[:, None] + torch.tensor(neighbour_steps(width), dtype=torch.int32)
    return Samples(rows, down, right, torch.ones_like(down))
