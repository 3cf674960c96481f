"""From head output to detections (inference of RetinaNet; Lin et al. 2017, section 4, and detectron2's numbers)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nasperc.models.detections import drop_empty, keep_best
from nasperc.models.instances import Instances
from nasperc.models.retinanet.anchors import ANCHORS_PER_LOCATION, by_anchor
from nasperc.models.retinanet.head import AnchorOutput
from nasperc.ops.box_coder import decode_boxes
from nasperc.ops.boxes import clip_boxes

SCORE_THRESHOLD = 0.05
PRE_NMS_TOP = 1000
NMS_IOU = 0.5
DETECTIONS = 100


@torch.no_grad()
def detect(output: AnchorOutput, anchors: Tensor, image_sizes: Sequence[tuple[int, int]]) -> list[Instances]:
    """Classes above 0.05, the 1,000 best of each level, boxes clipped, class-wise NMS above 0.5, the 100 best.

    Args:
        output: of the head, N images.
        anchors: (P, 4) of all levels, in input pixels.
        image_sizes: (h, w) of each image without its padding.
    """
    counts = [level.shape[-2] * level.shape[-1] * ANCHORS_PER_LOCATION for level in output.class_logits]
    levels = [
        (by_anchor([logits]).sigmoid(), by_anchor([deltas]), references)
        for logits, deltas, references in zip(
            output.class_logits, output.deltas, anchors.split(counts), strict=True
        )
    ]
    found = []
    for image, size in enumerate(image_sizes):
        candidates = Instances.cat(
            [_candidates(scores[image], deltas[image], references) for scores, deltas, references in levels]
        )
        clipped = candidates.with_fields(boxes=clip_boxes(candidates.boxes, size))
        found.append(keep_best(drop_empty(clipped), NMS_IOU, DETECTIONS))
    return found


def _candidates(scores: Tensor, deltas: Tensor, references: Tensor) -> Instances:
    """Those of one level of one image, unclipped; ``scores`` (P, K), the others (P, 4)."""
    anchor, label = (scores > SCORE_THRESHOLD).nonzero(as_tuple=True)
    score = scores[anchor, label]
    if len(score) > PRE_NMS_TOP:
        score, best = score.topk(PRE_NMS_TOP, sorted=False)
        anchor, label = anchor[best], label[best]
    return Instances(decode_boxes(deltas[anchor], references[anchor]), labels=label, scores=score)
