from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nasperc.models.fcos.decode import decode, detect
from nasperc.models.fcos.preset import PRESETS, FCOSPreset
from nasperc.models.features import HeadOutput
from nasperc.models.instances import Instances
from nasperc.models.targets import flatten_levels

STRIDES = (8, 16)
SIZES = ((6, 8), (3, 4))
CLASSES = 3


def example(seed: int, images: int = 2) -> HeadOutput:
    torch.manual_seed(seed)
    maps = [[torch.randn(images, c, *size) for size in SIZES] for c in (1, 1, CLASSES, 4, 1)]
    maps[3] = [x.abs() * 16 for x in maps[3]]
    return HeadOutput(*maps)


def iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [max(0.0, c[2] - c[0]) * max(0.0, c[3] - c[1]) for c in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0


Row = tuple[float, int, list[float]]


def slow_detect(output: HeadOutput, image: int, size: tuple[int, int], preset: FCOSPreset) -> list[Row]:
    """Rows (score, label, box), one candidate after the other."""
    rows: list[Row] = []
    for level, stride in enumerate(STRIDES):
        candidates: list[Row] = []
        _, height, width = output.boxes[level][image].shape
        for y in range(height):
            for x in range(width):
                centerness = 1 / (1 + math.exp(-output.centerness[level][image, 0, y, x].item()))
                px, py = stride // 2 + x * stride, stride // 2 + y * stride
                left, top, right, bottom = output.boxes[level][image, :, y, x].tolist()
                box = [px - left, py - top, px + right, py + bottom]
                if preset.clip_before_nms:
                    box = [min(max(v, 0), size[1 - i % 2]) for i, v in enumerate(box)]
                for label in range(CLASSES):
                    score = 1 / (1 + math.exp(-output.class_logits[level][image, label, y, x].item()))
                    tested = score if preset.threshold_on == "class" else score * centerness
                    if tested > preset.score_threshold:
                        candidates.append((score * centerness, label, box))
        rows += sorted(candidates, key=lambda row: -row[0])[: preset.pre_nms_top]
    if preset.clip_before_nms:
        rows = [row for row in rows if row[2][2] > row[2][0] and row[2][3] > row[2][1]]
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: -row[0]):
        if all(row[1] != other[1] or iou(row[2], other[2]) <= preset.nms_iou for other in kept):
            kept.append(row)
    if len(kept) > preset.detections:
        kept = [row for row in kept if row[0] >= kept[preset.detections - 1][0]]
    return [(math.sqrt(s) if preset.sqrt_score else s, label, box) for s, label, box in kept]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"score_threshold": 0.4, "pre_nms_top": 20, "nms_iou": 0.3},
        {"score_threshold": 0.3, "threshold_on": "class_times_centerness", "sqrt_score": False},
        {"detections": 5},
    ],
)
def test_it_agrees_with_the_loop(seed: int, name: str, overrides: dict[str, object]) -> None:
    preset = FCOSPreset.model_validate({**PRESETS[name].model_dump(), **overrides})
    output, sizes = example(seed), [(48, 64), (40, 50)]
    found = detect(output, STRIDES, sizes, preset)
    for image, size in enumerate(sizes):
        wanted = slow_detect(output, image, size, preset)
        assert found[image].labels.tolist() == [label for _, label, _ in wanted]
        torch.testing.assert_close(found[image].scores, torch.tensor([score for score, _, _ in wanted]))
        torch.testing.assert_close(found[image].boxes, torch.tensor([box for _, _, box in wanted]))


def coordinates(images: int) -> list[Tensor]:
    """Maps of the image, level, row and column of each location."""
    maps = []
    for level, (height, width) in enumerate(SIZES):
        fields = torch.meshgrid(
            torch.arange(images),
            torch.tensor([level]),
            torch.arange(height),
            torch.arange(width),
            indexing="ij",
        )
        maps.append(torch.stack([field[:, 0] for field in fields], dim=1).float())
    return maps


def places(found: Instances, image: int) -> list[list[int]]:
    """Image, level, row and column of each detection, read from the maps of all of them by its location."""
    assert found.location is not None
    maps = flatten_levels(coordinates(images=2))
    return maps[image, found.location].long().tolist()


@pytest.mark.parametrize("pre_nms_top", [10, 1000])
@pytest.mark.parametrize("name", list(PRESETS))
def test_each_detection_knows_its_location(name: str, pre_nms_top: int) -> None:
    preset = PRESETS[name].model_copy(update={"pre_nms_top": pre_nms_top, "clip_before_nms": False})
    output, sizes = example(3), [(48, 64), (40, 50)]
    for image, found in enumerate(detect(output, STRIDES, sizes, preset)):
        assert len(found) > 5
        for box, label, score, (at, level, row, column) in zip(
            found.boxes, found.labels, found.scores, places(found, image), strict=True
        ):
            assert at == image
            stride = STRIDES[level]
            x, y = stride // 2 + column * stride, stride // 2 + row * stride
            left, upper, right, lower = output.boxes[level][image, :, row, column]
            torch.testing.assert_close(box, torch.stack((x - left, y - upper, x + right, y + lower)))
            there = (output.class_logits[level][image, label], output.centerness[level][image, 0])
            torch.testing.assert_close(
                score**2, there[0][row, column].sigmoid() * there[1][row, column].sigmoid()
            )


def test_locations_stay_with_clipped_boxes() -> None:
    output = example(4)
    preset = PRESETS["nas_fcos"]
    for image, found in enumerate(detect(output, STRIDES, [(40, 40)] * 2, preset)):
        for box, (_, level, row, column) in zip(found.boxes, places(found, image), strict=True):
            stride = STRIDES[level]
            x, y = stride // 2 + column * stride, stride // 2 + row * stride
            left, upper, right, lower = output.boxes[level][image, :, row, column].tolist()
            whole = torch.tensor([x - left, y - upper, x + right, y + lower])
            torch.testing.assert_close(box, whole.clamp(0, 40))


def test_all_that_tie_with_the_last_one_stay() -> None:
    output = example(0, images=1)
    for x in (*output.class_logits, *output.centerness):
        x.fill_(0.0)
    for x in output.boxes:
        x.fill_(1.0)  # 2 x 2 pixels around locations at least 8 pixels apart: nothing overlaps
    preset = PRESETS["nas_fcos"].model_copy(update={"detections": 10})
    (found,) = detect(output, STRIDES, [(48, 64)], preset)
    assert len(found.scores) == (6 * 8 + 3 * 4) * CLASSES
    assert torch.allclose(found.scores, torch.tensor(0.5))
    output.class_logits[0][0, 0, 0] = 2.0  # eight above the rest: more than that are still in the ten
    output.class_logits[0][0, 0, 1] = 2.0
    (found,) = detect(output, STRIDES, [(48, 64)], preset)
    assert len(found.scores) == 16


def test_nothing_above_the_threshold() -> None:
    output = example(0)
    for x in output.class_logits:
        x.fill_(-20.0)
    for found in detect(output, STRIDES, [(48, 64)] * 2, PRESETS["adelaidet"]):
        assert found.boxes.shape == (0, 4)
        assert found.scores.shape == found.labels.shape == (0,)


def test_only_the_release_clips_before_suppression() -> None:
    output = example(1)
    for name, clipped in (("nas_fcos", True), ("adelaidet", False)):
        boxes = torch.cat([found.boxes for found in detect(output, STRIDES, [(48, 64)] * 2, PRESETS[name])])
        assert ((boxes >= 0) & (boxes <= torch.tensor([64, 48, 64, 48]))).all().item() is clipped


def test_what_lies_in_the_padding_takes_no_place() -> None:
    output = example(0, images=1)
    for x in (*output.class_logits, *output.centerness):
        x.fill_(0.0)
    for x in output.boxes:
        x.fill_(3.0)
    output.class_logits[0][0, :, :, 6:] = 2.0  # beyond the right border of an image 40 pixels wide
    preset = PRESETS["nas_fcos"].model_copy(update={"detections": 10})
    (found,) = detect(output, STRIDES, [(48, 40)], preset)
    assert len(found.scores) >= 10
    assert (found.boxes[:, 2] > found.boxes[:, 0]).all()
    torch.testing.assert_close(found.scores, torch.full_like(found.scores, 0.5))


def test_decoding() -> None:
    output = example(2)
    boxes, scores, centerness = decode(output, STRIDES)
    assert boxes.shape == (2, 60, 4)
    assert scores.shape == (2, 60, CLASSES)
    assert centerness.shape == (2, 60)
    # Location 6 * 8 + 1 * 4 + 2 is row 1, column 2 of stride 16: x 40, y 24.
    left, top, right, bottom = output.boxes[1][0, :, 1, 2]
    torch.testing.assert_close(boxes[0, 54], torch.stack((40 - left, 24 - top, 40 + right, 24 + bottom)))
    torch.testing.assert_close(scores[0, 54], output.class_logits[1][0, :, 1, 2].sigmoid())
    torch.testing.assert_close(centerness[0, 54], output.centerness[1][0, 0, 1, 2].sigmoid())
