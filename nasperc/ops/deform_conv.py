"""Modulated deformable convolution (DCNv2, Zhu et al., "Deformable ConvNets v2") in plain torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.ops.bilinear_rows import corner_weights, padded_table
from nasperc.ops.deform_conv_cpu import (
    Layout,
    ModulatedDeformConv2dCPU,
    flatten_kernel,
    lines_of,
    locate,
)
from nasperc.ops.tracing import is_traced


def modulated_deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
) -> Tensor:
    """Convolution whose taps are moved by ``offset`` and scaled by ``mask``; (N, O, H', W').

    Args:
        x: (N, C, H, W); zero outside, bilinear between pixels.
        offset: (N, 2 * G * k * k, H', W') in pixels of ``x``; for each of G groups of channels and each tap
            (row by row) first dy, then dx (torchvision's layout).
        mask: (N, G * k * k, H', W'), in [0, 1].
        weight: (O, C, k, k), k odd.
        bias: (O,) or None.
        stride, padding, dilation: as in ``torch.nn.functional.conv2d``, the same for both axes.

    Differentiable once in every tensor. At whole pixels, where bilinear interpolation has a kink, the gradient of an
    offset is the right-hand one, on every device and under autocast, as in torchvision's kernel.
    """
    if x.device.type == "meta" and not torch.is_grad_enabled():
        # Only the shape is asked for. It would be found by way of some fifty operations.
        return x.new_empty(x.shape[0], weight.shape[0], *offset.shape[-2:])
    if torch.onnx.is_in_onnx_export():
        return _as_onnx_operator(x, offset, mask, weight, bias, stride, padding, dilation)
    if _fast_path_applies(x, offset, mask, weight):
        return ModulatedDeformConv2dCPU.apply(x, offset, mask, weight, bias, stride, padding, dilation)
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return _by_grid_sample(x, offset, mask, weight, bias, stride, padding, dilation)
    return _by_autograd(x, offset, mask, weight, bias, stride, padding, dilation)


class DeformConv2d(nn.Module):
    """DCNv2 layer (N, C, H, W) -> (N, O, H, W) that predicts its own offsets and masks (NAS-FCOS release).

    ``offset_mask`` is a k x k convolution to 2 * G * k * k offsets, then G * k * k mask logits. It starts at zero:
    regular taps, every mask 0.5.

    Raises:
        ValueError: ``kernel_size`` k is even; the channels do not divide into the groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        deformable_groups: int = 2,
        *,
        stride: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"a deformable convolution has an odd kernel_size, not {kernel_size}")
        if in_channels % deformable_groups:
            raise ValueError(f"{in_channels} channels do not divide into {deformable_groups} groups")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.deformable_groups, self.stride = deformable_groups, stride
        self.taps, self.padding = kernel_size**2, kernel_size // 2
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.offset_mask = nn.Conv2d(
            in_channels, 3 * self.taps * deformable_groups, kernel_size, stride=stride, padding=self.padding
        )
        bound = 1 / math.sqrt(self.taps * in_channels)
        nn.init.uniform_(self.weight, -bound, bound)
        for parameter in self.offset_mask.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        taps = self.taps * self.deformable_groups
        offset, mask = self.offset_mask(x).split((2 * taps, taps), dim=1)
        geometry = {"stride": self.stride, "padding": self.padding}
        return modulated_deform_conv2d(x, offset, mask.sigmoid(), self.weight, self.bias, **geometry)

    def extra_repr(self) -> str:
        side = self.weight.shape[-1]
        sizes = f"{self.in_channels}, {self.out_channels}, kernel_size={side}, stride={self.stride}"
        return f"{sizes}, deformable_groups={self.deformable_groups}"


def _fast_path_applies(*tensors: Tensor) -> bool:
    dtype = tensors[0].dtype
    return (
        dtype in (torch.float32, torch.float64)
        and all(t.device.type == "cpu" and t.dtype == dtype for t in tensors)
        and not torch.is_autocast_enabled("cpu")
        and not is_traced()
    )


def _as_onnx_operator(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
) -> Tensor:
    """ONNX's own DeformConv (opset 19): one node instead of some fifty, an export in a fraction of the time."""
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
    return torch.onnx.ops.symbolic(
        "DeformConv",
        (x, weight, offset, bias, mask),
        {
            "kernel_shape": list(weight.shape[2:]),
            "strides": [stride] * 2,
            "pads": [padding] * 4,
            "dilations": [dilation] * 2,
            "offset_group": mask.shape[1] // weight.shape[2:].numel(),
        },
        dtype=x.dtype,
        shape=[x.shape[0], weight.shape[0], *offset.shape[-2:]],
        version=19,
    )


def _by_autograd(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
) -> Tensor:
    """The samples of the fast path, differentiated by torch. ``grid_sample`` has its coordinates divided by the size
    of the map, which rounds some whole ones down: where offsets are zero, as at the start of every layer, up to a
    sixth of their gradients would be those of the cell on the left of a pixel, or above it."""
    # The eight bits of bfloat16 would move column 95 by up to a quarter of a pixel.
    exact = torch.promote_types(x.dtype, torch.float32)
    layout = Layout.of(x, mask, weight, stride, padding, dilation)
    samples = locate(lines_of(offset.to(exact)), lines_of(mask.to(exact)), slice(0, layout.lines), layout)
    weights = corner_weights(samples.right, samples.down) * samples.mask[:, None]
    table = padded_table(x.to(exact), layout.groups)
    columns = F.embedding_bag(samples.rows, table, mode="sum", per_sample_weights=weights).to(x.dtype)
    columns = columns.view(layout.lines * layout.out_size[1], layout.taps * layout.channels)
    kernel = flatten_kernel(weight, layout.groups).flatten(1)
    out = F.linear(columns, kernel, None if bias is None else bias.to(kernel.dtype))
    return out.view(layout.images, *layout.out_size, len(weight)).permute(0, 3, 1, 2)


def _by_grid_sample(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
) -> Tensor:
    """In operations that every runtime of an exported program has. Only its values are right at whole pixels."""
    n, channels, height, width = x.shape
    out_height, out_width = offset.shape[-2:]
    side = weight.shape[-1]
    taps = side**2
    groups = mask.shape[1] // taps
    exact = torch.promote_types(x.dtype, torch.float32)
    offset = offset.reshape(n * groups, taps, 2, out_height, out_width).to(exact)
    rows = torch.arange(out_height, device=x.device, dtype=exact) * stride - padding
    columns = torch.arange(out_width, device=x.device, dtype=exact) * stride - padding
    tap = torch.arange(side, device=x.device, dtype=exact) * dilation
    y = offset[:, :, 0] + rows[:, None] + tap.repeat_interleave(side)[:, None, None]
    x_ = offset[:, :, 1] + columns + tap.repeat(side)[:, None, None]
    # grid_sample's coordinates run from -1 to 1 over the outer edges of the border pixels.
    grid = torch.stack(((2 * x_ + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    sampled = F.grid_sample(
        x.reshape(n * groups, channels // groups, height, width).to(exact),
        grid.reshape(n * groups, taps * out_height, out_width, 2),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    sampled = sampled.to(x.dtype).reshape(n, groups, channels // groups, taps, out_height, out_width)
    sampled = sampled * mask.reshape(n, groups, 1, taps, out_height, out_width)
    patches = sampled.reshape(n, channels * taps, out_height * out_width)
    # Locations first: the product then comes out with channels last.
    kernel = weight.reshape(-1, channels * taps).T.expand(n, -1, -1)
    out = torch.bmm(patches.transpose(1, 2), kernel).transpose(1, 2).reshape(n, -1, out_height, out_width)
    return out if bias is None else out + bias.to(out.dtype)[:, None, None]
