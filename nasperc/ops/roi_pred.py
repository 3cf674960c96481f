"""RoIPred (thesis 3.3.1): a convolution whose taps are spread evenly over the box of each location.

It reads what RoIAlign with bins of one sample reads, borders included: a tap that lies less than a cell outside of the
map reads its outermost cells, one that is further out reads 0. (The deformable convolution alone would fade to 0 within
that cell.)

Legend used in shapes: N images, C channels, k side of the kernel, s the stride of the locations in input pixels, l how
many levels lower the map is that is read (its stride is s / 2^l).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasperc.ops.deform_conv import modulated_deform_conv2d

# Where a deformable convolution reads zeros only.
_OUTSIDE = -2.0


def box_centres(low: Tensor, high: Tensor, side: int) -> Tensor:
    """The centres of ``side`` equal parts between ``low`` and ``high`` (...): (..., k).

    Equations 3.2 and 3.3 plus the location: what is between a box's edges does not depend on where it was found.
    """
    parts = (torch.arange(side, device=low.device, dtype=low.dtype) + 0.5) / side
    return low[..., None] + (high - low)[..., None] * parts


def at_border(position: Tensor, size: Tensor | int) -> Tensor:
    """RoIAlign's rule for positions in cells along an axis of ``size`` cells, as positions at which zeros are read
    outside: a position up to -1 or ``size`` becomes that of the outermost cell."""
    inside = (position >= -1) & (position <= size)
    # An exporter follows: a size that became a tensor would stay what it is.
    last = size - 1
    upper = last.to(position.dtype) if isinstance(last, Tensor) else position.new_full((), last)
    return torch.where(inside, torch.minimum(position.clamp(min=0), upper), _OUTSIDE)


def roi_pred_offsets(
    distances: Tensor, map_size: tuple[int, int], side: int, stride: int, lower: int = 0
) -> Tensor:
    """Equations 3.2 and 3.3 as the offsets of a deformable convolution of stride 2^l and padding k // 2:
    (N, 2 * k * k, H, W) in cells of the map that is read.

    A location is at 2^l (k + 1/2) - 1/2 of that map, with l = 1 half a cell behind the middle of the kernel.

    Args:
        distances: (N, 4, H, W), from each location to left, top, right, bottom in input pixels; the offsets have no
            gradient.
        map_size: (H', W') of the map that is read.
        side: k.
        stride: s.
        lower: l.
    """
    left, top, right, bottom = distances.detach().unbind(1)
    step, cell = 2**lower, stride / 2**lower
    rows, columns = (
        _offsets(back, on, size, axis, side, step, cell)
        for back, on, size, axis in ((top, bottom, map_size[0], 0), (left, right, map_size[1], 1))
    )
    n, height, width = left.shape
    rows = rows[:, :, None].expand(n, side, side, height, width)
    columns = columns[:, None].expand(n, side, side, height, width)
    return torch.stack((rows, columns), 3).reshape(n, 2 * side * side, height, width)


def _offsets(back: Tensor, on: Tensor, size: int, axis: int, side: int, step: int, cell: float) -> Tensor:
    """Along an axis, (N, k, H, W): ``back`` and ``on`` (N, H, W) are the distances to the two edges."""
    count = back.shape[1 + axis]
    middle = torch.arange(count, device=back.device, dtype=back.dtype) * step
    if axis == 0:
        middle = middle[:, None]
    location = middle + (step - 1) / 2
    position = box_centres(location - back / cell, location + on / cell, side)
    tap = torch.arange(side, device=back.device, dtype=back.dtype) - side // 2
    return (at_border(position, size) - middle[..., None] - tap).permute(0, 3, 1, 2)


class RoIPred(nn.Conv2d):
    """Equation 3.1, and 3.5 where l > 0: ``forward(x (N, C, H', W'), distances (N, 4, H, W)) -> (N, O, H, W)``.

    Parameters as in ``nn.Conv2d``. A deformable convolution without modulation, at all locations.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: k, odd.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)

    def forward(  # type: ignore[override]
        self, input: Tensor, distances: Tensor, stride: int, lower: int = 0
    ) -> Tensor:
        """``distances``, ``stride``, ``lower``: as in :func:`roi_pred_offsets`."""
        side = self.kernel_size[0]
        size = (input.shape[-2], input.shape[-1])
        offsets = roi_pred_offsets(distances.to(self.weight.dtype), size, side, stride, lower)
        whole = torch.ones_like(offsets[:, : side * side])
        geometry = {"stride": 2**lower, "padding": side // 2}
        return modulated_deform_conv2d(input, offsets, whole, self.weight, self.bias, **geometry)
