"""Matching, losses and decoding of RetinaNet against loops that follow the paper word by word."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nasperc.models.detector import DetectorOutput
from nasperc.models.features import FeatureSpec
from nasperc.models.retinanet.anchors import anchors
from nasperc.models.retinanet.head import AnchorOutput
from nasperc.models.retinanet.model import RetinaNet
from nasperc.models.retinanet.targets import AnchorTargets, anchor_targets

STRIDES = (8, 16)
SIZES = [(4, 6), (2, 3)]
CLASSES = 3


def iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def slow_targets(boxes: Tensor, labels: Tensor, crowd: Tensor, references: Tensor) -> tuple[list, list, list]:
    objects = [(b, int(k)) for b, k, c in zip(boxes.tolist(), labels, crowd, strict=True) if not c]
    crowds = [b for b, c in zip(boxes.tolist(), crowd, strict=True) if c]
    table = [[iou(box, anchor) for anchor in references.tolist()] for box, _ in objects]
    index_of = [index for index, each in enumerate(crowd.tolist()) if not each]
    out_labels, deltas, owners = [], [], []
    for index, (x1, y1, x2, y2) in enumerate(references.tolist()):
        overlaps = [row[index] for row in table]
        best = max(overlaps, default=0.0)
        favourite = any(row[index] == max(row) and row[index] > 0 for row in table)
        cx, cy, w, h = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        if best >= 0.5 or favourite:
            (a1, b1, a2, b2), label = objects[overlaps.index(best)]
            steps = [((a1 + a2) / 2 - cx) / w, ((b1 + b2) / 2 - cy) / h]
            deltas.append([*steps, math.log((a2 - a1) / w), math.log((b2 - b1) / h)])
            out_labels.append(label)
            owners.append(index_of[overlaps.index(best)])
            continue
        deltas.append([0.0] * 4)
        owners.append(-1)
        in_crowd = any(b[0] < cx < b[2] and b[1] < cy < b[3] for b in crowds)
        out_labels.append(-2 if best >= 0.4 or in_crowd else -1)
    return out_labels, deltas, owners


# Whole pixels: no IoU lies within rounding of 0.4 or 0.5 but those that are exactly there.
box = st.tuples(*[st.integers(-8, 40)] * 2, *[st.integers(2, 60)] * 2).map(
    lambda t: [t[0], t[1], t[0] + t[2], t[1] + t[3]]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(box, st.integers(0, 2), st.booleans()), max_size=5))
def test_matching_against_loops(objects: list) -> None:
    boxes = torch.tensor([b for b, _, _ in objects], dtype=torch.float64).reshape(-1, 4)
    labels = torch.tensor([k for _, k, _ in objects], dtype=torch.int64)
    crowd = torch.tensor([c for _, _, c in objects], dtype=torch.bool)
    references = anchors(SIZES, STRIDES).round()
    targets = anchor_targets(boxes, labels, crowd, references)
    wanted_labels, wanted_deltas, wanted_owners = slow_targets(boxes, labels, crowd, references)
    # Equal overlaps in exact arithmetic may differ in the last bit of float32: leave ties of the best out.
    sure = torch.ones(len(references), dtype=torch.bool)
    kept = [b for b, _, c in objects if not c]
    for index, anchor in enumerate(references.tolist()):
        overlaps = sorted((iou(b, anchor) for b in kept), reverse=True)
        sure[index] = len(overlaps) < 2 or overlaps[0] == 0 or overlaps[0] - overlaps[1] > 1e-6
    for each in kept:
        overlaps = [iou(each, anchor) for anchor in references.tolist()]
        near = torch.tensor([0 < abs(max(overlaps) - overlap) < 1e-6 for overlap in overlaps])
        sure &= ~near
    assert targets.labels[sure].tolist() == torch.tensor(wanted_labels)[sure].tolist()
    torch.testing.assert_close(targets.deltas[sure], torch.tensor(wanted_deltas)[sure])
    assert targets.owner[sure].tolist() == torch.tensor(wanted_owners)[sure].tolist()


def test_thresholds_at_their_edges() -> None:
    references = torch.tensor([[0.0, 0, 10, 10], [100.0, 0, 110, 10], [200.0, 0, 210, 10], [0.0, 0, 10, 5]])
    # IoU 0.5 with the first box's anchor is positive; 0.4 is ignored; below 0.4 is background.
    boxes = torch.tensor([[0.0, 0, 10, 5], [100.0, 0, 110, 4], [200.0, 0, 210, 3.9]])
    extra = boxes.clone()  # each object's best anchor is an exact copy, so no low-quality match interferes
    labels = anchor_targets(
        boxes, torch.tensor([0, 1, 2]), torch.zeros(3, dtype=torch.bool), torch.cat((references, extra))
    ).labels
    assert labels.tolist() == [0, -2, -1, 0, 0, 1, 2]


def test_an_object_without_a_good_anchor_takes_its_best_ones() -> None:
    references = torch.tensor([[0.0, 0, 32, 32], [32.0, 0, 64, 32], [64.0, 0, 96, 32]])
    boxes = torch.tensor([[28.0, 10, 36, 18]])  # as much in the first as in the second, IoU 0.03
    targets = anchor_targets(boxes, torch.tensor([2]), torch.tensor([False]), references)
    assert targets.labels.tolist() == [2, 2, -1]


class Levels(nn.Module):
    out = tuple(FeatureSpec(f"P{i}", 8, stride) for i, stride in enumerate(STRIDES))


class Head(nn.Module):
    num_classes = CLASSES
    levels = Levels.out


def detector() -> RetinaNet:
    return RetinaNet(nn.Identity(), Levels(), Head())


def random_output(images: int, spread: float = 1.0) -> AnchorOutput:
    generator = torch.Generator().manual_seed(0)

    def maps(channels: int) -> list[Tensor]:
        return [torch.randn(images, channels, *size, generator=generator) * spread for size in SIZES]

    return AnchorOutput([], [], maps(9 * CLASSES), maps(9 * 4))


def by_loops(levels: list[Tensor], channels: int, image: int) -> list[list[float]]:
    """The predictions of one image, anchor by anchor."""
    rows = []
    for level in levels:
        _, _, height, width = level.shape
        for y in range(height):
            for x in range(width):
                for anchor in range(9):
                    first = anchor * channels
                    rows.append(level[image, first : first + channels, y, x].tolist())
    return rows


def test_losses_against_loops() -> None:
    output = random_output(2)
    generator = torch.Generator().manual_seed(1)
    count = sum(9 * h * w for h, w in SIZES)
    labels = torch.randint(-2, CLASSES, (2, count), generator=generator)
    deltas = torch.randn(2, count, 4, generator=generator) * (labels >= 0)[..., None]
    focal = box = 0.0
    for image in range(2):
        logits = by_loops(output.class_logits, CLASSES, image)
        predicted = by_loops(output.deltas, 4, image)
        for index in range(count):
            label = int(labels[image, index])
            if label == -2:
                continue
            for k, logit in enumerate(logits[index]):
                p = 1 / (1 + math.exp(-logit))
                p_t, alpha = (p, 0.25) if k == label else (1 - p, 0.75)
                focal -= alpha * (1 - p_t) ** 2 * math.log(p_t)
            if label >= 0:
                for a, b in zip(predicted[index], deltas[image, index].tolist(), strict=True):
                    d = abs(a - b)
                    box += 0.5 * d * d / 0.1 if d < 0.1 else d - 0.05
    positives = int((labels >= 0).sum())
    of_images = DetectorOutput([], [], output)
    losses = detector().losses(of_images, AnchorTargets(labels, deltas))
    assert losses.classification.item() == pytest.approx(focal / positives, rel=1e-4)
    assert losses.box.item() == pytest.approx(box / positives, rel=1e-4)
    # Of two processes that share a batch, each gives its part.
    parts = detector().losses(of_images, AnchorTargets(labels, deltas), lambda count: 2 * count)
    assert parts.total().item() == pytest.approx((focal + box) / positives / 2, rel=1e-4)


def test_detections_against_loops() -> None:
    output, size = random_output(2, spread=1.5), (30, 44)
    references = anchors(SIZES, STRIDES).tolist()
    for image, found in enumerate(detector().detect(DetectorOutput([], [], output), [size, size])):
        candidates = []
        first = 0
        for logits, deltas in zip(output.class_logits, output.deltas, strict=True):
            rows = by_loops([logits], CLASSES, image)
            level = []
            for index, (row, (dx, dy, dw, dh)) in enumerate(
                zip(rows, by_loops([deltas], 4, image), strict=True), start=first
            ):
                x1, y1, x2, y2 = references[index]
                w, h = x2 - x1, y2 - y1
                cx, cy = (x1 + x2) / 2 + dx * w, (y1 + y2) / 2 + dy * h
                half_w = w * math.exp(min(dw, math.log(1000 / 16))) / 2
                half_h = h * math.exp(min(dh, math.log(1000 / 16))) / 2
                xs = [min(max(x, 0), size[1]) for x in (cx - half_w, cx + half_w)]
                ys = [min(max(y, 0), size[0]) for y in (cy - half_h, cy + half_h)]
                for label, logit in enumerate(row):
                    score = 1 / (1 + math.exp(-logit))
                    if score > 0.05:
                        level.append((score, label, [xs[0], ys[0], xs[1], ys[1]]))
            first += len(rows)
            candidates += sorted(level, key=lambda c: -c[0])[:1000]
        kept: list[tuple[float, int, list[float]]] = []
        for score, label, each in sorted(candidates, key=lambda c: -c[0]):
            if (
                each[2] > each[0]
                and each[3] > each[1]
                and all(label != other or iou(each, before) <= 0.5 for _, other, before in kept)
            ):
                kept.append((score, label, each))
        wanted = kept[:100]
        assert found.labels.tolist() == [label for _, label, _ in wanted]
        torch.testing.assert_close(found.scores, torch.tensor([score for score, _, _ in wanted]))
        torch.testing.assert_close(found.boxes, torch.tensor([b for _, _, b in wanted]), atol=1e-3, rtol=1e-4)
