import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasperc.ops.deform_conv import DeformConv2d
from search_spaces.operations import (
    CELL_OPERATIONS,
    FPN_OPERATIONS,
    HEAD_OPERATIONS,
    OPERATION_LABELS,
    build_operation,
    operation_name,
)

ALL = ("sep3x3", "sep3x3_dil3", "sep5x5_dil6", "skip", "deform3x3", "conv1x1", "conv3x3")


def test_the_tables():
    assert FPN_OPERATIONS == ("sep3x3", "sep3x3_dil3", "sep5x5_dil6", "skip", "deform3x3")
    assert HEAD_OPERATIONS["nas_fcos"] == ("conv1x1", "conv3x3", "sep3x3", "sep3x3_dil3", "skip", "deform3x3")
    assert HEAD_OPERATIONS["thesis"] == (*FPN_OPERATIONS, "conv1x1", "conv3x3")
    # Table 6.1.
    assert CELL_OPERATIONS == ("sep3x3", "gap", "sep3x3_dil3", "sep5x5_dil6", "skip", "deform3x3")
    assert set(OPERATION_LABELS) == {*ALL, "gap"}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_shape_norm_and_name_read_back(name, norm):
    operation = build_operation(name, 32, norm)
    assert operation(torch.randn(2, 32, 7, 5)).shape == (2, 32, 7, 5)
    assert operation_name(operation) == name
    kinds = {type(layer) for layer in operation.modules()}
    expected = nn.BatchNorm2d if norm == "batch" else nn.GroupNorm
    assert any(issubclass(kind, expected) for kind in kinds) == (name != "skip")
    # Only the deformable kernel and its offsets have biases besides the norms'.
    biases = [
        m for m in operation.modules() if isinstance(m, nn.Conv2d | DeformConv2d) and m.bias is not None
    ]
    assert len(biases) == (2 if name == "deform3x3" else 0)


@pytest.mark.parametrize(
    ("name", "kernel", "dilation"), [("sep3x3", 3, 1), ("sep3x3_dil3", 3, 3), ("sep5x5_dil6", 5, 6)]
)
def test_a_separable_convolution_is_depthwise_pointwise_norm_relu(name, kernel, dilation):
    operation = build_operation(name, 32, "group")
    depthwise, pointwise = [layer.weight for layer in operation.modules() if isinstance(layer, nn.Conv2d)]
    assert depthwise.shape == (32, 1, kernel, kernel)
    x = torch.randn(1, 32, 9, 9)
    padding = dilation * (kernel // 2)
    expected = F.conv2d(F.conv2d(x, depthwise, padding=padding, dilation=dilation, groups=32), pointwise)
    torch.testing.assert_close(operation(x), F.relu(F.group_norm(expected, 32)), rtol=1e-4, atol=1e-4)


def test_deformable_groups():
    (convolution,) = [m for m in build_operation("deform3x3", 32, "batch") if isinstance(m, DeformConv2d)]
    assert convolution.offset_mask.out_channels == 54


def test_global_pooling_gives_every_pixel_the_same():
    operation = build_operation("gap", 8, "batch").eval()
    assert operation_name(operation) == "gap"
    nn.init.uniform_(operation[1].running_mean)
    x = torch.randn(2, 8, 7, 5)
    single = operation[1](F.conv2d(x.mean((2, 3), keepdim=True), operation[0].weight)).relu()
    expected = F.interpolate(single, size=(7, 5), mode="bilinear", align_corners=False)
    torch.testing.assert_close(operation(x), expected)


def test_one_value_a_group_normalises_to_nothing():
    """P7 of a small image at width 32."""
    operation = build_operation("conv1x1", 32, "group").eval()
    output = operation(torch.randn(1, 32, 1, 1))
    torch.testing.assert_close(output, torch.zeros(1, 32, 1, 1), atol=1e-3, rtol=0)


def test_unknown_modules_are_named():
    with pytest.raises(ValueError, match="MaxPool2d"):
        operation_name(nn.MaxPool2d(2))
    edited = build_operation("sep3x3", 32, "batch")
    edited[0].dilation = (2, 2)
    with pytest.raises(ValueError, match="no operation"):
        operation_name(edited)
