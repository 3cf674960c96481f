"""Depthwise convolution: one k x k kernel a channel, resolution kept."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.ops.tracing import is_traced


class DepthwiseConv2d(nn.Conv2d):
    """Depthwise ``kernel_size`` x ``kernel_size`` convolution without bias, (N, C, H, W) -> (N, C, H, W).

    Odd kernels only; the padding keeps the size. ``weight`` is (C, 1, k, k), as in ``nn.Conv2d``.
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int = 1) -> None:
        padding = dilation * (kernel_size - 1) // 2
        super().__init__(
            channels, channels, kernel_size, padding=padding, dilation=dilation, groups=channels, bias=False
        )

    def forward(self, input: Tensor) -> Tensor:
        if self.dilation[0] == 1 or not _phases_are_faster(input, self.kernel_size[0] * self.dilation[0]):
            return super().forward(input)
        return dilated_by_phases(input, self.weight, self.dilation[0])


def dilated_by_phases(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """Depthwise convolution of ``x`` (N, C, H, W) with ``weight`` (C, 1, k, k), dilated, size kept.

    Pixels whose coordinates agree modulo ``dilation`` only meet each other: each of these ``dilation``^2
    phases is an image of its own, with an undilated kernel.
    """
    n, channels, height, width = x.shape
    rows, columns = -(-height // dilation), -(-width // dilation)
    # Zeros at the end, as the padding of the convolution would have them.
    x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, columns * dilation - width, 0, rows * dilation - height))
    phases = x.reshape(n, rows, dilation, columns, dilation, channels).permute(0, 2, 4, 1, 3, 5)
    phases = phases.reshape(n * dilation**2, rows, columns, channels).permute(0, 3, 1, 2)
    out = F.conv2d(phases, weight, padding=weight.shape[-1] // 2, groups=channels)
    out = out.permute(0, 2, 3, 1).reshape(n, dilation, dilation, rows, columns, channels)
    out = out.permute(0, 3, 1, 4, 2, 5).reshape(n, rows * dilation, columns * dilation, channels)
    return out[:, :height, :width].permute(0, 3, 1, 2)


def _phases_are_faster(x: Tensor, reach: int) -> bool:
    """Measured on one CPU thread (``benchmarks/ops.py``): half the time, but for small kernels and maps."""
    return x.device.type == "cpu" and not is_traced() and reach * x.shape[3] >= 144
