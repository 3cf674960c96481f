"""FCOS (Tian et al. 2019; thesis 7.3.1): backbone -> neck -> head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nasperc.models.detector import Detector
from nasperc.models.fcos.decode import Detections, detect
from nasperc.models.fcos.losses import FCOSLosses, fcos_losses
from nasperc.models.fcos.preset import Crowd, FCOSPreset
from nasperc.models.fcos.targets import FCOSTargets, fcos_targets
from nasperc.models.features import HeadOutput
from nasperc.models.reduction import Reduce, reduce_alone


class FCOS(Detector):
    """A one-stage detector without anchors; its head is an FCOS head on any towers."""

    @property
    def preset(self) -> FCOSPreset:
        """The head's preset."""
        assert isinstance(self.head.preset, FCOSPreset)
        return self.head.preset

    @property
    def crowd(self) -> Crowd:
        return self.preset.crowd

    def targets(
        self,
        boxes: Tensor,
        labels: Tensor,
        crowd: Tensor,
        level_sizes: Sequence[tuple[int, int]],
        size_scale: float = 1.0,
    ) -> FCOSTargets:
        """Targets of one image; ``size_scale`` is a factor on the sizes of interest."""
        preset = self.preset
        return fcos_targets(
            boxes,
            labels,
            crowd,
            level_sizes,
            self.strides,
            preset.sizes_of_interest,
            preset.centre_sampling_radius,
            size_scale,
        )

    def losses(self, output: HeadOutput, targets: FCOSTargets, reduce: Reduce = reduce_alone) -> FCOSLosses:
        """Losses of a batch against ``targets`` (N, P, ...); ``reduce`` as in :func:`fcos_losses`."""
        return fcos_losses(output, targets, self.preset, self.strides, reduce)

    def detect(self, output: HeadOutput, image_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        return detect(output, self.strides, image_sizes, self.preset)
