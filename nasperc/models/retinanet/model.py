"""RetinaNet (Lin et al. 2017): the detector with anchors that thesis Table 7.2 compares with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.models.detector import Detector
from nasperc.models.fcos.decode import Detections, keep_best
from nasperc.models.fcos.preset import Crowd
from nasperc.models.fcos.targets import BACKGROUND
from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.models.retinanet.anchors import ANCHORS_PER_LOCATION, anchors
from nasperc.models.retinanet.head import AnchorOutput
from nasperc.models.retinanet.targets import AnchorTargets, anchor_targets
from nasperc.ops.box_coder import decode_boxes
from nasperc.ops.boxes import box_area, clip_boxes
from nasperc.ops.losses import sigmoid_focal_loss

# Where the smooth L1 loss turns from quadratic to linear (detectron2's RetinaNet).
SMOOTH_L1_BETA = 0.1
SCORE_THRESHOLD = 0.05
PRE_NMS_TOP = 1000
NMS_IOU = 0.5
DETECTIONS = 100


class RetinaNetLosses(NamedTuple):
    """Scalars."""

    classification: Tensor
    box: Tensor

    def total(self) -> Tensor:
        """The sum, all weights 1."""
        return self.classification + self.box


class RetinaNet(Detector):
    """A one-stage detector with anchors; its head is a :class:`RetinaNetHead`.

    ``anchor_scale``: factor on the sizes of the anchors, 32 to 512 pixels times three octaves, for images that are
    smaller than the 800 pixels they are meant for. ``crowd``: as the presets of the FCOS head have it, so that all rows
    of a comparison are trained alike.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        anchor_scale: float = 1.0,
        crowd: Crowd = "ignore",
    ) -> None:
        super().__init__(backbone, neck, head)
        self.anchor_scale = anchor_scale
        self._crowd = crowd

    @property
    def crowd(self) -> Crowd:
        return self._crowd

    def anchors(self, level_sizes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
        """Anchors (P, 4) of levels of these sizes (H, W)."""
        return anchors(level_sizes, self.strides, self.anchor_scale, device)

    def targets(
        self,
        boxes: Tensor,
        labels: Tensor,
        crowd: Tensor,
        level_sizes: Sequence[tuple[int, int]],
        size_scale: float = 1.0,
    ) -> AnchorTargets:
        """Targets of one image. ``size_scale`` is without effect: the anchors have their scale from the start, since
        detections are decoded with it too."""
        return anchor_targets(boxes, labels, crowd, self.anchors(level_sizes, boxes.device))

    def losses(
        self, output: AnchorOutput, targets: AnchorTargets, reduce: Reduce = reduce_alone
    ) -> RetinaNetLosses:
        """Focal loss over the anchors that are not ignored, smooth L1 loss over the positive ones; both summed, over
        the number of positives, at least 1.

        Args:
            output: of the head, N images.
            targets: stacked, (N, P, ...).
            reduce: of the positives over all processes that share a batch.
        """
        labels = targets.labels
        logits = by_anchor(output.class_logits, self._num_classes).float()
        counted, positive = labels >= BACKGROUND, labels >= 0
        one_hot = F.one_hot(labels.clamp(min=0), self._num_classes) * positive[..., None]
        focal = sigmoid_focal_loss(logits[counted], one_hot[counted].to(logits.dtype))
        box = F.smooth_l1_loss(
            by_anchor(output.deltas, 4)[positive].float(),
            targets.deltas[positive],
            beta=SMOOTH_L1_BETA,
            reduction="sum",
        )
        positives = reduce(positive.sum().float()).clamp(min=1)
        return RetinaNetLosses(focal.sum() / positives, box / positives)

    @torch.no_grad()
    def detect(self, output: AnchorOutput, image_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """Classes above 0.05, the 1,000 best of each level, boxes clipped, class-wise NMS above 0.5, the 100 best."""
        level_sizes = [(level.shape[-2], level.shape[-1]) for level in output.class_logits]
        counts = [height * width * ANCHORS_PER_LOCATION for height, width in level_sizes]
        references = self.anchors(level_sizes, output.deltas[0].device).split(counts)
        levels = [
            (by_anchor([logits], self._num_classes).sigmoid(), by_anchor([deltas], 4))
            for logits, deltas in zip(output.class_logits, output.deltas, strict=True)
        ]
        found = []
        for image, size in enumerate(image_sizes):
            parts = [
                _candidates(scores[image], deltas[image], reference)
                for (scores, deltas), reference in zip(levels, references, strict=True)
            ]
            boxes, scores, labels = (torch.cat(field) for field in zip(*parts, strict=True))
            boxes = clip_boxes(boxes, size)
            # What lies in the padding altogether is no detection: it must not take one of the places.
            inside = box_area(boxes) > 0
            found.append(keep_best(boxes[inside], scores[inside], labels[inside], NMS_IOU, DETECTIONS))
        return found

    @property
    def _num_classes(self) -> int:
        assert isinstance(self.head.num_classes, int)
        return self.head.num_classes


def by_anchor(levels: Sequence[Tensor], channels: int) -> Tensor:
    """Maps (N, A * C, H_l, W_l) of all levels as (N, P, C), in the order of the anchors."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(len(level), -1, channels) for level in levels], dim=1)


def _candidates(scores: Tensor, deltas: Tensor, references: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and labels of the candidates of one level; ``scores`` (P, K), the others (P, 4)."""
    anchor, label = (scores > SCORE_THRESHOLD).nonzero(as_tuple=True)
    score = scores[anchor, label]
    if len(score) > PRE_NMS_TOP:
        score, top = score.topk(PRE_NMS_TOP, sorted=False)
        anchor, label = anchor[top], label[top]
    return decode_boxes(deltas[anchor], references[anchor]), score, label
