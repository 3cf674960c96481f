"""The fast path of the modulated deformable 3x3 convolution on a CPU: gather, multiply, and back, by hand.

A *sample* is one (pixel, group, tap) of the output, in this order; each reads four neighbouring *rows* (the
C/G channels of a group at one pixel) of a *table*, the zero-padded input in channels-last order. A weighted
sum of rows is what ``embedding_bag`` computes, vectorised over the channels:

* forward: one bag of four rows a sample gives the columns (im2col), and one matrix product the output;
* gradient of the input: the samples that read a row, found by sorting, are a bag again;
* gradients of offset and mask: the dot products of a column's gradient with the same four rows are a sampled
  matrix product, and the chain rule does the rest.

``benchmarks/ops.py`` shows the ratio to a plain convolution and to autograd through ``grid_sample``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nasperc.ops.pointwise import pointwise_conv2d

TAPS = 9
# A sample this far outside reads only zeros and has zero gradients: those further out are moved here.
_PAD = 2
# Columns of so many elements at a time (11 MB in float32): more for less overhead, fewer for less memory.
_CHUNK_ELEMENTS = 2_800_000
# torch sorts integers by radix, in a quarter of the time, from this size up.
_RADIX_SORT_SIZE = 1 << 15

# glibc hands freed memory above a threshold back to the system, and fetching it again costs more than filling
# it. The threshold rises to the largest block freed so far (up to 32 MB); no page of this one is touched.
torch.empty(31 << 20, dtype=torch.uint8)

with warnings.catch_warnings():
    # torch says once a process that CSR tensors are in beta; the user of a convolution need not read it.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)


class _Layout(NamedTuple):
    """Sizes and geometry. A *line* is one row of output pixels, counted through all images."""

    images: int
    channels: int
    groups: int
    size: tuple[int, int]
    out_size: tuple[int, int]
    stride: int
    padding: int
    dilation: int

    @property
    def table_size(self) -> tuple[int, int]:
        return self.size[0] + 2 * _PAD, self.size[1] + 2 * _PAD

    @property
    def lines(self) -> int:
        return self.images * self.out_size[0]

    @property
    def steps(self) -> tuple[int, int, int, int]:
        """How many rows further in the table the top left, top right, bottom left, bottom right one is."""
        down = self.table_size[1] * self.groups
        return 0, self.groups, down, down + self.groups

    def chunks(self) -> Iterator[slice]:
        lines = max(1, _CHUNK_ELEMENTS // (self.out_size[1] * TAPS * self.channels))
        # Chunks of nearly one size: every size is compiled by oneDNN.
        count = max(1, -(-self.lines // lines))
        lines = max(1, -(-self.lines // count))
        for first in range(0, self.lines, lines):
            yield slice(first, min(first + lines, self.lines))


class _Samples(NamedTuple):
    """The S samples of some lines: the way in pixels from their top left row, and their mask; each (S,)."""

    rows: Tensor  # (S, 4) int32: top left, top right, bottom left, bottom right
    down: Tensor
    right: Tensor
    mask: Tensor


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
        n, channels, height, width = x.shape
        groups, out_size = mask.shape[1] // TAPS, (mask.shape[2], mask.shape[3])
        layout = _Layout(n, channels, groups, (height, width), out_size, stride, padding, dilation)
        kernel = _flatten_kernel(weight, groups)
        table = _table(x, layout)
        offset, mask = _lines(offset), _lines(mask)
        out = x.new_empty(layout.lines, out_size[1], len(weight))
        saved: list[Tensor] = []
        for chunk in layout.chunks():
            samples = _locate(offset[chunk], mask[chunk], chunk, layout)
            columns = _columns(table, samples.rows, _bilinear_weights(samples))
            columns = columns.view(1, -1, out_size[1], TAPS * channels).permute(0, 3, 1, 2)
            out[chunk] = pointwise_conv2d(columns, kernel, bias)[0].permute(1, 2, 0)
            saved.extend(samples)
        ctx.save_for_backward(weight, table, *saved)
        ctx.layout = layout
        return out.view(n, *out_size, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        weight, table, *saved = ctx.saved_tensors
        layout: _Layout = ctx.layout
        n, groups, (_, out_width) = layout.images, layout.groups, layout.out_size
        transposed = _flatten_kernel(weight, groups).transpose(0, 1).contiguous()
        grad_kernel = table.new_zeros(len(weight), len(transposed))
        grad_table = torch.zeros_like(table)
        grad_offset = table.new_empty(layout.lines, out_width, 2 * groups * TAPS)
        grad_mask = table.new_empty(layout.lines, out_width, groups * TAPS)
        grad_lines = _lines(grad_out)
        for i, chunk in enumerate(layout.chunks()):
            samples = _Samples(*saved[4 * i : 4 * i + 4])
            weights = _bilinear_weights(samples)
            grad_kernel += _kernel_gradient(_columns(table, samples.rows, weights), grad_lines[chunk])
            grad = grad_lines[None, chunk].permute(0, 3, 1, 2)
            grad_columns = pointwise_conv2d(grad, transposed).permute(0, 2, 3, 1)
            grad_columns = grad_columns.reshape(len(samples.rows), -1)
            _add_input_gradient(grad_table, samples.rows[:, 0], grad_columns, weights, layout)
            _position_gradients(
                table, samples, grad_columns, grad_offset[chunk].view(-1, 2), grad_mask[chunk].view(-1)
            )
        grad_x = grad_table.view(n, *layout.table_size, -1)[:, _PAD:-_PAD, _PAD:-_PAD].contiguous()
        return (
            grad_x.permute(0, 3, 1, 2),
            grad_offset.view(n, *layout.out_size, -1).permute(0, 3, 1, 2),
            grad_mask.view(n, *layout.out_size, -1).permute(0, 3, 1, 2),
            _unflatten_kernel(grad_kernel, weight.shape, groups),
            grad_out.sum((0, 2, 3)) if ctx.needs_input_grad[4] else None,
            None,
            None,
            None,
        )


def _flatten_kernel(weight: Tensor, groups: int) -> Tensor:
    """(O, C, 3, 3) -> (O, G * 9 * C/G, 1, 1), in the order of the columns."""
    return weight.reshape(len(weight), groups, -1, TAPS).transpose(2, 3).reshape(len(weight), -1, 1, 1)


def _unflatten_kernel(kernel: Tensor, shape: torch.Size, groups: int) -> Tensor:
    return kernel.view(len(kernel), groups, TAPS, -1).transpose(2, 3).reshape(shape)


def _lines(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N * H, W, C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[3], x.shape[1])


def _table(x: Tensor, layout: _Layout) -> Tensor:
    """(N, C, H, W) -> (N * table height * table width * G, C/G)."""
    table = x.new_zeros(layout.images, *layout.table_size, layout.channels)
    table[:, _PAD:-_PAD, _PAD:-_PAD] = x.permute(0, 2, 3, 1)
    return table.view(-1, layout.channels // layout.groups)


def _locate(offset: Tensor, mask: Tensor, lines: slice, layout: _Layout) -> _Samples:
    """``offset`` (lines, W', 2 * G * 9) and ``mask`` (lines, W', G * 9) -> samples."""
    (height, width), (table_height, table_width), groups = layout.size, layout.table_size, layout.groups
    line = torch.arange(lines.start, lines.stop)[:, None]
    image, line = line // layout.out_size[0], line % layout.out_size[0]
    # Along a line; flat, since an operation that broadcasts over nine taps at a time is slow.
    place = torch.arange(layout.out_size[1] * groups * TAPS)
    column, group, tap = place // (groups * TAPS), place // TAPS % groups, place % TAPS
    y = (line * layout.stride - layout.padding).to(mask.dtype) + (tap // 3 * layout.dilation).to(mask.dtype)
    x = (column * layout.stride - layout.padding + tap % 3 * layout.dilation).to(mask.dtype)
    origin = image * (table_height * table_width) + _PAD * (table_width + 1)
    start = (origin * groups).int() + group.int()

    offset_y, offset_x = offset.reshape(*y.shape, 2).unbind(2)
    whole_y, whole_x = offset_y.floor(), offset_x.floor()
    down, right = offset_y - whole_y, offset_x - whole_x
    top, left = whole_y.add_(y).clamp_(-_PAD, height), whole_x.add_(x).clamp_(-_PAD, width)
    # NaN becomes some integer; clamped, it does not leave the table, and the NaN lives on in the weights.
    pixel = top.mul_(table_width).add_(left).int()
    pixel.clamp_(-_PAD * (table_width + 1), (height + 1) * table_width)
    row = start.add_(pixel, alpha=groups).view(-1, 1)
    rows = row + torch.tensor(layout.steps, dtype=torch.int32)
    return _Samples(rows, down.reshape(-1), right.reshape(-1), mask.reshape(-1))


def _bilinear_weights(samples: _Samples) -> Tensor:
    """Bilinear weight times mask of the four rows of each sample, (4, S)."""
    weights = samples.mask.new_empty(4, len(samples.mask))
    top_left, top_right, bottom_left, bottom_right = weights
    bottom = samples.mask * samples.down
    top = samples.mask - bottom
    torch.mul(top, samples.right, out=top_right)
    torch.sub(top, top_right, out=top_left)
    torch.mul(bottom, samples.right, out=bottom_right)
    torch.sub(bottom, bottom_right, out=bottom_left)
    return weights


def _columns(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """What the samples read: (S, C/G)."""
    per_sample = torch.empty_like(rows, dtype=weights.dtype)
    # Four strided copies take a third of the time of one transposed copy.
    for neighbour, weight in enumerate(weights):
        per_sample[:, neighbour] = weight
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=per_sample)


def _kernel_gradient(columns: Tensor, grad: Tensor) -> Tensor:
    """Product (O, G * 9 * C/G) of output gradient (lines, W', O) and columns (S, C/G)."""
    grad = grad.flatten(0, 1)
    columns = columns.view(len(grad), -1)
    if columns.dtype == torch.float32 and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        # oneDNN's product, twice as fast as MKL's on an AMD CPU; torch has no public name for it.
        return torch.ops.mkldnn._linear_pointwise(grad.t(), columns.t(), None, "none", [], "")
    return grad.t() @ columns


def _add_input_gradient(
    grad_table: Tensor, row: Tensor, grad_columns: Tensor, weights: Tensor, layout: _Layout
) -> None:
    """Sorted once by their top left ``row`` (S,), the samples are four sets of bags, one a neighbour."""
    first, last = (int(bound) for bound in torch.aminmax(row))
    row = row - first
    # Padded at the end, with a row that stays there.
    padded = F.pad(row, (0, max(0, _RADIX_SORT_SIZE - len(row))), value=last - first)
    order = torch.sort(padded, stable=True).indices[: len(row)].int()
    ends = F.pad(torch.bincount(row).cumsum(0, dtype=torch.int32), (1, 0))
    for step, weight in zip(layout.steps, weights.index_select(1, order), strict=True):
        grad_table[first + step : last + step + 1] += F.embedding_bag(
            order,
            grad_columns,
            ends,
            mode="sum",
            per_sample_weights=weight,
            include_last_offset=True,
        )


def _position_gradients(
    table: Tensor, samples: _Samples, grad_columns: Tensor, grad_offset: Tensor, grad_mask: Tensor
) -> None:
    """Write the gradients (S, 2) of the offsets and (S,) of the mask."""
    count = len(samples.rows)
    # Gradient of each bilinear weight: the column's gradient dot the row.
    products = torch.sparse_csr_tensor(
        torch.arange(0, 4 * count + 1, 4, dtype=torch.int32),
        samples.rows.view(-1),
        grad_columns.new_zeros(4 * count),
        (count, len(table)),
        check_invariants=False,
    )
    torch.sparse.sampled_addmm(products, grad_columns, table.t(), beta=0, out=products)
    top_left, top_right, bottom_left, bottom_right = products.values().view(count, 4).unbind(1)
    along_top, along_bottom = top_right - top_left, bottom_right - bottom_left
    torch.mul(torch.lerp(along_top, along_bottom, samples.down), samples.mask, out=grad_offset[:, 1])
    top = along_top.mul_(samples.right).add_(top_left)
    down = along_bottom.mul_(samples.right).add_(bottom_left).sub_(top)
    torch.mul(down, samples.mask, out=grad_offset[:, 0])
    torch.addcmul(top, down, samples.down, out=grad_mask)
