from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from torch import nn

from nasperc.errors import InputError
from nasperc.models.backbones.build import BackboneRecipe, build_backbone
from nasperc.models.normalisation import FrozenBatchNorm2d

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


@pytest.mark.parametrize("wrong", [{"name": "vgg"}, {"freeze_at": -1}, {"width_mult": 0}, {"depth": 3}])
def test_a_wrong_recipe_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BackboneRecipe.model_validate(wrong)
