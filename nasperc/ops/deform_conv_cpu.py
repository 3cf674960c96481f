"""The fast path of the modulated deformable convolution on a CPU: gather, multiply, and back, by hand.

A *sample* of :mod:`nasperc.ops.bilinear_rows` is one (pixel, group, tap) of the output, in this order. What the
samples read are the columns (im2col), and one matrix product of them is the output.

``benchmarks/ops.py`` shows the ratio to a plain convolution, to autograd through the same samples, and to
``grid_sample``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
from nasperc.ops.pointwise import pointwise_conv2d

# Columns of so many elements at a time (11 MB in float32): more for less overhead, fewer for less memory.
_CHUNK_ELEMENTS = 2_800_000


class Layout(NamedTuple):
    """Sizes (H, W) and geometry; ``side`` is k, of the kernel. A *line* is one row of output pixels, counted through
    all images."""

    images: int
    channels: int
    groups: int
    size: tuple[int, int]
    out_size: tuple[int, int]
    side: int
    stride: int
    padding: int
    dilation: int

    @classmethod
    def of(cls, x: Tensor, mask: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Self:
        """Of the arguments of a convolution."""
        n, channels, height, width = x.shape
        side = weight.shape[-1]
        groups, out_size = mask.shape[1] // side**2, (mask.shape[2], mask.shape[3])
        return cls(n, channels, groups, (height, width), out_size, side, stride, padding, dilation)

    @property
    def taps(self) -> int:
        return self.side**2

    @property
    def table_size(self) -> tuple[int, int]:
        return self.size[0] + 2 * PAD, self.size[1] + 2 * PAD

    @property
    def lines(self) -> int:
        return self.images * self.out_size[0]

    def chunks(self) -> Iterator[slice]:
        lines = max(1, _CHUNK_ELEMENTS // (self.out_size[1] * self.taps * self.channels))
        # Chunks of nearly one size: every size is compiled by oneDNN.
        count = max(1, -(-self.lines // lines))
        lines = max(1, -(-self.lines // count))
        for first in range(0, self.lines, lines):
            yield slice(first, min(first + lines, self.lines))


class ModulatedDeformConv2dCPU(torch.autograd.Function):
    """Arguments as in :func:`nasperc.ops.deform_conv.modulated_deform_conv2d`; float32 or float64."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        offset: Tensor,
        mask: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: int,
        dilation: int,
    ) -> Tensor:
        layout = Layout.of(x, mask, weight, stride, padding, dilation)
        n, groups, out_size = layout.images, layout.groups, layout.out_size
        kernel = flatten_kernel(weight, groups)
        table = padded_table(x, groups)
        offset, mask = lines_of(offset), lines_of(mask)
        out = x.new_empty(layout.lines, out_size[1], len(weight))
        saved: list[Tensor] = []
        for chunk in layout.chunks():
            samples = locate(offset[chunk], mask[chunk], chunk, layout)
            columns = sampled_rows(table, samples.rows, bilinear_weights(samples))
            columns = columns.view(1, -1, out_size[1], layout.taps * layout.channels).permute(0, 3, 1, 2)
            out[chunk] = pointwise_conv2d(columns, kernel, bias)[0].permute(1, 2, 0)
            saved.extend(samples)
        ctx.save_for_backward(weight, table, *saved)
        ctx.layout = layout
        return out.view(n, *out_size, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        weight, table, *saved = ctx.saved_tensors
        layout: Layout = ctx.layout
        n, groups, (_, out_width) = layout.images, layout.groups, layout.out_size
        transposed = flatten_kernel(weight, groups).transpose(0, 1).contiguous()
        grad_kernel = table.new_zeros(len(weight), len(transposed))
        grad_table, steps = torch.zeros_like(table), neighbour_steps(layout.size[1], groups).tolist()
        grad_offset = table.new_empty(layout.lines, out_width, 2 * groups * layout.taps)
        grad_mask = table.new_empty(layout.lines, out_width, groups * layout.taps)
        grad_lines = lines_of(grad_out)
        for i, chunk in enumerate(layout.chunks()):
            samples = Samples(*saved[4 * i : 4 * i + 4])
            weights = bilinear_weights(samples)
            grad_kernel += _kernel_gradient(sampled_rows(table, samples.rows, weights), grad_lines[chunk])
            grad = grad_lines[None, chunk].permute(0, 3, 1, 2)
            grad_columns = pointwise_conv2d(grad, transposed).permute(0, 2, 3, 1)
            grad_columns = grad_columns.reshape(len(samples.rows), -1)
            add_input_gradient(grad_table, samples.rows[:, 0], grad_columns, weights, steps)
            position_gradients(
                table, samples, grad_columns, grad_offset[chunk].view(-1, 2), grad_mask[chunk].view(-1)
            )
        grad_x = table_interior(grad_table, torch.Size((n, layout.channels, *layout.size)))
        return (
            grad_x.contiguous(memory_format=torch.channels_last),
            grad_offset.view(n, *layout.out_size, -1).permute(0, 3, 1, 2),
            grad_mask.view(n, *layout.out_size, -1).permute(0, 3, 1, 2),
            _unflatten_kernel(grad_kernel, weight.shape, groups),
            grad_out.sum((0, 2, 3)) if ctx.needs_input_grad[4] else None,
            None,
            None,
            None,
        )


def flatten_kernel(weight: Tensor, groups: int) -> Tensor:
    """(O, C, k, k) -> (O, G * k * k * C/G, 1, 1), in the order of the columns."""
    return (
        weight.reshape(len(weight), groups, -1, weight.shape[-1] ** 2)
        .transpose(2, 3)
        .reshape(len(weight), -1, 1, 1)
    )


def _unflatten_kernel(kernel: Tensor, shape: torch.Size, groups: int) -> Tensor:
    return kernel.view(len(kernel), groups, shape[-1] ** 2, -1).transpose(2, 3).reshape(shape)


def lines_of(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N * H, W, C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[3], x.shape[1])


def locate(offset: Tensor, mask: Tensor, lines: slice, layout: Layout) -> Samples:
    """``offset`` (lines, W', 2 * G * k * k) and ``mask`` (lines, W', G * k * k) -> samples.

    The cell of a tap is found from its offset alone, before its place is added and rounds it: a whole offset is at
    the beginning of its cell, so its gradient is the right-hand one, and the number below is in the cell before.
    """
    (height, width), (table_height, table_width), groups = layout.size, layout.table_size, layout.groups
    side, taps = layout.side, layout.taps
    line = torch.arange(lines.start, lines.stop, device=mask.device)[:, None]
    image, line = line // layout.out_size[0], line % layout.out_size[0]
    # Along a line; flat, since an operation that broadcasts over the few taps at a time is slow.
    place = torch.arange(layout.out_size[1] * groups * taps, device=mask.device)
    column, group, tap = place // (groups * taps), place // taps % groups, place % taps
    y = (line * layout.stride - layout.padding).to(mask.dtype) + (tap // side * layout.dilation).to(
        mask.dtype
    )
    x = (column * layout.stride - layout.padding + tap % side * layout.dilation).to(mask.dtype)
    origin = image * (table_height * table_width) + PAD * (table_width + 1)
    start = (origin * groups).int() + group.int()

    offset_y, offset_x = offset.reshape(*y.shape, 2).unbind(2)
    # Detached, since the steps of a floor have no gradient: autograd would keep every one of these tensors.
    whole_y, whole_x = offset_y.detach().floor(), offset_x.detach().floor()
    down, right = offset_y - whole_y, offset_x - whole_x
    top, left = whole_y.add_(y).clamp_(-PAD, height), whole_x.add_(x).clamp_(-PAD, width)
    # NaN becomes some integer; clamped, it does not leave the table, and the NaN lives on in the weights.
    pixel = top.mul_(table_width).add_(left).int()
    pixel.clamp_(-PAD * (table_width + 1), (height + 1) * table_width)
    row = start.add_(pixel, alpha=groups).view(-1, 1)
    rows = row + neighbour_steps(width, groups, device=mask.device)
    return Samples(rows, down.reshape(-1), right.reshape(-1), mask.reshape(-1))


def _kernel_gradient(columns: Tensor, grad: Tensor) -> Tensor:
    """Product (O, G * k * k * C/G) of output gradient (lines, W', O) and columns (S, C/G)."""
    grad = grad.flatten(0, 1)
    columns = columns.view(len(grad), -1)
    if columns.dtype == torch.float32 and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        # oneDNN's product, twice as fast as MKL's on an AMD CPU; torch has no public name for it.
        return torch.ops.mkldnn._linear_pointwise(grad.t(), columns.t(), None, "none", [], "")
    return grad.t() @ columns
