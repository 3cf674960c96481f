import pytest
import torch
from segmenter_contract import CLASSES, OBJECTS, SIZE_SCALE, annotations

from nasperc.assembly.detector import Baseline, build_decoder
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.blendmask.model import BlendMask
from nasperc.models.blendmask.protonet import ProtoNetRecipe
from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.masks.semantic_head import SemanticRecipe
from nasperc.models.masks.semantic_loss import semantic_loss, semantic_target


@pytest.mark.parametrize(
    ("level", "stride"), [("C2", 4), ("P3", 8), ("C4", 16), ("P5", 32), ("P6", 64), ("P7", 128)]
)
@pytest.mark.parametrize("size", [(128, 128), (100, 132), (108, 92)])
def test_the_semantic_loss_of_a_level_whatever_its_size(
    level: str, stride: int, size: tuple[int, int]
) -> None:
    """A divisor of 4 makes levels of odd sizes; a cell is the same part of the image in every one of them."""
    torch.manual_seed(0)
    recipe = BlendMaskRecipe(
        region=8,
        attention=4,
        bottom=ProtoNetRecipe(width=8, convolutions=1),
        semantic=SemanticRecipe(level=level, width=8),
    )
    backbone = MobileNetV2(width_mult=0.25, frozen_bn=False)
    parts = build_decoder(Baseline(32, 64, 1), backbone.out, CLASSES, PRESETS["adelaidet"])
    model = BlendMask(backbone, parts["neck"], parts["head"], recipe).eval()
    model.divisor = 4
    output = model(torch.randn(1, 3, *size))
    level_sizes = [(-(-size[0] // each), -(-size[1] // each)) for each in model.strides]
    targets = model.targets(annotations(OBJECTS), level_sizes, SIZE_SCALE)
    own_size = (-(-size[0] // stride), -(-size[1] // stride))
    wanted = semantic_target(annotations(OBJECTS), own_size, stride)
    (features,) = model._semantic_level.of(output.backbone, output.neck)
    assert features.shape[-2:] == own_size
    assert model.semantic_head is not None
    expected = 0.3 * semantic_loss(model.semantic_head(features), wanted[None])
    torch.testing.assert_close(model.losses(output, model.stack([targets])).semantic, expected)
