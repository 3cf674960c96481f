"""RetinaNet (Lin et al. 2017): the detector with anchors that thesis Table 7.2 compares with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nasperc.models.detector import Detector, DetectorOutput
from nasperc.models.instances import Instances
from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.models.retinanet.anchors import anchors
from nasperc.models.retinanet.decode import detect
from nasperc.models.retinanet.losses import RetinaNetLosses, retinanet_losses
from nasperc.models.retinanet.targets import AnchorTargets, anchor_targets
from nasperc.models.targets import Crowd


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
        self, instances: Instances, level_sizes: Sequence[tuple[int, int]], size_scale: float = 1.0
    ) -> AnchorTargets:
        """Targets of one image. ``size_scale`` is without effect: the anchors have their scale from the start, since
        detections are decoded with it too."""
        assert instances.labels is not None
        assert instances.crowd is not None
        references = self.anchors(level_sizes, instances.boxes.device)
        return anchor_targets(instances.boxes, instances.labels, instances.crowd, references)

    def losses(
        self, output: DetectorOutput, targets: AnchorTargets, reduce: Reduce = reduce_alone
    ) -> RetinaNetLosses:
        """Losses of a batch against ``targets`` (N, P, ...); ``reduce`` as in :func:`retinanet_losses`."""
        return retinanet_losses(output.head, targets, reduce)

    def detect(self, output: DetectorOutput, image_sizes: Sequence[tuple[int, int]]) -> list[Instances]:
        level_sizes = [(level.shape[-2], level.shape[-1]) for level in output.head.class_logits]
        references = self.anchors(level_sizes, output.head.deltas[0].device)
        return detect(output.head, references, image_sizes)
