from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.fx.experimental._config
from segmenter_contract import CLASSES, OBJECTS, SIZE_SCALE, annotations
from small_segmenters import MasksOf, StridedConvolutions
from torch import Tensor, nn

from nasperc.assembly.detector import Baseline, Decoder, Searched, build_decoder
from nasperc.errors import InputError
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.blendmask.preset import blendmask_preset
from nasperc.models.dr1mask.model import DR1Mask
from nasperc.models.dr1mask.recipe import DR1MaskRecipe
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.masks.semantic_head import SemanticRecipe
from nasperc.models.targets import flatten_levels
from nasperc.recipe.reading import load_recipe
from nasperc.report.cost import model_cost
from search_spaces.base import Architecture
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

PRESET = blendmask_preset(PRESETS["adelaidet"])
SMALL = DR1MaskRecipe(width=8, region=8, attention=4, rank=2, semantic=SemanticRecipe(width=8))
BASELINE = Baseline(32, 64, 1)


def build(
    recipe: DR1MaskRecipe = SMALL, decoder: Decoder = BASELINE, backbone: nn.Module | None = None
) -> DR1Mask:
    torch.manual_seed(0)
    backbone = backbone or MobileNetV2(width_mult=0.25, frozen_bn=False)
    preset = PRESET
    if isinstance(decoder, Baseline) and decoder.ends[1] == 6:
        preset = PRESET.model_copy(update={"sizes_of_interest": PRESET.sizes_of_interest[:4]})
    parts = build_decoder(decoder, backbone.out, CLASSES, preset)  # type: ignore[arg-type]
    return DR1Mask(backbone, parts["neck"], parts["head"], recipe)


def images(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def losses(model: DR1Mask, given: Tensor) -> Tensor:
    sizes = [tuple(-(-side // stride) for side in given.shape[2:]) for stride in model.strides]
    targets = [model.targets(annotations(OBJECTS), sizes, SIZE_SCALE) for _ in given]  # type: ignore[arg-type]
    return model.losses(model(given), model.stack(targets)).total()


def confident(model: DR1Mask) -> DR1Mask:
    """The same, so that it detects something before it has learned anything."""
    nn.init.normal_(model.head.class_logits.weight, std=1.0)  # type: ignore[union-attr, arg-type]
    nn.init.zeros_(model.head.class_logits.bias)  # type: ignore[union-attr, arg-type]
    return model


@pytest.mark.parametrize("divisor", [4, 32, 128])
def test_the_divisor_is_the_recipe_s(divisor: int) -> None:
    upsampling = "aligned" if divisor == 4 else "resized"
    model = build(SMALL.model_copy(update={"divisor": divisor, "upsampling": upsampling}))
    assert model.divisor == divisor
    size = (128 + divisor, 128 + 3 * divisor)
    # The basis has a cell for every 4 x 4 pixels, no more.
    assert model(images(*size)).head.bases.shape == (2, 8, size[0] // 4, size[1] // 4)
    with pytest.raises(InputError, match=rf"multiples of {divisor}.*Pad"):
        model(images(size[0], size[1] - divisor // 2))


def test_the_basis_and_its_embeddings_stand_beside_the_detections() -> None:
    model = build().eval()
    output = model(images(100, 132))
    contexts, embeddings = model.top_layer(output.neck, output.head.detection)
    assert torch.equal(output.head.bases, model.basis(output.neck, contexts, (25, 33)))
    for level, expected in zip(output.head.top, embeddings, strict=True):
        assert torch.equal(level, expected)


@pytest.mark.parametrize("embedding", ["vector", "full", "factored"])
def test_each_detection_is_masked_by_the_embedding_at_its_location(embedding: str) -> None:
    model = confident(build(SMALL.model_copy(update={"embedding": embedding}))).eval()
    nn.init.constant_(model.head.box.bias, 3.0)  # type: ignore[union-attr, arg-type]
    with torch.no_grad():
        output = model(images(100, 132))
    embeddings = flatten_levels(list(output.head.top))
    for image, found in enumerate(model.detect(output, [(100, 132), (90, 100)])):
        assert found.location is not None
        for box, location, mask in zip(found.boxes[:5], found.location[:5], found.masks[:5], strict=True):  # type: ignore[index]
            own = embeddings[image, location][None]
            alone = model.blender(output.head.bases, box[None], torch.tensor([image]), own)[0].sigmoid()
            torch.testing.assert_close(mask, alone, rtol=1e-3, atol=1e-5)


def architecture(space: FcosDecoder, seed: int) -> Architecture:
    rng = np.random.default_rng(seed)
    parts = {part: space.sample(part, rng) for part in space.parts}
    return Architecture(space.name, space.version, space.variant, parts)


@pytest.mark.parametrize("upsampling", ["aligned", "resized"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("variant", ["nas_fcos", "thesis"])
def test_a_searched_neck_and_head_whatever_the_sizes(variant: str, seed: int, upsampling: str) -> None:
    """A divisor of 4 gives them levels of odd sizes."""
    space = FcosDecoder(FcosDecoderRecipe.model_validate({"variant": variant}))
    decoder = Searched(space, architecture(space, seed), {"fpn": 32, "head": 64})
    model = build(SMALL.model_copy(update={"upsampling": upsampling}), decoder)
    total = losses(model, images(132, 140))
    total.backward()
    assert total.isfinite()
    for part in (model.basis, model.top_layer, model.blender, model.semantic_head):
        assert part is not None
        assert all(parameter.grad.abs().sum() > 0 for parameter in part.parameters())
    found = confident(model).eval().detect(model(images(132, 140)), [(132, 140)] * 2)
    assert all(len(each.masks) == len(each) > 0 for each in found)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "decoder",
    [Baseline(32, 64, 1, ends=(2, 7)), Baseline(32, 64, 1, ends=(3, 6), merged_tower=True)],
    ids=["with P2", "without P7, merged"],
)
@pytest.mark.parametrize("place", ["neck", "cls_tower", "box_tower"])
def test_other_pyramids(decoder: Baseline, place: str) -> None:
    """The basis stands on the levels that the head looks at, whatever there is beside them."""
    model = build(SMALL.model_copy(update={"context_on": place}), decoder)
    assert len(model.basis.merge) == len(model.levels) == (5 if decoder.ends[0] == 2 else 4)
    assert model(images(132, 140)).head.bases.shape == (2, 8, 33, 35)
    assert losses(model, images(132, 140)).isfinite()


def test_inference_does_not_look_at_the_semantic_head() -> None:
    model = confident(build()).eval()
    assert model.semantic_head is not None
    for parameter in model.semantic_head.parameters():
        nn.init.constant_(parameter, math.nan)
    for each in model.detect(model(images(128, 128)), [(128, 128)] * 2):
        assert isinstance(each.masks, Tensor)
        assert each.masks.isfinite().all()


def test_what_neck_and_backbone_do_not_have_is_refused() -> None:
    with pytest.raises(InputError, match=r"got P2 .*dr1mask\.semantic\.level.*C2, C3.*P3, P4"):
        build(SMALL.model_copy(update={"semantic": SemanticRecipe(level="P2")}))
    model = build()
    model.backbone.out = model.backbone.out[1:]  # type: ignore[index, assignment]
    with pytest.raises(InputError, match=r"feature of stride 4.*C3 of stride 8.*offers C2"):
        DR1Mask(model.backbone, model.neck, model.head, SMALL)


def test_only_what_is_learned_is_stored() -> None:
    names = {name.partition(".")[0] for name in build().state_dict()}
    assert names == {"backbone", "neck", "head", "top_layer", "basis", "blender", "semantic_head"}


def test_it_can_be_exported_for_images_of_any_size() -> None:
    masks = MasksOf(build(backbone=StridedConvolutions())).eval()
    boxes = torch.tensor([[3.0, 5.0, 40.0, 60.0], [0.0, 0.0, 128.0, 128.0], [-5.0, -9.0, 30.0, 70.0]])
    location = torch.tensor([0, 7, 450])
    rows, columns = (torch.export.Dim(name, min=40, max=1024) for name in ("rows", "columns"))
    any_side = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with torch.no_grad(), any_side:
        arguments = (images(256, 384)[:1], boxes, location)
        free = ({2: 4 * rows, 3: 4 * columns}, None, None)
        program = torch.export.export(masks, arguments, dynamic_shapes=free).module()
    # Levels of even sizes and of odd ones.
    for size in ((160, 160), (164, 292), (324, 228)):
        given = images(*size)[:1]
        with torch.no_grad():
            torch.testing.assert_close(program(given, boxes, location), masks(given, boxes, location))


def test_it_costs_less_than_blendmask_with_a_quarter_of_its_channels() -> None:
    """5.4.2 and Table 5.8, where 69 ms stand against 73."""
    dr1mask, blendmask = load_recipe("table_5_8:R-50"), load_recipe("table_4_8:R-50* 36 epochs")
    assert dr1mask.task is not None
    assert blendmask.task is not None
    widths = dr1mask.task.options["dr1mask"]["width"], blendmask.task.options["blendmask"]["bottom"]["width"]
    assert 4 * widths[0] == widths[1]
    ratio = model_cost(dr1mask).flops / model_cost(blendmask).flops
    assert 0.85 < ratio < 0.95
