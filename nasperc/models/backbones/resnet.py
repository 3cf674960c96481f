"""ResNet (He et al. 2016) and ResNeXt (Xie et al. 2017) as backbones: torchvision's names, features C2 to C5."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.models.features import FeatureSpec
from nasperc.models.normalisation import FrozenBatchNorm2d
from nasperc.ops.blur_conv import BlurConv2d
from nasperc.ops.deform_conv import DeformConv2d

Norm = Callable[[int], nn.Module]
StrideIn = Literal["1x1", "3x3"]

# The stages that detectors make deformable: C3 to C5.
DEFORMABLE_STAGES = (3, 4, 5)
_STEM_CHANNELS = 64


class ResNetShape(NamedTuple):
    """``blocks`` of the stages C2 to C5; ``groups`` of the 3x3 convolutions and the width of one (ResNeXt)."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool = True
    groups: int = 1
    width_per_group: int = 64


RESNETS: dict[str, ResNetShape] = {
    "resnet18": ResNetShape((2, 2, 2, 2), bottleneck=False),
    "resnet50": ResNetShape((3, 4, 6, 3)),
    "resnet101": ResNetShape((3, 4, 23, 3)),
    "resnext101_64x4d": ResNetShape((3, 4, 23, 3), groups=64, width_per_group=4),
}


class ResNet(nn.Module):
    """``forward(images (N, 3, H, W)) -> [C2, C3, C4, C5]`` at strides 4, 8, 16, 32.

    The stages are torchvision's ``layer1`` to ``layer4``; pooling and classifier are not built.

    Args:
        shape: depth and width, for example one of :data:`RESNETS`.
        stride_in: which convolution of a bottleneck halves the resolution: the 3x3 (torchvision), or the 1x1
            before it (MSRA, detectron2). The same weights fit both, and are good for one only.
        freeze_at: number of stages whose parameters take no gradient: 1 = the stem, 2 = the stem and C2 (the
            usual choice of detectors), ... 5 = all.
        frozen_bn: BatchNorm as constants (:class:`FrozenBatchNorm2d`), else trainable.
        deformable_stages: of 3, 4, 5 (C3 to C5). There the 3x3 of every ``deformable_interval``-th bottleneck,
            the first one included, is a modulated deformable convolution with one deformable group; its
            kernel keeps the ordinary one's name.
        blur: M, of the blur that follows in place of the stride of each strided convolution (thesis equation 3.4); the
            maximum pooling stays. None: strided convolutions.

    Raises:
        ValueError: ``freeze_at``, a deformable stage or the interval is out of range; deformable stages in a
            network without bottlenecks or with grouped convolutions, or with a blur.
    """

    def __init__(
        self,
        shape: ResNetShape,
        *,
        stride_in: StrideIn = "3x3",
        freeze_at: int = 0,
        frozen_bn: bool = True,
        deformable_stages: Collection[int] = (),
        deformable_interval: int = 1,
        blur: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= freeze_at <= len(shape.blocks) + 1:
            raise ValueError(f"freeze_at must be 0..{len(shape.blocks) + 1}, but got {freeze_at}")
        if not set(deformable_stages) <= set(DEFORMABLE_STAGES) or deformable_interval < 1:
            given = f"{tuple(deformable_stages)} at an interval of {deformable_interval}"
            raise ValueError(
                f"deformable stages are of {DEFORMABLE_STAGES}, at an interval >= 1, but got {given}"
            )
        if deformable_stages and (shape.groups > 1 or not shape.bottleneck):
            raise ValueError("deformable stages need bottlenecks with ungrouped convolutions")
        if deformable_stages and blur is not None:
            raise ValueError("a deformable convolution has no blur: choose deformable stages or a blur")
        norm: Norm = FrozenBatchNorm2d if frozen_bn else nn.BatchNorm2d
        self.conv1 = _conv(3, _STEM_CHANNELS, 7, stride=2, blur=blur)
        self.bn1 = norm(_STEM_CHANNELS)
        channels = _STEM_CHANNELS
        stages, specs = [], []
        for index, count in enumerate(shape.blocks):
            level, planes = index + 2, 64 * 2**index
            blocks: list[BasicBlock | Bottleneck] = []
            for block in range(count):
                stride = 2 if index > 0 and block == 0 else 1
                if shape.bottleneck:
                    deformable = level in deformable_stages and block % deformable_interval == 0
                    blocks.append(
                        Bottleneck(channels, planes, stride, norm, shape, stride_in, deformable, blur)
                    )
                else:
                    blocks.append(BasicBlock(channels, planes, stride, norm, blur))
                channels = blocks[-1].out_channels
            stages.append(nn.Sequential(*blocks))
            specs.append(FeatureSpec(f"C{level}", channels, 2**level))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.out: tuple[FeatureSpec, ...] = tuple(specs)
        self._freeze_at = freeze_at
        for module in self._frozen():
            module.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features

    def train(self, mode: bool = True) -> ResNet:
        """As ``nn.Module.train``, but the statistics of frozen stages stay what they are."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        stem: list[nn.Module] = [self.conv1, self.bn1]
        stages = [self.layer1, self.layer2, self.layer3, self.layer4]
        return [*stem, *stages[: self._freeze_at - 1]] if self._freeze_at else []


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18)."""

    def __init__(
        self, in_channels: int, planes: int, stride: int, norm: Norm, blur: int | None = None
    ) -> None:
        super().__init__()
        self.out_channels = planes
        self.conv1 = _conv(in_channels, planes, 3, stride=stride, blur=blur)
        self.bn1 = norm(planes)
        self.conv2 = _conv(planes, planes, 3)
        self.bn2 = norm(planes)
        self.downsample = _downsample(in_channels, planes, stride, norm, blur)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 (grouped in ResNeXt, or deformable), 1x1 to four times ``planes``, and a shortcut."""

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int,
        norm: Norm,
        shape: ResNetShape,
        stride_in: StrideIn,
        deformable: bool,
        blur: int | None = None,
    ) -> None:
        super().__init__()
        self.out_channels = 4 * planes
        width = planes * shape.width_per_group // 64 * shape.groups
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = _conv(in_channels, width, 1, stride=first, blur=blur)
        self.bn1 = norm(width)
        self.conv2: nn.Module
        if deformable:
            self.conv2 = DeformConv2d(width, width, deformable_groups=1, stride=second, bias=False)
            nn.init.kaiming_normal_(self.conv2.weight, mode="fan_out", nonlinearity="relu")
        else:
            self.conv2 = _conv(width, width, 3, stride=second, groups=shape.groups, blur=blur)
        self.bn2 = norm(width)
        self.conv3 = _conv(width, self.out_channels, 1)
        self.bn3 = norm(self.out_channels)
        self.downsample = _downsample(in_channels, self.out_channels, stride, norm, blur)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


def _downsample(
    in_channels: int, out_channels: int, stride: int, norm: Norm, blur: int | None
) -> nn.Sequential | None:
    """The shortcut's projection, where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(_conv(in_channels, out_channels, 1, stride=stride, blur=blur), norm(out_channels))


def _conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    blur: int | None = None,
) -> nn.Conv2d:
    conv: nn.Conv2d
    if blur is None or stride == 1:
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    else:
        conv = BlurConv2d(in_channels, out_channels, kernel, stride, groups=groups, blur_size=blur)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
