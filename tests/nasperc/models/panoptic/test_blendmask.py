"""BlendMask with the semantic branch keeps the segmenters' contract, and makes panoptic segmentations."""

from __future__ import annotations

import pytest
import torch
from segmenter_contract import CLASSES, OBJECTS, SIZE, SegmenterContract, annotations
from torch import Tensor

from nasperc.assembly.detector import Baseline, build_decoder
from nasperc.evaluation.cost import measure_cost
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.blendmask.preset import blendmask_preset
from nasperc.models.blendmask.protonet import ProtoNetRecipe
from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.models.detector import Detector
from nasperc.models.fcos.preset import get_preset
from nasperc.models.instance_segmenter import WholeSegmenter
from nasperc.models.instances import Instances
from nasperc.models.panoptic.blendmask import BlendMaskPanoptic
from nasperc.models.panoptic.merge import MergeRecipe, merge_instances
from nasperc.models.panoptic.pixel_classes import pixel_classes
from nasperc.models.panoptic.segmentation import SEMANTIC_IGNORE
from nasperc.models.panoptic.segmenter import PanopticSegmenter, WholePanoptic
from nasperc.models.panoptic.semantic_branch import SemanticBranchRecipe
from nasperc.models.reduction import Reduce

STUFF = 2
LEVELS = {"P2": ("P2", "P3", "P4", "P5"), "P3": ("P3", "P4", "P5")}


def build(finest: str, stuff_area: int = 0) -> BlendMaskPanoptic:
    backbone = MobileNetV2(width_mult=0.25, frozen_bn=False)
    decoder = Baseline(32, 64, 1, ends=(2 if finest == "P2" else 3, 7))
    parts = build_decoder(decoder, backbone.out, CLASSES, blendmask_preset(get_preset("adelaidet")))
    recipe = BlendMaskRecipe(bottom=ProtoNetRecipe(width=8), attention=4, region=28)
    recipe = recipe.model_copy(update={"semantic": recipe.semantic.model_copy(update={"width": 8})})
    branch = SemanticBranchRecipe(levels=LEVELS[finest], width=32)
    merge = MergeRecipe(stuff_area=stuff_area)
    return BlendMaskPanoptic(backbone, parts["neck"], parts["head"], recipe, branch, merge, STUFF)


def semantic(images: Tensor) -> Tensor:
    """Void on top, things on the left, both kinds of stuff on the right."""
    target = torch.zeros(len(images), SIZE, SIZE, dtype=torch.int64)
    target[:, :, SIZE // 2 :] = 1
    target[:, SIZE // 2 :, SIZE // 2 :] = 2
    target[:, :10] = SEMANTIC_IGNORE
    return target


class TestBlendMaskPanoptic(SegmenterContract):
    @pytest.fixture(params=sorted(LEVELS))
    def variant(self, request: pytest.FixtureRequest) -> str:
        assert isinstance(request.param, str)
        return request.param

    def build(self, variant: str) -> BlendMaskPanoptic:
        return build(variant)

    def losses(
        self, model: Detector, images: Tensor, objects: list[Tensor], **keys: Reduce
    ) -> dict[str, Tensor]:
        assert isinstance(model, PanopticSegmenter)
        targets = model.stack([self.targets(model, annotations(boxes)) for boxes in objects])
        output = model(images)
        return {
            **model.losses(output, targets, **keys)._asdict(),
            **model.panoptic_losses(output, targets, semantic(images), **keys),
        }

    @pytest.mark.parametrize("crowd", [False, True])
    def test_without_objects_the_losses_are_finite_and_every_gradient_is_known(
        self, model: Detector, images: Tensor, crowd: bool
    ) -> None:
        """Nor with any pixel that counts."""
        assert isinstance(model, PanopticSegmenter)
        instances = annotations(OBJECTS[-1:] if crowd else OBJECTS[:0], crowd=crowd)
        output = model(images[:1])
        targets = model.stack([self.targets(model, instances)])
        void = torch.full((1, SIZE, SIZE), SEMANTIC_IGNORE)
        losses = {
            **model.losses(output, targets)._asdict(),
            **model.panoptic_losses(output, targets, void),
        }
        assert losses["mask"] == losses["stuff"] == 0
        torch.stack(list(losses.values())).sum().backward()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name


@pytest.fixture
def model() -> BlendMaskPanoptic:
    torch.manual_seed(0)
    return build("P3").eval()


def test_a_segmentation_is_instances_over_stuff(model: BlendMaskPanoptic) -> None:
    images = torch.randn(2, 3, SIZE, SIZE)
    image_sizes, sizes = [(SIZE, SIZE), (100, 90)], [(64, 64), (150, 135)]
    # Random weights find boxes without area.
    made_up = Instances(
        OBJECTS[[1, 2, 3]],
        torch.tensor([1, 0, 2]),
        scores=torch.tensor([0.9, 0.5, 0.1]),
        masks=torch.ones(3, 28, 28),
    )
    found = [made_up.rescale(*each) for each in zip(image_sizes, sizes, strict=True)]
    with torch.no_grad():
        output = model(images)
        segmentations = model.segment(output, found, image_sizes, sizes)
        surer = model.segment(output, found, image_sizes, sizes, confidence=1.0)
        logits = model.pixel_logits(output)
    assert (model.things, model.stuff, logits.shape) == (CLASSES, STUFF, (2, 1 + STUFF, SIZE // 8, SIZE // 8))
    for k, segmentation in enumerate(segmentations):
        assert segmentation.map.shape == sizes[k]
        classes = pixel_classes(logits[k], 8, image_sizes[k], sizes[k])
        expected = merge_instances(found[k], classes, CLASSES, MergeRecipe(stuff_area=0))
        assert torch.equal(segmentation.map, expected.map)
        assert torch.equal(segmentation.labels, expected.labels)
        assert segmentation.labels[:2].tolist() == ([1, 0] if k == 0 else [0, CLASSES])
        assert (segmentation.areas() > 0).all()
        # Nothing is as sure as that: stuff alone, wherever it is seen.
        assert (surer[k].labels >= CLASSES).all()
        assert torch.equal(surer[k].map > 0, classes > 0)


def test_costs_are_those_of_the_masks_and_of_the_branch(model: BlendMaskPanoptic) -> None:
    size = (SIZE, SIZE)
    with torch.no_grad():
        masks, logits = WholePanoptic(model)(torch.randn(1, 3, *size))
    assert masks.shape == (100, 28, 28)
    assert logits.shape == (1, 1 + STUFF, SIZE // 8, SIZE // 8)
    both, instances = measure_cost(WholePanoptic(model), size), measure_cost(WholeSegmenter(model), size)
    # 3x3 on P3, P4 and twice for P5 at their sizes, with its ReLUs, and the classifier.
    cells = {level: (SIZE // 2**level) ** 2 for level in (3, 4, 5)}
    convolution = 9 * 32 * 32
    expected = cells[3] * convolution + cells[4] * convolution + (cells[5] + cells[4]) * convolution
    relus = 32 * (cells[3] + 2 * cells[4] + cells[5])
    classifier = cells[3] * (32 * (1 + STUFF) + 1 + STUFF)
    assert both.flops - instances.flops == expected + relus + classifier
