"""Aggregations of the dynamic cell: thesis Table 6.2, with the layers of Listings 1 to 3 of appendix A.

Each takes x and y (N, C, H, W), upsamples the smaller one and gives (N, C, H, W) at the larger size. The learnable
sum and the grouped concatenation are those of the FCOS decoder.
"""

from __future__ import annotations

from torch import Tensor, nn

from nasperc.ops.affine_sampling import affine_sample
from nasperc.ops.depthwise import DepthwiseConv2d
from nasperc.ops.pointwise import PointwiseConv2d
from nasperc.ops.predicted_filter import TAPS, predicted_filter
from nasperc.ops.resize import resize_to_larger
from search_spaces.aggregations import ConcatReduce, ParamSum


class Predictive(nn.Module):
    """PredOP: x becomes a 3x3 filter for each pixel, which is applied to every channel of y (Listing 2, ID 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filters = nn.Sequential(
            nn.ReLU(),
            DepthwiseConv2d(channels, 3),
            nn.ReLU(),
            DepthwiseConv2d(channels, 3),
            nn.ReLU(),
            PointwiseConv2d(channels, TAPS, bias=False),
            nn.Softmax(dim=1),
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = resize_to_larger(x, y)
        return predicted_filter(self.filters(x), y)


class BilinearSampling(nn.Module):
    """x sampled on an affine grid that is predicted from y, plus y (Listing 2, ID 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.locate = nn.Sequential(PointwiseConv2d(channels, 6, bias=False), nn.ReLU())
        self.affine = nn.Linear(6, 6)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = resize_to_larger(x, y)
        # The mean over pixels; its gradient is faster where the pixels are one dimension.
        located = self.locate(y).permute(0, 2, 3, 1).flatten(1, 2).mean(1)
        # Six numbers that place every pixel: written out, since autocast would round a matrix product's.
        theta = (self.affine.weight * located[:, None]).sum(2) + self.affine.bias
        return affine_sample(x, theta.view(-1, 2, 3)) + y


class StackedConv3d(nn.Module):
    """x and y stacked in a new dimension, convolved with a depthwise 2x3x3 kernel (Listing 3, ID 4).

    Two planes make one, so that is the sum of a depthwise 3x3 of each, which is fast. ``slices``: of the kernel, one
    for x and one for y, initialised as those of ``nn.Conv3d``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slices = nn.ModuleList(DepthwiseConv2d(channels, 3) for _ in range(2))
        bound = (2 * 3 * 3) ** -0.5
        for kernel in self.slices.parameters():
            nn.init.uniform_(kernel, -bound, bound)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = resize_to_larger(x, y)
        return self.slices[0](x) + self.slices[1](y)


class DenseAttention(nn.Module):
    """x times the sigmoid of y, element by element (Listing 3, ID 5)."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = resize_to_larger(x, y)
        return x * y.sigmoid()


# Table 6.2, in the order of its IDs.
CELL_AGGREGATIONS: tuple[type[nn.Module], ...] = (
    ParamSum,
    ConcatReduce,
    Predictive,
    BilinearSampling,
    StackedConv3d,
    DenseAttention,
)
CELL_AGGREGATION_LABELS = ("sum", "concat", "predictive", "bilinear sampling", "conv 3D", "attention")
# Whose operands may be swapped by permuting weights: those of the sum, the two slices of the 3D kernel.
CELL_SYMMETRIC = frozenset({CELL_AGGREGATIONS.index(ParamSum), CELL_AGGREGATIONS.index(StackedConv3d)})
