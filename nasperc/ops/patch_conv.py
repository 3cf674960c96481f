"""A convolution of whole maps, or of single patches of them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class PatchConv2d(nn.Conv2d):
    """A convolution with zeros around the maps, so that they keep their size; parameters as in ``nn.Conv2d``.

    ``forward(x)``: of maps (N, C, H, W) -> (N, O, H, W). Of Q patches (Q, k * k * C), what stands below the kernel row
    by row, the channels last, -> (Q, O): the same values at their middles, as one matrix product.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: k, odd.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.side = kernel_size

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim == 4:
            return super().forward(input)
        # No copy where the weight is channels-last, as networks are.
        return F.linear(input, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)
