from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from segmenter_contract import CLASSES, OBJECTS, SIZE, SIZE_SCALE, annotations
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.assembly.detector import Baseline, Decoder, Searched, build_decoder
from nasperc.errors import InputError
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.blendmask.deeplab_bottom import DeepLabBottomRecipe
from nasperc.models.blendmask.model import BlendMask
from nasperc.models.blendmask.preset import blendmask_preset
from nasperc.models.blendmask.protonet import ProtoNetRecipe
from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.models.fcos.decode import decode
from nasperc.models.fcos.model import FCOS
from nasperc.models.fcos.preset import PRESETS, FCOSPreset
from nasperc.models.masks.basis_segmenter import BasisHeadOutput
from nasperc.models.masks.semantic_head import SemanticRecipe
from nasperc.models.targets import flatten_levels
from search_spaces.base import Architecture
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

PRESET = blendmask_preset(PRESETS["adelaidet"])
SMALL = BlendMaskRecipe(
    region=8, attention=4, bottom=ProtoNetRecipe(width=8, convolutions=2), semantic=SemanticRecipe(width=8)
)
BASELINE = Baseline(32, 64, 1)


def build(
    recipe: BlendMaskRecipe = SMALL, decoder: Decoder = BASELINE, preset: FCOSPreset = PRESET
) -> BlendMask:
    torch.manual_seed(0)
    backbone = MobileNetV2(width_mult=0.25, frozen_bn=False)
    parts = build_decoder(decoder, backbone.out, CLASSES, preset)
    return BlendMask(backbone, parts["neck"], parts["head"], recipe)


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def targets_of(model: BlendMask, *objects: Tensor) -> object:
    sizes = [(SIZE // stride, SIZE // stride) for stride in model.strides]
    return model.stack([model.targets(annotations(boxes), sizes, SIZE_SCALE) for boxes in objects])


def slow_mask_loss(model: BlendMask, head: BasisHeadOutput, objects: list[Tensor], count: int) -> float:
    """One positive location after the other, each by itself; of an image the ``count`` with the largest weights."""
    sizes = [(SIZE // stride, SIZE // stride) for stride in model.strides]
    total, weights = 0.0, 0.0
    assert head.top is not None
    for image, boxes in enumerate(objects):
        instances = annotations(boxes)
        detection = model.targets(instances, sizes, SIZE_SCALE).detection
        assert instances.masks is not None
        assert not isinstance(instances.masks, Tensor)
        masks = instances.masks.within(boxes, model.recipe.region)
        positive = sorted(
            (index for index, owner in enumerate(detection.owner.tolist()) if owner >= 0),
            key=lambda index: -detection.centerness[index].item(),
        )
        for index in positive[:count]:
            owner, weight = int(detection.owner[index]), detection.centerness[index].item()
            top = flatten_levels(head.top)[image, index][None]
            mask = model.blender(head.bases, boxes[owner][None], torch.tensor([image]), top)[0]
            wanted = masks[owner].float()
            total += weight * F.binary_cross_entropy_with_logits(mask, wanted).item()
            weights += weight
    return total / weights


@pytest.mark.parametrize("count", [None, 1, 5])
@pytest.mark.parametrize("bases", [1, 4])
def test_the_mask_loss_is_what_location_after_location_gives(bases: int, count: int | None) -> None:
    model = build(SMALL.model_copy(update={"bases": bases, "positives": count, "mask_weight": 2.0}))
    objects = [OBJECTS, OBJECTS[1:3]]
    output = model(images())
    losses = model.losses(output, targets_of(model, *objects))  # type: ignore[arg-type]
    slow = slow_mask_loss(model, output.head, objects, count or 10_000)
    assert losses.mask.item() == pytest.approx(2 * slow, rel=1e-4)


def test_the_losses_of_the_detector_are_those_of_fcos() -> None:
    model = build()
    output = model(images())
    targets = targets_of(model, OBJECTS, OBJECTS[:0])
    losses = model.losses(output, targets)  # type: ignore[arg-type]
    from_fcos = FCOS.losses(
        model,
        output._replace(head=output.head.detection),
        targets.detection,  # type: ignore[attr-defined]
    )
    for name, value in from_fcos._asdict().items():
        torch.testing.assert_close(getattr(losses, name), value)
    torch.testing.assert_close(losses.total(), from_fcos.total() + losses.mask + losses.semantic)


def test_the_semantic_loss_has_its_weight_and_only_where_it_is_asked_for() -> None:
    by_weight = []
    for weight in (0.3, 0.6):
        model = build(SMALL.model_copy(update={"semantic": SemanticRecipe(weight=weight, width=8)}))
        by_weight.append(model.losses(model(images()), targets_of(model, OBJECTS, OBJECTS)).semantic)  # type: ignore[arg-type]
    torch.testing.assert_close(2 * by_weight[0], by_weight[1])
    # At first every class is as likely as any other, more or less.
    assert 0.5 < by_weight[0].item() / (0.3 * math.log(CLASSES + 1)) < 2
    without = build(SMALL.model_copy(update={"semantic": None}))
    assert without.losses(without(images()), targets_of(without, OBJECTS, OBJECTS)).semantic == 0  # type: ignore[arg-type]


def test_inference_does_not_look_at_the_semantic_head() -> None:
    model = build().eval()
    assert model.semantic_head is not None
    for parameter in model.semantic_head.parameters():
        nn.init.constant_(parameter, math.nan)
    found = model.detect(confident(model)(images()), [(SIZE, SIZE)] * 2)
    assert all(each.masks.isfinite().all() for each in found if isinstance(each.masks, Tensor))


def confident(model: BlendMask) -> BlendMask:
    """The same, so that it detects something before it has learned anything."""
    nn.init.normal_(model.head.class_logits.weight, std=1.0)  # type: ignore[union-attr, arg-type]
    nn.init.zeros_(model.head.class_logits.bias)  # type: ignore[union-attr, arg-type]
    return model


def test_each_detection_is_blended_by_the_attentions_at_its_location() -> None:
    model = confident(build()).eval()
    nn.init.constant_(model.head.box.bias, 3.0)  # type: ignore[union-attr, arg-type]
    with torch.no_grad():
        output = model(images())
    found = model.detect(output, [(SIZE, SIZE), (90, 100)])
    # The preset does not clip boxes before suppression, and masks are of the boxes as they are predicted.
    assert any((each.boxes < 0).any() for each in found)
    tops = flatten_levels(output.head.top)
    boxes, _, _ = decode(output.head.detection, model.strides)
    for image, each in enumerate(found):
        assert each.location is not None
        for box, location, mask in zip(each.boxes[:5], each.location[:5], each.masks[:5], strict=True):  # type: ignore[index]
            # The head predicted the box at that location.
            torch.testing.assert_close(boxes[image, location], box)
            top = tops[image, location]
            alone = model.blender(output.head.bases, box[None], torch.tensor([image]), top[None])
            torch.testing.assert_close(mask, alone[0].sigmoid())


def computed_maps(model: BlendMask, computed: list[tuple[int, ...]]) -> None:
    """From now on ``computed`` knows the shape of all that the top layer computes."""
    assert model.top_layer is not None
    model.top_layer.conv.register_forward_hook(lambda *call: computed.append(tuple(call[2].shape)))


def test_attentions_are_computed_where_an_object_is_and_nowhere_else() -> None:
    model, computed = confident(build()), []
    computed_maps(model, computed)
    targets = targets_of(model, OBJECTS, OBJECTS[1:3])
    output = model(images())
    assert computed == []
    model.losses(output, targets)  # type: ignore[arg-type]
    positives = int((targets.detection.labels >= 0).sum())  # type: ignore[attr-defined]
    assert computed == [(positives, SMALL.top_channels)]
    computed.clear()
    found = model.detect(output, [(SIZE, SIZE)] * 2)
    assert computed == [(sum(map(len, found)), SMALL.top_channels)]


def test_losses_and_gradients_are_those_of_maps_that_are_computed_everywhere() -> None:
    gradients, values = [], []
    for everywhere in (False, True):
        model = build()
        output = model(images())
        if everywhere:
            output = output._replace(head=output.head._replace(top=list(output.head.top)))
        losses = model.losses(output, targets_of(model, OBJECTS, OBJECTS[1:3]))  # type: ignore[arg-type]
        losses.total().backward()
        values.append(losses)
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(*values)
    here, dense = gradients
    for name, gradient in here.items():
        torch.testing.assert_close(gradient, dense[name], rtol=1e-3, atol=1e-5)


def test_detections_are_those_of_the_detector_alone() -> None:
    model = confident(build()).eval()
    with torch.no_grad():
        output = model(images())
    sizes = [(SIZE, SIZE), (90, 100)]
    plain = FCOS.detect(model, output._replace(head=output.head.detection), sizes)
    for one, other in zip(model.detect(output, sizes), plain, strict=True):
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.scores, other.scores)  # type: ignore[arg-type]
        assert torch.equal(one.labels, other.labels)  # type: ignore[arg-type]


def architecture(space: FcosDecoder, seed: int, share: int) -> Architecture:
    rng = np.random.default_rng(seed)
    parts = {part: space.sample(part, rng) for part in space.parts}
    parts["head"] = (*parts["head"][:-1], share)
    return Architecture(space.name, space.version, space.variant, parts)


@pytest.mark.parametrize("share", [0, 3, 6])
@pytest.mark.parametrize("variant", ["nas_fcos", "thesis"])
def test_a_searched_neck_and_head_with_layers_of_their_own_below_the_share_index(
    variant: str, share: int
) -> None:
    space = FcosDecoder(FcosDecoderRecipe.model_validate({"variant": variant}))
    decoder = Searched(space, architecture(space, share, share), {"fpn": 32, "head": 64})
    model = build(SMALL, decoder)
    losses = model.losses(model(images()), targets_of(model, OBJECTS, OBJECTS))  # type: ignore[arg-type]
    losses.total().backward()
    assert losses.total().isfinite()
    for part in (model.bottom, model.top_layer, model.semantic_head):
        assert part is not None
        assert all(parameter.grad.abs().sum() > 0 for parameter in part.parameters())
    found = confident(model).eval().detect(model(images()), [(SIZE, SIZE)] * 2)
    assert all(len(each.masks) == len(each) > 0 for each in found)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            {"bottom": DeepLabBottomRecipe(inputs=("P2", "P5"))},
            r"got P2 .*blendmask\.bottom\.inputs.*Choose of C2, C3, C4, C5, P3, P4, P5, P6, P7",
        ),
        ({"semantic": SemanticRecipe(level="P2")}, r"got P2 .*blendmask\.semantic\.level.*P3, P4"),
        ({"top_layer_on": "merged_tower"}, r"SearchedTowers.*top_layer_on.*box_tower or cls_tower"),
    ],
)
def test_what_a_searched_decoder_does_not_have_is_refused(recipe: dict[str, object], message: str) -> None:
    space = FcosDecoder(FcosDecoderRecipe())
    decoder = Searched(space, architecture(space, 0, 0), {"fpn": 32, "head": 64})
    with pytest.raises(InputError, match=message):
        build(SMALL.model_copy(update=recipe), decoder)


def test_the_top_layer_stands_on_the_tower_that_it_is_put_on() -> None:
    for place, index in (("cls_tower", 0), ("box_tower", 1)):
        model = build(SMALL.model_copy(update={"top_layer_on": place})).eval()
        assert model.top_layer is not None
        output = model(images())
        towers = output.head.detection[index]
        torch.testing.assert_close(output.head.top[0], model.top_layer.conv(towers[0]))


def test_it_starts_with_attentions_near_zero() -> None:
    """AdelaiDet: N(0, 0.01), bias 0."""
    model = build(BlendMaskRecipe())
    assert model.top_layer is not None
    assert model.top_layer.conv.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert (model.top_layer.conv.bias == 0).all()


def test_only_what_is_learned_is_stored() -> None:
    names = {name.partition(".")[0] for name in build().state_dict()}
    assert names == {"backbone", "neck", "head", "bottom", "top_layer", "semantic_head"}


def test_annotations_without_masks_are_refused() -> None:
    model = build(SMALL.model_copy(update={"semantic": None}))
    sizes = [(SIZE // stride, SIZE // stride) for stride in model.strides]
    with pytest.raises(ValueError, match="annotated masks"):
        model.targets(annotations(OBJECTS).with_fields(masks=None), sizes)


def test_the_two_differences_of_the_preset() -> None:
    differences = {"threshold_on": "class_times_centerness", "level_scales": False}
    assert blendmask_preset(PRESETS["adelaidet"]) == PRESETS["adelaidet"].model_copy(update=differences)
    assert blendmask_preset(PRESETS["nas_fcos"]) == PRESETS["nas_fcos"]


@pytest.mark.parametrize(
    "choices",
    [
        {"bases": 3},
        {"bases": 1},
        {"attention": 1, "merger": "weighted_sum"},
        {"attention": 2, "bases": 4, "merger": "assembler", "top_interpolation": "nearest"},
    ],
)
def test_how_masks_come_about_is_how_they_are_made(choices: dict[str, object]) -> None:
    recipe = BlendMaskRecipe.model_validate({**SMALL.model_dump(), **choices})
    model = build(recipe).eval()
    boxes, image = torch.tensor([[4.0, 8.0, 60.0, 90.0], [-9.0, 3.0, 30.0, 20.0]]), torch.tensor([1, 0])
    location = torch.tensor([5, 280])
    with torch.no_grad():
        output = model(images())
        blended = model.blended_at(output, boxes, image, location)
        masks = model.masks_at(output, boxes, image, location)
    assert blended.regions.shape == blended.scores.shape == (2, recipe.bases, 8, 8)
    torch.testing.assert_close(blended.masks, masks)
    added = (blended.regions * blended.scores).sum(1)
    torch.testing.assert_close(added if recipe.bases == 1 else added.sigmoid(), masks)
    if recipe.bases > 1:
        torch.testing.assert_close(blended.scores.sum(1), torch.ones(2, 8, 8))
