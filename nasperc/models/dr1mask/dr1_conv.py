"""Dynamic rank-1 convolution (thesis 5.4.1): its weights differ from place to place, by a matrix of rank 1."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.normalisation import GroupNorm

# Channels of a group, as in a tower of FCOS.
_GROUP = 8


class Context(NamedTuple):
    """The dynamic factors A and B of a level, (N, D, H, W) each; None: 1 everywhere."""

    a: Tensor | None
    b: Tensor | None


def dr1_conv(conv: nn.Conv2d, x: Tensor, context: Context) -> Tensor:
    """Equation 5.4: Conv(X * A) * B, all of the same size (N, D, H, W).

    At each place this is a convolution with the weights W * (a b^T) (5.1 to 5.3), a of where it reads, b of where it
    writes; a bias of ``conv`` is multiplied too.
    """
    a, b = context
    y = conv(x if a is None else x * a)
    return y if b is None else y * b


class DR1Conv(nn.Module):
    """``forward(x (N, D, H, W), context) -> (N, D, H, W)``: :func:`dr1_conv` with a 3x3, GroupNorm, ReLU.

    The thesis names no norm. The coarsest levels have a few values a channel, one where an image of 128 pixels is alone
    in its batch: too few for the statistics of BatchNorm, so it is the norm of the towers that the contexts come from.

    Raises:
        InputError: ``width`` is not a multiple of 8.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % _GROUP:
            raise InputError(
                f"the width of a DR1Basis must be a multiple of {_GROUP}",
                value=width,
                where="recipe key dr1mask.width",
                repair="Choose 32 (instances), 64 (panoptic) or 128.",
            )
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        nn.init.kaiming_uniform_(self.conv.weight, a=1)
        # Both behind B: 5.4 is one operation.
        self.norm = GroupNorm(width // _GROUP, width)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.activation(self.norm(dr1_conv(self.conv, x, context)))
