import pytest
import torch
from torch.nn import functional as F

from search_spaces.aggregations import ConcatConv, ConcatReduce, PairwiseConv2d, ParamSum, Sum


def pair(channels=4):
    return torch.randn(2, channels, 8, 6), torch.randn(2, channels, 4, 3)


def up(x):
    return F.interpolate(x, size=(8, 6), mode="bilinear", align_corners=False)


def test_param_sum_starts_as_the_sum_and_weighs_channels():
    x, y = pair()
    aggregation = ParamSum(4)
    torch.testing.assert_close(aggregation(x, y), x + up(y))
    with torch.no_grad():
        aggregation.a[1], aggregation.b[2] = 2.0, 3.0
    weights = torch.tensor([1.0, 2, 1, 1]).view(4, 1, 1), torch.tensor([1.0, 1, 3, 1]).view(4, 1, 1)
    torch.testing.assert_close(aggregation(y, x), weights[0] * up(y) + weights[1] * x)


def test_concat_reduce_is_listing_1():
    """BN(2C), ReLU, 1x1 in C groups: output g from channels 2g and 2g + 1 of the concatenation."""
    x, y = pair()
    aggregation = ConcatReduce(4).eval()
    torch.nn.init.uniform_(aggregation.norm.running_mean)
    torch.nn.init.uniform_(aggregation.norm.running_var, 0.5, 2)
    z = F.relu(aggregation.norm(torch.cat((x, up(y)), 1)))
    weight = aggregation.conv.weight
    expected = torch.stack([weight[g, 0] * z[:, 2 * g] + weight[g, 1] * z[:, 2 * g + 1] for g in range(4)], 1)
    torch.testing.assert_close(aggregation(x, y), expected)
    # Half of the output comes from each operand.
    changed = aggregation(x, y + 1)
    assert torch.equal(changed[:, :2], aggregation(x, y)[:, :2])
    assert not torch.equal(changed[:, 2:], aggregation(x, y)[:, 2:])


@pytest.mark.parametrize("kind", [ParamSum, ConcatReduce])
def test_learned_weights_leave_bfloat16_maps_as_they_are(kind):
    x, y = pair()
    with torch.autocast("cpu", torch.bfloat16):
        assert kind(4)(x.bfloat16(), y.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_pairwise_convolution_is_the_grouped_one_with_its_gradients(layout):
    convolution = PairwiseConv2d(3)
    x = torch.randn(2, 6, 5, 4).contiguous(memory_format=layout).requires_grad_()
    fast, slow = convolution(x), F.conv2d(x, convolution.weight, groups=3)
    torch.testing.assert_close(fast, slow)
    upstream = torch.randn_like(slow)
    fast_gradients = torch.autograd.grad(fast, (x, convolution.weight), upstream)
    slow_gradients = torch.autograd.grad(slow, (x, convolution.weight), upstream)
    for one, other in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(one, other)
    if layout == torch.channels_last:
        assert fast.is_contiguous(memory_format=layout)


def test_the_thesis_variant():
    x, y = pair()
    assert torch.equal(Sum(4)(x, y), x + up(y))
    aggregation = ConcatConv(4)
    torch.testing.assert_close(aggregation(y, x), F.conv2d(torch.cat((up(y), x), 1), aggregation.conv.weight))
    assert aggregation.conv.weight.shape == (4, 8, 1, 1)
