"""1x1 convolution that is fast on one CPU thread."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# oneDNN's gradients of so few output channels take three times as long as two matrix products.
_FEW_CHANNELS = 15


def pointwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution of ``x`` (N, C, H, W) with ``weight`` (O, C, 1, 1), ``bias`` (O,); (N, O, H, W)."""
    if x.device.type != "cpu" or _exporting():
        return F.conv2d(x, weight, bias)
    if len(weight) <= _FEW_CHANNELS and not torch.is_autocast_enabled("cpu"):
        out: Tensor = _FewChannels.apply(x, weight)
        return out if bias is None else out + bias[:, None, None]
    return _by_onednn(x, weight, bias)


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    # With one thread torch hands an undilated 1x1 kernel to a matrix product of MKL instead of oneDNN, which
    # is half as fast on an AMD CPU. A dilation changes nothing for one tap, but it selects oneDNN.
    return F.conv2d(x, weight, bias, dilation=2)


class _FewChannels(torch.autograd.Function):
    """Forward by oneDNN, backward by matrix products over the pixels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _by_onednn(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad, kernel = _pixels(grad_out), weight.flatten(1)
        n, channels, height, width = x.shape
        grad_x = (grad @ kernel).view(n, height, width, channels).permute(0, 3, 1, 2)
        return grad_x, (grad.t() @ _pixels(x)).view(weight.shape)


def _pixels(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N * H * W, C), without a copy where ``x`` is channels-last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


class PointwiseConv2d(nn.Conv2d):
    """1x1 convolution (N, C, H, W) -> (N, O, H, W); parameters as in ``nn.Conv2d(C, O, 1)``."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return pointwise_conv2d(input, self.weight, self.bias)


def _exporting() -> bool:
    return torch.compiler.is_exporting() or torch.jit.is_tracing()
