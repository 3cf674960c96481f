"""What every detector keeps to. A new one adds a subclass and inherits the tests."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nasperc.errors import InputError
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.detector import Detector
from nasperc.models.fcos.head import FCOSHead
from nasperc.models.fcos.model import FCOS
from nasperc.models.fcos.preset import PRESETS
from nasperc.models.fcos.towers import FCOSTowers
from nasperc.models.instances import Instances
from nasperc.models.necks.fpn import FPN
from nasperc.models.retinanet.head import RetinaNetHead
from nasperc.models.retinanet.model import RetinaNet
from nasperc.ops.boxes import box_iou

BOX = torch.tensor([[8.0, 8.0, 56.0, 40.0]])


def level_sizes(model: Detector, size: int) -> list[tuple[int, int]]:
    return [(-(-size // stride), -(-size // stride)) for stride in model.strides]


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
        for one, two in zip((*direct[:2], *direct.head), (*cached[:2], *cached.head), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))

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
        assert all(torch.equal(a, b) for a, b in zip(output.head[2], model.head(levels)[2], strict=True))

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
