import pytest
import torch
from pydantic import ValidationError

from nasperc.assembly.decoder_recipe import DecoderRecipe, recipe_decoder
from nasperc.assembly.detector import build_decoder
from nasperc.models.backbones.resnet import ResNet, ResNetShape
from nasperc.models.fcos.preset import PRESETS
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe


@pytest.mark.parametrize("name", ["fpn-fcos", "deform-fpn-fcos", "fpn-retinanet"])
def test_a_pyramid_from_p2_has_a_head_from_p3(name):
    recipe = DecoderRecipe(name=name, fpn_width=32, head_width=32, depth=1, ends=(2, 7))
    decoder = recipe_decoder(recipe, FcosDecoder(FcosDecoderRecipe()))
    with torch.device("meta"):
        backbone = ResNet(ResNetShape((1, 1, 1, 1)))
        parts = build_decoder(decoder, backbone.out, 2, PRESETS["adelaidet"])
    assert [spec.name for spec in parts["neck"].out] == ["P2", "P3", "P4", "P5", "P6", "P7"]
    assert parts["head"].levels == parts["neck"].out[1:]


def test_a_merged_tower_of_three_layers_without_p7():
    recipe = DecoderRecipe(fpn_width=32, head_width=32, depth=3, ends=(3, 6), merged_tower=True)
    decoder = recipe_decoder(recipe, FcosDecoder(FcosDecoderRecipe()))
    sizes = ((-1.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, float("inf")))
    preset = PRESETS["adelaidet"].model_copy(update={"sizes_of_interest": sizes})
    with torch.device("meta"):
        backbone = ResNet(ResNetShape((1, 1, 1, 1)))
        head = build_decoder(decoder, backbone.out, 2, preset)["head"]
    assert [spec.name for spec in head.levels] == ["P3", "P4", "P5", "P6"]
    assert head.towers.merged


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "searched", "architecture": "a", "ends": [2, 7]}, "P3 to P7"),
        ({"name": "searched", "architecture": "a", "merged_tower": True}, "cannot be merged"),
        ({"name": "fpn-retinanet", "merged_tower": True}, "cannot be merged"),
        ({"ends": [1, 7]}, "ends"),
        ({"ends": [3, 5]}, "ends"),
    ],
)
def test_what_a_decoder_does_not_have_is_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        DecoderRecipe.model_validate(keys)
