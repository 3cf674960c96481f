from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nasperc.models.fcos.losses import FCOSLosses, fcos_losses, fcos_losses_per_image
from nasperc.models.fcos.preset import PRESETS, FCOSPreset
from nasperc.models.fcos.targets import FCOSTargets
from nasperc.models.features import HeadOutput
from nasperc.models.targets import BACKGROUND, IGNORE, NO_OWNER, flatten_levels

STRIDES = (8, 16)
SIZES = ((2, 3), (1, 2))
LOCATIONS = 8
CLASSES = 3


def example(images: int = 2, seed: int = 0) -> tuple[HeadOutput, FCOSTargets]:
    torch.manual_seed(seed)
    maps = [[torch.randn(images, c, *size) for size in SIZES] for c in (1, 1, CLASSES, 4, 1)]
    maps[3] = [x.exp() * 8 for x in maps[3]]
    labels = torch.tensor([BACKGROUND, 0, 2, IGNORE, 1, BACKGROUND, 2, BACKGROUND]).repeat(images, 1)
    labels[0, 4] = BACKGROUND
    positive = labels >= 0
    distances = torch.rand(images, LOCATIONS, 4) * 20 + 1
    centerness = torch.rand(images, LOCATIONS) * 0.9 + 0.05
    owner = torch.where(positive, labels, NO_OWNER)
    return HeadOutput(*maps), FCOSTargets(
        labels, distances * positive[..., None], centerness * positive, owner
    )


def location(index: int) -> tuple[int, int, int]:
    """(level, row, column) of a flattened location."""
    return (0, index // 3, index % 3) if index < 6 else (1, 0, index - 6)


def slow_losses(
    output: HeadOutput, targets: FCOSTargets, preset: FCOSPreset, images: list[int]
) -> list[float]:
    """Element by element in Python: sums of focal, box * weight and BCE; positives; sum of weights."""
    focal = box = bce = weights = 0.0
    positives = 0
    for image in images:
        for index in range(LOCATIONS):
            level, row, column = location(index)
            label = int(targets.labels[image, index])
            if label == IGNORE:
                continue
            for k in range(CLASSES):
                p = 1 / (1 + math.exp(-output.class_logits[level][image, k, row, column].item()))
                focal -= 0.25 * (1 - p) ** 2 * math.log(p) if k == label else 0.75 * p**2 * math.log(1 - p)
            if label == BACKGROUND:
                continue
            unit = STRIDES[level] if preset.box_unit == "stride" else 1
            a = [v / unit for v in output.boxes[level][image, :, row, column].tolist()]
            b = [v / unit for v in targets.distances[image, index].tolist()]
            inner = [min(v, w) for v, w in zip(a, b, strict=True)]
            outer = [max(v, w) for v, w in zip(a, b, strict=True)]
            area, wanted, intersection, enclosing = (
                (d[0] + d[2]) * (d[1] + d[3]) for d in (a, b, inner, outer)
            )
            union = area + wanted - intersection
            iou = (intersection + 1) / (union + 1)
            loss = -math.log(iou) if preset.box_loss == "iou" else 1 - iou + (enclosing - union) / enclosing
            weight = targets.centerness[image, index].item()
            c = 1 / (1 + math.exp(-output.centerness[level][image, 0, row, column].item()))
            bce -= weight * math.log(c) + (1 - weight) * math.log(1 - c)
            box += loss * weight
            weights += weight
            positives += 1
    return [focal, box, bce, positives, weights]


def values(losses: FCOSLosses) -> list[float]:
    return [x.item() for x in losses]


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_batch_agrees_with_the_loop(name: str) -> None:
    preset = PRESETS[name]
    output, targets = example()
    focal, box, bce, positives, weights = slow_losses(output, targets, preset, [0, 1])
    images = 2 if name == "nas_fcos" else 0
    wanted = [focal / (positives + images), box / weights, bce / positives]
    found = fcos_losses(output, targets, preset, STRIDES)
    assert values(found) == pytest.approx(wanted, rel=1e-5)
    assert found.total().item() == pytest.approx(sum(wanted), rel=1e-5)


@pytest.mark.parametrize("name", list(PRESETS))
def test_each_image_is_normalised_by_its_own_positives(name: str) -> None:
    preset = PRESETS[name]
    output, targets = example()
    found = fcos_losses_per_image(output, targets, preset, STRIDES)
    for image in (0, 1):
        focal, box, bce, positives, weights = slow_losses(output, targets, preset, [image])
        assert [x[image].item() for x in found] == pytest.approx(
            [focal / positives, box / weights, bce / positives], rel=1e-5
        )


def test_an_image_alone_has_the_losses_that_it_has_in_a_batch() -> None:
    output, targets = example(3)
    together = fcos_losses_per_image(output, targets, PRESETS["nas_fcos"], STRIDES)
    for image in range(3):
        alone_output = HeadOutput(*[[x[image : image + 1] for x in field] for field in output])
        alone_targets = FCOSTargets(*[x[image : image + 1] for x in targets])
        alone = fcos_losses_per_image(alone_output, alone_targets, PRESETS["nas_fcos"], STRIDES)
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_[image])


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("cut", [1, 2])
def test_losses_and_gradients_of_the_parts_of_a_batch_add_up_to_its_own(name: str, cut: int) -> None:
    output, targets = example(3)
    targets = FCOSTargets(
        *[torch.cat([x[:2], y[2:]]) for x, y in zip(targets, without_positives(targets), strict=True)]
    )
    maps = (*output.class_logits, *output.boxes, *output.centerness)
    for x in maps:
        x.requires_grad_()
    whole = fcos_losses(output, targets, PRESETS[name], STRIDES)
    wanted = torch.autograd.grad(whole.total(), maps)
    halves = [slice(0, cut), slice(cut, 3)]
    parts = [
        (
            HeadOutput(*[[x[half] for x in field] for field in output]),
            FCOSTargets(*[x[half] for x in targets]),
        )
        for half in halves
    ]
    normalisers: list[Tensor] = []

    def note(values: Tensor) -> Tensor:
        normalisers.append(values)
        return values

    for part in parts:
        fcos_losses(*part, PRESETS[name], STRIDES, note)
    shares = [
        fcos_losses(*part, PRESETS[name], STRIDES, lambda _: torch.stack(normalisers).sum(0))
        for part in parts
    ]
    assert [sum(terms).item() for terms in zip(*shares, strict=True)] == pytest.approx(
        values(whole), rel=1e-6
    )
    found = torch.autograd.grad(shares[0].total() + shares[1].total(), maps)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def without_positives(targets: FCOSTargets) -> FCOSTargets:
    labels = torch.full_like(targets.labels, BACKGROUND)
    nowhere = torch.full_like(targets.labels, NO_OWNER)
    zeros = (torch.zeros_like(targets.distances), torch.zeros_like(targets.centerness))
    return FCOSTargets(labels, *zeros, nowhere)


@pytest.mark.parametrize("name", list(PRESETS))
def test_no_positives(name: str) -> None:
    output, targets = example()
    for x in (*output.class_logits, *output.boxes, *output.centerness):
        x.requires_grad_()
    empty = without_positives(targets)
    focal, *_ = slow_losses(output, empty, PRESETS[name], [0, 1])
    losses = fcos_losses(output, empty, PRESETS[name], STRIDES)
    assert values(losses) == pytest.approx([focal / (2 if name == "nas_fcos" else 1), 0, 0], rel=1e-5)
    losses.total().backward()
    assert all(x.grad is not None and x.grad.abs().sum() == 0 for x in output.boxes)
    per_image = fcos_losses_per_image(output, empty, PRESETS[name], STRIDES)
    assert per_image.classification.sum().item() == pytest.approx(focal, rel=1e-5)
    assert per_image.box.tolist() == per_image.centerness.tolist() == [0, 0]


def test_ignored_locations_take_no_gradient() -> None:
    output, targets = example()
    for x in output.class_logits:
        x.requires_grad_()
    fcos_losses(output, targets, PRESETS["nas_fcos"], STRIDES).total().backward()
    gradients = flatten_levels([x.grad for x in output.class_logits if x.grad is not None]).abs().sum(dim=-1)
    assert torch.equal(gradients == 0, targets.labels == IGNORE)


def test_the_perfect_box_costs_nothing() -> None:
    output, targets = example()
    parts = targets.distances.split([6, 2], dim=1)
    perfect = [p.transpose(1, 2).reshape(2, 4, *size) for p, size in zip(parts, SIZES, strict=True)]
    for preset in PRESETS.values():
        losses = fcos_losses(output._replace(boxes=perfect), targets, preset, STRIDES)
        assert losses.box.item() == pytest.approx(0, abs=1e-6)


def test_half_precision_outputs_are_summed_in_float32() -> None:
    output, targets = example()
    rounded = HeadOutput(*[[x.bfloat16() for x in field] for field in output])
    wanted = HeadOutput(*[[x.float() for x in field] for field in rounded])
    found = fcos_losses(rounded, targets, PRESETS["nas_fcos"], STRIDES)
    assert all(x.dtype == torch.float32 for x in found)
    assert values(found) == pytest.approx(values(fcos_losses(wanted, targets, PRESETS["nas_fcos"], STRIDES)))
