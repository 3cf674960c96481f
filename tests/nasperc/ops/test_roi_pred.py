from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.ops.boxes import distances_to_boxes, locations
from nasperc.ops.roi_align import roi_align
from nasperc.ops.roi_pred import RoIPred, roi_pred_offsets

STRIDE = 8


def drawn(size: tuple[int, int], *, reach: float, seed: int = 0) -> Tensor:
    """Distances (2, 4, H, W) in input pixels from each location to the sides of a box around it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 4, *size, dtype=torch.float64, generator=generator) * reach


def by_roi_align(layer: RoIPred, x: Tensor, distances: Tensor, stride: int, lower: int) -> Tensor:
    """SmalHead: RoIAlign with one sample a bin, and one linear layer."""
    n, _, height, width = distances.shape
    points = locations((height, width), stride).double()
    boxes = distances_to_boxes(points, distances.permute(0, 2, 3, 1).flatten(1, 2)).flatten(0, 1)
    image = torch.arange(n).repeat_interleave(height * width)
    side = layer.kernel_size[0]
    pooled = roi_align(x, boxes, image, (side, side), 2**lower / stride, sampling_ratio=1)
    found = F.linear(pooled.flatten(1), layer.weight.flatten(1), layer.bias)
    return found.unflatten(0, (n, height, width)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("side", [3, 5, 7])
@pytest.mark.parametrize("lower", [0, 1, 2])
# Of boxes inside of the image, of boxes that leave it, and of some that leave it by far.
@pytest.mark.parametrize("reach", [3.0, 40.0, 400.0])
def test_it_is_roi_align_and_one_linear_layer(side: int, lower: int, reach: float) -> None:
    torch.manual_seed(0)
    layer = RoIPred(4, 3, side).double()
    # A level of odd size is half of a finer one, rounded up.
    size, finer = (5, 6), {0: (5, 6), 1: (9, 12), 2: (18, 24)}[lower]
    x = torch.randn(2, 4, *finer, dtype=torch.float64, requires_grad=True)
    distances = drawn(size, reach=reach)
    ours = layer(x, distances, STRIDE, lower)
    wanted = by_roi_align(layer, x, distances, STRIDE, lower)
    torch.testing.assert_close(ours, wanted)
    upstream = torch.randn_like(ours)
    tensors = (x, layer.weight, layer.bias)
    gradients = torch.autograd.grad(ours, tensors, upstream)
    for one, other in zip(gradients, torch.autograd.grad(wanted, tensors, upstream), strict=True):
        torch.testing.assert_close(one, other)


def test_the_equations_by_hand() -> None:
    """3.2 and 3.3 at stride 4 with 3 x 3 taps: left 2, top 4, right 10, bottom 8 pixels, in the middle of a large map.

    o_x = 12 (2 i + 1) / 6 - 2 = 0, 4, 8 and o_y = 12 (2 j + 1) / 6 - 4 = -2, 2, 6, in cells 0, 1, 2 and -0.5, 0.5, 1.5;
    less the kernel's own -1, 0, 1.
    """
    distances = torch.tensor([2.0, 4.0, 10.0, 8.0])[None, :, None, None].expand(1, 4, 9, 9)
    found = roi_pred_offsets(distances, (9, 9), 3, 4)[0, :, 4, 4].view(3, 3, 2)
    torch.testing.assert_close(found[0, :, 1], torch.tensor([1.0, 1.0, 1.0]))
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([0.5, 0.5, 0.5]))
    assert torch.equal(found[0, :, 1], found[2, :, 1])


def test_a_box_of_as_many_cells_as_taps_is_a_convolution() -> None:
    """Whose middle is the location's own cell; only at the borders is it not zeros that are read."""
    torch.manual_seed(0)
    layer, x = RoIPred(4, 3, 5), torch.randn(2, 4, 9, 11)
    half = torch.full((2, 4, 9, 11), 2.5 * STRIDE)
    ours, wanted = layer(x, half, STRIDE), F.conv2d(x, layer.weight, layer.bias, padding=2)
    torch.testing.assert_close(ours[..., 2:-2, 2:-2], wanted[..., 2:-2, 2:-2])
    edges = F.conv2d(F.pad(x, (1,) * 4, mode="replicate"), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(ours, edges)


def test_boxes_get_no_gradient() -> None:
    layer, distances = RoIPred(4, 3, 3), torch.rand(1, 4, 5, 5, requires_grad=True)
    out = layer(torch.randn(1, 4, 5, 5, requires_grad=True), distances, STRIDE)
    assert torch.autograd.grad(out.sum(), distances, allow_unused=True) == (None,)
