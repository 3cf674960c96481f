"""What every backbone, neck and head keeps to. A new one adds a subclass and inherits the tests."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.backbones.resnet import RESNETS, ResNet, ResNetShape
from nasperc.models.fcos.head import FCOSHead
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.fcos.towers import FCOSTowers
from nasperc.models.features import FeatureSpec
from nasperc.models.necks.deform_fpn import DeformFPN
from nasperc.models.necks.fpn import FPN
from nasperc.models.retinanet.head import RetinaNetHead

INPUTS = tuple(FeatureSpec(f"C{level}", 8 * level, 2**level) for level in range(2, 6))
LEVELS = tuple(FeatureSpec(f"P{level}", 32, 2**level) for level in range(3, 8))


def features(specs: tuple[FeatureSpec, ...], height: int, width: int, images: int = 2) -> list[Tensor]:
    """Random channels-last features as a stride-2 network with padding makes them: sizes rounded up."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(images, s.channels, math.ceil(height / s.stride), math.ceil(width / s.stride)) for s in specs]
    maps = [torch.randn(shape, generator=generator) for shape in shapes]
    return [x.contiguous(memory_format=torch.channels_last) for x in maps]


def assert_all_trained(module: nn.Module) -> None:
    """Every parameter that takes a gradient got one that is finite and not all zero."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name


class BackboneContract:
    def build(self) -> nn.Module:
        raise NotImplementedError

    @pytest.mark.parametrize("size", [(64, 96), (50, 70)])
    def test_features_are_what_out_says(self, size: tuple[int, int]) -> None:
        backbone = self.build().eval()
        outputs = backbone(torch.randn(1, 3, *size))
        shapes = [tuple(x.shape) for x in outputs]
        assert shapes == [tuple(x.shape) for x in features(backbone.out, *size, images=1)]

    def test_gradients_reach_every_parameter(self) -> None:
        backbone = self.build()
        sum(x.square().mean() for x in backbone(torch.randn(2, 3, 64, 64))).backward()
        assert_all_trained(backbone)

    def test_channels_last_stays(self) -> None:
        backbone = self.build().to(memory_format=torch.channels_last)
        image = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in backbone(image))


class TestMobileNetV2(BackboneContract):
    def build(self) -> nn.Module:
        return MobileNetV2(width_mult=0.25, frozen_bn=False)


class TestMobileNetV2FrozenStages(BackboneContract):
    def build(self) -> nn.Module:
        return MobileNetV2(width_mult=0.25, frozen_bn=True, freeze_at=3)


class TestResNet18(BackboneContract):
    def build(self) -> nn.Module:
        return ResNet(RESNETS["resnet18"], frozen_bn=False)


class TestResNetDeformable(BackboneContract):
    def build(self) -> nn.Module:
        torch.manual_seed(0)
        return ResNet(
            ResNetShape((1, 1, 1, 2)),
            stride_in="1x1",
            freeze_at=2,
            deformable_stages=(4, 5),
            deformable_interval=2,
        )


class TestResNeXt(BackboneContract):
    def build(self) -> nn.Module:
        return ResNet(ResNetShape((1, 1, 1, 1), groups=32, width_per_group=4), frozen_bn=False)


class NeckContract:
    def build(self, inputs: tuple[FeatureSpec, ...]) -> nn.Module:
        raise NotImplementedError

    @pytest.mark.parametrize("size", [(64, 96), (72, 200), (33, 65)])
    def test_levels_are_what_out_says(self, size: tuple[int, int]) -> None:
        neck = self.build(INPUTS)
        levels = neck(features(INPUTS, *size))
        assert [spec.stride for spec in neck.out] == [8, 16, 32, 64, 128]
        assert [tuple(x.shape) for x in levels] == [tuple(x.shape) for x in features(neck.out, *size)]

    def test_gradients_reach_every_parameter(self) -> None:
        neck = self.build(INPUTS)
        sum(x.square().mean() for x in neck(features(INPUTS, 256, 256))).backward()
        assert_all_trained(neck)

    def test_every_level_sees_the_coarsest_feature(self) -> None:
        neck = self.build(INPUTS)
        given = [x.requires_grad_() for x in features(INPUTS, 64, 64)]
        for level in neck(given):
            (gradient,) = torch.autograd.grad(level.square().sum(), given[-1], retain_graph=True)
            assert gradient.abs().sum() > 0

    def test_channels_last_stays(self) -> None:
        neck = self.build(INPUTS).to(memory_format=torch.channels_last)
        levels = neck(features(INPUTS, 256, 320))
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in levels)

    def test_the_inputs_are_not_changed(self) -> None:
        neck = self.build(INPUTS)
        given = features(INPUTS, 64, 64)
        before = [x.clone() for x in given]
        neck(given)
        assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


class TestFPN(NeckContract):
    def build(self, inputs: tuple[FeatureSpec, ...]) -> nn.Module:
        return FPN(inputs, 16)


class TestFPNWidened(NeckContract):
    def build(self, inputs: tuple[FeatureSpec, ...]) -> nn.Module:
        return FPN(inputs, 16, 32)


class TestDeformFPN(NeckContract):
    def build(self, inputs: tuple[FeatureSpec, ...]) -> nn.Module:
        neck = DeformFPN(inputs, 16, 32)
        # Zero offset predictors stop no gradient of their own, but that of what comes before them.
        for name, parameter in neck.named_parameters():
            if "offset_mask" in name:
                nn.init.normal_(parameter, std=0.1)
        return neck


class HeadContract:
    def build(self, levels: tuple[FeatureSpec, ...], num_classes: int) -> nn.Module:
        raise NotImplementedError

    def channels(self, num_classes: int) -> tuple[int, ...]:
        """Of the fields of the output behind the towers."""
        return (num_classes, 4, 1)

    def run(self, num_classes: int = 3) -> tuple[nn.Module, Any, list[Tensor]]:
        head = self.build(LEVELS, num_classes)
        levels = features(LEVELS, 96, 160)
        return head, head(levels), levels

    def test_shapes(self) -> None:
        head, output, levels = self.run()
        behind = self.channels(3)
        for field, channels in zip(output, (head.out_channels, head.out_channels, *behind), strict=True):
            wanted = [(len(x), channels, *x.shape[-2:]) for x in levels]
            assert [tuple(x.shape) for x in field] == wanted

    def test_classes_start_near_the_prior(self) -> None:
        _, output, _ = self.run()
        scores = torch.cat([x.sigmoid().flatten() for x in output.class_logits])
        assert scores.mean().item() == pytest.approx(0.01, rel=0.2)

    def test_gradients_reach_every_parameter(self) -> None:
        head, output, _ = self.run()
        # exp and relu both pass gradients where the distance is positive.
        sum(x.sum() for field in output[2:] for x in field).backward()
        assert_all_trained(head)

    def test_channels_last_stays(self) -> None:
        head = self.build(LEVELS, 3).to(memory_format=torch.channels_last)
        output = head(features(LEVELS, 256, 320))
        assert all(
            x.is_contiguous(memory_format=torch.channels_last) for x in (*output.class_logits, *output[3])
        )


class FCOSHeadContract(HeadContract):
    def test_boxes_are_distances_that_are_not_negative(self) -> None:
        _, output, _ = self.run()
        assert all((x >= 0).all() for x in output.boxes)


class TestFCOSHeadNasFcos(FCOSHeadContract):
    def build(self, levels: tuple[FeatureSpec, ...], num_classes: int) -> nn.Module:
        torch.manual_seed(0)
        return FCOSHead(FCOSTowers(32, 32, 2), num_classes, PRESETS["nas_fcos"], levels)


class TestFCOSHeadAdelaidet(FCOSHeadContract):
    def build(self, levels: tuple[FeatureSpec, ...], num_classes: int) -> nn.Module:
        torch.manual_seed(0)
        return FCOSHead(FCOSTowers(32, 64, 1), num_classes, PRESETS["adelaidet"], levels)


class TestRetinaNetHead(HeadContract):
    def channels(self, num_classes: int) -> tuple[int, ...]:
        return (9 * num_classes, 9 * 4)

    def build(self, levels: tuple[FeatureSpec, ...], num_classes: int) -> nn.Module:
        torch.manual_seed(0)
        return RetinaNetHead(32, 64, 2, num_classes, levels)
