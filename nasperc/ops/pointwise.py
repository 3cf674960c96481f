"""1x1 convolution that is fast on one CPU thread."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def pointwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution of ``x`` (N, C, H, W) with ``weight`` (O, C, 1, 1), ``bias`` (O,); (N, O, H, W)."""
    # With one thread torch hands an undilated 1x1 kernel to a matrix product of MKL instead of oneDNN, which
    # is half as fast on an AMD CPU. A dilation changes nothing for one tap, but it selects oneDNN.
    dilation = 2 if x.device.type == "cpu" and not _exporting() else 1
    return F.conv2d(x, weight, bias, dilation=dilation)


class PointwiseConv2d(nn.Conv2d):
    """1x1 convolution (N, C, H, W) -> (N, O, H, W); parameters as in ``nn.Conv2d(C, O, 1)``."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return pointwise_conv2d(input, self.weight, self.bias)


def _exporting() -> bool:
    return torch.compiler.is_exporting() or torch.jit.is_tracing()
