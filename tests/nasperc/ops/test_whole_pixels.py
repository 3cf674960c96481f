"""Gradients of positions at whole pixels, where bilinear interpolation has a kink: the right-hand one everywhere."""

import math
from fractions import Fraction
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from nasperc.ops import affine_sampling
from nasperc.ops.affine_sampling import affine_sample
from nasperc.ops.deform_conv import DeformConv2d, _by_autograd, modulated_deform_conv2d


def columns_of(x, offset, mask):
    """What torchvision's kernel reads (im2col) of 3x3 taps with padding 1, and its derivatives by offset and mask, one
    number at a time in float64; positions are exact."""
    n, channels, height, width = x.shape
    groups = mask.shape[1] // 9
    shape = (n, channels, 9, *mask.shape[2:])
    columns, by_y, by_x, by_mask = (torch.zeros(shape, dtype=torch.float64) for _ in range(4))

    def pixel(image, channel, y, x_):
        return x[image, channel, y, x_].item() if 0 <= y < height and 0 <= x_ < width else 0.0

    for place in torch.cartesian_prod(*(torch.arange(size) for size in shape)).tolist():
        image, channel, tap, i, j = place
        group = channel // (channels // groups)
        dy, dx = offset[image, 2 * (group * 9 + tap) : 2 * (group * 9 + tap) + 2, i, j].tolist()
        y, x_ = Fraction(dy) + i + tap // 3 - 1, Fraction(dx) + j + tap % 3 - 1
        top, left = math.floor(y), math.floor(x_)
        down, right = float(y - top), float(x_ - left)
        here, beside = pixel(image, channel, top, left), pixel(image, channel, top, left + 1)
        below, across = pixel(image, channel, top + 1, left), pixel(image, channel, top + 1, left + 1)
        read = (1 - down) * ((1 - right) * here + right * beside) + down * (
            (1 - right) * below + right * across
        )
        factor = mask[image, group * 9 + tap, i, j].item()
        place = tuple(place)
        columns[place], by_mask[place] = factor * read, read
        by_y[place] = factor * ((1 - right) * (below - here) + right * (across - beside))
        by_x[place] = factor * ((1 - down) * (beside - here) + down * (across - below))
    return columns, by_y, by_x, by_mask


def reference(x, offset, mask, weight, bias, upstream):
    """Value of the convolution, and the gradients of offset, mask and weight."""
    n, channels = x.shape[:2]
    groups = mask.shape[1] // 9
    columns, by_y, by_x, by_mask = columns_of(x, offset, mask)
    kernel = weight.double().reshape(len(weight), channels, 9)
    value = torch.einsum("oct,nctij->noij", kernel, columns) + bias.double()[:, None, None]
    grad = torch.einsum("oct,noij->nctij", kernel, upstream.double())

    def of_group(derivative):
        return (grad * derivative).view(n, groups, -1, *grad.shape[2:]).sum(2)

    by_offset = torch.stack((of_group(by_y), of_group(by_x)), 3)
    return (
        value,
        by_offset.reshape(offset.shape),
        of_group(by_mask).reshape(mask.shape),
        torch.einsum("noij,nctij->oct", upstream.double(), columns).reshape(weight.shape),
    )


def neighbours(number, dtype):
    """A number and the two next to it."""
    there = torch.tensor(float(number), dtype=dtype)
    return [torch.nextafter(there, torch.tensor(end, dtype=dtype)) for end in (-math.inf, math.inf)] + [there]


def draw(size, dtype=torch.float32):
    torch.manual_seed(0)
    choices = torch.stack([each for number in (0, 0, 1, -1, 2, -3) for each in neighbours(number, dtype)])
    offset = choices[torch.randint(len(choices), (1, 36, *size))]
    # A quarter of the map is as every layer starts.
    offset[..., : size[1] // 4] = 0
    tensors = (
        torch.randn(1, 4, *size, dtype=dtype),
        offset,
        torch.rand(1, 18, *size, dtype=dtype),
        torch.randn(3, 4, 3, 3, dtype=dtype),
        torch.randn(3, dtype=dtype),
    )
    return tuple(t.requires_grad_() for t in tensors)


def under_autocast(*tensors):
    """Of tensors that bfloat16 changes in the matrix product alone."""
    with torch.autocast("cpu", torch.bfloat16):
        return modulated_deform_conv2d(*tensors)


PATHS = {
    "fast": modulated_deform_conv2d,
    "by autograd": partial(_by_autograd, stride=1, padding=1, dilation=1),
    "compiled": torch.compile(modulated_deform_conv2d, backend="aot_eager", dynamic=False),
}


@pytest.mark.parametrize(
    ("path", "size", "dtype"),
    [
        *(
            (path, size, dtype)
            for path in ("fast", "by autograd")
            for size in ((3, 13), (5, 7), (4, 6))
            for dtype in (torch.float32, torch.float64)
        ),
        # Each combination is compiled.
        ("compiled", (3, 13), torch.float32),
    ],
)
def test_a_deformable_convolution_at_whole_offsets_and_beside_them(path, size, dtype):
    path, tensors = PATHS[path], draw(size, dtype)
    out = path(*tensors)
    upstream = torch.randn_like(out)
    gradients = torch.autograd.grad(out, tensors[1:4], upstream)
    wanted = reference(*(t.detach() for t in tensors), upstream)
    for ours, theirs in zip((out, *gradients), wanted, strict=True):
        torch.testing.assert_close(ours, theirs.to(dtype), atol=2e-5, rtol=1e-5)
    fast = torch.autograd.grad(modulated_deform_conv2d(*tensors), tensors, upstream)
    for ours, theirs in zip(torch.autograd.grad(path(*tensors), tensors, upstream), fast, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_autocast_takes_the_same_side():
    tensors = draw((5, 13))
    out = under_autocast(*tensors)
    assert out.dtype == torch.bfloat16
    upstream = torch.randn_like(out)
    (ours,) = torch.autograd.grad(out, tensors[1], upstream)
    _, theirs, _, _ = reference(*(t.detach() for t in tensors), upstream)
    # bfloat16 has eight bits; the other side would be wrong by the size of the gradients, 5.
    torch.testing.assert_close(ours, theirs.float(), atol=0.15, rtol=0.02)


@pytest.mark.parametrize("width", [5, 13, 49, 100, 167])
def test_a_layer_starts_with_the_same_gradients_on_every_path(width):
    """Offsets of zero at the widths of feature maps: normalised to -1 to 1, a part of the columns is rounded down."""
    torch.manual_seed(0)
    layer, x = DeformConv2d(4, 3), torch.randn(1, 4, 3, width)

    def gradient(convolution):
        offset = torch.zeros(1, 36, 3, width, requires_grad=True)
        out = convolution(x, offset, torch.full((1, 18, 3, width), 0.5), layer.weight, layer.bias)
        return torch.autograd.grad(out.sin().sum(), offset)[0]

    fast = gradient(modulated_deform_conv2d)
    torch.testing.assert_close(gradient(PATHS["by autograd"]), fast, atol=1e-5, rtol=1e-5)


def affine_by_autograd(x, theta):
    return affine_sampling._by_autograd(x, affine_sampling._positions(theta, *x.shape[2:]))


AFFINE = {
    "fast": affine_sample,
    "by autograd": affine_by_autograd,
    "compiled": torch.compile(affine_sample, backend="aot_eager", dynamic=False),
}


@pytest.mark.parametrize(
    ("path", "size", "moved"),
    [
        *(
            (path, size, moved)
            for path in ("fast", "by autograd")
            for size in ((5, 7), (3, 13), (7, 48), (2, 167))
            for moved in (0, 2, -1)
        ),
        ("compiled", (3, 13), 0),
    ],
)
def test_an_affine_sample_of_the_identity(path, size, moved):
    """And of whole steps to the right: the map itself, moved; positions move to the right and down from there."""
    torch.manual_seed(0)
    height, width = size
    x = torch.randn(2, 3, *size)
    theta = torch.eye(2, 3).repeat(2, 1, 1)
    theta[:, 0, 2] = 2 * moved / width
    exact = theta[0, 0, 2].item() * (width / 2) == moved
    theta.requires_grad_()
    out = AFFINE[path](x, theta)
    padded = F.pad(x.double(), (4, 5, 0, 1))
    here, beside, below = (
        padded[:, :, down : down + height, 4 + moved + right : 4 + moved + right + width]
        for down, right in ((0, 0), (0, 1), (1, 0))
    )
    torch.testing.assert_close(out, here.float(), atol=1e-4, rtol=1e-5)
    if (
        not exact
    ):  # two over the width is no float: the positions are beside whole pixels, as they ought to be
        return
    upstream = torch.randn_like(out)
    (ours,) = torch.autograd.grad(out, theta, upstream)
    by_x = (upstream * (beside - here)).sum(1)
    by_y = (upstream * (below - here)).sum(1)
    along = (torch.arange(width, dtype=torch.float64) * 2 + 1) / width - 1
    across = (torch.arange(height, dtype=torch.float64) * 2 + 1) / height - 1
    wanted = torch.stack(
        [
            torch.stack([(g * scale).sum((1, 2)) for g in (grad * along, grad * across[:, None], grad)], 1)
            for grad, scale in ((by_x, width / 2), (by_y, height / 2))
        ],
        1,
    )
    torch.testing.assert_close(ours, wanted.float(), atol=2e-3, rtol=1e-4)
