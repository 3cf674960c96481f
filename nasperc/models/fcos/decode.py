"""From head output to detections (inference of FCOS), by the rules of the preset."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from nasperc.models.detections import drop_empty, keep_best
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.features import HeadOutput
from nasperc.models.instances import Instances
from nasperc.models.targets import flatten_levels
from nasperc.ops.boxes import clip_boxes, distances_to_boxes, locations


def decode(output: HeadOutput, strides: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (N, P, 4) as corners in input pixels, class scores (N, P, K) and centerness (N, P) in 0..1."""
    boxes, class_scores, centerness = (
        torch.cat(each, dim=1) for each in zip(*decode_levels(output, strides), strict=True)
    )
    return boxes, class_scores, centerness[..., 0]


def decode_levels(output: HeadOutput, strides: Sequence[int]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """By level what :func:`decode` gives of all, but for centerness, which is (N, P, 1)."""
    return [
        (
            _corners(boxes, stride),
            flatten_levels([logits]).sigmoid(),
            flatten_levels([centerness]).sigmoid(),
        )
        for boxes, logits, centerness, stride in zip(
            output.boxes, output.class_logits, output.centerness, strides, strict=True
        )
    ]


@torch.no_grad()
def detect(
    output: HeadOutput,
    strides: Sequence[int],
    image_sizes: Sequence[tuple[int, int]],
    preset: FCOSPreset,
) -> list[Instances]:
    """Detections of each image with the ``location`` of each, in pixels of the network's input; see
    :class:`FCOSPreset` for the rules.

    Args:
        output: of the head, N images.
        strides: of the levels, in input pixels.
        image_sizes: (h, w) of each image without its padding.
        preset: of the head.
    """
    levels = decode_levels(output, strides)
    ends = list(accumulate(boxes.shape[1] for boxes, _, _ in levels))
    found = []
    for image, size in enumerate(image_sizes):
        parts = [
            _candidates(boxes[image], class_scores[image], centerness[image], preset, first)
            for (boxes, class_scores, centerness), first in zip(levels, [0, *ends[:-1]], strict=True)
        ]
        candidates = Instances.cat(parts)
        if preset.clip_before_nms:
            candidates = drop_empty(candidates.with_fields(boxes=clip_boxes(candidates.boxes, size)))
        found.append(keep_best(candidates, preset.nms_iou, preset.detections))
    return found


def _corners(distances: Tensor, stride: int) -> Tensor:
    """(N, 4, H, W) distances of one level -> (N, H * W, 4) corners."""
    points = locations((distances.shape[-2], distances.shape[-1]), stride, distances.device)
    return distances_to_boxes(points, flatten_levels([distances]))


def _candidates(
    boxes: Tensor, class_scores: Tensor, centerness: Tensor, preset: FCOSPreset, first: int
) -> Instances:
    """Those of one level of one image, unclipped.

    ``boxes`` (P, 4), ``class_scores`` (P, K), ``centerness`` (P, 1); ``first``: locations of the levels before it.
    """
    product = class_scores * centerness
    tested = class_scores if preset.threshold_on == "class" else product
    location, label = (tested > preset.score_threshold).nonzero(as_tuple=True)
    score = product[location, label]
    if len(score) > preset.pre_nms_top:
        score, best = score.topk(preset.pre_nms_top, sorted=False)
        location, label = location[best], label[best]
    return Instances(
        boxes[location],
        labels=label,
        scores=score.sqrt() if preset.sqrt_score else score,
        location=first + location,
    )
