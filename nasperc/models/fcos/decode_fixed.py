"""From head output to a fixed number of detections, for exported graphs: the rules of the preset in tensors whose sizes
do not depend on what is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nasperc.models.fcos.decode import decode_levels
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.features import HeadOutput
from nasperc.ops.boxes import box_area, clip_boxes
from nasperc.ops.nms_rounds import nms_rounds


class FixedDetections(NamedTuple):
    """D detections of each of N images by descending score; a place that is not used has score 0.

    ``boxes`` (N, D, 4) as (x1, y1, x2, y2) in input pixels, ``scores`` (N, D), ``labels`` and ``locations`` (N, D)
    int64, as of :func:`nasperc.models.fcos.decode.detect`.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    locations: Tensor


def detect_fixed(
    output: HeadOutput, strides: Sequence[int], image_size: tuple[int, int], preset: FCOSPreset
) -> FixedDetections:
    """The ``preset.detections`` best of each image; those that tie with the last one are cut.

    Args:
        output: of the head, N images.
        strides: of the levels, in input pixels.
        image_size: (h, w) of all images without their padding.
        preset: of the head.
    """
    parts, first = [], 0
    for boxes, class_scores, centerness in decode_levels(output, strides):
        parts.append(_candidates(boxes, class_scores, centerness, preset, first))
        first += boxes.shape[1]
    boxes, scores, labels, locations = (torch.cat(each, dim=1) for each in zip(*parts, strict=True))
    if preset.clip_before_nms:
        boxes = clip_boxes(boxes, image_size)
        scores = scores.where(box_area(boxes) > 0, 0.0)
    best, index = nms_rounds(boxes, scores, labels, preset.nms_iou, preset.detections)
    chosen = boxes.gather(1, index[..., None].expand(-1, -1, 4))
    return FixedDetections(chosen, best, labels.gather(1, index), locations.gather(1, index))


def _candidates(
    boxes: Tensor, class_scores: Tensor, centerness: Tensor, preset: FCOSPreset, first: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The ``pre_nms_top`` of one level, as the fields of :class:`FixedDetections`, unclipped.

    ``boxes`` (N, P, 4), ``class_scores`` (N, P, K), ``centerness`` (N, P, 1); ``first``: locations of the levels
    before it.
    """
    product = class_scores * centerness
    tested = class_scores if preset.threshold_on == "class" else product
    scores = product.where(tested > preset.score_threshold, 0.0).flatten(1)
    # Small levels have fewer.
    scores = torch.cat((scores, scores.new_zeros(scores.shape[0], preset.pre_nms_top)), dim=1)
    best, index = scores.topk(preset.pre_nms_top, dim=1)
    index = index.where(best > 0, 0)
    classes = class_scores.shape[2]
    location = torch.div(index, classes, rounding_mode="floor")
    found = boxes.gather(1, location[..., None].expand(-1, -1, 4))
    return found, best.sqrt() if preset.sqrt_score else best, index % classes, location + first
