"""MobileNetV2 (Sandler et al. 2018) as a backbone: torchvision's parameter names, features C2 to C5."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nasperc.models.features import FeatureSpec
from nasperc.models.normalisation import FrozenBatchNorm2d
from nasperc.ops.blur_conv import BlurConv2d
from nasperc.ops.pointwise import PointwiseConv2d

# Table 2 of the paper after the stem: expansion, channels, blocks, stride of the first block.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM_CHANNELS = 32
# The last module of each resolution: what C2 to C5 are taken from.
_TAPS = {3: "C2", 6: "C3", 13: "C4", 17: "C5"}

Norm = Callable[[int], nn.Module]


class MobileNetV2(nn.Module):
    """``forward(images (N, 3, H, W)) -> [C2, C3, C4, C5]`` at strides 4, 8, 16, 32.

    ``features.0`` to ``features.17`` of torchvision's model; the 1x1 to 1280 channels and the classifier
    belong to classification and are not built.

    Args:
        width_mult: factor on all channel counts, rounded to multiples of 8 as in the paper.
        freeze_at: number of stages whose parameters take no gradient: 1 = the stem, 2 = the stem and the
            first row of bottlenecks (NAS-FCOS release), ... 8 = all.
        frozen_bn: BatchNorm as constants (:class:`FrozenBatchNorm2d`), else trainable.
        blur: M, of the blur that follows in place of the stride of each strided convolution (thesis equation 3.4);
            None: strided convolutions.
    """

    def __init__(
        self,
        *,
        width_mult: float = 1.0,
        freeze_at: int = 0,
        frozen_bn: bool = True,
        blur: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= freeze_at <= len(_STAGES) + 1:
            raise ValueError(f"freeze_at must be 0..{len(_STAGES) + 1}, but got {freeze_at}")
        norm: Norm = FrozenBatchNorm2d if frozen_bn else nn.BatchNorm2d
        channels = _round_channels(_STEM_CHANNELS * width_mult)
        modules: list[nn.Module] = [_conv_norm_relu(3, channels, 3, norm, stride=2, blur=blur)]
        ends = [1]
        specs: list[FeatureSpec] = []
        stride = 2
        for expansion, base_channels, blocks, first_stride in _STAGES:
            for block in range(blocks):
                block_stride = first_stride if block == 0 else 1
                out_channels = _round_channels(base_channels * width_mult)
                modules.append(InvertedResidual(channels, out_channels, expansion, block_stride, norm, blur))
                channels, stride = out_channels, stride * block_stride
                if len(modules) - 1 in _TAPS:
                    specs.append(FeatureSpec(_TAPS[len(modules) - 1], channels, stride))
            ends.append(len(modules))
        self.features = nn.Sequential(*modules)
        self.out: tuple[FeatureSpec, ...] = tuple(specs)
        self._init_weights()
        self._frozen_modules = ends[freeze_at - 1] if freeze_at else 0
        for module in modules[: self._frozen_modules]:
            module.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        taps = []
        x = images
        for index, module in enumerate(self.features):
            x = module(x)
            if index in _TAPS:
                taps.append(x)
        return taps

    def train(self, mode: bool = True) -> MobileNetV2:
        """As ``nn.Module.train``, but the statistics of frozen stages stay what they are."""
        super().train(mode)
        for module in list(self.features)[: self._frozen_modules]:
            module.eval()
        return self

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")


class InvertedResidual(nn.Module):
    """Linear bottleneck: 1x1 expansion, depthwise 3x3, linear 1x1; with a shortcut where the shape stays."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: int,
        stride: int,
        norm: Norm,
        blur: int | None = None,
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_conv_norm_relu(in_channels, hidden, 1, norm))
        layers += [
            _conv_norm_relu(hidden, hidden, 3, norm, stride=stride, groups=hidden, blur=blur),
            PointwiseConv2d(hidden, out_channels, bias=False),
            norm(out_channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


def _conv_norm_relu(
    in_channels: int,
    out_channels: int,
    kernel: int,
    norm: Norm,
    *,
    stride: int = 1,
    groups: int = 1,
    blur: int | None = None,
) -> nn.Sequential:
    conv: nn.Conv2d
    if kernel == 1:
        conv = PointwiseConv2d(in_channels, out_channels, bias=False)
    elif stride > 1 and blur is not None:
        conv = BlurConv2d(in_channels, out_channels, kernel, stride, groups=groups, blur_size=blur)
    else:
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, norm(out_channels), nn.ReLU6(inplace=True))


def _round_channels(channels: float, divisor: int = 8) -> int:
    """Nearest multiple of ``divisor``, but never below 90 % of ``channels`` (the paper's reference code)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
