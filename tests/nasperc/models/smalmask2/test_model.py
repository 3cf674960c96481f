from __future__ import annotations

import torch
from segmenter_contract import CLASSES, OBJECTS, SIZE, SIZE_SCALE, annotations
from small_segmenters import StridedConvolutions, require_export_for_any_size
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.assembly.detector import Baseline, build_decoder
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.instances import Instances
from nasperc.models.smalmask.model import SmalMask
from nasperc.models.smalmask.recipe import SmalMaskRecipe
from nasperc.models.smalmask2.model import SmalMask2
from nasperc.models.smalmask2.poolers import levels_of_boxes
from nasperc.models.smalmask2.recipe import SmalMask2Recipe
from nasperc.ops.roi_align import roi_align

# Eighths of the thesis's, as the images are.
SMALL = SmalMask2Recipe(region=6, kernel=3, canonical_lengths=(8, 16))


def build(recipe: SmalMask2Recipe = SMALL, backbone: nn.Module | None = None) -> SmalMask2:
    torch.manual_seed(0)
    backbone = backbone or MobileNetV2(width_mult=0.25, frozen_bn=False)
    parts = build_decoder(Baseline(32, 64, 1), backbone.out, CLASSES, PRESETS["adelaidet"])  # type: ignore[arg-type]
    model = SmalMask2(backbone, parts["neck"], parts["head"], recipe)
    nn.init.normal_(model.head.class_logits.weight, std=1.0)  # type: ignore[union-attr, arg-type]
    nn.init.zeros_(model.head.class_logits.bias)  # type: ignore[union-attr, arg-type]
    nn.init.constant_(model.head.box.bias, 3.0)  # type: ignore[union-attr, arg-type]
    nn.init.normal_(model.predictor.conv.weight, std=0.1)
    return model


def images() -> Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def small_head(model: SmalMask2, towers: list[Tensor], image: int, box: Tensor, level: int) -> Tensor:
    """Logits (R, R), as Figure 3.4 draws it."""
    scale = 1 / model.strides[level]
    pooled = roi_align(towers[level], box[None], torch.tensor([image]), (3, 3), scale, sampling_ratio=1)
    conv = model.predictor.conv
    return F.linear(pooled.flatten(1), conv.weight.flatten(1), conv.bias).view(6, 6)


def test_masks_are_read_by_the_pooler_of_the_largest_length() -> None:
    model = build().eval()
    with torch.no_grad():
        output = model(images())
    image = torch.tensor([0, 1, 0, 1, 1])
    masks = model.masks_at(output, OBJECTS, image, torch.zeros_like(image))
    levels = [0, 1, 2, 3, 4]
    assert levels_of_boxes(OBJECTS, 16, 5).tolist() == levels
    for box, mask, of, level in zip(OBJECTS, masks, image.tolist(), levels, strict=True):
        wanted = small_head(model, output.head.detection.box_tower, of, box, level).sigmoid()
        torch.testing.assert_close(mask, wanted, rtol=1e-4, atol=1e-4)


def test_the_mask_loss_by_its_definition() -> None:
    """The mean over all objects and both poolers, of objects that no location belongs to as well."""
    model = build().eval()
    sizes = [(SIZE // stride, SIZE // stride) for stride in model.strides]
    # No location lies within a box of three pixels.
    tiny = torch.tensor([[9.0, 9.0, 11.5, 11.5]])
    objects = [torch.cat((OBJECTS, tiny)), OBJECTS[:2]]
    targets = model.stack([model.targets(annotations(boxes), sizes, SIZE_SCALE) for boxes in objects])
    assert targets.detection.owner is not None
    assert 5 not in targets.detection.owner[0]
    output = model(images())
    losses = []
    for image, boxes in enumerate(objects):
        for index, box in enumerate(boxes):
            for length in (8, 16):
                (level,) = levels_of_boxes(box[None], length, 5).tolist()
                logits = small_head(model, output.head.detection.box_tower, image, box, level)
                mask = targets.masks[image, index].float()
                losses.append(F.binary_cross_entropy_with_logits(logits, mask))
    found = model.losses(output, targets).mask
    torch.testing.assert_close(found, torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)


def test_crowds_are_no_regions() -> None:
    model = build()
    sizes = [(SIZE // stride, SIZE // stride) for stride in model.strides]
    every = annotations(OBJECTS)
    crowd = Instances(
        every.boxes, every.labels, torch.tensor([True, False, False, False, True]), masks=every.masks
    )
    output = model(images()[:1])
    found = model.losses(output, model.stack([model.targets(crowd, sizes, SIZE_SCALE)]))
    without = annotations(OBJECTS[1:4])
    wanted = model.losses(output, model.stack([model.targets(without, sizes, SIZE_SCALE)]))
    torch.testing.assert_close(found.mask, wanted.mask)


def test_it_has_the_parameters_of_a_shared_smalmask_and_gives_its_masks() -> None:
    """3.4: "RoIPred and SmalMask have the same effect and their parameters are the same"."""
    two_stage = build().eval()
    parts = (two_stage.backbone, two_stage.neck, two_stage.head)
    dense = SmalMask(*parts, SmalMaskRecipe(region=6, kernel=3, tower="shared")).eval()
    dense.load_state_dict(two_stage.state_dict())
    with torch.no_grad():
        output = two_stage(images())
    starts = torch.tensor([0, 256, 320, 336, 340])
    image = torch.tensor([0, 1, 1, 0, 1])
    level = levels_of_boxes(OBJECTS, 16, 5)
    # At any location of the level that the pooler reads.
    found = dense.masks_at(output, OBJECTS, image, starts[level])
    torch.testing.assert_close(found, two_stage.masks_at(output, OBJECTS, image, torch.zeros_like(image)))


def test_it_can_be_exported_for_images_of_any_size() -> None:
    require_export_for_any_size(build(backbone=StridedConvolutions()))
