"""Convolution, norm, ReLU: the layers that decoders and searched cells are made of."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nasperc.ops.depthwise import DepthwiseConv2d
from nasperc.ops.pointwise import PointwiseConv2d

Norm = Callable[[int], nn.Module]


class ConvNormReLU(nn.Sequential):
    """k x k convolution without bias, norm, ReLU: (N, C, H, W) -> (N, O, H, W); odd kernels, size kept."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int = 1,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        convolution: nn.Conv2d
        if kernel_size == 1:
            convolution = PointwiseConv2d(in_channels, out_channels, bias=False)
        else:
            padding = dilation * (kernel_size // 2)
            convolution = nn.Conv2d(
                in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False
            )
        super().__init__(convolution, norm(out_channels), nn.ReLU(inplace=True))


class SeparableConv(nn.Sequential):
    """Depthwise k x k, 1x1, norm, ReLU, nothing between the two convolutions: (N, C, H, W) -> (N, O, H, W)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int = 1,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__(
            DepthwiseConv2d(in_channels, kernel_size, dilation),
            PointwiseConv2d(in_channels, out_channels, bias=False),
            norm(out_channels),
            nn.ReLU(inplace=True),
        )


class GlobalPooling(nn.Sequential):
    """Mean over H and W, 1x1, BN, ReLU, and back to the size of the input: (N, C, H, W) -> (N, O, H, W).

    Bilinear upsampling of a single pixel repeats it, so that is what is done; the result is a view in which all
    pixels share their memory. In training BN sees N values a channel, so N must be at least 2; where a batch may be
    one image, ``norm`` is ``nn.Identity``.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__(*ConvNormReLU(in_channels, out_channels, 1, norm=norm))

    def forward(self, input: Tensor) -> Tensor:
        pooled = super().forward(input.mean((2, 3), keepdim=True))
        return pooled.expand(-1, -1, input.shape[2], input.shape[3])
