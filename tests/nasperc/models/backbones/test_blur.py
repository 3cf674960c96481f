"""Backbones with BlurConv in place of strided convolutions (thesis equation 3.4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from nasperc.models.backbones.build import BackboneRecipe, build_backbone
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.backbones.resnet import ResNet, ResNetShape
from nasperc.ops.blur_conv import BlurConv2d

Make = Callable[..., nn.Module]


def resnet(shape: ResNetShape, stride_in: str = "3x3") -> Make:
    return lambda **keys: ResNet(shape, stride_in=stride_in, frozen_bn=False, **keys)


BACKBONES: dict[str, tuple[Make, int]] = {
    "resnet": (resnet(ResNetShape((1, 2, 1, 1))), 7),
    "resnet, stride in the 1x1": (resnet(ResNetShape((1, 2, 1, 1)), "1x1"), 7),
    "resnet18's blocks": (resnet(ResNetShape((1, 1, 1, 1), bottleneck=False)), 7),
    "mobilenet_v2": (lambda **keys: MobileNetV2(width_mult=0.25, frozen_bn=False, **keys), 5),
}


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("blur", [3, 5])
def test_every_strided_convolution_is_blurred_and_keeps_its_name(name: str, blur: int) -> None:
    """The stem, and one of each halving with its shortcut."""
    make, count = BACKBONES[name]
    strided, blurred = make().eval(), make(blur=blur).eval()
    blurred.load_state_dict(strided.state_dict())
    wanted = {
        key
        for key, module in strided.named_modules()
        if isinstance(module, nn.Conv2d) and module.stride != (1, 1)
    }
    found = {key: module for key, module in blurred.named_modules() if isinstance(module, BlurConv2d)}
    assert found.keys() == wanted
    assert len(found) == count
    assert {module.blur_size for module in found.values()} == {blur}
    assert all(module.stride == (1, 1) for module in blurred.modules() if isinstance(module, nn.Conv2d))
    for size in ((64, 96), (36, 44)):
        images = torch.randn(1, 3, *size)
        shapes = [[each.shape for each in backbone(images)] for backbone in (strided, blurred)]
        assert shapes[0] == shapes[1]


def test_with_the_filter_of_one_pixel_it_is_the_strided_network() -> None:
    make, _ = BACKBONES["resnet"]
    strided, blurred = make().eval(), make(blur=1).eval()
    blurred.load_state_dict(strided.state_dict())
    images = torch.randn(1, 3, 64, 96)
    for one, other in zip(strided(images), blurred(images), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_moved_picture_moves_the_features_more_evenly() -> None:
    """What the blur is for (3.3.2): fewer frequencies fold into others when a map is halved."""
    torch.manual_seed(0)
    make, _ = BACKBONES["resnet18's blocks"]
    strided, blurred = make().eval(), make(blur=5).eval()
    blurred.load_state_dict(strided.state_dict())
    picture = torch.randn(1, 3, 1, 192).expand(1, 3, 128, 192)
    changes = []
    for backbone in (strided, blurred):
        with torch.no_grad():
            here, moved = (backbone(each)[0] for each in (picture[..., :128], picture[..., 1:129]))
        # One pixel is a quarter of a cell of C2.
        changes.append(((here - moved)[..., 2:-2].norm() / here[..., 2:-2].norm()).item())
    assert changes[1] < 0.9 * changes[0]


def test_recipes_choose_it() -> None:
    for name in ("resnet18", "mobilenet_v2"):
        recipe = BackboneRecipe.model_validate({"name": name, "blur": 3})
        assert any(isinstance(module, BlurConv2d) for module in build_backbone(recipe).modules())
        assert BackboneRecipe.model_validate(recipe.model_dump()) == recipe
        # What was written before there was a blur is compared with what is written now.
        assert "blur" not in BackboneRecipe(name=name).model_dump(mode="json")
    with pytest.raises(ValueError, match="deformable_stages or blur"):
        BackboneRecipe.model_validate({"name": "resnet50", "blur": 3, "deformable_stages": [5]})
    with pytest.raises(ValueError, match="deformable stages or a blur"):
        ResNet(ResNetShape((1, 1, 1, 1)), deformable_stages=(5,), blur=3)
