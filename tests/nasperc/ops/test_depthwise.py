import pytest
import torch
from torch.nn import functional as F

from nasperc.ops.depthwise import DepthwiseConv2d, dilated_by_phases
from nasperc.ops.pointwise import PointwiseConv2d


@pytest.mark.parametrize("size", [(24, 24), (13, 17), (4, 3), (1, 5)])
@pytest.mark.parametrize(("kernel_size", "dilation"), [(3, 3), (5, 6), (3, 2)])
def test_phases_are_the_dilated_convolution(size, kernel_size, dilation):
    torch.manual_seed(0)
    x = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 1, kernel_size, kernel_size, dtype=torch.float64, requires_grad=True)
    padding = dilation * (kernel_size - 1) // 2
    expected = F.conv2d(x, weight, padding=padding, dilation=dilation, groups=4)
    out = dilated_by_phases(x, weight, dilation)
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(out)
    for ours, theirs in zip(
        torch.autograd.grad(out, (x, weight), grad),
        torch.autograd.grad(expected, (x, weight), grad),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("kernel_size", "dilation"), [(3, 1), (3, 3), (5, 6)])
@pytest.mark.parametrize("width", [6, 32])
def test_depthwise_module_keeps_size_and_layout_on_either_path(kernel_size, dilation, width):
    torch.manual_seed(0)
    layer = DepthwiseConv2d(8, kernel_size, dilation)
    x = torch.randn(2, 8, 20, width).to(memory_format=torch.channels_last)
    out = layer(x)
    padding = dilation * (kernel_size - 1) // 2
    expected = F.conv2d(x, layer.weight, padding=padding, dilation=dilation, groups=8)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    assert dict(layer.named_parameters()).keys() == {"weight"}


@pytest.mark.parametrize("bias", [True, False])
def test_pointwise_is_a_matrix_product_per_pixel(bias):
    torch.manual_seed(0)
    layer = PointwiseConv2d(5, 3, bias=bias)
    x = torch.randn(2, 5, 4, 6).to(memory_format=torch.channels_last).requires_grad_()
    expected = torch.einsum("oc,nchw->nohw", layer.weight[:, :, 0, 0], x)
    if layer.bias is not None:
        expected = expected + layer.bias[:, None, None]
    out = layer(x)
    torch.testing.assert_close(out, expected)
    parameters = (x, *layer.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(out.square().sum(), parameters),
        torch.autograd.grad(expected.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("channels", [9, 15, 16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_few_output_channels_have_the_same_gradients(channels, layout):
    torch.manual_seed(0)
    layer = PointwiseConv2d(5, channels).double()
    x = torch.randn(2, 5, 4, 6, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    ours, theirs = layer(x), F.conv2d(x, layer.weight, layer.bias)
    torch.testing.assert_close(ours, theirs)
    assert ours.is_contiguous(memory_format=layout)
    upstream = torch.randn_like(ours)
    wanted = (x, layer.weight, layer.bias)
    for one, other in zip(
        torch.autograd.grad(ours, wanted, upstream),
        torch.autograd.grad(theirs, wanted, upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
