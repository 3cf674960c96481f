from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from nasperc.errors import InputError
from nasperc.models.backbones.build import BackboneRecipe, build_backbone
from nasperc.models.normalisation import FrozenBatchNorm2d
from nasperc.ops.deform_conv import DeformConv2d

SMALL = {"width_mult": 0.25}


def kinds(backbone: nn.Module) -> set[type[nn.Module]]:
    return {type(m) for m in backbone.modules() if isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d)}


def trained(backbone: nn.Module) -> int:
    return next(i for i, m in enumerate(backbone.features) if any(p.requires_grad for p in m.parameters()))


def test_a_random_start_trains_everything() -> None:
    backbone = build_backbone(BackboneRecipe(**SMALL))
    assert kinds(backbone) == {nn.BatchNorm2d}
    assert trained(backbone) == 0


def test_pretrained_weights_freeze_batch_norm_and_the_first_stage() -> None:
    backbone = build_backbone(BackboneRecipe(weights=Path("w.pth"), **SMALL))
    assert kinds(backbone) == {FrozenBatchNorm2d}
    assert trained(backbone) == 2


def test_what_is_said_holds() -> None:
    backbone = build_backbone(BackboneRecipe(weights=Path("w.pth"), frozen_bn=False, freeze_at=0, **SMALL))
    assert kinds(backbone) == {nn.BatchNorm2d}
    assert trained(backbone) == 0
    assert kinds(build_backbone(BackboneRecipe(frozen_bn=True, **SMALL))) == {FrozenBatchNorm2d}


@pytest.mark.parametrize(
    ("recipe", "wanted"),
    [
        (BackboneRecipe(), "imagenet"),
        (BackboneRecipe(weights=Path("a/mobilenet_v2-b0353104.pth")), "imagenet"),
        (BackboneRecipe(name="resnet50", weights=Path("resnet50-0676ba61.pth")), "imagenet"),
        (BackboneRecipe(weights=Path("mine.pth"), normalisation="tf"), "tf"),
    ],
)
def test_the_normalisation_is_known(recipe: BackboneRecipe, wanted: str) -> None:
    assert recipe.input_normalisation() == wanted


def test_the_normalisation_of_unknown_weights_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"--normalisation\) for mine.pth"):
        BackboneRecipe(weights=Path("mine.pth")).input_normalisation()


def test_an_unknown_backbone_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"mobilenet_v2.*'vgg'"):
        build_backbone(BackboneRecipe.model_construct(name="vgg"))


@pytest.mark.parametrize(
    ("recipe", "stride_in"),
    [
        ({"name": "resnet50"}, "3x3"),
        ({"name": "resnet50", "normalisation": "imagenet"}, "3x3"),
        ({"name": "resnet101", "normalisation": "caffe"}, "1x1"),
        ({"name": "resnet101", "normalisation": "caffe", "stride_in": "3x3"}, "3x3"),
        ({"name": "resnext101_64x4d", "normalisation": "caffe"}, "3x3"),
        ({"name": "resnet50", "stride_in": "1x1"}, "1x1"),
    ],
)
def test_the_stride_is_where_the_weights_want_it(recipe: dict[str, str], stride_in: str) -> None:
    with torch.device("meta"):
        block = build_backbone(BackboneRecipe.model_validate(recipe)).layer2[0]
    assert block.conv1.stride == ((2, 2) if stride_in == "1x1" else (1, 1))
    assert block.conv2.stride == ((1, 1) if stride_in == "1x1" else (2, 2))


def test_deformable_stages_come_from_the_recipe() -> None:
    recipe = BackboneRecipe(name="resnet50", deformable_stages=(3, 4, 5), deformable_interval=3)
    with torch.device("meta"):
        backbone = build_backbone(recipe)
    assert sum(isinstance(module, DeformConv2d) for module in backbone.modules()) == 2 + 2 + 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "vgg"},
        {"freeze_at": -1},
        {"width_mult": 0},
        {"depth": 3},
        {"stride_in": "1x1"},
        {"deformable_stages": [5]},
        {"name": "resnet50", "width_mult": 0.5},
        {"name": "resnet50", "freeze_at": 6},
        {"name": "resnet50", "deformable_stages": [2]},
        {"name": "resnet50", "deformable_interval": 0},
        {"name": "resnet18", "stride_in": "1x1"},
        {"name": "resnet18", "deformable_stages": [5]},
        {"name": "resnext101_64x4d", "deformable_stages": [5]},
    ],
)
def test_a_wrong_recipe_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BackboneRecipe.model_validate(wrong)
