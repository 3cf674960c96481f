"""AdelaiDet's FCOS written out slowly from its rules and on its own key names: what ours must agree with.

Nothing here imports the project: one location, one box, one candidate after the other.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
Box = list[float]

STRIDES = (8, 16, 32, 64, 128)
SIZES_OF_INTEREST = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, math.inf))
BLUE_GREEN_RED_MEAN = (103.53, 116.28, 123.675)


class Level(NamedTuple):
    """Output at one level: class logits (N, K, H, W), distances in strides (N, 4, H, W), logits (N, 1, H, W); the tower
    that boxes are predicted from, (N, C, H, W)."""

    logits: Tensor
    distances: Tensor
    centerness: Tensor
    box_tower: Tensor | None = None


class Found(NamedTuple):
    """One detection; ``place``: level, row and column of its location; ``seen``: its box in pixels of the network's
    input, not clipped."""

    score: float
    label: int
    box: Box
    place: tuple[int, int, int]
    seen: Box


def network_input(rgb: Tensor) -> Tensor:
    """(3, h, w) RGB in 0..255 -> (1, 3, H, W): BGR minus the mean, then zeros below and to the right."""
    _, height, width = rgb.shape
    padded = torch.zeros(1, 3, math.ceil(height / 32) * 32, math.ceil(width / 32) * 32)
    for channel, mean in enumerate(BLUE_GREEN_RED_MEAN):
        padded[0, channel, :height, :width] = rgb[2 - channel].float() - mean
    return padded


def network(state: State, images: Tensor) -> list[Level]:
    """The whole detector; the number of layers is read off the keys."""
    return head(state, fpn(state, resnet(state, "backbone.bottom_up.", images)))


def resnet(state: State, prefix: str, images: Tensor) -> list[Tensor]:
    """C3, C4, C5: bottlenecks with the stride in the first 1x1 convolution, BatchNorm with fixed statistics."""

    def conv_norm(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        return norm(name, F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2))

    def norm(name: str, x: Tensor) -> Tensor:
        scale, shift, mean, var = (
            state[f"{name}.norm.{field}"].view(1, -1, 1, 1)
            for field in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    x = F.max_pool2d(conv_norm(f"{prefix}stem.conv1", images, 2).clamp(min=0), 3, stride=2, padding=1)
    features = []
    for stage in (2, 3, 4, 5):
        block = 0
        while f"{prefix}res{stage}.{block}.conv1.weight" in state:
            name = f"{prefix}res{stage}.{block}"
            stride = 2 if stage > 2 and block == 0 else 1
            shortcut = conv_norm(f"{name}.shortcut", x, stride) if block == 0 else x
            x = conv_norm(f"{name}.conv1", x, stride).clamp(min=0)
            if f"{name}.conv2_offset.weight" in state:
                x = norm(f"{name}.conv2", deformed(state, f"{name}.conv2", x)).clamp(min=0)
            else:
                x = conv_norm(f"{name}.conv2", x).clamp(min=0)
            x = (conv_norm(f"{name}.conv3", x) + shortcut).clamp(min=0)
            block += 1
        features.append(x)
    return features[1:]


def deformed(state: State, name: str, x: Tensor) -> Tensor:
    """A modulated deformable 3x3 convolution of stride 1: of each tap dy and dx, then the nine masks."""
    told = F.conv2d(x, state[f"{name}_offset.weight"], state[f"{name}_offset.bias"], padding=1)
    weight = state[f"{name}.weight"]
    _, _, height, width = x.shape
    out = torch.zeros(len(x), len(weight), height, width)
    for image, row, column in itertools.product(range(len(x)), range(height), range(width)):
        here = told[image, :, row, column].tolist()
        for tap in range(9):
            down, across = row + tap // 3 - 1 + here[2 * tap], column + tap % 3 - 1 + here[2 * tap + 1]
            value = _between_pixels(x[image], down, across) * _sigmoid(here[18 + tap])
            out[image, :, row, column] += weight[:, :, tap // 3, tap % 3] @ value
    return out


def _between_pixels(x: Tensor, row: float, column: float) -> Tensor:
    """All channels of (C, H, W) at one place, zero outside."""
    found = torch.zeros(len(x))
    for r in (math.floor(row), math.floor(row) + 1):
        for c in (math.floor(column), math.floor(column) + 1):
            if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]:
                found += (1 - abs(row - r)) * (1 - abs(column - c)) * x[:, r, c]
    return found


def fpn(state: State, features: list[Tensor]) -> list[Tensor]:
    """P3 to P7, or to P6."""

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight, bias = state[f"backbone.{name}.weight"], state[f"backbone.{name}.bias"]
        return F.conv2d(x, weight, bias, stride=stride, padding=weight.shape[-1] // 2)

    merged = conv("fpn_lateral5", features[2])
    levels = [conv("fpn_output5", merged)]
    for level in (4, 3):
        lateral = conv(f"fpn_lateral{level}", features[level - 3])
        rows, columns = (torch.arange(n) // 2 for n in lateral.shape[-2:])
        merged = lateral + merged[..., rows[:, None], columns]
        levels.insert(0, conv(f"fpn_output{level}", merged))
    p6 = conv("top_block.p6", levels[-1], 2)
    if "backbone.top_block.p7.weight" not in state:
        return [*levels, p6]
    return [*levels, p6, conv("top_block.p7", p6.clamp(min=0), 2)]


def head(state: State, levels: list[Tensor]) -> list[Level]:
    """Towers of convolution, GroupNorm of 32 groups and ReLU, a shared one before the two; centerness on the box
    tower."""
    prefix = "proposal_generator.fcos_head."

    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, state[f"{prefix}{name}.weight"], state[f"{prefix}{name}.bias"], padding=1)

    def tower(name: str, x: Tensor) -> Tensor:
        layer = 0
        while f"{prefix}{name}.{layer}.weight" in state:
            x = conv(f"{name}.{layer}", x)
            groups = x.reshape(len(x), 32, -1)
            groups = groups - groups.mean(dim=-1, keepdim=True)
            groups = groups / (groups.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
            scale, shift = (state[f"{prefix}{name}.{layer + 1}.{field}"] for field in ("weight", "bias"))
            x = (groups.reshape(x.shape) * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).clamp(min=0)
            layer += 3
        return x

    outputs = []
    for index, level in enumerate(levels):
        level = tower("share_tower", level)
        box_tower = tower("bbox_tower", level)
        scale = state.get(f"{prefix}scales.{index}.scale", torch.ones(1))
        outputs.append(
            Level(
                conv("cls_logits", tower("cls_tower", level)),
                (scale * conv("bbox_pred", box_tower)).clamp(min=0),
                conv("ctrness", box_tower),
                box_tower,
            )
        )
    return outputs


def losses(levels: list[Level], objects: list[list[tuple[Box, int]]]) -> tuple[float, float, float]:
    """Classification, box and centerness loss of a batch; ``objects`` are the boxes and labels by image."""
    focal = box_loss = centerness_loss = weights = 0.0
    positives = 0
    for image, truth in enumerate(objects):
        for index, (level, stride) in enumerate(zip(levels, STRIDES, strict=True)):
            _, classes, height, width = level.logits.shape
            for row in range(height):
                for column in range(width):
                    x, y = stride // 2 + column * stride, stride // 2 + row * stride
                    owner = _owner(x, y, index, truth)
                    label = -1 if owner is None else truth[owner][1]
                    for k in range(classes):
                        p = _sigmoid(level.logits[image, k, row, column].item())
                        positive, negative = (
                            -0.25 * (1 - p) ** 2 * math.log(p),
                            -0.75 * p**2 * math.log(1 - p),
                        )
                        focal += positive if k == label else negative
                    if owner is None:
                        continue
                    wanted = [each / stride for each in _distances(x, y, truth[owner][0])]
                    left, top, right, bottom = wanted
                    weight = math.sqrt(
                        min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)
                    )
                    predicted = level.distances[image, :, row, column].tolist()
                    box_loss += weight * _giou_loss(predicted, wanted)
                    p = _sigmoid(level.centerness[image, 0, row, column].item())
                    centerness_loss -= weight * math.log(p) + (1 - weight) * math.log(1 - p)
                    weights += weight
                    positives += 1
    return focal / max(positives, 1), box_loss / max(weights, 1e-6), centerness_loss / max(positives, 1)


def detections(
    levels: list[Level],
    image: int,
    network_size: tuple[int, int],
    output_size: tuple[int, int],
    *,
    threshold_with_centerness: bool = False,
) -> list[Found]:
    """Detections of one image by descending score; sizes (h, w): without padding, and of the original."""
    candidates: list[Found] = []
    for index, (level, stride) in enumerate(zip(levels, STRIDES, strict=False)):
        of_level: list[Found] = []
        _, classes, height, width = level.logits.shape
        for row in range(height):
            for column in range(width):
                x, y = stride // 2 + column * stride, stride // 2 + row * stride
                left, top, right, bottom = (
                    stride * d for d in level.distances[image, :, row, column].tolist()
                )
                centerness = _sigmoid(level.centerness[image, 0, row, column].item())
                for k in range(classes):
                    score = _sigmoid(level.logits[image, k, row, column].item())
                    if (score * centerness if threshold_with_centerness else score) > 0.05:
                        box = [x - left, y - top, x + right, y + bottom]
                        of_level.append(Found(score * centerness, k, box, (index, row, column), box))
        candidates += sorted(of_level, key=lambda found: -found.score)[:1000]
    kept: list[Found] = []
    for found in sorted(candidates, key=lambda found: -found.score):
        rivals = [other for other in kept if other.label == found.label]
        if all(_iou(found.box, other.box) <= 0.6 for other in rivals):
            kept.append(found)
    if len(kept) > 100:
        kept = [found for found in kept if found.score >= kept[99].score]
    results = []
    for score, label, box, place, seen in kept:
        extent = (output_size[1], output_size[0]) * 2
        factors = [output_size[axis] / network_size[axis] for axis in (1, 0, 1, 0)]
        box = [min(max(v * f, 0), e) for v, f, e in zip(box, factors, extent, strict=True)]
        if box[2] > box[0] and box[3] > box[1]:
            results.append(Found(math.sqrt(score), label, box, place, seen))
    return results


def _owner(x: float, y: float, level: int, truth: list[tuple[Box, int]]) -> int | None:
    """Index of the object that the location belongs to."""
    low, high = SIZES_OF_INTEREST[level]
    reach = 1.5 * STRIDES[level]
    best: tuple[float, int] | None = None
    for index, ((x1, y1, x2, y2), _) in enumerate(truth):
        centre_x, centre_y = (x1 + x2) / 2, (y1 + y2) / 2
        inside_x = max(x1, centre_x - reach) < x < min(x2, centre_x + reach)
        inside_y = max(y1, centre_y - reach) < y < min(y2, centre_y + reach)
        if inside_x and inside_y and low <= max(_distances(x, y, [x1, y1, x2, y2])) <= high:
            candidate = ((x2 - x1) * (y2 - y1), index)
            best = candidate if best is None else min(best, candidate)
    return None if best is None else best[1]


def _distances(x: float, y: float, box: Box) -> list[float]:
    return [x - box[0], y - box[1], box[2] - x, box[3] - y]


def _giou_loss(a: list[float], b: list[float]) -> float:
    inner, outer = (
        [min(v, w) for v, w in zip(a, b, strict=True)],
        [max(v, w) for v, w in zip(a, b, strict=True)],
    )
    first, second, intersection, enclosing = ((d[0] + d[2]) * (d[1] + d[3]) for d in (a, b, inner, outer))
    union = first + second - intersection
    return 1 - ((intersection + 1) / (union + 1) - (enclosing - union) / enclosing)


def _iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    return intersection / union if union > 0 else 0.0


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
