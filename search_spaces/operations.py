"""Unary operations of the FCOS decoder (thesis Table 7.1, and the two plain convolutions of its heads) and of the
dynamic cell (Table 6.1).

Layers follow the NAS-FCOS release; every one keeps (N, C, H, W). Convolutions keep PyTorch's initialisation,
U(+-1/sqrt(fan in)), which is the deformable kernel's too: a norm follows each, so its scale sets step sizes
only.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from nasperc.models.conv_layers import ConvNormReLU, GlobalPooling, SeparableConv
from nasperc.ops.deform_conv import DeformConv2d

Norm = Literal["batch", "group"]

SKIP = "skip"

# Table 7.1, in the order of its IDs.
FPN_OPERATIONS = ("sep3x3", "sep3x3_dil3", "sep5x5_dil6", SKIP, "deform3x3")
# The release's head leaves out the 5x5 with dilation 6; thesis 7.3.2 adds the plain convolutions to all of
# Table 7.1.
HEAD_OPERATIONS = {
    "nas_fcos": ("conv1x1", "conv3x3", "sep3x3", "sep3x3_dil3", SKIP, "deform3x3"),
    "thesis": (*FPN_OPERATIONS, "conv1x1", "conv3x3"),
}
# Table 6.1, in the order of its IDs.
CELL_OPERATIONS = ("sep3x3", "gap", "sep3x3_dil3", "sep5x5_dil6", SKIP, "deform3x3")

OPERATION_LABELS = {
    "sep3x3": "sep 3×3",
    "gap": "global pooling",
    "sep3x3_dil3": "sep 3×3, dil 3",
    "sep5x5_dil6": "sep 5×5, dil 6",
    SKIP: "skip",
    "deform3x3": "deform 3×3",
    "conv1x1": "conv 1×1",
    "conv3x3": "conv 3×3",
}

_SEPARABLE = {"sep3x3": (3, 1), "sep3x3_dil3": (3, 3), "sep5x5_dil6": (5, 6)}
_CONVOLUTION = {"conv1x1": 1, "conv3x3": 3}


class DeformableConv(nn.Sequential):
    """Modulated deformable 3x3 with two deformable groups, norm, ReLU."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__(
            DeformConv2d(channels, channels, deformable_groups=2),
            build_norm(norm, channels),
            nn.ReLU(inplace=True),
        )


class Skip(nn.Identity):
    """The skip-connection."""


class GroupNorm32(nn.GroupNorm):
    """GroupNorm with 32 groups, also where a group has a single value.

    ``nn.GroupNorm`` refuses that, even in evaluation; but with 32 channels it is what a small image's P7 is.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(32, channels)

    def forward(self, input: Tensor) -> Tensor:
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def build_norm(norm: Norm, channels: int) -> nn.Module:
    """BatchNorm in the FPN; GroupNorm with 32 groups in the head, whose layers may serve several levels."""
    return nn.BatchNorm2d(channels) if norm == "batch" else GroupNorm32(channels)


def build_operation(name: str, channels: int, norm: Norm) -> nn.Module:
    """The layers of the operation ``name``, (N, C, H, W) -> (N, C, H, W)."""
    if name == SKIP:
        return Skip()
    if name in _SEPARABLE:
        return SeparableConv(channels, channels, *_SEPARABLE[name], norm=partial(build_norm, norm))
    if name in _CONVOLUTION:
        return ConvNormReLU(channels, channels, _CONVOLUTION[name], norm=partial(build_norm, norm))
    if name == "gap":
        # One value a channel and image: no norm but BatchNorm has anything to work with there.
        return GlobalPooling(channels, channels)
    if name == "deform3x3":
        return DeformableConv(channels, norm)
    raise KeyError(name)


def operation_name(module: nn.Module) -> str:
    """The operation that a built module computes, read from its layers.

    Raises:
        ValueError: it is none of the operations.
    """
    if isinstance(module, Skip):
        return SKIP
    if isinstance(module, DeformableConv) and isinstance(module[0], DeformConv2d):
        return "deform3x3"
    if isinstance(module, GlobalPooling):
        return "gap"
    if isinstance(module, SeparableConv | ConvNormReLU) and isinstance(first := module[0], nn.Conv2d):
        kernel, dilation = first.kernel_size[0], first.dilation[0]
        if first.groups > 1 and (kernel, dilation) in _SEPARABLE.values():
            return next(name for name, key in _SEPARABLE.items() if key == (kernel, dilation))
        if first.groups == 1 and dilation == 1 and kernel in _CONVOLUTION.values():
            return next(name for name, size in _CONVOLUTION.items() if size == kernel)
    raise ValueError(f"no operation of the search space looks like {module}")
