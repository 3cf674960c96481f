"""The narrow band around class boundaries in which tIoU is measured."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def trimap(target: Tensor, width: int = 3, ignore: int = 255) -> Tensor:
    """The pixels from which a pixel of another class is at most ``width`` steps away (diagonal ones count as one).

    So the band has ``width`` pixels on either side of a boundary. Ignored pixels are no class: they neither make
    a boundary nor belong to the band, but classes on both sides of a thin strip of them do.

    Args:
        target: (..., H, W) classes, ``ignore`` where there is none.
        width: in pixels (thesis tables 6.3 and 6.4: 3).
        ignore: the value of pixels without class.

    Returns:
        (..., H, W) bool.
    """
    known = target != ignore
    classes = target.float()
    # The largest and the smallest class in the window around each pixel; where they differ there is a boundary.
    largest = _largest_around(classes.masked_fill(~known, -torch.inf), width)
    smallest = -_largest_around((-classes).masked_fill(~known, -torch.inf), width)
    return known & (largest != smallest)


def _largest_around(values: Tensor, width: int) -> Tensor:
    """The maximum over a square window of 2 * width + 1, first along rows, then along columns."""
    planes = values.reshape(-1, 1, *values.shape[-2:])
    side = 2 * width + 1
    planes = F.max_pool2d(planes, (1, side), stride=1, padding=(0, width))
    planes = F.max_pool2d(planes, (side, 1), stride=1, padding=(width, 0))
    return planes.reshape(values.shape)
