from __future__ import annotations

import pytest
import torch

from nasperc.errors import InputError
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.fcos import FCOS
from nasperc.models.fcos_targets import FCOSTargets, fcos_targets, stack_targets
from nasperc.models.heads.fcos_head import FCOSHead
from nasperc.models.heads.preset import PRESETS
from nasperc.models.heads.towers import FCOSTowers
from nasperc.models.necks.fpn import FPN
from nasperc.ops.boxes import box_iou


def detector(preset: str) -> FCOS:
    torch.manual_seed(0)
    backbone = MobileNetV2(width_mult=0.25, frozen_bn=False)
    neck = FPN(backbone.out, 32)
    return FCOS(backbone, neck, FCOSHead(FCOSTowers(32, 32, 1), 2, PRESETS[preset], neck.out))


def one_box(model: FCOS, size: int) -> FCOSTargets:
    sizes = [(-(-size // stride), -(-size // stride)) for stride in model.strides]
    boxes, labels = torch.tensor([[8.0, 8.0, 56.0, 40.0]]), torch.tensor([1])
    targets = fcos_targets(
        boxes,
        labels,
        torch.tensor([False]),
        sizes,
        model.strides,
        model.preset.sizes_of_interest,
        model.preset.centre_sampling_radius,
    )
    return stack_targets([targets] * 2)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_it_learns_one_box(preset: str) -> None:
    model = detector(preset)
    model.backbone.requires_grad_(False).eval()
    image = torch.randn(1, 3, 64, 64).repeat(2, 1, 1, 1)
    features = model.backbone(image)
    targets = one_box(model, 64)
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
    assert box_iou(best.boxes[:1], torch.tensor([[8.0, 8.0, 56.0, 40.0]])) > 0.6


def test_features_give_what_images_give() -> None:
    model = detector("nas_fcos").eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        direct, cached = model(image), model.forward_features(model.backbone(image))
    for one, two in zip(direct, cached, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("size", [(64, 100), (40, 64)])
def test_images_that_do_not_fit_the_strides_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"multiples of 32.*Pad"):
        detector("nas_fcos")(torch.randn(1, 3, *size))


def test_strides() -> None:
    assert detector("nas_fcos").strides == (8, 16, 32, 64, 128)
