from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from nasperc.ops.blur_conv import BlurConv2d, binomial, blur


def test_the_coefficients() -> None:
    for side, row in ((1, [1]), (3, [1, 2, 1]), (5, [1, 4, 6, 4, 1]), (7, [1, 6, 15, 20, 15, 6, 1])):
        assert torch.equal(binomial(side), torch.tensor(row, dtype=torch.float64) / sum(row))


@pytest.mark.parametrize("side", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(8, 11), (7, 4), (1, 1), (2, 1)])
def test_the_blur_is_scipy_s(side: int, stride: int, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    line = binomial(side).numpy()
    kernel = np.outer(line, line)
    wanted = np.stack(
        [[ndimage.correlate(plane, kernel, mode="nearest") for plane in image] for image in x.numpy()]
    )
    found = blur(x, side, stride)
    torch.testing.assert_close(found, torch.from_numpy(wanted)[..., ::stride, ::stride])


@pytest.mark.parametrize(("kernel", "groups"), [(1, 1), (3, 1), (3, 4), (7, 1)])
def test_it_is_a_convolution_of_stride_one_and_a_blur(kernel: int, groups: int) -> None:
    torch.manual_seed(0)
    layer = BlurConv2d(4, 8, kernel, 2, groups=groups, blur_size=5).double()
    x = torch.randn(2, 4, 9, 12, dtype=torch.float64, requires_grad=True)
    wanted = blur(F.conv2d(x, layer.weight, padding=kernel // 2, groups=groups), 5, 2)
    found = layer(x)
    assert found.shape == F.conv2d(x, layer.weight, padding=kernel // 2, stride=2, groups=groups).shape
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad(each.square().sum(), (x, layer.weight)) for each in (found, wanted)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_an_even_picture_stays_what_it_is() -> None:
    layer = BlurConv2d(1, 1, 1, 2)
    torch.nn.init.ones_(layer.weight)
    torch.testing.assert_close(layer(torch.full((1, 1, 6, 6), 3.0)), torch.full((1, 1, 3, 3), 3.0))
