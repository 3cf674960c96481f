"""From head output to detections (inference of FCOS), by the rules of the preset."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nasperc.models.detections import drop_empty, image_of_each, keep_best
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.features import HeadOutput
from nasperc.models.gather import gather_locations
from nasperc.models.instances import Instances
from nasperc.models.targets import flatten_levels
from nasperc.ops.boxes import clip_boxes, distances_to_boxes, locations


def decode(output: HeadOutput, strides: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (N, P, 4) as corners in input pixels, class scores (N, P, K) and centerness (N, P) in 0..1."""
    boxes = [_corners(level, stride) for level, stride in zip(output.boxes, strides, strict=True)]
    class_scores = flatten_levels(output.class_logits).sigmoid()
    return torch.cat(boxes, dim=1), class_scores, flatten_levels(output.centerness)[..., 0].sigmoid()


@torch.no_grad()
def detect(
    output: HeadOutput,
    strides: Sequence[int],
    image_sizes: Sequence[tuple[int, int]],
    preset: FCOSPreset,
    top: Sequence[Tensor] | None = None,
) -> list[Instances]:
    """Detections of each image, in pixels of the network's input; see :class:`FCOSPreset` for the rules.

    Args:
        output: of the head, N images.
        strides: of the levels, in input pixels.
        image_sizes: (h, w) of each image without its padding.
        preset: of the head.
        top: what a top layer predicts, (N, D, H, W) by level; each detection gets what stands at its location. Of
            :class:`~nasperc.models.gather.ConvMaps` nothing else is computed.
    """
    levels = [
        (
            _corners(boxes, stride),
            flatten_levels([logits]).sigmoid(),
            flatten_levels([centerness]).sigmoid(),
        )
        for boxes, logits, centerness, stride in zip(
            output.boxes, output.class_logits, output.centerness, strides, strict=True
        )
    ]
    found = []
    for image, size in enumerate(image_sizes):
        parts, first = [], 0
        for boxes, class_scores, centerness in levels:
            parts.append(_candidates(boxes[image], class_scores[image], centerness[image], preset, first))
            first += boxes.shape[1]
        candidates = Instances.cat(parts)
        if preset.clip_before_nms:
            candidates = drop_empty(candidates.with_fields(boxes=clip_boxes(candidates.boxes, size)))
        found.append(keep_best(candidates, preset.nms_iou, preset.detections))
    return found if top is None else _with_top(found, top)


def _with_top(found: list[Instances], top: Sequence[Tensor]) -> list[Instances]:
    """The detections of each image with what stands at their locations of ``top``."""
    location = Instances.cat(found).location
    assert location is not None
    values = gather_locations(top, image_of_each(found), location).split([len(each) for each in found])
    return [each.with_fields(top=part) for each, part in zip(found, values, strict=True)]


def _corners(distances: Tensor, stride: int) -> Tensor:
    """(N, 4, H, W) distances of one level -> (N, H * W, 4) corners."""
    points = locations((distances.shape[-2], distances.shape[-1]), stride, distances.device)
    return distances_to_boxes(points, flatten_levels([distances]))


def _candidates(
    boxes: Tensor, class_scores: Tensor, centerness: Tensor, preset: FCOSPreset, first: int
) -> Instances:
    """Those of one level of one image, unclipped.

    ``boxes`` (P, 4), ``class_scores`` (P, K), ``centerness`` (P, 1); ``first``: the level's first location.
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
