from __future__ import annotations

import numpy as np
import pytest
import torch
from segmenter_contract import CLASSES, OBJECTS, SIZE, SIZE_SCALE, annotations
from small_segmenters import StridedConvolutions, require_export_for_any_size
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.assembly.detector import Baseline, Decoder, Searched, build_decoder
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.masks.targets import MaskTargets
from nasperc.models.smalmask.model import SmalMask
from nasperc.models.smalmask.predictors import PREDICTORS
from nasperc.models.smalmask.recipe import PredictorName, SmalMaskRecipe
from nasperc.models.targets import flatten_levels
from nasperc.ops.boxes import distances_to_boxes, locations
from nasperc.ops.roi_align import roi_align
from search_spaces.base import Architecture
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

SMALL = SmalMaskRecipe(region=6, kernel=3, tower_depth=1)
ALL_DOWN = ("P3", "P3", "P4", "P5", "P6")


def build(
    recipe: SmalMaskRecipe = SMALL,
    decoder: Decoder | None = None,
    backbone: nn.Module | None = None,
) -> SmalMask:
    torch.manual_seed(0)
    backbone = backbone or MobileNetV2(width_mult=0.25, frozen_bn=False)
    decoder = decoder or Baseline(32, 64, 1)
    parts = build_decoder(decoder, backbone.out, CLASSES, PRESETS["adelaidet"])  # type: ignore[arg-type]
    model = SmalMask(backbone, parts["neck"], parts["head"], recipe)
    # Before it has learned anything it detects something, and masks are not all 0.5.
    nn.init.normal_(model.head.class_logits.weight, std=1.0)  # type: ignore[union-attr, arg-type]
    nn.init.zeros_(model.head.class_logits.bias)  # type: ignore[union-attr, arg-type]
    nn.init.constant_(model.head.box.bias, 3.0)  # type: ignore[union-attr, arg-type]
    nn.init.normal_(model.predictor.conv.weight, std=0.1)
    return model


def images(height: int = SIZE, width: int = SIZE) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def targets_of(model: SmalMask, size: tuple[int, int] = (SIZE, SIZE)) -> MaskTargets:
    sizes = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in model.strides]
    return model.stack([model.targets(annotations(OBJECTS), sizes, SIZE_SCALE) for _ in range(2)])


@pytest.mark.parametrize("tower", ["separate", "shared"])
@pytest.mark.parametrize("levels", [None, ALL_DOWN])
def test_masks_are_roi_align_and_a_linear_layer(tower: str, levels: tuple[str, ...] | None) -> None:
    """By the definition: on the map of the level of their location, lower or not."""
    model = build(SMALL.model_copy(update={"tower": tower, "levels": levels})).eval()
    with torch.no_grad():
        output = model(images())
    if tower == "shared":
        own = output.head.detection.box_tower
    else:
        assert model.tower is not None
        own = model.tower(output.neck)[0]
    image = torch.tensor([0, 1, 0, 1, 1])
    # Some on each level, of boxes of any size.
    location = torch.tensor([100, 300, 330, 337, 340])
    masks = model.masks_at(output, OBJECTS, image, location)
    for level in range(5):
        read = level if levels is None else max(level - 1, 0)
        box, of = OBJECTS[level : level + 1], image[level : level + 1]
        pooled = roi_align(own[read], box, of, (3, 3), 1 / (8 * 2**read), sampling_ratio=1)
        conv = model.predictor.conv
        wanted = F.linear(pooled.flatten(1), conv.weight.flatten(1), conv.bias).view(6, 6).sigmoid()
        torch.testing.assert_close(masks[level], wanted, rtol=1e-4, atol=1e-4)


def test_a_detection_has_the_mask_of_its_own_location_and_box() -> None:
    model = build().eval()
    with torch.no_grad():
        output = model(images())
    for image, found in enumerate(model.detect(output, [(SIZE, SIZE), (90, 100)])):
        assert found.location is not None
        assert isinstance(found.masks, Tensor)
        of = torch.full_like(found.location, image)
        wanted = model.masks_at(output, found.boxes, of, found.location)
        torch.testing.assert_close(found.masks, wanted, rtol=1e-4, atol=1e-4)
        assert found.masks.std(0).max() > 0.01


@pytest.mark.parametrize("truth", [True, False])
def test_the_mask_loss_by_its_definition(truth: bool) -> None:
    """At each positive location, of the mask that is read in the annotated or the predicted box, against the object in
    the annotated one."""
    supervision = "ground_truth" if truth else "predicted"
    model = build(SMALL.model_copy(update={"box_supervision": supervision})).eval()
    output, targets = model(images()), targets_of(model)
    detection = targets.detection
    points = torch.cat([locations((SIZE // s, SIZE // s), s) for s in model.strides])
    predicted = flatten_levels(output.head.detection.boxes)
    total, weights = torch.zeros(()), 0.0
    for image, place in (detection.labels >= 0).nonzero().tolist():
        distances = (detection.distances if truth else predicted)[image, place]
        box = distances_to_boxes(points[place][None], distances[None])
        assert detection.owner is not None
        owner = detection.owner[image, place]
        if truth:
            torch.testing.assert_close(box[0], OBJECTS[owner])
        found = model.masks_at(output, box, torch.tensor([image]), torch.tensor([place]))[0]
        loss = F.binary_cross_entropy(found, targets.masks[image, owner].float())
        weight = detection.centerness[image, place]
        total, weights = total + loss * weight, weights + weight
    torch.testing.assert_close(model.losses(output, targets).mask, total / weights, rtol=1e-4, atol=1e-5)


def test_boxes_follow_the_progress_of_the_training() -> None:
    schedules = ("ground_truth", "predicted", "fix", "random")
    models = {each: build(SMALL.model_copy(update={"box_supervision": each})).eval() for each in schedules}

    def losses(progress: float) -> dict[str, float]:
        found = {}
        for name, model in models.items():
            model.on_progress(progress)
            torch.manual_seed(0)
            found[name] = model.losses(model(images()), targets_of(model)).mask.item()
        return found

    first, last = losses(0.0), losses(0.999)
    assert first["ground_truth"] == last["ground_truth"] != last["predicted"] == first["predicted"]
    assert first["fix"] == first["random"] == first["ground_truth"]
    assert last["fix"] == last["random"] == last["predicted"]


@pytest.mark.parametrize("supervision", ["ground_truth", "predicted"])
def test_the_mask_loss_does_not_move_the_boxes(supervision: str) -> None:
    model = build(SMALL.model_copy(update={"box_supervision": supervision}))
    model.losses(model(images()), targets_of(model)).mask.backward()
    assert model.head.box.weight.grad is None  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("tower", ["separate", "shared"])
@pytest.mark.parametrize("predictor", PREDICTORS)
def test_a_searched_neck_and_head_whatever_the_sizes(predictor: PredictorName, tower: str, seed: int) -> None:
    space = FcosDecoder(FcosDecoderRecipe())
    rng = np.random.default_rng(seed)
    parts = {part: space.sample(part, rng) for part in space.parts}
    searched = Searched(
        space, Architecture(space.name, space.version, space.variant, parts), {"fpn": 32, "head": 64}
    )
    recipe = SMALL.model_copy(update={"predictor": predictor, "tower": tower, "levels": ALL_DOWN})
    model = build(recipe, searched)
    size = (160, 224)
    total = model.losses(model(images(*size)), targets_of(model, size)).total()
    total.backward()
    assert total.isfinite()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.predictor.parameters())  # type: ignore[union-attr]
    found = model.eval().detect(model(images(*size)), [size] * 2)
    assert all(len(each.masks) == len(each) > 0 for each in found)  # type: ignore[arg-type]


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_it_can_be_exported_for_images_of_any_size(predictor: PredictorName) -> None:
    recipe = SMALL.model_copy(update={"predictor": predictor, "levels": ALL_DOWN})
    require_export_for_any_size(build(recipe, backbone=StridedConvolutions()))
