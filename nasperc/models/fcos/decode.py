"""From head output to detections (inference of FCOS), by the rules of the preset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nasperc.models.fcos.losses import flatten_levels
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.features import HeadOutput
from nasperc.ops.boxes import box_area, clip_boxes, distances_to_boxes, locations
from nasperc.ops.nms import batched_nms


class Detections(NamedTuple):
    """D detections of one image by descending score.

    ``boxes`` (D, 4) as (x1, y1, x2, y2) in pixels, ``scores`` (D,) in 0..1, ``labels`` (D,) int64.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


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
) -> list[Detections]:
    """Detections of each image, in pixels of the network's input; see :class:`FCOSPreset` for the rules.

    Args:
        output: of the head, N images.
        strides: of the levels, in input pixels.
        image_sizes: (h, w) of each image without its padding.
        preset: of the head.
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
        parts = [
            _candidates(boxes[image], class_scores[image], centerness[image], preset)
            for boxes, class_scores, centerness in levels
        ]
        boxes, scores, labels = (torch.cat(field) for field in zip(*parts, strict=True))
        if preset.clip_before_nms:
            boxes = clip_boxes(boxes, size)
            # What lies in the padding altogether is no detection: it must not take one of the places.
            inside = box_area(boxes) > 0
            boxes, scores, labels = boxes[inside], scores[inside], labels[inside]
        found.append(keep_best(boxes, scores, labels, preset.nms_iou, preset.detections))
    return found


def keep_best(boxes: Tensor, scores: Tensor, labels: Tensor, nms_iou: float, count: int) -> Detections:
    """What class-wise suppression leaves of the candidates of one image, the ``count`` best of it.

    All that tie with the last of them stay too.
    """
    kept = batched_nms(boxes, scores, labels, nms_iou)
    if len(kept) > count:
        kept = kept[scores[kept] >= scores[kept[count - 1]]]
    return Detections(boxes[kept], scores[kept], labels[kept])


def rescale(
    detections: Detections, network_size: tuple[int, int], original_size: tuple[int, int]
) -> Detections:
    """Detections in pixels of the original image: scaled, clipped, empty boxes dropped.

    Args:
        detections: in pixels of the network's input.
        network_size: (h, w) of the image as the network saw it, without padding.
        original_size: (h, w) of the image on disk.
    """
    y_scale, x_scale = (after / before for after, before in zip(original_size, network_size, strict=True))
    factors = detections.boxes.new_tensor((x_scale, y_scale, x_scale, y_scale))
    boxes = clip_boxes(detections.boxes * factors, original_size)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Detections(boxes[kept], detections.scores[kept], detections.labels[kept])


def _corners(distances: Tensor, stride: int) -> Tensor:
    """(N, 4, H, W) distances of one level -> (N, H * W, 4) corners."""
    points = locations((distances.shape[-2], distances.shape[-1]), stride, distances.device)
    return distances_to_boxes(points, flatten_levels([distances]))


def _candidates(
    boxes: Tensor, class_scores: Tensor, centerness: Tensor, preset: FCOSPreset
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and labels of the candidates of one level of one image.

    ``boxes`` (P, 4), ``class_scores`` (P, K), ``centerness`` (P, 1).
    """
    product = class_scores * centerness
    tested = class_scores if preset.threshold_on == "class" else product
    location, label = (tested > preset.score_threshold).nonzero(as_tuple=True)
    score = product[location, label]
    if len(score) > preset.pre_nms_top:
        score, top = score.topk(preset.pre_nms_top, sorted=False)
        location, label = location[top], label[top]
    return boxes[location], score.sqrt() if preset.sqrt_score else score, label
