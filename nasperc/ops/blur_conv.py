"""BlurConv (thesis equation 3.4; Zhang 2019): a convolution of stride 1, then a blur of the wanted stride."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def binomial(side: int) -> Tensor:
    """The coefficients (M,) of a binomial filter, which add up to 1: 1, 2, 1 over 4 for M = 3."""
    return torch.tensor([math.comb(side - 1, k) for k in range(side)], dtype=torch.float64) / 2 ** (side - 1)


def blur(x: Tensor, side: int, stride: int) -> Tensor:
    """Equation 3.4's Blur: (N, C, H, W) -> (N, C, ceil(H / s), ceil(W / s)).

    An M x M binomial filter around every s-th pixel, where a strided convolution of odd size is centred. Beyond its
    borders a map goes on as it ends: zeros would darken them.

    Args:
        x: the maps.
        side: M, odd.
        stride: s.
    """
    channels, reach = x.shape[1], side // 2
    line = binomial(side).to(x).expand(channels, 1, 1, side)
    # Along one axis after the other: 2 M products a pixel for M * M.
    padded = F.pad(x, (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, line.transpose(2, 3), stride=(stride, 1), groups=channels)
    return F.conv2d(rows, line, stride=(1, stride), groups=channels)


class BlurConv2d(nn.Conv2d):
    """BlurConv_{K, s}: (N, C, H, W) -> (N, O, ceil(H / s), ceil(W / s)); parameters as in ``nn.Conv2d``, no bias.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: K, odd.
        stride: s.
        groups: as in ``nn.Conv2d``.
        blur_size: M, odd.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        *,
        groups: int = 1,
        blur_size: int = 3,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False
        )
        self.blur_size, self.blur_stride = blur_size, stride

    def forward(self, input: Tensor) -> Tensor:
        if self.kernel_size == (1, 1):
            # A 1x1 mixes channels and a blur mixes pixels: their order is free, and this one has fewer pixels to mix.
            return super().forward(blur(input, self.blur_size, self.blur_stride))
        return blur(super().forward(input), self.blur_size, self.blur_stride)
