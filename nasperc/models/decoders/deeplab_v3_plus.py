"""The decoder of DeepLabV3+ (Chen et al., ECCV 2018) with separable convolutions, on an encoder of stride 32."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.conv_layers import ConvNormReLU, GlobalPooling, Norm, SeparableConv
from nasperc.models.features import FeatureSpec
from nasperc.models.segmenter import DecoderOutput
from nasperc.ops.resize import resize_to

# The paper's rates 6, 12 and 18 are for an encoder of stride 16.
_RATES = (3, 6, 9)
LOW_LEVEL_CHANNELS = 48


class SpatialPyramidPooling(nn.Module):
    """ASPP: 1x1, three dilated separable 3x3 and global pooling side by side, then a 1x1.

    ``pooled_norm``: of the pooling, which has one value an image to normalise, see :class:`GlobalPooling`.
    """

    def __init__(self, in_channels: int, width: int, pooled_norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                ConvNormReLU(in_channels, width, 1),
                *(SeparableConv(in_channels, width, 3, rate) for rate in _RATES),
                GlobalPooling(in_channels, width, pooled_norm),
            ]
        )
        self.project = ConvNormReLU(len(self.branches) * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([branch(x) for branch in self.branches], 1))


class DeepLabV3PlusDecoder(nn.Module):
    """``forward(features) -> DecoderOutput``: ASPP on 1/32, upsampled beside the low-level feature, two 3x3.

    The low-level feature is that of 1/8 (the paper's is of 1/4), since a dynamic cell's *dec* is at 1/8. The one
    auxiliary map is layer 3, at 1/16.

    Args:
        inputs: the encoder's outputs, the finest first; they end with strides 8, 16 and 32.
        width: channels of the decoder.

    Raises:
        InputError: the encoder's outputs end with other strides.
    """

    def __init__(self, inputs: tuple[FeatureSpec, ...], width: int = 256) -> None:
        super().__init__()
        if [spec.stride for spec in inputs[-3:]] != [8, 16, 32]:
            raise InputError(
                "the DeepLabV3+ decoder needs encoder outputs that end with strides 8, 16 and 32",
                value=", ".join(f"{spec.name} of stride {spec.stride}" for spec in inputs) or "none",
                where="backbone features",
                repair="Choose a backbone that offers C3, C4 and C5.",
            )
        low, middle, high = inputs[-3:]
        self.pyramid = SpatialPyramidPooling(high.channels, width)
        self.low_level = ConvNormReLU(low.channels, LOW_LEVEL_CHANNELS, 1)
        self.refine = nn.Sequential(
            SeparableConv(width + LOW_LEVEL_CHANNELS, width, 3), SeparableConv(width, width, 3)
        )
        self.out = FeatureSpec("dec", width, low.stride)
        self.auxiliary_channels = (middle.channels,)

    def forward(self, features: list[Tensor]) -> DecoderOutput:
        low, middle, high = features[-3:]
        context = resize_to(self.pyramid(high), (low.shape[2], low.shape[3]))
        dec = self.refine(torch.cat((context, self.low_level(low)), 1))
        return DecoderOutput(dec, [middle])
