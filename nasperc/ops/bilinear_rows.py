"""Bilinear sampling on a CPU: gather rows of pixels, weigh them, and back, by hand.

Each of S *samples* reads the four neighbours of a point: four *rows* (the channels of one pixel, or of one group
of them) of a *table*, the zero-padded input in channels-last order. A weighted sum of rows is what
``embedding_bag`` computes, vectorised over the channels:

* forward: one bag of four rows a sample;
* gradient of the input: the samples that read a row, found by sorting, are a bag again;
* gradient of the points: the dot products of a sample's gradient with the same four rows are a sampled matrix
  product, and the chain rule does the rest.

Deformable convolution and affine sampling are made of it. Elsewhere (CUDA, autocast, compilation) autograd goes
through ``embedding_bag`` and :func:`corner_weights` instead of the two gradients by hand: the same samples, hence the
same side of a kink.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# A sample this far outside reads only zeros and has zero gradients: those further out are moved here.
PAD = 2
# torch sorts integers by radix, in a quarter of the time, from this size up.
_RADIX_SORT_SIZE = 1 << 15

# glibc hands freed memory above a threshold back to the system, and fetching it again costs more than filling
# it. The threshold rises to the largest block freed so far (up to 32 MB); no page of this one is touched.
torch.empty(31 << 20, dtype=torch.uint8)

with warnings.catch_warnings():
    # torch says once a process that CSR tensors are in beta; the user of a convolution need not read it.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)


class Samples(NamedTuple):
    """S samples: the way in pixels from their top left row, and their mask (a factor on what is read); each (S,)."""

    rows: Tensor  # (S, 4) int32: top left, top right, bottom left, bottom right
    down: Tensor
    right: Tensor
    mask: Tensor


def channel_rows(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N * H * W, C), without a copy where ``x`` is channels-last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def padded_table(x: Tensor, groups: int = 1) -> Tensor:
    """(N, C, H, W) -> (N * (H + 2 PAD) * (W + 2 PAD) * G, C/G), zeros all around."""
    n, channels, height, width = x.shape
    table = x.new_zeros(n, height + 2 * PAD, width + 2 * PAD, channels)
    table[:, PAD:-PAD, PAD:-PAD] = x.permute(0, 2, 3, 1)
    return table.view(-1, channels // groups)


def table_interior(table: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of :func:`padded_table`: (N, C, H, W) of ``shape``, without the border."""
    n, _, height, width = shape
    return table.view(n, height + 2 * PAD, width + 2 * PAD, -1)[:, PAD:-PAD, PAD:-PAD].permute(0, 3, 1, 2)


def neighbour_steps(width: int, groups: int = 1, device: torch.device | None = None) -> Tensor:
    """How many rows further in the table of an input of ``width`` the top left, top right, bottom left, bottom
    right one is: (4,) int32, made on ``device`` (a copy to it would wait for it)."""
    neighbour = torch.arange(4, dtype=torch.int32, device=device)
    return neighbour % 2 * groups + neighbour // 2 * ((width + 2 * PAD) * groups)


def bilinear_weights(samples: Samples) -> Tensor:
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


def corner_weights(right: Tensor, down: Tensor) -> Tensor:
    """Bilinear weights (S, 4) of points ``right`` and ``down`` (S,) of their top left corner; differentiable."""
    left, up = 1 - right, 1 - down
    return torch.stack((left * up, right * up, left * down, right * down), 1)


def sampled_rows(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """What the samples read: (S, C/G) of ``table``, from ``rows`` (S, 4) and ``weights`` (4, S)."""
    per_sample = torch.empty_like(rows, dtype=weights.dtype)
    # Four strided copies take a third of the time of one transposed copy.
    for neighbour, weight in enumerate(weights):
        per_sample[:, neighbour] = weight
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=per_sample)


def add_input_gradient(
    grad_table: Tensor, row: Tensor, grad_samples: Tensor, weights: Tensor, steps: Sequence[int]
) -> None:
    """Add the gradient of the table to ``grad_table``; ``grad_samples`` (S, C/G), ``weights`` (4, S).

    Sorted once by their top left ``row`` (S,), the samples are four sets of bags, one a neighbour.
    """
    first, last = (int(bound) for bound in torch.aminmax(row))
    row = row - first
    # Padded at the end, with a row that stays there.
    padded = F.pad(row, (0, max(0, _RADIX_SORT_SIZE - len(row))), value=last - first)
    order = torch.sort(padded, stable=True).indices[: len(row)].int()
    ends = F.pad(torch.bincount(row).cumsum(0, dtype=torch.int32), (1, 0))
    for step, weight in zip(steps, weights.index_select(1, order), strict=True):
        grad_table[first + step : last + step + 1] += F.embedding_bag(
            order,
            grad_samples,
            ends,
            mode="sum",
            per_sample_weights=weight,
            include_last_offset=True,
        )


def rows_to_table(rows: Tensor, weights: Tensor, grad_samples: Tensor, length: int) -> Tensor:
    """Gradient (``length``, C) of a table: from ``rows`` and ``weights`` (S, 4), ``grad_samples`` (S, C)."""
    order = torch.sort(rows.view(-1), stable=True).indices
    ends = F.pad(torch.bincount(rows.view(-1), minlength=length).cumsum(0, dtype=torch.int32), (1, 0))
    return F.embedding_bag(
        order.int() // 4,
        grad_samples,
        ends,
        mode="sum",
        per_sample_weights=weights.view(-1)[order],
        include_last_offset=True,
    )


def row_products(table: Tensor, rows: Tensor, grad_samples: Tensor) -> Tensor:
    """The gradient of each bilinear weight: (S, 4) dot products of ``grad_samples`` (S, C) with the ``rows`` (S, 4)."""
    count = len(rows)
    products = torch.sparse_csr_tensor(
        torch.arange(0, 4 * count + 1, 4, dtype=torch.int32),
        rows.reshape(-1),
        grad_samples.new_zeros(4 * count),
        (count, len(table)),
        check_invariants=False,
    )
    torch.sparse.sampled_addmm(products, grad_samples, table.t(), beta=0, out=products)
    return products.values().view(count, 4)


def position_gradients(
    table: Tensor, samples: Samples, grad_samples: Tensor, grad_points: Tensor, grad_mask: Tensor
) -> None:
    """Write the gradients (S, 2) of the points, as (y, x) in pixels, and (S,) of the mask."""
    products = row_products(table, samples.rows, grad_samples)
    top_left, top_right, bottom_left, bottom_right = products.unbind(1)
    along_top, along_bottom = top_right - top_left, bottom_right - bottom_left
    torch.mul(torch.lerp(along_top, along_bottom, samples.down), samples.mask, out=grad_points[:, 1])
    top = along_top.mul_(samples.right).add_(top_left)
    down = along_bottom.mul_(samples.right).add_(bottom_left).sub_(top)
    torch.mul(down, samples.mask, out=grad_points[:, 0])
    torch.addcmul(top, down, samples.down, out=grad_mask)
