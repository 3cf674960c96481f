"""The two losses of RetinaNet: classification and box (Lin et al. 2017, section 4)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.models.retinanet.anchors import by_anchor
from nasperc.models.retinanet.head import AnchorOutput
from nasperc.models.retinanet.targets import AnchorTargets
from nasperc.models.targets import BACKGROUND
from nasperc.ops.losses import sigmoid_focal_loss

# Where the smooth L1 loss turns from quadratic to linear (detectron2's RetinaNet).
SMOOTH_L1_BETA = 0.1


class RetinaNetLosses(NamedTuple):
    """Scalars."""

    classification: Tensor
    box: Tensor

    def total(self) -> Tensor:
        """The sum, all weights 1."""
        return self.classification + self.box


def retinanet_losses(
    output: AnchorOutput, targets: AnchorTargets, reduce: Reduce = reduce_alone
) -> RetinaNetLosses:
    """Focal loss over the anchors that are not ignored, smooth L1 loss over the positive ones; both summed, over
    the number of positives, at least 1.

    Args:
        output: of the head, N images.
        targets: stacked, (N, P, ...).
        reduce: of the positives over all processes that share a batch.
    """
    labels = targets.labels
    logits = by_anchor(output.class_logits).float()
    counted, positive = labels >= BACKGROUND, labels >= 0
    one_hot = F.one_hot(labels.clamp(min=0), logits.shape[-1]) * positive[..., None]
    focal = sigmoid_focal_loss(logits[counted], one_hot[counted].to(logits.dtype))
    box = F.smooth_l1_loss(
        by_anchor(output.deltas)[positive].float(),
        targets.deltas[positive],
        beta=SMOOTH_L1_BETA,
        reduction="sum",
    )
    positives = reduce(positive.sum().float()).clamp(min=1)
    return RetinaNetLosses(focal.sum() / positives, box / positives)
