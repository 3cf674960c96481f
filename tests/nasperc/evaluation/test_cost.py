from __future__ import annotations

import pytest
import torch
from torch import nn

from nasperc.evaluation.cost import Cost, measure_cost, measure_module_cost
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.fcos.head import FCOSHead
from nasperc.models.fcos.model import FCOS
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.fcos.towers import FCOSTowers
from nasperc.models.necks.fpn import FPN
from nasperc.models.normalisation import FrozenBatchNorm2d
from nasperc.ops.deform_conv import DeformConv2d


def fpn_fcos(backbone: MobileNetV2, width: int, num_classes: int = 80) -> FCOS:
    neck = FPN(backbone.out, width)
    head = FCOSHead(FCOSTowers(width, width), num_classes, PRESETS["nas_fcos"], neck.out)
    return FCOS(backbone, neck, head)


def test_the_row_of_table_7_2() -> None:
    # FPN-FCOS @256, MobileNetV2: 105.4 GFLOPs, 9.8 M parameters at 1088 x 800. It fits with trainable
    # BatchNorm (frozen: 105.12), printed by way of two decimals: 105.345 -> 105.35 -> 105.4.
    cost = measure_cost(fpn_fcos(MobileNetV2(freeze_at=2, frozen_bn=False), 256))
    assert cost.flops == pytest.approx(105.4e9, rel=0.002)
    assert round(round(cost.flops / 1e9, 2) + 1e-9, 1) == 105.4
    assert round(cost.params_trainable / 1e6, 1) == 9.8
    # The frozen stem and first stage: convolutions 3x3x3x32, 3x3x32, 32x16 and three BatchNorms.
    assert cost.params_total - cost.params_trainable == 864 + 288 + 512 + 2 * (32 + 32 + 16)


def test_a_convolution_by_hand() -> None:
    # 8 x 10 pixels, stride 2 -> 4 x 5; each of 6 outputs takes 3 * 9 multiply-accumulates and a bias.
    conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)
    assert measure_cost(conv, (8, 10)) == Cost(4 * 5 * 6 * (27 + 1), 6 * 28, 6 * 28)


def test_groups_take_their_share_only() -> None:
    conv = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
    assert measure_module_cost(conv, torch.zeros(1, 6, 4, 4)).flops == 16 * 6 * 9


@pytest.mark.parametrize(
    ("layer", "an_element"),
    [
        (nn.BatchNorm2d(4), 2),
        (FrozenBatchNorm2d(4), 0),
        (nn.GroupNorm(2, 4), 0),
        (nn.ReLU(), 1),
        (nn.ReLU6(), 1),
        (nn.Upsample(scale_factor=2), 0),
    ],
)
def test_layers_without_kernels(layer: nn.Module, an_element: int) -> None:
    assert measure_module_cost(layer, torch.zeros(1, 4, 5, 7)).flops == an_element * 4 * 5 * 7


def test_a_deformable_convolution_is_its_kernel_and_its_offset_convolution() -> None:
    layer = DeformConv2d(8, 6, deformable_groups=2)
    pixels, kernel, offsets = 5 * 7, 6 * (8 * 9 + 1), 54 * (8 * 9 + 1)
    cost = measure_module_cost(layer, torch.zeros(1, 8, 5, 7))
    assert cost == Cost(pixels * (kernel + offsets), kernel + offsets, kernel + offsets)


def test_a_shared_layer_counts_each_time_that_it_runs() -> None:
    conv = nn.Conv2d(3, 3, 1, bias=False)
    assert measure_cost(nn.Sequential(conv, conv), (4, 4)) == Cost(2 * 16 * 9, 9, 9)


def test_the_parts_add_up_to_the_whole() -> None:
    backbone = MobileNetV2(width_mult=0.25)
    model = fpn_fcos(backbone, 32, num_classes=2)
    images = torch.zeros(1, 3, 64, 96)
    features = backbone(images)
    levels = model.neck(features)
    parts = (
        measure_module_cost(backbone, images),
        measure_module_cost(model.neck, features),
        measure_module_cost(model.head, levels),
    )
    assert measure_cost(model, (64, 96)) == Cost(*(sum(column) for column in zip(*parts, strict=True)))


def test_the_model_is_left_alone() -> None:
    model = fpn_fcos(MobileNetV2(width_mult=0.25, frozen_bn=False), 32)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    measure_cost(model, (64, 64))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
