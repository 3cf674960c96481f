"""Aggregations of the FCOS decoder: thesis 7.3.2, and Listing 1 of A.2, which the release uses.

Each takes x and y (N, C, H, W), upsamples the smaller one and gives (N, C, H, W) at the larger size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasperc.ops.pointwise import PointwiseConv2d
from nasperc.ops.resize import resize_to_larger


class ParamSum(nn.Module):
    """a * x + b * y with one learned weight a channel for each input, initially 1 (Listing 1, ID 0)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(channels))
        self.b = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = resize_to_larger(x, y)
        return _scaled(x, self.a) + _scaled(y, self.b)


def _scaled(x: Tensor, weight: Tensor) -> Tensor:
    """``x`` (N, C, H, W) times ``weight`` (C,), in the type of ``x``.

    Under autocast a float32 weight would make maps of float32, twice the memory, for all that follows.
    """
    return weight.to(x.dtype)[:, None, None] * x


class PairwiseConv2d(nn.Conv2d):
    """1x1 convolution of 2C channels in C groups, without bias: (N, 2C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(2 * channels, channels, 1, groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            return super().forward(input)
        # Two channels a group leave no matrix product to be had: on a CPU the grouped convolution is as slow,
        # forward and backward, as a dense 3x3. Scaling, then adding neighbours, is 12 times faster.
        n, channels, height, width = input.shape
        scaled = _scaled(input, self.weight.view(-1)).permute(0, 2, 3, 1)
        pairs = scaled.reshape(n, height, width, channels // 2, 2)
        return (pairs[..., 0] + pairs[..., 1]).permute(0, 3, 1, 2)


class ConcatReduce(nn.Module):
    """Concatenation, BN, ReLU, 1x1 in C groups without bias (Listing 1, ID 1).

    Group g reads channels 2g and 2g + 1 of the concatenation, so the first half of the output comes from x
    and the second from y: the order of the operands matters.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2 * channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = PairwiseConv2d(channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.conv(self.relu(self.norm(torch.cat(resize_to_larger(x, y), dim=1))))


class Sum(nn.Module):
    """Element-wise sum (thesis 7.3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = resize_to_larger(x, y)
        return x + y


class ConcatConv(nn.Module):
    """Concatenation followed by a plain 1x1 convolution (thesis 7.3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = PointwiseConv2d(2 * channels, channels, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.conv(torch.cat(resize_to_larger(x, y), dim=1))


AGGREGATION_LABELS = ("sum", "concat")
# By variant, in the order of the agg token.
AGGREGATIONS: dict[str, tuple[type[nn.Module], ...]] = {
    "nas_fcos": (ParamSum, ConcatReduce),
    "thesis": (Sum, ConcatConv),
}
# Aggregations whose operands may be swapped by permuting weights: x and y of a plain 1x1 are alike, of a
# grouped not.
SYMMETRIC: dict[str, frozenset[int]] = {"nas_fcos": frozenset({0}), "thesis": frozenset({0, 1})}
