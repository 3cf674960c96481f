import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasperc.ops import deform_conv_cpu
from nasperc.ops.deform_conv import DeformConv2d, _by_autograd, _by_grid_sample, modulated_deform_conv2d
from nasperc.ops.resize import resize_to_larger


def slow(x, offset, mask, weight, bias, stride=1, padding=1, dilation=1):
    """The definition, one number at a time."""
    n, channels, height, width = x.shape
    side, (out_height, out_width) = weight.shape[-1], mask.shape[2:]
    taps = side * side
    groups = mask.shape[1] // taps
    columns = torch.zeros(n, channels, taps, out_height, out_width, dtype=x.dtype)

    def pixel(image, channel, y, x_):
        inside = 0 <= y < height and 0 <= x_ < width
        return x[image, channel, y, x_].item() if inside else 0.0

    for image in range(n):
        for channel in range(channels):
            group = channel // (channels // groups)
            for tap in range(taps):
                for i in range(out_height):
                    for j in range(out_width):
                        place = 2 * (group * taps + tap)
                        y = i * stride - padding + tap // side * dilation + offset[image, place, i, j].item()
                        z = (
                            j * stride
                            - padding
                            + tap % side * dilation
                            + offset[image, place + 1, i, j].item()
                        )
                        top, left = math.floor(y), math.floor(z)
                        fy, fx = y - top, z - left
                        value = (
                            pixel(image, channel, top, left) * (1 - fy) * (1 - fx)
                            + pixel(image, channel, top, left + 1) * (1 - fy) * fx
                            + pixel(image, channel, top + 1, left) * fy * (1 - fx)
                            + pixel(image, channel, top + 1, left + 1) * fy * fx
                        )
                        columns[image, channel, tap, i, j] = value * mask[image, group * taps + tap, i, j]
    return (
        torch.einsum(
            "octk,nctkij->noij", weight.reshape(len(weight), channels, taps, 1), columns[:, :, :, None]
        )
        + bias[:, None, None]
    )


def draw(
    n=2,
    channels=4,
    out_channels=3,
    groups=2,
    size=(4, 5),
    out_size=None,
    spread=2.0,
    dtype=torch.float64,
    side=3,
):
    torch.manual_seed(0)
    out_size = out_size or size
    # Away from whole pixels, where the bilinear weights have a kink.
    offset = torch.randn(n, groups * 2 * side**2, *out_size, dtype=dtype) * spread
    offset = offset.floor() + 0.05 + 0.9 * (offset - offset.floor())
    tensors = (
        torch.randn(n, channels, *size, dtype=dtype),
        offset,
        torch.rand(n, groups * side**2, *out_size, dtype=dtype),
        torch.randn(out_channels, channels, side, side, dtype=dtype),
        torch.randn(out_channels, dtype=dtype),
    )
    return tuple(t.requires_grad_() for t in tensors)


GEOMETRIES = [
    ((4, 5), {}),
    ((2, 3), {"stride": 2}),
    ((6, 7), {"padding": 2}),
    ((4, 5), {"padding": 2, "dilation": 2}),
]


@pytest.mark.parametrize("size", [(5, 1), (1, 5), (1, 1)])
@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_maps_one_pixel_wide_or_high(size, images, form):
    """In one of the two memory formats their offsets cannot be seen as a flat list without a copy."""
    tensors = [t.contiguous(memory_format=form) if t.ndim == 4 else t for t in draw(n=images, size=size)]
    result = modulated_deform_conv2d(*tensors)
    torch.testing.assert_close(result, slow(*(t.detach() for t in tensors)))
    by_autograd = _by_autograd(*tensors, stride=1, padding=1, dilation=1)
    gradients = [torch.autograd.grad(each.square().sum(), tensors) for each in (result, by_autograd)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("out_size", "geometry"), GEOMETRIES)
def test_all_paths_are_the_definition(out_size, geometry):
    tensors = draw(out_size=out_size)
    expected = slow(*(t.detach() for t in tensors), **geometry)
    torch.testing.assert_close(modulated_deform_conv2d(*tensors, **geometry), expected)
    for path in (_by_autograd, _by_grid_sample):
        result = path(*tensors, **{"stride": 1, "padding": 1, "dilation": 1} | geometry)
        torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(
    ("side", "out_size", "geometry"),
    [
        (1, (4, 5), {"padding": 0}),
        (5, (4, 5), {"padding": 2}),
        (5, (2, 3), {"padding": 2, "stride": 2}),
        (7, (4, 5), {"padding": 3}),
        (7, (4, 5), {"padding": 6, "dilation": 2}),
    ],
)
def test_kernels_of_any_odd_size(side, out_size, geometry):
    """Values and gradients of all paths."""
    tensors = draw(side=side, out_size=out_size)
    expected = slow(*(t.detach() for t in tensors), **geometry)
    fast = modulated_deform_conv2d(*tensors, **geometry)
    torch.testing.assert_close(fast, expected)
    gradients = torch.autograd.grad(fast.square().sum(), tensors)
    for path in (_by_autograd, _by_grid_sample):
        result = path(*tensors, **{"stride": 1, "dilation": 1} | geometry)
        torch.testing.assert_close(result, expected)
        for ours, theirs in zip(gradients, torch.autograd.grad(result.square().sum(), tensors), strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("chunk_elements", [1, 600, 10**6])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_all_paths_agree_however_the_work_is_cut(
    monkeypatch, groups, chunk_elements, memory_format
):
    monkeypatch.setattr(deform_conv_cpu, "_CHUNK_ELEMENTS", chunk_elements)
    drawn = draw(n=3, groups=groups, size=(5, 6), spread=4.0)
    tensors = [
        t.detach().contiguous(memory_format=memory_format if t.dim() == 4 else torch.contiguous_format)
        for t in drawn
    ]
    tensors = [t.requires_grad_() for t in tensors]
    out = modulated_deform_conv2d(*tensors)
    grad = torch.randn_like(out)
    gradients = torch.autograd.grad(out, tensors, grad)
    for path in (_by_autograd, _by_grid_sample):
        expected = torch.autograd.grad(path(*tensors, 1, 1, 1), tensors, grad)
        for ours, theirs in zip(gradients, expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_gradients_are_numerically_right_inside_and_outside_the_image():
    # A spread of 3 on a 3 x 3 image puts most taps across the border, many far outside.
    tensors = draw(n=1, channels=2, out_channels=2, groups=1, size=(3, 3), spread=3.0)
    assert torch.autograd.gradcheck(modulated_deform_conv2d, tensors)


def test_without_bias_and_with_frozen_input():
    x, offset, mask, weight, _ = draw()
    out = modulated_deform_conv2d(x.detach(), offset, mask.detach(), weight)
    expected = _by_autograd(x, offset, mask, weight, None, 1, 1, 1)
    torch.testing.assert_close(out, expected)
    ours = torch.autograd.grad(out.sum(), (offset, weight))
    theirs = torch.autograd.grad(expected.sum(), (offset, weight))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_whole_pixel_offsets_shift_the_convolution():
    x, _, _, weight, bias = draw(size=(6, 6))
    offset = torch.zeros(2, 36, 6, 6, dtype=torch.float64)
    offset[:, 0::2], offset[:, 1::2] = 1, -2
    out = modulated_deform_conv2d(x, offset, torch.ones(2, 18, 6, 6, dtype=torch.float64), weight, bias)
    shifted = F.pad(x, (4, 4, 4, 4))[:, :, 4 : 4 + 8, 1 : 1 + 8]
    torch.testing.assert_close(out, F.conv2d(shifted, weight, bias))


PATHS = [
    modulated_deform_conv2d,
    pytest.param(partial(_by_autograd, stride=1, padding=1, dilation=1), id="by_autograd"),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("far", [1e3, -1e3, 1e12, -1e12, math.inf])
def test_samples_far_outside_read_zero_and_move_nothing(far, path):
    x, offset, mask, weight, bias = draw()
    offset = torch.full_like(offset, far).requires_grad_()
    out = path(x, offset, mask, weight, bias)
    if math.isinf(far):
        assert not out.isfinite().any()
        return
    torch.testing.assert_close(out, bias[:, None, None].expand_as(out))
    for gradient in torch.autograd.grad(out.sum(), (x, offset, mask, weight)):
        assert not gradient.any()


@pytest.mark.parametrize("path", PATHS)
def test_nan_offsets_give_nan_and_no_crash(path):
    x, offset, mask, weight, bias = draw()
    offset = offset.detach().clone()
    offset[0, :, 1, 2] = math.nan
    offset.requires_grad_()
    out = path(x, offset, mask, weight, bias)
    broken = out.isnan().any(dim=1)
    assert broken.nonzero().tolist() == [[0, 1, 2]]
    torch.autograd.grad(out.sum(), (x, offset, mask, weight))


def test_no_images_and_second_derivatives():
    x, offset, mask, weight, bias = draw()
    for none in (modulated_deform_conv2d, partial(_by_autograd, stride=1, padding=1, dilation=1)):
        assert none(x[:0], offset[:0], mask[:0], weight, bias).shape == (0, 3, 4, 5)
    out = modulated_deform_conv2d(x, offset, mask, weight, bias)
    (gradient,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):  # rather than a wrong number
        gradient.sum().backward()


@pytest.mark.parametrize("side", [5, 7])
def test_a_module_of_another_size_starts_as_half_a_convolution(side):
    layer, x = DeformConv2d(4, 6, side, stride=2), torch.randn(2, 4, 9, 8)
    expected = 0.5 * F.conv2d(x, layer.weight, padding=side // 2, stride=2)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
    assert layer.offset_mask.weight.shape == (6 * side**2, 4, side, side)


def test_module_starts_as_half_a_convolution():
    torch.manual_seed(0)
    layer = DeformConv2d(8, 6)
    x = torch.randn(2, 8, 5, 7).to(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(x), 0.5 * F.conv2d(x, layer.weight, padding=1), atol=1e-5, rtol=1e-5)
    assert layer.offset_mask.weight.shape == (54, 8, 3, 3)
    assert layer.weight.abs().max() <= 1 / math.sqrt(72)
    assert not layer.bias.any()
    assert layer(x).is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_samples_the_pixels_that_float32_does():
    """Coordinates in bfloat16 would lie between the pixels: column 95 has eight bits."""
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(shape).bfloat16() for shape in ((1, 4, 3, 96), (2, 4, 3, 3), (2,)))
    regular, whole = torch.zeros(1, 36, 3, 96).bfloat16(), torch.ones(1, 18, 3, 96).bfloat16()
    out = modulated_deform_conv2d(x, regular, whole, weight, bias)
    assert out.dtype == torch.bfloat16
    wanted = F.conv2d(x.float(), weight.float(), bias.float(), padding=1)
    # Rounding of the sums alone: without it the difference is of the size of the values, 6.
    torch.testing.assert_close(out.float(), wanted, atol=0.1, rtol=0.02)


def test_the_module_keeps_the_type_of_autocast_and_the_channels_last():
    layer, x = DeformConv2d(4, 6), torch.randn(2, 4, 5, 7).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x.bfloat16())
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("stride", [1, 2])
def test_shapes_alone_are_those_of_the_computation(stride):
    layer = DeformConv2d(4, 6, stride=stride, bias=False)
    wanted = layer(torch.randn(2, 4, 7, 10)).shape
    meta = layer.to("meta")
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            assert meta(torch.empty(2, 4, 7, 10, device="meta")).shape == wanted


def test_module_says_what_it_cannot_do():
    with pytest.raises(ValueError, match="odd kernel_size, not 4"):
        DeformConv2d(8, 8, kernel_size=4)
    with pytest.raises(ValueError, match="9 channels do not divide into 2 groups"):
        DeformConv2d(9, 8)


class _Resizing(nn.Module):
    """What an exported decoder does with these operations."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, 2, 1)
        self.deform = DeformConv2d(8, 8, side)
        nn.init.normal_(self.deform.offset_mask.weight, std=0.3)

    def forward(self, x):
        a, b = resize_to_larger(self.deform(self.down(x)), x[:, :1])
        return a + b


@pytest.mark.parametrize("side", [3, 5])
def test_exports_to_onnx_with_dynamic_size(tmp_path, side):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model = _Resizing(side).eval()
    half = {name: torch.export.Dim(name, min=2, max=64) for name in ("h", "w")}
    program = torch.onnx.export(
        model,
        (torch.randn(1, 3, 16, 24),),
        dynamo=True,
        opset_version=19,  # the first with DeformConv
        dynamic_shapes=({2: 2 * half["h"], 3: 2 * half["w"]},),
        verbose=False,
    )
    program.save(str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for size in ((16, 24), (10, 32)):
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            expected = model(x)
        (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(out), expected, atol=1e-5, rtol=1e-4)
