"""Every aggregation against appendix A read slowly: pixel by pixel, in float64, values and gradients."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from search_spaces.aggregations import ConcatReduce, ParamSum
from search_spaces.cell_aggregations import (
    CELL_AGGREGATION_LABELS,
    CELL_AGGREGATIONS,
    CELL_SYMMETRIC,
    BilinearSampling,
    DenseAttention,
    Predictive,
    StackedConv3d,
)

CHANNELS = 4


def larger(x, y):
    """The smaller of two maps upsampled bilinearly, pixel centres at half-integers."""
    size = max(x.shape[2:], y.shape[2:])

    def resize(z):
        return z if z.shape[2:] == size else F.interpolate(z, size=size, mode="bilinear", align_corners=False)

    return resize(x), resize(y)


def pixel(z, i, j):
    """All channels of one pixel (N, C); zeros outside."""
    inside = 0 <= i < z.shape[2] and 0 <= j < z.shape[3]
    return z[:, :, i, j] if inside else torch.zeros_like(z[:, :, 0, 0])


def by_pixel(z, value):
    """The map whose pixel (i, j) is ``value(i, j)`` (N, C)."""
    rows = [torch.stack([value(i, j) for j in range(z.shape[3])], -1) for i in range(z.shape[2])]
    return torch.stack(rows, -2)


def depthwise(z, weight):
    """3x3 kernels (C, 3, 3), one a channel, over zero-padded z."""
    offsets = [(a, b) for a in range(3) for b in range(3)]
    return by_pixel(z, lambda i, j: sum(weight[:, a, b] * pixel(z, i + a - 1, j + b - 1) for a, b in offsets))


def param_sum(module, x, y):
    return module.a[:, None, None] * x + module.b[:, None, None] * y


def concat_reduce(module, x, y):
    z = torch.cat((x, y), 1)
    mean, variance = z.mean((0, 2, 3), keepdim=True), z.var((0, 2, 3), unbiased=False, keepdim=True)
    scale, shift = module.norm.weight[:, None, None], module.norm.bias[:, None, None]
    z = ((z - mean) / (variance + module.norm.eps).sqrt() * scale + shift).clamp(min=0)
    weight = module.conv.weight
    return torch.stack(
        [weight[g, 0] * z[:, 2 * g] + weight[g, 1] * z[:, 2 * g + 1] for g in range(CHANNELS)], 1
    )


def predictive(module, x, y):
    _, first, _, second, _, last, _ = module.filters
    hidden = depthwise(x.clamp(min=0), first.weight[:, 0])
    hidden = depthwise(hidden.clamp(min=0), second.weight[:, 0])
    logits = torch.einsum("kc,nchw->nkhw", last.weight[:, :, 0, 0], hidden.clamp(min=0))
    filters = logits.exp() / logits.exp().sum(1, keepdim=True)
    taps = [(k, k // 3 - 1, k % 3 - 1) for k in range(9)]
    return by_pixel(
        y, lambda i, j: sum(filters[:, k, i, j, None] * pixel(y, i + a, j + b) for k, a, b in taps)
    )


def bilinear_sampling(module, x, y):
    located = torch.einsum("kc,nchw->nkhw", module.locate[0].weight[:, :, 0, 0], y).clamp(min=0)
    theta = (located.mean(2).mean(2) @ module.affine.weight.T + module.affine.bias).view(-1, 2, 3)
    n, _, height, width = x.shape
    images = []
    for image in range(n):
        rows = []
        for i in range(height):
            row = []
            for j in range(width):
                # Centres of the pixels between -1 and 1, x before y.
                centre = x.new_tensor(((2 * j + 1) / width - 1, (2 * i + 1) / height - 1, 1.0))
                right, down = theta[image] @ centre
                u, v = ((right + 1) * width - 1) / 2, ((down + 1) * height - 1) / 2
                left, top = math.floor(u), math.floor(v)
                row.append(
                    sum(
                        (1 - (u - left - b).abs())
                        * (1 - (v - top - a).abs())
                        * pixel(x[image : image + 1], top + a, left + b)[0]
                        for a in range(2)
                        for b in range(2)
                    )
                )
            rows.append(torch.stack(row, -1))
        images.append(torch.stack(rows, -2))
    return torch.stack(images) + y


def conv3d(module, x, y):
    first, second = (each.weight[:, 0] for each in module.slices)
    return depthwise(x, first) + depthwise(y, second)


def dense_attention(module, x, y):
    return x / (1 + (-y).exp())


SLOW = {
    ParamSum: param_sum,
    ConcatReduce: concat_reduce,
    Predictive: predictive,
    BilinearSampling: bilinear_sampling,
    StackedConv3d: conv3d,
    DenseAttention: dense_attention,
}


def built(kind):
    """In float64, with parameters that all count; the affine map turns, shears and leaves the map in part."""
    torch.manual_seed(0)
    module = kind(CHANNELS).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.7)
    if kind is BilinearSampling:
        nn.init.normal_(module.affine.weight, std=0.3)
        module.affine.bias.data = torch.tensor([1.1, 0.3, 0.2, -0.2, 0.9, -0.3], dtype=torch.float64)
    return module


def maps(*sizes):
    torch.manual_seed(1)
    return [torch.randn(2, CHANNELS, *size, dtype=torch.float64, requires_grad=True) for size in sizes]


def assert_same(module, slow, x, y):
    out, expected = module(x, y), slow(module, *larger(x, y))
    torch.testing.assert_close(out, expected)
    upstream = torch.randn_like(expected)
    wanted = (x, y, *module.parameters())
    ours, theirs = (torch.autograd.grad(each, wanted, upstream) for each in (out, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
        assert one.abs().sum() > 0


def test_the_table():
    assert set(SLOW) == set(CELL_AGGREGATIONS)
    assert len(CELL_AGGREGATION_LABELS) == len(CELL_AGGREGATIONS) == 6
    assert frozenset({0, 4}) == CELL_SYMMETRIC


@pytest.mark.parametrize("kind", CELL_AGGREGATIONS)
@pytest.mark.parametrize("sizes", [((5, 6), (5, 6)), ((3, 3), (5, 6)), ((5, 6), (2, 3))])
def test_it_is_appendix_a(kind, sizes):
    assert_same(built(kind), SLOW[kind], *maps(*sizes))


@pytest.mark.parametrize("kind", CELL_AGGREGATIONS)
def test_layouts_agree(kind):
    module = built(kind)
    plain = maps((5, 6), (5, 6))
    last = [z.contiguous(memory_format=torch.channels_last) for z in plain]
    module.eval()
    torch.testing.assert_close(module(*last), module(*plain))
    assert module(*last).is_contiguous(memory_format=torch.channels_last)


def test_the_3d_convolution_is_torchs():
    module = built(StackedConv3d)
    x, y = maps((5, 6), (5, 6))
    kernel = torch.stack([each.weight for each in module.slices], 2)
    expected = F.conv3d(torch.stack((x, y), 2), kernel, padding=(0, 1, 1), groups=CHANNELS).squeeze(2)
    torch.testing.assert_close(module(x, y), expected)
    # Its initialisation too: nn.Conv3d's bound is 1 / sqrt(18).
    drawn = torch.cat([each.weight.flatten() for each in StackedConv3d(512).slices])
    assert drawn.abs().max().item() == pytest.approx(18**-0.5, rel=1e-3)


@pytest.mark.parametrize("kind", CELL_AGGREGATIONS)
def test_half_precision_maps_stay_what_they_are(kind):
    x, y = (torch.randn(2, 4, 5, 6) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        assert kind(4)(x.bfloat16(), y.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("index", sorted(CELL_SYMMETRIC))
def test_operands_of_symmetric_ones_swap_with_their_weights(index):
    module = built(CELL_AGGREGATIONS[index])
    x, y = maps((5, 6), (3, 3))
    expected = module(x, y)
    with torch.no_grad():
        if index == 0:
            module.a.data, module.b.data = module.b.data, module.a.data
        else:
            module.slices = nn.ModuleList(reversed(module.slices))
    torch.testing.assert_close(module(y, x), expected)
