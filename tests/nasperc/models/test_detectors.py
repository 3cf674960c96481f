"""What every detector keeps to. A new one adds a subclass and inherits the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.detector import Detector, DetectorOutput
from nasperc.models.fcos.head import FCOSHead
from nasperc.models.fcos.losses import fcos_losses_at
from nasperc.models.fcos.model import FCOS
from nasperc.models.fcos.positives import fcos_normalisers, fcos_positives
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.fcos.targets import FCOSTargets
from nasperc.models.fcos.towers import FCOSTowers
from nasperc.models.features import HeadOutput
from nasperc.models.instance_segmenter import InstanceSegmenter
from nasperc.models.instances import Instances
from nasperc.models.necks.fpn import FPN
from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.models.retinanet.head import RetinaNetHead
from nasperc.models.retinanet.model import RetinaNet
from nasperc.models.targets import flatten_levels
from nasperc.ops.boxes import box_iou

BOX = torch.tensor([[8.0, 8.0, 56.0, 40.0]])


def level_sizes(model: Detector, size: int) -> list[tuple[int, int]]:
    return [(-(-size // stride), -(-size // stride)) for stride in model.strides]


def leaves(output: Any) -> list[Tensor]:
    """The tensors of nested lists and tuples."""
    return [output] if isinstance(output, Tensor) else [leaf for each in output for leaf in leaves(each)]


class DetectorContract:
    def make(self, backbone: nn.Module, neck: FPN) -> Detector:
        raise NotImplementedError

    def build(self) -> Detector:
        torch.manual_seed(0)
        backbone = MobileNetV2(width_mult=0.25, frozen_bn=False)
        return self.make(backbone, FPN(backbone.out, 32))

    def targets(self, model: Detector, boxes: torch.Tensor, *, crowd: bool = False) -> Any:
        labels = torch.ones(len(boxes), dtype=torch.int64)
        instances = Instances(boxes, labels, torch.full((len(boxes),), crowd))
        return model.targets(instances, level_sizes(model, 64))

    def test_it_learns_one_box(self) -> None:
        model = self.build()
        model.backbone.requires_grad_(False).eval()
        features = model.backbone(torch.randn(1, 3, 64, 64).repeat(2, 1, 1, 1))
        targets = model.stack([self.targets(model, BOX)] * 2)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        start = model.losses(model.forward_features(features), targets).total().item()
        for _ in range(40):
            loss = model.losses(model.forward_features(features), targets).total()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.75 * start
        best = model.detect(model.forward_features(features), [(64, 64)] * 2)[0]
        assert best.labels[0] == 1
        assert box_iou(best.boxes[:1], BOX) > 0.6

    def test_features_give_what_images_give(self) -> None:
        model = self.build().eval()
        image = torch.randn(1, 3, 64, 96)
        with torch.no_grad():
            direct, cached = model(image), model.forward_features(model.backbone(image))
        assert all(torch.equal(a, b) for a, b in zip(leaves(direct), leaves(cached), strict=True))

    @pytest.mark.parametrize("size", [(64, 100), (40, 64)])
    def test_images_that_do_not_fit_the_strides_are_refused(self, size: tuple[int, int]) -> None:
        with pytest.raises(InputError, match=r"multiples of 32.*Pad"):
            self.build()(torch.randn(1, 3, *size))

    @pytest.mark.parametrize("divisor", [4, 128])
    def test_a_detector_may_have_another_divisor(self, divisor: int) -> None:
        model = self.build().eval()
        model.divisor = divisor
        with torch.no_grad():
            output = model(torch.randn(1, 3, 128 + divisor, 256))
        assert [tuple(x.shape[-2:]) for x in output.neck] == [
            (-(-(128 + divisor) // stride), 256 // stride) for stride in model.strides
        ]
        with pytest.raises(InputError, match=rf"multiples of {divisor}.*Pad"):
            model(torch.randn(1, 3, 128 + divisor // 2, 256))
        assert self.build().divisor == 32

    def test_what_backbone_and_neck_gave_stands_beside_what_the_head_made_of_it(self) -> None:
        model = self.build().eval()
        image = torch.randn(2, 3, 64, 96)
        with torch.no_grad():
            output = model(image)
            features = model.backbone(image)
            levels = model.neck(features)
        assert all(torch.equal(a, b) for a, b in zip(output.backbone, features, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(output.neck, levels, strict=True))

    def test_the_owners_are_numbered_as_the_annotations_came_in(self) -> None:
        model = self.build()
        boxes = torch.tensor([[0.0, 0.0, 64.0, 64.0], [0.0, 0.0, 64.0, 64.0], [2.0, 2.0, 22.0, 22.0]])
        annotations = Instances(boxes, torch.tensor([0, 1, 0]), torch.tensor([True, False, False]))
        targets = model.targets(annotations, level_sizes(model, 64))
        assert targets.owner.dtype == torch.int64
        assert set(targets.owner.tolist()) == {-1, 1, 2}
        positive = targets.labels >= 0
        assert torch.equal(targets.owner >= 0, positive)
        assert torch.equal(annotations.labels[targets.owner[positive]], targets.labels[positive])

    def test_strides(self) -> None:
        assert self.build().strides == (8, 16, 32, 64, 128)

    def test_losses_reach_every_parameter(self) -> None:
        model = self.build()
        output = model(torch.randn(2, 3, 64, 64))
        boxes = torch.tensor([[8.0, 8.0, 56.0, 40.0], [0.0, 0.0, 64.0, 64.0], [20.0, 20.0, 50.0, 60.0]])
        model.losses(output, model.stack([self.targets(model, boxes)] * 2)).total().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name

    def test_images_without_objects_have_finite_losses_and_no_box_loss(self) -> None:
        model = self.build()
        output = model(torch.randn(1, 3, 64, 64))
        losses = model.losses(output, model.stack([self.targets(model, BOX[:0])]))
        assert all(torch.isfinite(term) for term in losses)
        assert losses.classification > 0
        assert losses.box == 0

    def test_a_crowd_region_is_no_background(self) -> None:
        model = self.build()
        output = model(torch.randn(1, 3, 64, 64))
        whole = torch.tensor([[-1.0, -1.0, 1000.0, 1000.0]])
        losses = model.losses(output, model.stack([self.targets(model, whole, crowd=True)]))
        assert losses.total() == 0

    def test_detections_are_sorted_bounded_and_inside_the_image(self) -> None:
        model = self.build().eval()
        nn.init.normal_(model.head.class_logits.weight, std=1.0)
        nn.init.zeros_(model.head.class_logits.bias)
        sizes = [(64, 50), (33, 64)]
        with torch.no_grad():
            found = model.detect(model(torch.randn(2, 3, 64, 64)), sizes)
        for detections, (height, width) in zip(found, sizes, strict=True):
            boxes, scores, labels = detections.boxes, detections.scores, detections.labels
            assert 0 < len(boxes) <= 100
            assert (scores.diff() <= 0).all()
            assert ((scores >= 0) & (scores <= 1)).all()
            assert set(labels.tolist()) <= {0, 1}
            if getattr(getattr(model.head, "preset", None), "clip_before_nms", True):
                assert (boxes >= 0).all()
                assert (boxes[:, 2] <= width).all()
                assert (boxes[:, 3] <= height).all()


class TestFCOSNasFcos(DetectorContract):
    def make(self, backbone: nn.Module, neck: FPN) -> Detector:
        return FCOS(backbone, neck, FCOSHead(FCOSTowers(32, 32, 1), 2, PRESETS["nas_fcos"], neck.out))


class TestFCOSAdelaidet(DetectorContract):
    def make(self, backbone: nn.Module, neck: FPN) -> Detector:
        return FCOS(backbone, neck, FCOSHead(FCOSTowers(32, 32, 1), 2, PRESETS["adelaidet"], neck.out))


class TestRetinaNet(DetectorContract):
    def make(self, backbone: nn.Module, neck: FPN) -> Detector:
        return RetinaNet(backbone, neck, RetinaNetHead(32, 32, 1, 2, neck.out))


class CoarseOutput(NamedTuple):
    """``top``: by level (N, 4, H, W); ``base`` (N, 1, H, W) on the level of the finest neck."""

    detection: HeadOutput
    top: list[Tensor]
    base: Tensor


class CoarseTargets(NamedTuple):
    """``masks``: (M, 4) of an image, as many as it has objects; of a batch a list."""

    boxes: FCOSTargets
    masks: Any

    @property
    def labels(self) -> Tensor:
        return self.boxes.labels

    @property
    def owner(self) -> Tensor | None:
        return self.boxes.owner


class CoarseLosses(NamedTuple):
    classification: Tensor
    box: Tensor
    centerness: Tensor
    mask: Tensor

    def total(self) -> Tensor:
        return sum(self, start=self.classification.new_zeros(()))


class CoarseSegmenter(InstanceSegmenter):
    """Masks of 2 x 2 from the box tower, moved by the mean of a base: the seams of an instance segmenter, no more."""

    def __init__(self, backbone: nn.Module, neck: FPN, head: FCOSHead) -> None:
        super().__init__(backbone, neck, head)
        self.top_layer = nn.Conv2d(head.out_channels, 4, 1)
        self.bottom = nn.Conv2d(backbone.out[1].channels + neck.out[0].channels, 1, 1)

    def forward_features(self, features: list[Tensor]) -> DetectorOutput:
        output = super().forward_features(features)
        top = [self.top_layer(level) for level in output.head.box_tower]
        base = self.bottom(torch.cat((output.backbone[1], output.neck[0]), dim=1))
        return output._replace(head=CoarseOutput(output.head, top, base))

    def targets(
        self, instances: Instances, level_sizes: Sequence[tuple[int, int]], size_scale: float = 1.0
    ) -> CoarseTargets:
        masks = torch.ones(len(instances), 4)
        return CoarseTargets(super().targets(instances, level_sizes, size_scale), masks)

    def stack(self, targets: Sequence[CoarseTargets]) -> CoarseTargets:
        return CoarseTargets(
            super().stack([each.boxes for each in targets]), [each.masks for each in targets]
        )

    def losses(
        self, output: DetectorOutput, targets: CoarseTargets, reduce: Reduce = reduce_alone
    ) -> CoarseLosses:
        positives = fcos_positives(targets.boxes)
        sums = fcos_normalisers(positives, len(targets.labels), self.preset, reduce)
        of_boxes = fcos_losses_at(
            positives, sums, output.head.detection, targets.boxes, self.preset, self.strides
        )
        assert positives.owner is not None
        logits = flatten_levels(output.head.top)[positives.image, positives.location]
        logits = logits + output.head.base.mean(dim=(2, 3))[positives.image]
        first = torch.tensor([0, *(len(masks) for masks in targets.masks)])[:-1].cumsum(0)
        wanted = torch.cat(targets.masks)[first[positives.image] + positives.owner]
        error = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(dim=1)
        return CoarseLosses(*of_boxes, (error * positives.weight).sum() / sums.weight)

    def masks_at(self, output: DetectorOutput, boxes: Tensor, image: Tensor, location: Tensor) -> Tensor:
        top = flatten_levels(output.head.top)[image, location]
        return (top + output.head.base.mean(dim=(1, 2, 3))[image, None]).sigmoid().reshape(-1, 2, 2)


class TestSegmenterOnFCOS(DetectorContract):
    def make(self, backbone: nn.Module, neck: FPN) -> Detector:
        head = FCOSHead(FCOSTowers(32, 32, 1), 2, PRESETS["adelaidet"], neck.out)
        return CoarseSegmenter(backbone, neck, head)

    def test_detections_have_the_masks_that_were_learned(self) -> None:
        model = self.build().eval()
        with torch.no_grad():
            model.head.class_logits.bias.zero_()
            model.top_layer.bias.fill_(3.0)
            found = model.detect(model(torch.randn(2, 3, 64, 64)), [(64, 64)] * 2)
        for each in found:
            assert len(each) > 0
            assert each.masks.shape == (len(each), 2, 2)
            assert (each.rescale((64, 64), (128, 96)).masks > 0.5).all()
