"""Depthwise convolution: one k x k kernel a channel, resolution kept."""

from __future__ import annotations

from torch import nn


class DepthwiseConv2d(nn.Conv2d):
    """Depthwise ``kernel_size`` x ``kernel_size`` convolution without bias, (N, C, H, W) -> (N, C, H, W).

    Odd kernels only; the padding keeps the size. ``weight`` is (C, 1, k, k), as in ``nn.Conv2d``.
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int = 1) -> None:
        padding = dilation * (kernel_size - 1) // 2
        super().__init__(
            channels, channels, kernel_size, padding=padding, dilation=dilation, groups=channels, bias=False
        )
