"""The aggregations of thesis appendix A as it writes them, with the parameters of ours: what they are measured against.

Each is ``forward(module, x, y)`` for maps of one size (N, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.aggregations import ConcatReduce, ParamSum
from search_spaces.cell_aggregations import BilinearSampling, Predictive, StackedConv3d


def param_sum(module: ParamSum, x: Tensor, y: Tensor) -> Tensor:
    """The weights expanded to the batch."""
    a, b = (weight.expand(x.shape[0], -1)[:, :, None, None] for weight in (module.a, module.b))
    return a * x + b * y


def concat_reduce(module: ConcatReduce, x: Tensor, y: Tensor) -> Tensor:
    """A grouped convolution."""
    z = module.relu(module.norm(torch.cat((x, y), 1)))
    return F.conv2d(z, module.conv.weight, groups=module.conv.groups)


def predictive(module: Predictive, x: Tensor, y: Tensor) -> Tensor:
    """im2col of y, and a product of matrices for each pixel."""
    n, channels, height, width = y.shape
    for layer in module.filters:
        x = nn.Conv2d.forward(layer, x) if isinstance(layer, nn.Conv2d) else layer(x)
    filters = x.permute(0, 2, 3, 1).contiguous().view(n, height * width, 9, 1)
    columns = F.unfold(y, 3, padding=1).permute(0, 2, 1).contiguous().view(n, -1, channels, 9)
    return torch.matmul(columns, filters).permute(0, 2, 1, 3).contiguous().view(n, channels, height, width)


def bilinear_sampling(module: BilinearSampling, x: Tensor, y: Tensor) -> Tensor:
    """``affine_grid`` and ``grid_sample``."""
    located = F.relu(F.conv2d(y, module.locate[0].weight)).mean(2).mean(2)  # type: ignore[union-attr]
    grid = F.affine_grid(module.affine(located).view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False) + y


def conv3d(module: StackedConv3d, x: Tensor, y: Tensor) -> Tensor:
    """A grouped 3D convolution."""
    kernel = torch.stack([each.weight for each in module.slices], 2)  # type: ignore[misc]
    return F.conv3d(torch.stack((x, y), 2), kernel, padding=(0, 1, 1), groups=x.shape[1]).squeeze(2)


# By class; dense attention is written in one way only.
AS_WRITTEN: dict[type[nn.Module], Callable[..., Tensor]] = {
    ParamSum: param_sum,
    ConcatReduce: concat_reduce,
    Predictive: predictive,
    BilinearSampling: bilinear_sampling,
    StackedConv3d: conv3d,
}
